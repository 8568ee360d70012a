# SPDX-License-Identifier: GPL-2.0-or-later
"""The package on a server: installed, configured, grown, shrunk and removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shared.pool import (
    DEB,
    MAP,
    OFFLINE,
    apt,
    cpus_of_init,
    ctl,
    enabled,
    install,
    is_served,
    load,
    main_pid,
    nginx_is_content,
    path,
    put_package,
    quick_workers,
    settled,
    sockets,
    status,
    upstream,
    wait_for,
    works,
)
from testbed import Testbed

HINT = "run: qgis-serverctl site enable [--project FILE]"


# ---- Install


@pytest.mark.testing
def test_a_socket_and_a_running_worker_for_each_core(ready: Testbed) -> None:
    ready.boot()
    said = install(ready, "nginx", maps=False)
    cores = cpus_of_init(ready)
    assert said.count(HINT) == 1
    assert enabled(ready) == list(range(1, cores + 1))
    assert sockets(ready) == [path(n) for n in range(1, cores + 1)]
    assert upstream(ready) == sockets(ready)
    found = status(ready)
    assert [line["service"] for line in found["instances"]] == ["running"] * cores
    assert [line["enabled"] for line in found["instances"]] == ["yes"] * cores
    assert found["nginx"]["site"] is None
    assert found["pending"] == []
    needs_no_windows_or_arrays(ready)
    assert {entry["from"] for entry in found["settings"].values()} == {"default"}
    assert "qgis-server" not in ready.out("ls", "/etc/nginx/sites-enabled")
    nginx_is_content(ready)
    assert ready.fetch("http://127.0.0.1/qgis-server").status == 404
    # Asked for, a map comes in one step, and again after a reboot.
    ctl(ready, "site", "enable", "--project", "/srv/maps/world.qgz")
    unnamed = MAP.replace("MAP=/srv/maps/world.qgz&", "")
    is_served(ready, unnamed)
    # So does a project that is put into the folder.
    ready.run("cp", "--archive", "/srv/maps/.", "/var/lib/qgis-server/projects")
    is_served(ready, unnamed.replace("/qgis-server?", "/qgis/world?"))
    assert ready.fetch(MAP).status == 403
    assert "nothing to do" in ctl(ready, "apply")
    ready.reboot()
    assert sockets(ready) == [path(n) for n in range(1, cores + 1)]
    is_served(ready, unnamed)
    assert status(ready)["pending"] == []


LATER = """
import sys
sys.path.insert(0, "/usr/share/qgis/python/plugins/qgis_server_systemd")
import later
later.install()
import qgis.utils, qgis.server
assert not {"qgis._gui", "numpy.ma"} & set(sys.modules)
exec("from qgis.gui import *", plugin := {"__name__": "plugin"})
import qgis._gui
assert plugin["QgsMapCanvas"] is qgis.gui.QgsMapCanvas is qgis._gui.QgsMapCanvas
from qgis.core import Qgis, QgsRasterBlock
if Qgis.QGIS_VERSION_INT >= 34000:
    block = QgsRasterBlock(Qgis.DataType.Byte, 2, 1)
    block.setData(b"\\7\\7")
    assert block.as_numpy().tolist() == [[7, 7]]
import numpy.ma
assert type(numpy.ma.masked_equal([1, 2], 2)) is numpy.ma.MaskedArray
"""
"""A plugin of QGIS that asks for windows has them, also by a star; and so for arrays, also those
that QGIS itself makes."""


def needs_no_windows_or_arrays(bed: Testbed) -> None:
    # apt does not wait for a worker that takes long to start.
    ready = Path(f"/proc/{bed.pid}/root/run/qgis-server/1/ready")
    wait_for(ready.exists, "the worker has come up")
    loaded = bed.out("cat", f"/proc/{main_pid(bed, 1)}/maps")
    assert "/qgis/_core." in loaded
    assert "/qgis/_gui." not in loaded
    assert "/numpy/" not in loaded
    bed.run("python3", "-c", LATER)


def test_affinity_of_the_service_manager_counts(suite: str, package: Path) -> None:
    with Testbed(suite, cpus="0") as bed:
        put_package(bed, package)
        bed.boot()
        install(bed, "nginx")
        assert cpus_of_init(bed) == 1
        assert sockets(bed) == [path(1)]
        ctl(bed, "site", "enable")
        is_served(bed)


@pytest.mark.each
def test_an_image_follows_the_cores_of_the_machine_that_boots_it(ready: Testbed) -> None:
    """Installed in a chroot, with no systemd to talk to; then booted on another count."""
    quick_workers(ready)
    done = ready.chroot("apt-get", "--yes", "install", DEB, "nginx", env=OFFLINE)
    here = status_cores(ready)
    assert HINT in done.stdout + done.stderr
    assert "warning" not in done.stderr
    assert enabled(ready) == list(range(1, here + 1))
    assert here > 1
    ready.cpus = "0"
    ready.boot()
    assert sockets(ready) == [path(1)]
    assert upstream(ready) == [path(1)]
    assert ready.out("systemctl", "is-active", "nginx") == "active"
    ready.cpus = None
    ready.reboot()
    assert sockets(ready) == [path(n) for n in range(1, here + 1)]
    assert upstream(ready) == sockets(ready)
    assert ready.out("systemctl", "--failed", "--no-legend") == ""


def status_cores(bed: Testbed) -> int:
    done = bed.chroot("qgis-serverctl", "status", "--json")
    count: int = json.loads(done.stdout)["cores"]["count"]
    return count


def test_an_upgrade_alone_never_shrinks_the_pool(quick: Testbed) -> None:
    before = sockets(quick)
    assert len(before) > 1
    quick.run("taskset", "--cpu-list", "--pid", "0", "1")
    apt(quick, "install", "--reinstall", DEB)
    assert sockets(quick) == before
    assert f"stop and disable instance {len(before)}" in ctl(quick, "apply", "--dry-run")
    assert sockets(quick) == before
    ctl(quick, "apply")
    assert sockets(quick) == [path(1)] == upstream(quick)


def test_settings_can_be_tried_before_they_are_written(quick: Testbed) -> None:
    file = quick.root / "root/new.toml"
    file.write_text("instances = 1\nbacklog = 7\n")
    before = (quick.root / "etc/qgis-server/server.toml").read_text()
    trial = ("apply", "--dry-run", "--settings", "/root/new.toml")
    planned = ctl(quick, *trial)
    assert "stop and disable instance 2" in planned
    assert "10-settings.conf" in planned
    assert (quick.root / "etc/qgis-server/server.toml").read_text() == before
    assert "nothing to do" in ctl(quick, "apply")
    # As a program gives them that has no file of them.
    piped = quick.run(*("qgis-serverctl", *trial[:-1]), "/dev/stdin", input=file.read_text())
    assert piped.stdout in planned
    file.write_text("backlog = 0\n")
    for words, said in (
        (trial, "/root/new.toml:1: backlog = 0 is not a number from 1 to 4096"),
        (("apply", "--settings", "/root/new.toml"), "--settings is for --dry-run alone"),
        ((*trial[:-1], "/root/none"), "there is no such file"),
    ):
        done = quick.run("qgis-serverctl", *words, check=False)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr


# ---- NGINX before, after or never


def test_nginx_may_come_later(ready: Testbed) -> None:
    ready.boot()
    install(ready)
    assert "NGINX is not installed" in ctl(ready, "site", "enable", check=False)
    assert "nothing to do" in ctl(ready, "apply")
    install(ready, "nginx", package=False)
    nginx_is_content(ready)
    ctl(ready, "site", "enable")
    is_served(ready)
    apt(ready, "remove", "nginx")
    assert "NGINX: not installed" in ctl(ready, "status")
    assert status(ready)["pending"] == []
    install(ready, "nginx", package=False)
    is_served(ready)


def test_site_disable_puts_the_welcome_page_back(quick: Testbed) -> None:
    before = quick.fetch("http://127.0.0.1/").body
    ctl(quick, "site", "enable")
    assert quick.fetch("http://127.0.0.1/").status == 302
    assert "nothing to do" in ctl(quick, "site", "enable")
    ctl(quick, "site", "disable")
    assert quick.fetch("http://127.0.0.1/").body == before
    assert "not enabled" in ctl(quick, "site", "disable")


def test_a_site_that_clashes_is_not_enabled(quick: Testbed) -> None:
    own = quick.root / "etc/nginx/conf.d/own.conf"
    own.write_text("server { listen 80 default_server; location / { return 204; } }\n")
    quick.run("rm", "/etc/nginx/sites-enabled/default")
    quick.run("systemctl", "reload", "nginx")
    said = ctl(quick, "site", "enable", check=False)
    assert "duplicate default server" in said
    assert "Traceback" not in said
    nginx_is_content(quick)
    assert not (quick.root / "etc/nginx/sites-enabled/qgis-server").is_symlink()
    assert quick.fetch("http://127.0.0.1/").status == 204


def test_a_project_that_workers_cannot_read_is_refused(quick: Testbed) -> None:
    quick.run("install", "-m", "600", "/srv/maps/world.qgz", "/srv/secret.qgz")
    said = ctl(quick, "site", "enable", "--project", "/srv/secret.qgz", check=False)
    assert said.startswith("qgis-serverctl: --project /srv/secret.qgz: user qgis-server can't")
    assert "no such file" in ctl(quick, "site", "enable", "--project", "/srv/x", check=False)
    assert status(quick)["nginx"]["site"] is None
    assert status(quick)["settings"]["project"]["value"] == ""


# ---- Remove, purge


@pytest.mark.testing
def test_remove_reinstall_and_purge(web: Testbed) -> None:
    web.boot()
    before = tree(web)
    install(web)
    ctl(web, "site", "enable")
    is_served(web)
    plugin = web.root / "usr/share/qgis/python/plugins/qgis_server_systemd"
    assert list(plugin.glob("__pycache__/guard.*.pyc")), "each start of a worker is quicker by it"
    apt(web, "remove", "qgis-server-systemd")
    assert not plugin.exists()
    assert sockets(web) == []
    assert web.run("pgrep", "qgis_mapserv", check=False).stdout == ""
    nginx_is_content(web)
    # A process of NGINX from before the reload may take one more connection.
    wait_for(lambda: web.fetch(MAP).status == 404, "nothing answers any more")
    welcome = "http://127.0.0.1/"
    wait_for(lambda: web.fetch(welcome).status == 200, "NGINX's welcome page is back")
    assert (web.root / "etc/qgis-server/env").exists()
    said = install(web)
    assert HINT not in said, "the site is enabled again"
    is_served(web)
    apt(web, "purge", "qgis-server-systemd")
    nginx_is_content(web)
    wait_for(lambda: web.fetch(welcome).status == 200, "NGINX's welcome page is back")
    assert {name for name in tree(web) - before if "qgis" in name} == set()
    assert sockets(web) == []
    listed = web.out("systemctl", "list-units", "--all", "--no-legend", "qgis*")
    assert "qgis-server@" not in listed


def test_purge_keeps_projects_of_the_administrator(quick: Testbed) -> None:
    quick.run("cp", "/srv/maps/second.qgs", "/var/lib/qgis-server/projects/")
    said = apt(quick, "purge", "qgis-server-systemd")
    assert "kept your projects in /var/lib/qgis-server/projects" in said
    assert (quick.root / "var/lib/qgis-server/projects/second.qgs").exists()


def tree(bed: Testbed) -> set[str]:
    """All files of the web, but for those that live with a boot or with dpkg."""
    listed = bed.out(
        "find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/sys", "-o", "-path",
        "/var/lib/dpkg/info", "-o", "-path", "/var/log", "-o", "-path", "/root", ")", "-prune",
        "-o", "-print",
    )  # fmt: skip
    run = bed.out("find", "/run", "-name", "*qgis*", "-not", "-path", "/run/systemd/*")
    return set(listed.splitlines()) | set(run.splitlines())


# ---- What an administrator decided


def test_disabled_and_masked_instances_are_left_alone(quick: Testbed) -> None:
    ctl(quick, "apply", "--instances", "4")
    quick.run("systemctl", "disable", "--now", "qgis-server@2.socket")
    quick.run("systemctl", "stop", "qgis-server@3.socket", "qgis-server@3.service")
    quick.run("systemctl", "mask", "qgis-server@3.service")
    quick.run("systemctl", "enable", "--now", "qgis-server@7.socket")
    apt(quick, "install", "--reinstall", DEB)
    said = ctl(quick, "apply", "--instances", "4")
    assert "left alone, disabled by hand: instance 2" in said
    assert "left alone, masked: instance 3" in said
    assert "left alone, enabled by hand beyond 4: instance 7" in said
    assert enabled(quick) == [1, 3, 4, 7]
    assert upstream(quick) == [path(1), path(4), path(7)]
    ctl(quick, "apply", "--instances", "1")
    assert upstream(quick) == [path(1), path(7)]
    quick.run("systemctl", "unmask", "qgis-server@3.service")
    ctl(quick, "apply", "--instances", "3")
    assert enabled(quick) == [1, 3, 7]


def test_presets_are_respected_and_an_explicit_number_beats_them(ready: Testbed) -> None:
    quick_workers(ready)
    ready.boot()
    presets = ready.root / "etc/systemd/system-preset/00-site.preset"
    presets.parent.mkdir(parents=True, exist_ok=True)
    presets.write_text("disable *\n")
    said = install(ready, "nginx")
    assert "a systemd preset keeps instance 1" in said
    assert "apply --instances" in said
    assert enabled(ready) == []
    assert upstream(ready) == [path(0).replace("0", "none")]
    nginx_is_content(ready)
    ctl(ready, "apply", "--instances", "2")
    assert enabled(ready) == [1, 2]
    assert sockets(ready) == [path(1), path(2)] == upstream(ready)


def test_the_settings_file_wins_over_what_a_command_set(quick: Testbed) -> None:
    ctl(quick, "apply", "--instances", "3")
    assert len(sockets(quick)) == 3
    shipped = (quick.root / "etc/qgis-server/server.toml").read_text()
    quick.run("sh", "-c", "echo 'instances = 1' >>/etc/qgis-server/server.toml")
    ctl(quick, "apply")
    assert sockets(quick) == [path(1)]
    said = ctl(quick, "apply", "--instances", "2")
    assert "sets instances too and wins" in said
    assert len(sockets(quick)) == 2
    assert status(quick)["settings"]["instances"]["from"] == "/etc/qgis-server/server.toml"
    assert (quick.root / "etc/qgis-server/server.toml").read_text() == shipped + "instances = 1\n"


def test_a_mistake_in_the_settings_stops_nothing(quick: Testbed) -> None:
    before = sockets(quick)
    quick.run("sh", "-c", "echo 'instanzes = 1' >>/etc/qgis-server/server.toml")
    line = len((quick.root / "etc/qgis-server/server.toml").read_text().splitlines())
    done = quick.run("qgis-serverctl", "apply", check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"qgis-serverctl: /etc/qgis-server/server.toml:{line}: unknown key instanzes "
        "(did you mean instances?)\n"
    )
    said = apt(quick, "install", "--reinstall", DEB)
    assert "the pool is not complete" in said
    assert sockets(quick) == before


def test_env_overrides_the_defaults_of_the_unit(quick: Testbed) -> None:
    quick.run("sh", "-c", "echo QGIS_SERVER_CACHE_DIRECTORY=/tmp/x >>/etc/qgis-server/env")
    quick.run("systemctl", "restart", "qgis-server@1.service")
    variables = (quick.root / "etc/qgis-server/env").read_text()
    set_ones = [line for line in variables.splitlines() if line and not line.startswith("#")]
    assert set_ones[:2] == ["QGIS_SERVER_LOG_STDERR=1", "QGIS_SERVER_LOG_LEVEL=1"]
    environment = quick.out("cat", f"/proc/{main_pid(quick, 1)}/environ").split("\0")
    assert "QGIS_SERVER_CACHE_DIRECTORY=/tmp/x" in environment
    assert "QT_QPA_PLATFORM=offscreen" in environment


# ---- Requests while things change


def test_growing_shrinking_and_restarting_drop_no_request(server: Testbed) -> None:
    ctl(server, "site", "enable")
    with load(server) as result:
        ctl(server, "apply", "--instances", "4")
        ctl(server, "apply", "--instances", "1")
        server.run("systemctl", "restart", "qgis-server.target")
        ctl(server, "apply", "--instances", "auto")
        apt(server, "install", "--reinstall", DEB)
        server.run("systemctl", "reload", "nginx")
        server.run("systemctl", "restart", "qgis-server@1.service")
    assert result["failed"] == []
    assert result["sent"] > 0


def test_nothing_is_stopped_while_nginx_may_still_name_it(quick: Testbed) -> None:
    ctl(quick, "apply", "--instances", "3")
    broken = quick.root / "etc/nginx/conf.d/broken.conf"
    broken.write_text("nonsense;\n")
    done = quick.run("qgis-serverctl", "apply", "--instances", "1", check=False)
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr
    assert sockets(quick) == [path(1), path(2), path(3)]
    broken.unlink()
    ctl(quick, "apply")
    assert sockets(quick) == [path(1)]


def test_a_crashed_worker_costs_no_get_and_never_its_socket(server: Testbed) -> None:
    ctl(server, "site", "enable")
    ctl(server, "apply", "--instances", "3")
    is_served(server)
    with load(server, clients=2) as result:
        for turn in range(18):
            victim = turn % 3 + 1
            wait_for(lambda n=victim: main_pid(server, n) > 0, "the worker is back")  # type: ignore[misc]
            server.run("systemctl", "kill", "--signal=KILL", f"qgis-server@{victim}.service")
    assert result["failed"] == []
    assert sockets(server) == [path(1), path(2), path(3)]
    wait_for(lambda: all(main_pid(server, n) for n in (1, 2, 3)), "all workers are back")


def test_a_worker_that_cannot_start_keeps_its_socket_and_mends_itself(server: Testbed) -> None:
    ctl(server, "site", "enable")
    before = sockets(server)
    server.run("mv", "/etc/qgis-server/env", "/etc/qgis-server/away")
    server.run("systemctl", "restart", "qgis-server.target")
    restarts = ["systemctl", "show", "--property=NRestarts", "--value", "qgis-server@1.service"]
    wait_for(lambda: int(server.out(*restarts)) >= 6, "six failed starts")
    assert sockets(server) == before
    server.run("mv", "/etc/qgis-server/away", "/etc/qgis-server/env")
    is_served(server)


def test_only_nginx_may_talk_to_the_workers(quick: Testbed) -> None:
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('in')"
    for user in ("nobody", "qgis-server"):
        done = quick.run("python3", "-c", connect, path(1), user=user, check=False)
        assert "PermissionError" in done.stderr
    assert quick.out("python3", "-c", connect, path(1), user="www-data") == "in"


@pytest.mark.each
def test_stop_and_start_of_the_whole_pool(quick: Testbed) -> None:
    before = sockets(quick)
    quick.run("systemctl", "stop", "qgis-server.slice")
    wait_for(lambda: sockets(quick) == [] and main_pid(quick, 1) == 0, "the pool has stopped")
    quick.run("systemctl", "start", "qgis-server.target")
    wait_for(lambda: sockets(quick) == before, "the pool is back")
    # More often than systemd would start a unit within ten seconds.
    again = "systemctl stop qgis-server@1.socket; systemctl start qgis-server@1.socket; "
    quick.run("sh", "-ec", again * 7)
    wait_for(lambda: sockets(quick) == before, "the pool is back again")


def test_two_callers_wait_for_each_other(quick: Testbed) -> None:
    both = "qgis-serverctl apply --instances 4 & qgis-serverctl apply --instances 2; wait"
    quick.run("sh", "-c", both)
    found = status(quick)
    count = found["settings"]["instances"]["value"]
    assert count in (2, 4)
    ctl(quick, "apply")
    assert sockets(quick) == [path(n) for n in range(1, count + 1)] == upstream(quick)


def test_an_upgraded_qgis_server_restarts_the_workers(server: Testbed) -> None:
    ctl(server, "site", "enable")
    before = main_pid(server, 1)
    program = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
    server.run("cp", "--preserve", program, f"{program}.new")
    server.run("mv", f"{program}.new", program)
    with load(server, clients=2) as result:
        server.run("dpkg-trigger", "--by-package=qgis-server-bin", program)
        server.run("dpkg", "--triggers-only", "--pending")
        wait_for(lambda: settled(server), "the end of the roll")
    assert main_pid(server, 1) not in (0, before)
    assert result["failed"] == []


def test_status_tells_busy_from_idle(server: Testbed) -> None:
    ctl(server, "site", "enable")
    is_served(server)
    assert works(server) == {"idle"}
    big = MAP.replace("WIDTH=256&HEIGHT=128", "WIDTH=6000&HEIGHT=6000")
    with load(server, big, clients=1):
        wait_for(lambda: "busy" in works(server), "a busy worker")
    table = ctl(server, "status")
    assert "INSTANCE  ENABLED" in table
    assert "cores: " in table


@pytest.mark.parametrize("count", [512])
def test_the_largest_pool_fits_into_nginx(quick: Testbed, count: int) -> None:
    """The upstream's shared memory has room; the workers need not run for that."""
    lines = "".join(f"    server unix:{path(n)} max_fails=0;\n" for n in range(1, count + 1))
    file = quick.root / "etc/nginx/conf.d/qgis-server.conf"
    head, _, tail = file.read_text().partition("    server ")
    file.write_text(head + lines + tail[tail.index("}") :])
    nginx_is_content(quick)
