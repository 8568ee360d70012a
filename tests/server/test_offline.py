# SPDX-License-Identifier: GPL-2.0-or-later
"""Where there is no systemd to talk to, where policy-rc.d forbids it, and NGINX's
configuration while the package comes and goes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from shared.pool import (
    DEB,
    apt,
    cpus_of_init,
    enabled,
    install,
    main_pid,
    nginx_is_content,
    path,
    quick_workers,
    sockets,
    status,
    upstream,
    wait_for,
    works,
)
from testbed import Testbed

NEWER = "/root/newer.deb"


# ---- policy-rc.d


def forbid(bed: Testbed) -> None:
    policy = bed.root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def test_policy_forbids_to_start(web: Testbed) -> None:
    quick_workers(web)
    web.boot()
    # The pattern, since the snippet is not there yet.
    (web.root / "etc/nginx/sites-enabled/own").write_text(
        "server { listen 8080; include snippets/qgis-server*.conf; }\n"
    )
    web.run("systemctl", "restart", "nginx")
    workers = web.out("pgrep", "--parent", nginx_pid(web))
    forbid(web)
    said = install(web)
    everyone = list(range(1, cpus_of_init(web) + 1))
    lines = [line for line in said.splitlines() if "instances are enabled, but not started" in line]
    assert len(lines) == 1
    assert "warning" not in said
    assert enabled(web) == everyone
    assert sockets(web) == []
    assert upstream(web) == [path(n) for n in everyone]
    assert web.out("pgrep", "--parent", nginx_pid(web)) == workers, "NGINX was left alone"
    # An administrator is not bound by it.
    web.run("qgis-serverctl", "apply")
    assert sockets(web) == upstream(web)
    assert web.out("pgrep", "--parent", nginx_pid(web)) != workers
    assert status(web)["pending"] == []


def test_policy_forbids_to_stop(server: Testbed) -> None:
    """What runs goes on, also without its package; installed again, all is as before."""
    forbid(server)
    before = sockets(server)
    # Without unit files systemd starts no worker again, nor does it keep the sockets open:
    # one that misses its files while it comes up would take its socket along.
    wait_for(lambda: works(server) == {"idle"}, "all workers are up")
    pid = main_pid(server, 1)
    said = apt(server, "remove", "qgis-server-systemd")
    assert "policy-rc.d returned 101, not running 'stop" in said
    assert sockets(server) == before
    nginx_is_content(server)
    install(server)
    assert sockets(server) == before
    assert main_pid(server, 1) == pid
    server.run("qgis-serverctl", "apply")
    assert sockets(server) == before == upstream(server)
    assert status(server)["pending"] == []


def nginx_pid(bed: Testbed) -> str:
    return bed.out("systemctl", "show", "--property=MainPID", "--value", "nginx")


# ---- Another root


def test_another_root(ready: Testbed) -> None:
    """dpkg --root with DPKG_ROOT: the machine that does it is not touched."""
    ready.boot()
    # A second system: the same tree, with what is written kept in memory.
    ready.run(
        "sh", "-ec",
        "mount -t tmpfs tmpfs /mnt; mkdir /mnt/upper /mnt/work /mnt/root;"
        "mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root;"
        "touch /root/before",
    )  # fmt: skip
    dpkg = ("dpkg", "--force-script-chrootless", "--root=/mnt/root")
    done = ready.run(*dpkg, "--install", DEB)
    assert "warning" not in done.stderr
    assert "the pool is not complete" not in done.stderr
    inside = ready.root
    there = ready.out(
        "find", "/mnt/upper/etc/systemd/system/sockets.target.wants", "-name", "qgis-server@*"
    )
    instances = sorted(int(re.findall(r"@(\d+)", line)[0]) for line in there.splitlines())
    assert instances == list(range(1, len(instances) + 1)) != []
    state = json.loads(ready.out("cat", "/mnt/upper/var/lib/qgis-server-systemd/state.json"))
    assert state == {"enabled": instances, "pending": [], "drained": []}
    text = ready.out("cat", "/mnt/upper/etc/nginx/conf.d/qgis-server.conf")
    assert f"server unix:{path(1)}" in text
    assert "qgis-server:" in ready.out("cat", "/mnt/upper/etc/passwd")
    assert untouched(ready)
    assert not (inside / "usr/sbin/qgis-serverctl").exists()
    assert sockets(ready) == []
    for verb in ("--remove", "--purge"):
        ready.run(*dpkg, verb, "qgis-server-systemd")
    assert untouched(ready)
    left = ready.out("find", "/mnt/root/etc", "/mnt/root/var/lib", "-name", "*qgis-server*")
    assert {line for line in left.splitlines() if "/dpkg/" not in line} == set()


def untouched(bed: Testbed) -> bool:
    """Nothing outside of /mnt has changed since, but for what systemd does by itself."""
    changed = bed.out(
        "find", "/", "-xdev", "-newercc", "/root/before", "-not", "-type", "d",
        "-not", "-path", "/var/log/*", "-not", "-path", "/proc/*", check=False,
    )  # fmt: skip
    assert changed == ""
    assert "qgis" not in bed.out("ls", "/run")
    return True


# ---- nginx -t


def test_nginx_stays_content_with_an_own_vhost(ready: Testbed, newer_package: Path) -> None:
    """A server block of the administrator's includes the snippet."""
    quick_workers(ready)
    ready.boot()
    ready.put(newer_package, NEWER)
    install(ready, "nginx")
    (ready.root / "etc/nginx/sites-available/own").write_text(
        "server { listen 8080; location /own { return 204; } include snippets/qgis-server.conf; }\n"
    )
    ready.run("ln", "-s", "../sites-available/own", "/etc/nginx/sites-enabled/own")
    ready.run("systemctl", "reload", "nginx")
    steps = (("remove", "qgis-server-systemd"), ("install", DEB), ("install", NEWER))
    for verb, name in steps:
        apt(ready, verb, name)
        nginx_is_content(ready)
        ready.run("systemctl", "restart", "nginx")
        assert ready.fetch("http://127.0.0.1:8080/own").status == 204
    # A purge takes the snippet away; NGINX goes on as it was, and it is said.
    said = apt(ready, "purge", "qgis-server-systemd")
    assert "NGINX continues to run as it was, but can't be reloaded until this is fixed" in said
    assert 'open() "/etc/nginx/snippets/qgis-server.conf" failed' in said
    assert "/etc/nginx/sites-enabled/own:1" in said
    assert ready.fetch("http://127.0.0.1:8080/own").status == 204
    ready.run("rm", "/etc/nginx/sites-enabled/own")
    nginx_is_content(ready)


@pytest.mark.parametrize("command", [("apply",), ("status",)])
def test_no_systemd_in_a_chroot(ready: Testbed, command: tuple[str, ...]) -> None:
    ready.chroot("apt-get", "--yes", "install", "--no-install-recommends", DEB)
    done = ready.chroot("qgis-serverctl", *command)
    assert "warning" not in done.stderr
    assert enabled(ready) != []
