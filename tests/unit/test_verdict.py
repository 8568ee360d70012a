# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong with a pool, and the verdict over it, from one look at it."""

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shared.looks import HOST, SERVING, UP, seen

from qgis_server_systemd.qgis_serverctl.checks import front, units
from qgis_server_systemd.qgis_serverctl.checks.finding import Finding, blocks
from qgis_server_systemd.qgis_serverctl.checks.run import pending, workers_now
from qgis_server_systemd.qgis_serverctl.checks.verdict import judge
from qgis_server_systemd.qgis_serverctl.front import foreign
from qgis_server_systemd.qgis_serverctl.monitor.record import Watch
from qgis_server_systemd.qgis_serverctl.pool import connections
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.pool.overrides import Shadows
from qgis_server_systemd.qgis_serverctl.reconcile import plan
from qgis_server_systemd.qgis_serverctl.system import processes
from qgis_server_systemd.qgis_serverctl.system.output import counted, span
from qgis_server_systemd.qgis_serverctl.system.unix_sockets import FileId, UnixSocket
from qgis_server_systemd.qgis_serverctl.view.look import Line, Look, Queue

IDLE = Line(
    instance=1,
    enabled="yes",
    drained="no",
    socket="running",
    service="running",
    pid=100,
    work="idle",
    busy_seconds=None,
    queued=0,
    queued_seconds=None,
    restarts=0,
    age_seconds=60.0,
    memory_mb=100.0,
    version="current",
)


def pool(*changes: dict[str, Any]) -> list[Line]:
    return [replace(IDLE, instance=n, **change) for n, change in enumerate(changes, 1)]


def ids(findings: Any) -> list[tuple[str, str, str]]:
    return [(found.id, found.severity, found.remedy) for found in findings]


# ---- The verdict


def test_a_pool_in_order() -> None:
    found = judge(pool({}, {"work": "busy"}, {}, {}), None, (), live=True)
    assert (found.level, found.problems) == ("ok", ())
    assert found.summary == "4 of 4 instances serve, 1 busy, nothing waits"


def test_numbers_agree_with_their_nouns() -> None:
    said = judge(pool({"queued": 1}), None, (), live=True).summary
    assert said == "1 of 1 instance serves, 0 busy, 1 request waits"
    assert [counted(n, "error") for n in (0, 1, 2)] == ["0 errors", "1 error", "2 errors"]


def test_a_queue_is_told_with_its_age() -> None:
    lines = pool({"work": "busy", "queued": 3, "queued_seconds": 75.0}, {"queued": 1})
    said = judge(lines, None, (), live=True).summary
    assert said.endswith("4 requests wait, for up to 1m15s")
    queue = Queue(socket="running", queued=2, queued_seconds=5.0)
    assert judge(pool({}), queue, (), live=True).summary.endswith("2 requests wait, for up to 5.0s")


def test_drained_and_starting_ones_do_not_serve() -> None:
    lines = pool({}, {"drained": "administrator"}, {"work": "starting"})
    said = judge(lines, None, (), live=True).summary
    assert said == "1 of 3 instances serve, 0 busy, 1 drained, nothing waits"


def test_the_level_is_that_of_the_first_problem() -> None:
    wrong = (Finding("a", "error", "x", "y", "z"), Finding("b", "warning", "x", "y", "z"))
    found = judge(pool({}), None, wrong, live=True)
    assert (found.level, found.problems) == ("error", wrong)
    assert judge(pool({}), None, wrong[1:], live=True).level == "warning"
    assert judge(pool({}), None, (), live=False).summary == "systemd does not run here"


def test_people_read_blocks() -> None:
    text = blocks([Finding("a", "error", "it is down", "a unit", "systemctl start it")] * 2)
    one = "error: it is down [a]\n  where: a unit\n  fix:   systemctl start it"
    assert text == f"{one}\n\n{one}"


# ---- What is wrong


@pytest.mark.parametrize(
    ("worker", "kind", "remedy"),
    [
        ({"SubState": "dead"}, "worker-down", "systemctl start qgis-server@2.service"),
        ({"SubState": "failed"}, "worker-down", "systemctl start qgis-server@2.service"),
        ({"SubState": "auto-restart"}, "worker-crash-loop", "qgis-serverctl logs --instance 2"),
    ],
)
def test_a_worker_that_is_gone(worker: dict[str, str], kind: str, remedy: str) -> None:
    look = seen(UP, worker)
    assert ids(workers_now(HOST, look)) == [(kind, "error", remedy)]
    assert ids(workers_now(HOST, seen(UP, worker, masked={2}))) == []
    assert ids(workers_now(HOST, seen(UP, worker, listening={1}))) == [], "told by its socket"
    assert ids(workers_now(HOST, seen(UP, UP))) == []


def test_a_worker_that_was_restarted_just_now_is_looked_at_twice() -> None:
    young = {**UP, "NRestarts": "2", "ExecMainStartTimestampMonotonic": "995000000"}
    old = {**UP, "NRestarts": "2", "ExecMainStartTimestampMonotonic": "900000000"}
    look = seen(UP, young, old)
    assert units.suspects(HOST.package, look) == {2}
    assert ids(workers_now(HOST, look)) == []
    unit = HOST.package.service_unit(2)
    after: Mapping[str, Mapping[str, str]] = {unit: {**young, "NRestarts": "4"}}
    (found,) = units.check_workers(
        HOST.package, frozenset({2}), look.units, after, {2: "no memory"}
    )
    assert found.what == (
        "the worker of instance 2 ends again and again (4 restarts); it says: no memory"
    )


def test_a_socket_that_is_down() -> None:
    (found,) = units.check_sockets(HOST, seen(UP, UP, listening={1}))
    assert (found.id, found.remedy) == ("socket-down", "systemctl start qgis-server@2.socket")
    assert list(units.check_sockets(HOST, seen(UP, UP))) == []


def test_a_stopped_pool_is_told_once() -> None:
    (found,) = units.check_sockets(HOST, seen({}, {}, {}, listening=set()))
    assert (found.id, found.remedy) == ("pool-stopped", "systemctl start qgis-server.target")


BY_HAND = "/etc/systemd/system/qgis-server@.service"


def by_hand(*workers: dict[str, str], listen: str = "") -> Look:
    """A pool that was made by hand."""
    look = seen(*workers, nginx=replace(SERVING, uses=False))
    shadows = Shadows((BY_HAND,), (), foreign=True)
    sockets = {HOST.package.socket_unit(1): {"Listen": listen}} if listen else {}
    return replace(
        look, server=replace(look.server, shadows=shadows), units={**look.units, **sockets}
    )


def test_a_socket_with_a_name_of_its_own_is_looked_for_there(tmp_path: Path) -> None:
    file = tmp_path / "own.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(file))
        one.listen()
        table = connections.Table(
            [
                UnixSocket(7, True, os.fsencode(file), FileId.of(file), 0)  # type: ignore[arg-type]
            ]
        )
        host = Host(HOST.package)
        look = replace(by_hand(UP, listen=f"{file} (Stream)"), table=table)
        assert list(units.check_orphans(host, look)) == []
        file.unlink()
        (found,) = units.check_orphans(host, look)
        assert (found.id, found.where) == ("socket-orphaned", str(file))


def test_a_unit_is_blamed_for_what_it_says_alone(tmp_path: Path) -> None:
    own = {**UP, "Restart": "no", "FragmentPath": BY_HAND, "DropInPaths": ""}
    (found,) = units.check_overrides(HOST, by_hand(own, own))
    assert found.what.startswith("does not set Restart= for instance 1, 2: ")
    assert (found.where, found.remedy) == (BY_HAND, "qgis-serverctl adopt")
    file = tmp_path / "own.conf"
    file.write_text("[Service]\nRestart=no\n")
    (found,) = units.check_overrides(HOST, seen({**own, "DropInPaths": str(file)}))
    assert (found.what[:14], found.where) == ("sets Restart= ", str(file))


def test_beside_a_pool_made_by_hand_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    look = by_hand({**UP, "Requires": "x"}, listen="/run/own.sock (Stream)")
    assert list(units.check_queue(HOST, look)) == []
    asked = []

    def leads_to(_: Host, paths: set[str]) -> bool:
        asked.append(paths)
        return len(asked) == 1

    monkeypatch.setattr(foreign, "leads_to", leads_to)
    assert list(front.check_use(HOST, look)) == []
    assert [found.id for found in front.check_use(HOST, look)] == ["location-missing"]
    assert asked[0] == {"/run/own.sock"}


def test_no_instance_at_all() -> None:
    assert ids(units.check_enabled(HOST, seen())) == [
        ("instance-missing", "error", "qgis-serverctl apply")
    ]
    unit = "qgis-server@1.socket"
    assert ids(units.check_enabled(HOST, seen(UP, masked={1}))) == [
        (
            "instance-missing",
            "error",
            f"systemctl unmask {unit} && systemctl enable {unit} && qgis-serverctl apply",
        )
    ]
    assert ids(units.check_enabled(HOST, seen(UP))) == []


@pytest.mark.parametrize(
    ("change", "kind", "remedy"),
    [
        ({"installed": False, "running": False}, "nginx-missing", "apt install nginx"),
        ({"running": False}, "nginx-stopped", "systemctl start nginx.service"),
        ({"uses": False}, "location-missing", "qgis-serverctl site enable"),
        ({}, None, ""),
    ],
)
def test_nginx(change: dict[str, Any], kind: str | None, remedy: str) -> None:
    look = seen(UP, nginx=replace(SERVING, **change))
    found = [*front.check_service(HOST, look), *front.check_use(HOST, look)]
    assert [(one.id, one.remedy) for one in found] == ([(kind, remedy)] if kind else [])


def test_the_monitor_of_a_stopped_pool_is_not_missed() -> None:
    (found,) = units.check_monitor(HOST, seen(UP))
    assert found.remedy == "systemctl restart qgis-server-monitor.service"
    assert list(units.check_monitor(HOST, seen(UP, watch=Watch(1000.0)))) == []
    assert list(units.check_monitor(HOST, seen({"SubState": "dead"}))) == []


def test_changes_that_wait() -> None:
    actions: tuple[plan.Action, ...] = (plan.Enable(3, preset=True), plan.Start(3))
    look = replace(seen(UP), steps=plan.Plan(actions, frozenset(), ()))
    (found,) = pending(HOST, look)
    assert found.remedy == "qgis-serverctl apply"
    assert found.what.startswith("2 changes wait to be applied: enable instance 3")
    one = replace(look, steps=plan.Plan(actions[1:], frozenset(), ()))
    (found,) = pending(HOST, one)
    assert found.what == "1 change waits to be applied: start instance 3"
    assert list(pending(HOST, seen(UP))) == []


def test_all_busy_and_a_queue() -> None:
    def look(*changes: dict[str, Any]) -> Look:
        made = seen(UP, UP)
        # A cached property: what it would look up is here.
        made.__dict__.update(lines=tuple(pool(*changes)), queue=None)
        return made

    (found,) = units.check_load(HOST, look({"work": "busy", "queued": 1}, {"work": "busy"}))
    assert found.severity == "warning"
    assert found.remedy.endswith("qgis-serverctl scale 3")
    assert found.what == "all 2 workers are busy, and 1 request waits"
    assert list(units.check_load(HOST, look({"work": "busy", "queued": 1}, {}))) == []
    assert list(units.check_load(HOST, look({"work": "busy"}, {"work": "busy"}))) == []


# ---- For both


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (9.94, "9.9s"), (12.4, "12s"), (125, "2m05s"), (7800, "2h10m"), (442800, "5d3h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_files_of_qgis_that_were_replaced() -> None:
    program = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
    maps = (
        f"55-56 r-xp 0000 00:1b 12 {program} (deleted)\n"
        "7f-80 r-xp 0000 00:1b 13    /usr/lib/libqgis_core.so.3.40.6 (deleted)\n"
        "7f-80 r-xp 0000 00:1b 14    /usr/lib/libqgis_server.so.3.40.6\n"
        "7f-80 rw-s 0000 00:01 15    /memfd:x (deleted)\n"
        "7f-80 rw-s 0000 00:01 15    /usr/lib/libz.so.1 (deleted)\n"
        "7f-80 rw-p 0000 00:00 0\n"
        # A worker may name its own files as it likes.
        "7f-80 rw-s 0000 00:01 16    /tmp/libqgis\x1b[2J all is well.so (deleted)\n"
        "7f-80 rw-s 0000 00:01 16    /tmp/my words/libqgis_core.so (deleted)\n"
    )
    assert processes.replaced(maps, program) == (program, "/usr/lib/libqgis_core.so.3.40.6")
