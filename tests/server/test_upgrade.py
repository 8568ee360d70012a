# SPDX-License-Identifier: GPL-2.0-or-later
"""An upgrade of the package while requests run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from shared.harm import in_background, let_go_wrong, sleeping, timed
from shared.pool import (
    apt,
    ctl,
    is_served,
    load,
    main_pid,
    nginx_is_content,
    path,
    settled,
    sockets,
    upstream,
    wait_for,
    works,
)
from testbed import Testbed

NEWER = "/root/newer.deb"
SLOW = 90
"""Seconds, in which nothing is drawn."""


def backlog(bed: Testbed, instance: int) -> int:
    """The length of a socket's queue that the kernel was told."""
    for line in bed.out("ss", "-lxnH").splitlines():
        words = line.split()
        if words[4] == path(instance):
            return int(words[3])
    raise AssertionError(f"instance {instance} does not listen")


@pytest.mark.parametrize("count", [1, 3])
def test_everything_changes_and_no_request_fails(
    server: Testbed, newer_package: Path, count: int
) -> None:
    ctl(server, "site", "enable")
    ctl(server, "apply", "--instances", str(count))
    server.run("sh", "-c", "echo 'QGIS_SERVER_MAX_THREADS=3' >>/etc/qgis-server/env")
    ctl(server, "apply")
    server.put(newer_package, NEWER)
    before = {n: main_pid(server, n) for n in range(1, count + 1)}
    with load(server, clients=2) as result:
        apt(server, "install", "-o", "Dpkg::Options::=--force-confold", NEWER)
        wait_for(lambda: settled(server), "the roll is through", timeout=180)
    assert result["failed"] == []
    assert result["sent"] > 0
    journal = server.out("journalctl", "--no-pager", "--unit=qgis-server*", "--lines=60")
    assert sockets(server) == [path(n) for n in before] == upstream(server), journal
    for instance, pid in before.items():
        assert main_pid(server, instance) != pid
        environment = server.out("cat", f"/proc/{main_pid(server, instance)}/environ").split("\0")
        assert "NEWER=1" in environment
        assert "QGIS_SERVER_MAX_THREADS=3" in environment, "the edited conffile keeps its edit"
        assert backlog(server, instance) == 1000
    nginx_is_content(server)
    assert "# Newer." in (server.root / "etc/nginx/snippets/qgis-server.conf").read_text()


def test_a_reinstall_that_changes_nothing_restarts_nothing(quick: Testbed) -> None:
    before = [main_pid(quick, n) for n in (1, 2)]
    apt(quick, "install", "--reinstall", "/root/package.deb")
    wait_for(lambda: settled(quick), "nothing is left to do")
    assert [main_pid(quick, n) for n in (1, 2)] == before


def test_a_slow_request_does_not_block_apt(server: Testbed, newer_package: Path) -> None:
    ctl(server, "site", "enable")
    ctl(server, "apply", "--instances", "2")
    let_go_wrong(server)
    ctl(server, "restart")
    is_served(server)
    server.put(newer_package, NEWER)
    slow = in_background(lambda: timed(server, sleeping(SLOW)))
    wait_for(lambda: "busy" in works(server), "a busy worker")
    begun = time.monotonic()
    apt(server, "install", NEWER)
    taken = time.monotonic() - begun
    assert "busy" in works(server), f"apt was not through before the slow request: {taken:.0f} s"
    ((reply, _),) = slow()
    assert reply.status == 200
    wait_for(lambda: settled(server), "the roll is through", timeout=180)
    assert all(backlog(server, n) == 1000 for n in (1, 2))


def test_a_changed_environment_is_applied_one_worker_after_the_other(server: Testbed) -> None:
    ctl(server, "site", "enable")
    before = [main_pid(server, n) for n in (1, 2)]
    server.run("sh", "-c", "echo 'QGIS_SERVER_MAX_THREADS=3' >>/etc/qgis-server/env")
    dry = ctl(server, "apply", "--dry-run")
    assert "restart, one after the other, the workers of 1, 2" in dry
    with load(server, clients=2) as result:
        ctl(server, "apply")
    assert result["failed"] == []
    for instance in (1, 2):
        pid = main_pid(server, instance)
        assert pid not in before
        environment = server.out("cat", f"/proc/{pid}/environ").split("\0")
        assert "QGIS_SERVER_MAX_THREADS=3" in environment
    assert "nothing to do" in ctl(server, "apply")


def test_a_roll_stops_where_a_worker_does_not_come_up(quick: Testbed) -> None:
    ctl(quick, "apply", "--instances", "3")
    before = {n: main_pid(quick, n) for n in (1, 2, 3)}
    broken = quick.root / "etc/systemd/system/qgis-server@.service.d/broken.conf"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text("[Service]\nExecStart=\nExecStart=/bin/false\n")
    quick.run("systemctl", "daemon-reload")
    done = quick.run("qgis-serverctl", "apply", check=False)
    assert done.returncode == 1
    assert "instance 1 did not come up" in done.stderr
    assert [main_pid(quick, n) for n in (2, 3)] == [before[2], before[3]]
    broken.unlink()
    quick.run("systemctl", "daemon-reload")
    ctl(quick, "apply")
    assert "nothing to do" in ctl(quick, "apply")


def test_a_killed_roll_is_taken_up_again(server: Testbed, newer_package: Path) -> None:
    ctl(server, "site", "enable")
    ctl(server, "apply", "--instances", "1")
    server.put(newer_package, NEWER)
    server.run(
        "sh", "-c",
        "mkdir -p /etc/systemd/system/qgis-server-roll.service.d;"
        "printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"kill -9 $$$$\"\\n'"
        " >/etc/systemd/system/qgis-server-roll.service.d/kill.conf",
    )  # fmt: skip
    apt(server, "install", NEWER)
    result = ("systemctl", "show", "--property=Result", "--value", "qgis-server-roll")
    wait_for(lambda: server.out(*result) == "signal", "the roll is killed")
    # As it is after a kill in the middle: drained, with a spare in its place.
    server.run("systemctl", "start", "qgis-server@2.socket")
    server.run(
        "sh",
        "-c",
        """echo '{"drained": [1], "spare": [2]}' \
        >/run/qgis-server-systemd/rolling.json""",
    )
    is_served(server)
    ctl(server, "apply")
    assert sockets(server) == [path(1)] == upstream(server)
    assert backlog(server, 1) == 1000
    is_served(server)
