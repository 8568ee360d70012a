# SPDX-License-Identifier: GPL-2.0-or-later
"""A pool that was made by hand, by the recipe of QGIS's documentation, before the
package came."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shared import pool
from shared.hand_made import ENV, SERVICE, SOCKET, site
from shared.pool import (
    DEB,
    OFFLINE,
    apt,
    ctl,
    enabled,
    install,
    load,
    main_pid,
    nginx_is_content,
    path,
    put_package,
    sockets,
    status,
    upstream,
    wait_for,
)
from testbed import Snapshot, Testbed

UNITS = "/etc/systemd/system"
COUNT = 3
SITE = "/etc/nginx/sites-available/maps"
MAP = pool.MAP.replace("MAP=/srv/maps/world.qgz&", "")
SHADOWED = (
    f"{UNITS}/qgis-server@.service, {UNITS}/qgis-server@.socket shadow the package's own units: "
    "the pool is left as it is; qgis-serverctl adopt moves it over"
)


def numbers(count: int) -> list[int]:
    return list(range(1, count + 1))


def put(bed: Testbed, file: str, text: str) -> None:
    here = bed.root / file.lstrip("/")
    here.parent.mkdir(parents=True, exist_ok=True)
    here.write_text(text)


def text(bed: Testbed, file: str) -> str:
    return (bed.root / file.lstrip("/")).read_text()


def by_hand(bed: Testbed, count: int = COUNT, *, service: str = SERVICE, where: str = SITE) -> None:
    """Follow the recipe, step by step, beside NGINX."""
    put(bed, f"{UNITS}/qgis-server@.socket", SOCKET)
    put(bed, f"{UNITS}/qgis-server@.service", service)
    put(bed, "/etc/qgis-server/env", ENV)
    for kind in ("socket", "service"):
        for n in numbers(count):
            bed.run("systemctl", "enable", "--now", f"qgis-server@{n}.{kind}")
    put(bed, where, site(count))
    if "sites-available" in where:
        bed.run("ln", "-s", where, "/etc/nginx/sites-enabled/")
    bed.run("rm", "/etc/nginx/sites-enabled/default")
    bed.run("systemctl", "restart", "nginx")
    is_served(bed)


def is_served(bed: Testbed) -> None:
    reply = bed.fetch(MAP)
    assert (reply.status, reply.body[:4]) == (200, b"\x89PNG"), reply.body[:300]


def owners(bed: Testbed, count: int = COUNT) -> list[str]:
    pids = [str(main_pid(bed, n)) for n in numbers(count)]
    return [bed.out("ps", "-o", "user:32=", "-p", pid) for pid in pids]


def links(bed: Testbed) -> dict[str, str]:
    """All links that start a unit of the pool, and where they lead."""
    found = (bed.root / UNITS.lstrip("/")).glob("*.wants/qgis-server@*")
    return {f"{link.parent.name}/{link.name}": str(link.readlink()) for link in found}


def links_of_the_package(count: int) -> dict[str, str]:
    return {
        f"{target}.wants/qgis-server@{n}.socket": "/usr/lib/systemd/system/qgis-server@.socket"
        for target in ("sockets.target", "qgis-server.target")
        for n in numbers(count)
    }


def socket_inodes(bed: Testbed) -> list[str]:
    return sorted(
        line.split()[6]
        for line in bed.out("cat", "/proc/net/unix").splitlines()
        if re.search(r"/run/qgis-server-\d+\.sock$", line) and int(line.split()[3], 16)
    )


@pytest.fixture(scope="module")
def at_rest(with_nginx: Snapshot, package: Path) -> Iterator[Snapshot]:
    """The recipe, with the package's file in it, not booted: what others begin with."""
    with Testbed(with_nginx.suite, like=with_nginx) as bed:
        put_package(bed, package)
        bed.boot()
        by_hand(bed)
        bed.shutdown()
        yield bed.snapshot()


@pytest.fixture
def recipe(suite: str, at_rest: Snapshot) -> Iterator[Testbed]:
    """The recipe, booted."""
    with Testbed(suite, like=at_rest) as bed:
        bed.boot()
        yield bed


@pytest.fixture
def handmade(recipe: Testbed) -> Testbed:
    """The recipe, with the package installed beside."""
    install(recipe)
    return recipe


# ---- The package comes


def test_installing_beside_it_changes_nothing_and_says_so(recipe: Testbed) -> None:
    before = [main_pid(recipe, n) for n in numbers(COUNT)], links(recipe), sockets(recipe)
    with load(recipe, MAP) as result:
        said = install(recipe)
        again = ctl(recipe, "apply")
        ctl(recipe, "apply", "--instances", "2")
        ctl(recipe, "apply", "--instances", "auto")
    assert result["failed"] == []
    assert result["sent"] > 0
    assert ([main_pid(recipe, n) for n in numbers(COUNT)], links(recipe), sockets(recipe)) == before
    assert said.count(SHADOWED) == again.count(SHADOWED) == 1
    assert "configuration file" not in said.lower()
    assert text(recipe, "/etc/qgis-server/env") == ENV
    assert "QGIS_SERVER_LOG_LEVEL=1" in text(recipe, "/etc/qgis-server/env.dist")
    assert upstream(recipe) == [path(n) for n in numbers(COUNT)]
    found = status(recipe)
    assert found["pending"] == []
    assert found["notes"] == [SHADOWED]
    recipe.reboot()
    assert sockets(recipe) == [path(n) for n in numbers(COUNT)]
    assert owners(recipe) == ["www-data"] * COUNT
    is_served(recipe)


def test_a_package_that_goes_again_leaves_it_as_it_was(handmade: Testbed) -> None:
    before = [main_pid(handmade, n) for n in numbers(COUNT)], links(handmade)
    with load(handmade, MAP, clients=2) as result:
        apt(handmade, "install", "--reinstall", DEB)
        apt(handmade, "purge", "qgis-server-systemd")
        nginx_is_content(handmade)
    assert result["failed"] == []
    assert ([main_pid(handmade, n) for n in numbers(COUNT)], links(handmade)) == before
    assert text(handmade, "/etc/qgis-server/env") == ENV
    assert not (handmade.root / "etc/qgis-server/env.dist").exists()
    assert handmade.out("dpkg-divert", "--list", "*qgis*") == ""
    handmade.run("systemctl", "restart", "qgis-server@1.service")
    is_served(handmade)


@pytest.mark.parametrize(
    "where", ["/etc/nginx/sites-available/qgis-server", "/etc/nginx/conf.d/qgis-server.conf"]
)
def test_nginx_files_of_the_same_name_stay(web: Testbed, where: str) -> None:
    web.boot()
    by_hand(web, where=where)
    with load(web, MAP, clients=2) as result:
        said = install(web)
        ctl(web, "adopt")
    assert result["failed"] == []
    assert text(web, where) == site(COUNT)
    is_served(web)
    apt(web, "purge", "qgis-server-systemd")
    assert text(web, where) == site(COUNT)
    assert ("is left alone: give it another name" in said) == ("conf.d" in where)
    assert (web.root / "etc/nginx/sites-enabled/qgis-server").is_symlink() == ("sites" in where)
    nginx_is_content(web)


# ---- adopt


@pytest.mark.parametrize("count", [COUNT, 1])
def test_adopting_loses_no_request(web: Testbed, count: int) -> None:
    web.boot()
    by_hand(web, count)
    install(web)
    inodes = socket_inodes(web)
    with load(web, MAP) as result:
        planned = ctl(web, "adopt", "--dry-run")
        assert owners(web, count) == ["www-data"] * count
        assert not (web.root / "var/backups/qgis-server-systemd").exists()
        said = ctl(web, "adopt")
    assert result["failed"] == []
    assert result["sent"] > 0
    for n in numbers(count):
        assert f"restart the worker of instance {n}; its socket stays" in planned
    assert owners(web, count) == ["qgis-server"] * count
    assert socket_inodes(web) == inodes, "the sockets were open all the time"
    assert sockets(web) == [path(n) for n in numbers(count)] == upstream(web)
    assert web.out("stat", "--format=%U:%G %a", path(1)) == "www-data:root 600"
    assert links(web) == links_of_the_package(count)
    assert enabled(web) == numbers(count)
    assert not list((web.root / UNITS.lstrip("/")).glob("qgis-server@.s*t"))
    assert text(web, SITE) == site(count)
    line = site(count).splitlines().index("        fastcgi_pass qgis-server_backend;") + 1
    assert f"/etc/nginx/sites-enabled/maps:{line}: goes on as it is" in said
    assert "include snippets/qgis-server.conf;" in said
    assert text(web, "/etc/qgis-server/env") == ENV
    # The backup, and nothing left over of the trial.
    (backup,) = (web.root / "var/backups/qgis-server-systemd").iterdir()
    assert (backup / f"{UNITS[1:]}/qgis-server@.service").read_text() == SERVICE
    assert (backup / f"{UNITS[1:]}/multi-user.target.wants/qgis-server@1.service").is_symlink()
    assert not (web.root / "var/cache/qgis-server/adopt").exists()
    assert web.out("systemctl", "list-units", "--all", "--plain", "qgis-server@adopt*") == (
        web.out("systemctl", "list-units", "--all", "--plain", "qgis-server@none*")
    )
    found = status(web)
    assert found["settings"]["instances"]["value"] == count
    assert (found["pending"], found["notes"]) == ([], [])
    # From now on it is a pool like any other.
    assert "nothing to adopt" in ctl(web, "adopt")
    assert "nothing to do" in ctl(web, "apply")
    is_served(web)
    web.reboot()
    assert sockets(web) == [path(n) for n in numbers(count)]
    assert owners(web, count) == ["qgis-server"] * count
    is_served(web)
    assert status(web)["pending"] == []
    ctl(web, "apply", "--instances", "auto")
    nginx_is_content(web)


def test_more_of_the_environment_is_kept_and_the_rest_is_told(web: Testbed) -> None:
    web.boot()
    more = (
        'Environment="QGIS_SERVER_SHOW_GROUP_SEPARATOR=1" LC_ALL=C.UTF-8\n'
        "EnvironmentFile=-/etc/qgis/more\nNice=5\n"
    )
    by_hand(web, 2, service=SERVICE.replace("[Service]\n", f"[Service]\n{more}"))
    # Letters that are not UTF-8.
    web.run("sh", "-c", rf"printf '# M\374ller\n' >>{UNITS}/qgis-server@.service")
    # Where the sandbox shows nothing unless it is told to.
    web.run("mkdir", "--mode=755", "/home/gis")
    web.run("cp", "-r", "/srv/maps", "/home/gis/maps")
    project = "/home/gis/maps/world.qgz"
    more = f"QGIS_SERVER_WMS_MAX_WIDTH=1234\nQGIS_PROJECT_FILE={project}\n"
    put(web, "/etc/qgis/more", more)
    web.run("sh", "-c", r"printf '# M\374ller\n' >>/etc/qgis/more")
    web.run("chown", "www-data", "/etc/qgis/more")
    install(web)
    web.run("systemctl", "disable", "qgis-server@1.socket")
    said = ctl(web, "adopt")
    assert "qgis-server@.service: Nice=5 (to keep it: systemctl edit" in said
    assert "EnvironmentFile=/etc/qgis/more stays, but others than root can change /etc/qg" in said
    for n in numbers(2):
        variables = web.out("cat", f"/proc/{main_pid(web, n)}/environ").split("\0")
        assert {"QGIS_SERVER_WMS_MAX_WIDTH=1234", "LC_ALL=C.UTF-8"} < {*variables}
        assert "QGIS_SERVER_SHOW_GROUP_SEPARATOR=1" in variables
        assert f"QGIS_PROJECT_FILE={project}" in variables
    assert 'data_folders = ["/srv", "/home/gis/maps"]' in text(
        web, "/etc/qgis-server/server.auto.toml"
    )
    is_served(web)
    # What was disabled stays so.
    assert enabled(web) == [2]
    assert "disabled by hand: instance 1" in ctl(web, "apply")
    apt(web, "purge", "qgis-server-systemd")
    assert not (web.root / UNITS[1:] / "qgis-server@.service.d").exists()


def unreadable(bed: Testbed) -> None:
    bed.run("chown", "www-data", "/srv/maps/world.qgz")
    bed.run("chmod", "600", "/srv/maps/world.qgz")


def other_socket(bed: Testbed) -> None:
    file = f"{UNITS}/qgis-server@.socket"
    put(bed, file, SOCKET.replace("/var/run/qgis-server-", "/run/qgis/"))
    bed.run("systemctl", "daemon-reload")
    bed.run("systemctl", "stop", f"qgis-server@{COUNT}.service", f"qgis-server@{COUNT}.socket")
    bed.run("systemctl", "start", f"qgis-server@{COUNT}.socket")


def with_line(line: str) -> Callable[[Testbed], None]:
    def spoil(bed: Testbed) -> None:
        service = SERVICE.replace("[Service]\n", f"[Service]\n{line}\n")
        put(bed, f"{UNITS}/qgis-server@.service", service)
        bed.run("mkdir", "--mode=700", "-p", ODD)
        bed.run("mkfifo", f"{ODD}/pipe")

    return spoil


ODD = "/srv/a;id"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_line(f"EnvironmentFile={ODD}/pipe"), f"{ODD}/pipe: is no file"),
        (
            with_line(f"Environment=QGIS_SERVER_CACHE_DIRECTORY={ODD}"),
            f"a remedy: chgrp -R qgis-server '{ODD}' && chmod -R g+rwX '{ODD}'",
        ),
        (
            with_line("Environment=QGIS_SERVER_CACHE_DIRECTORY=/"),
            "QGIS_SERVER_CACHE_DIRECTORY=/: the setting writable_folders can't have /",
        ),
        (unreadable, "QGIS_PROJECT_FILE=/srv/maps/world.qgz: user qgis-server, whom the"),
        (other_socket, "listens on /run/qgis/"),
    ],
)
def test_what_cannot_go_well_is_not_begun(
    handmade: Testbed, spoil: Callable[[Testbed], None], message: str
) -> None:
    spoil(handmade)
    before = [main_pid(handmade, n) for n in numbers(COUNT - 1)], links(handmade)
    for arguments in (["--dry-run"], []):
        done = handmade.run("qgis-serverctl", "adopt", *arguments, check=False)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert ([main_pid(handmade, n) for n in numbers(COUNT - 1)], links(handmade)) == before
    assert not (handmade.root / "var/backups/qgis-server-systemd").exists()
    is_served(handmade)


BROKEN_TRIAL = "[Service]\nExecStart=\nExecStart=/bin/false\n"
BROKEN_SECOND = (
    "[Service]\nExecStart=\n"
    'ExecStart=/bin/sh -c "test %i != 2 || exit 1; exec /usr/lib/cgi-bin/qgis_mapserv.fcgi"\n'
)


@pytest.mark.parametrize(
    ("broken", "unit", "restarted"),
    [(BROKEN_TRIAL, "qgis-server@adopt", 0), (BROKEN_SECOND, "qgis-server@2", 2)],
    ids=["trial", "second"],
)
def test_everything_is_put_back_if_a_worker_does_not_come_up(
    handmade: Testbed, broken: str, unit: str, restarted: int
) -> None:
    # Put where the package's unit reads it, but the unit made by hand does not.
    packaged = handmade.root / "usr/lib/systemd/system/qgis-server@.service"
    packaged.write_text(packaged.read_text() + broken)
    before = [main_pid(handmade, n) for n in numbers(COUNT)]
    known = links(handmade), sockets(handmade), text(handmade, f"{UNITS}/qgis-server@.socket")
    with load(handmade, MAP) as result:
        done = handmade.run("qgis-serverctl", "adopt", check=False)
    assert done.returncode == 1
    assert f"{unit}.service does not come up: putting everything back" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "qgis-serverctl: a step failed, see above; the pool is as it was before "
        f"(journalctl -u {unit}.service)"
    )
    assert result["failed"] == []
    now = links(handmade), sockets(handmade), text(handmade, f"{UNITS}/qgis-server@.socket")
    assert now == known
    assert owners(handmade) == ["www-data"] * COUNT
    assert [main_pid(handmade, n) for n in numbers(COUNT)][restarted:] == before[restarted:]
    assert status(handmade)["settings"]["instances"]["from"] == "default"
    assert SHADOWED in ctl(handmade, "apply")


@pytest.mark.parametrize("moment", ["enable", "restart"])
def test_cut_off_a_second_run_finishes(handmade: Testbed, moment: str) -> None:
    """Killed after the files have changed, or while workers are being restarted."""
    trap = {
        # Neither systemd nor the workers know yet.
        "enable": '[ "$1" != daemon-reload ]',
        "restart": '[ "$*" != "restart qgis-server@2.service" ]',
    }
    put(handmade, "/usr/local/bin/systemctl", f'#!/bin/sh\n{trap[moment]} || kill -9 "$PPID"\n'
        'exec /usr/bin/systemctl "$@"\n')  # fmt: skip
    handmade.run("chmod", "755", "/usr/local/bin/systemctl")
    search = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    with load(handmade, MAP) as result:
        done = handmade.run("qgis-serverctl", "adopt", check=False, env=search)
        handmade.run("rm", "/usr/local/bin/systemctl")
        assert done.returncode == -9
        assert "qgis-serverctl adopt finishes it" in ctl(handmade, "apply")
        ctl(handmade, "adopt")
    assert result["failed"] == []
    assert owners(handmade) == ["qgis-server"] * COUNT
    assert links(handmade) == links_of_the_package(COUNT)
    assert "nothing to adopt" in ctl(handmade, "adopt")
    assert "nothing to do" in ctl(handmade, "apply")
    (backup,) = (handmade.root / "var/backups/qgis-server-systemd").iterdir()
    assert (backup / f"{UNITS[1:]}/qgis-server@.service").read_text() == SERVICE


def test_a_copy_of_a_unit_is_no_foreign_pool(server: Testbed) -> None:
    """What systemctl edit --full makes: it is told, and the pool is managed on."""
    unit = text(server, "/usr/lib/systemd/system/qgis-server@.service")
    put(server, f"{UNITS}/qgis-server@.service", unit + "Nice=5\n")
    server.run("systemctl", "daemon-reload")
    said = ctl(server, "apply", "--instances", "3")
    assert f"{UNITS}/qgis-server@.service shadow the package's own units" in said
    assert sockets(server) == [path(n) for n in numbers(3)]
    ctl(server, "adopt")
    assert not (server.root / UNITS[1:] / "qgis-server@.service").exists()
    assert (sockets(server), enabled(server)) == (
        [path(n) for n in numbers(3)],
        numbers(3),
    )


def test_in_an_image_that_is_not_booted(suite: str, at_rest: Snapshot) -> None:
    with Testbed(suite, like=at_rest) as bed:
        done = bed.chroot("apt-get", "--yes", "install", DEB, env=OFFLINE)
        assert SHADOWED in done.stdout + done.stderr
        bed.chroot("qgis-serverctl", "adopt")
        assert links(bed) == links_of_the_package(COUNT)
        bed.boot()
        wait_for(lambda: owners(bed) == ["qgis-server"] * COUNT, "the package's workers")
        assert sockets(bed) == [path(n) for n in numbers(COUNT)] == upstream(bed)
        is_served(bed)
