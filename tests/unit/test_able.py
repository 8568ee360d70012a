# SPDX-License-Identifier: GPL-2.0-or-later
"""When load balancers are told that the pool can serve, and what takes it out of service."""

from __future__ import annotations

import argparse
import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.checks import units
from qgis_server_systemd.qgis_serverctl.commands import drain, maintenance
from qgis_server_systemd.qgis_serverctl.config.names import HEAVY, Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.config.values import NAME
from qgis_server_systemd.qgis_serverctl.front import nginx_config
from qgis_server_systemd.qgis_serverctl.monitor import health
from qgis_server_systemd.qgis_serverctl.monitor.health import RESTART, Health
from qgis_server_systemd.qgis_serverctl.monitor.watch import Monitor, Worker
from qgis_server_systemd.qgis_serverctl.pool import service
from qgis_server_systemd.qgis_serverctl.pool.connections import Table
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.reconcile import leave
from qgis_server_systemd.qgis_serverctl.system import processes, unix_sockets
from qgis_server_systemd.qgis_serverctl.system.output import Failure
from qgis_server_systemd.qgis_serverctl.system.unix_sockets import FileId, UnixSocket

PACKAGE = Package()
BOTH = frozenset({1, 2})
NONE: frozenset[int] = frozenset()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "run/qgis-server-systemd").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Host(PACKAGE, tmp_path)


def is_able(host: Host) -> bool:
    return host.path(PACKAGE.able).exists()


# ---- The monitor


def test_after_a_boot_nothing_is_promised_until_a_worker_takes_requests(host: Host) -> None:
    kept = Health(host)
    kept.look(BOTH, NONE, 10.0)
    assert not is_able(host)
    kept.look(BOTH, frozenset({2}), 11.0)
    assert is_able(host)


def test_a_restart_is_no_news_and_what_lasts_longer_is(host: Host) -> None:
    kept = Health(host)
    kept.look(BOTH, BOTH, 10.0)
    kept.look(BOTH, NONE, 11.0)
    kept.look(BOTH, NONE, 11.0 + RESTART)
    assert is_able(host)
    # Each loss counts by itself.
    kept.look(BOTH, frozenset({1}), 40.0)
    kept.look(BOTH, NONE, 41.0)
    kept.look(BOTH, NONE, 41.0 + RESTART)
    assert is_able(host)
    kept.look(BOTH, NONE, 42.0 + RESTART)
    assert not is_able(host)
    kept.look(BOTH, frozenset({1}), 43.0 + RESTART)
    assert is_able(host)


def test_a_pool_that_was_stopped_is_told_of_at_once(host: Host) -> None:
    kept = Health(host)
    kept.look(BOTH, BOTH, 10.0)
    kept.look(NONE, NONE, 11.0)
    assert not is_able(host)


def test_a_worker_whose_queue_nobody_can_reach_serves_nobody(host: Host) -> None:
    kept = Health(host)
    kept.look(frozenset({1}), frozenset({2}), 10.0)
    assert not is_able(host)


def test_where_the_kernel_tells_of_no_sockets_workers_that_run_are_all_that_is_known(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    monkeypatch.setattr(unix_sockets, "dump", refuse)
    kept = Monitor(host)
    for workers, able in (({1: os.getpid()}, True), ({HEAVY + 1: os.getpid()}, False)):
        kept.workers = {n: Worker(pid, restarts=0, started=1.0) for n, pid in workers.items()}
        kept.asked = time.monotonic()
        with pytest.raises(Failure):
            kept.turn()
        assert is_able(host) == able


def test_what_is_said_outlasts_the_monitor(host: Host) -> None:
    Health(host).look(BOTH, BOTH, 10.0)
    kept = Health(host)
    kept.look(BOTH, NONE, 20.0)
    assert is_able(host)
    kept.look(BOTH, NONE, 21.0 + RESTART)
    assert not is_able(host)


def test_queues_that_can_be_reached(tmp_path: Path) -> None:
    """An own one, the shared one, one whose file was replaced, and those of heavy requests."""
    (tmp_path / "run").mkdir()
    sockets = []
    for inode, name in enumerate(("qgis-server-1", "qgis-server-heavy", "qgis-server-2"), 1):
        file = tmp_path / f"run/{name}.sock"
        file.touch()
        bound = FileId.of(file)
        assert bound
        sockets.append(
            UnixSocket(
                inode=inode,
                listening=True,
                file=bound,
                name=os.fsencode(f"/run/{name}.sock"),
                user=0,
                waiting=0,
            )
        )
    (tmp_path / "run/new").touch()
    (tmp_path / "run/new").rename(tmp_path / "run/qgis-server-2.sock")
    table = Table(sockets, tmp_path)
    found = health.reachable(PACKAGE, frozenset({1, 2, 3, HEAVY + 1}), table)
    assert found == {1}


def test_a_process_that_a_signal_has_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not processes.is_stopped(process.pid)
        os.kill(process.pid, 19)
        os.waitpid(process.pid, os.WUNTRACED)
        assert processes.is_stopped(process.pid)
        os.kill(process.pid, 18)
        process.kill()
    assert not processes.is_stopped(process.pid)


# ---- The administrator


def maintain(host: Host, state: str, project: str | None = None) -> int:
    return maintenance.command(host, argparse.Namespace(state=state, project=project))


def test_maintenance_of_the_pool_and_of_a_project(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    file = host.path(f"{PACKAGE.projects}/city.qgz")
    file.parent.mkdir(parents=True)
    file.touch()
    assert maintain(host, "on") == 0
    assert maintain(host, "on") == 0
    assert host.path(PACKAGE.maintenance).is_file()
    assert maintain(host, "on", "city") == 0
    assert service.load(host) == service.Out(maintenance=True, projects=("city",))
    assert maintain(host, "off") == 0
    assert "still in maintenance: city" in capsys.readouterr().err
    # Of a project that is gone by now.
    file.unlink()
    assert maintain(host, "off", "city") == 0
    assert service.load(host) == service.Out()
    assert maintain(host, "off") == 0


def test_a_server_leaves_until_nothing_is_in_hand_and_comes_back(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heavy = HEAVY + 1
    hands = iter(
        [
            {1: True, 2: False, heavy: False},
            # Whoever sends requests all the same does not hold it up.
            {1: False, 2: True, heavy: False},
            {1: True, 2: True, heavy: True},
            {1: True, 2: True, heavy: False},
            # A request that goes to the lane is with nobody for a moment: that was no end.
            {1: True, 2: True, heavy: False},
        ]
    )
    slept: list[float] = []
    monkeypatch.setattr(leave, "in_hand", lambda host: next(hands))
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(KeyboardInterrupt), leave.away(host, Settings(leave_seconds=5)):
        assert next(hands, None) is None
        assert service.load(host) == service.Out(leaving=True)
        raise KeyboardInterrupt
    # Whatever happens meanwhile.
    assert service.load(host) == service.Out()
    assert slept[0] == 5
    assert "finishing the requests in hand" in capsys.readouterr().err
    # Where nothing is in front, nobody waits.
    with leave.away(host, Settings()):
        assert service.load(host) == service.Out()
    # What a cut-off has left ends by undrain.
    service.set_leaving(host, on=True)
    service.set_drained(host, on=False)
    assert service.load(host) == service.Out()


def test_a_server_does_not_wait_for_requests_that_hang(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(leave, "in_hand", lambda host: {1: True, 2: False})
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    leave.leave(host, Settings(leave_seconds=5, request_timeout=60))
    assert "requests are still in hand after 90 s: they hang" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["town", "../maintenance", ""])
def test_a_project_that_there_is_not_is_no_file(host: Host, name: str) -> None:
    for state in ("on", "off"):
        with pytest.raises(Failure, match="no project is served by the name"):
            maintain(host, state, name)
    assert not host.path(PACKAGE.state).exists()


def test_a_drained_server(host: Host) -> None:
    assert drain.command(host, argparse.Namespace(verb="drain", instance=None)) == 0
    assert service.load(host).drained
    assert drain.command(host, argparse.Namespace(verb="undrain", instance=None)) == 0
    assert service.load(host) == service.Out()


def test_nobody_forgets_it(host: Host) -> None:
    service.set_maintenance(host, None, on=True)
    service.set_maintenance(host, "city", on=True)
    service.set_drained(host, on=True)
    found = list(units.check_service(host, None))  # type: ignore[arg-type]
    assert [one.remedy for one in found] == [
        "qgis-serverctl maintenance off",
        "qgis-serverctl maintenance off --project city",
        "qgis-serverctl undrain",
    ]
    assert all(host.path(one.where).exists() for one in found)


# ---- NGINX


def test_health_knows_the_projects_that_requests_find() -> None:
    """By the same names, in the same order."""
    settings = Settings(project_folders=("/srv/a", "/srv/b"), project="/srv/x.qgz")
    tests = re.compile(r"if \(-f .*\.qg[sz]")
    location = nginx_config.location_text(PACKAGE, settings)
    text = nginx_config.health_text(PACKAGE, settings)
    assert tests.findall(text) == tests.findall(location) != []
    # Without a name it is the pool's alone.
    assert text.index('_named = "")') > text.index("_listed) {")
    http = nginx_config.http_text(PACKAGE, settings, [PACKAGE.socket(1)])
    assert rf'"~^/qgis\-server/health/({NAME})\?$" $1;' in http
    assert rf'"~^/qgis\-server/health\?({NAME})$" $1;' in http
