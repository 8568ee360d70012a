# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict over a pool, from the state of its instances."""

from dataclasses import replace
from typing import Any

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.system import processes
from qgis_server_systemd.qgis_serverctl.view.health import Around, Line, judge, span

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
WELL = Around(live=True, nginx="serving", monitored=True, pending=0)


def pool(*changes: dict[str, Any]) -> list[Line]:
    return [replace(IDLE, instance=n, **change) for n, change in enumerate(changes, 1)]


def test_a_pool_in_order() -> None:
    found = judge(Package(), pool({}, {"work": "busy"}, {}, {}), WELL)
    assert (found.level, found.problems) == ("ok", ())
    assert found.summary == "4 of 4 instances serve, 1 busy, nothing waits"


def test_a_queue_is_told_with_its_age() -> None:
    lines = pool({"work": "busy", "queued": 3, "queued_seconds": 75.0}, {"queued": 1})
    assert judge(Package(), lines, WELL).summary.endswith("4 requests wait, for up to 1m15s")


@pytest.mark.parametrize(
    ("change", "level", "remedy"),
    [
        ({"socket": "failed"}, "error", "systemctl start qgis-server@2.socket"),
        ({"service": "dead", "pid": 0}, "error", "systemctl start qgis-server@2.service"),
        ({"service": "auto-restart", "pid": 0}, "error", "qgis-serverctl check"),
        ({"version": "old"}, "warning", "qgis-serverctl apply"),
    ],
)
def test_a_broken_instance(change: dict[str, Any], level: str, remedy: str) -> None:
    found = judge(Package(), pool({}, change), WELL)
    (problem,) = found.problems
    assert (found.level, problem.level, problem.remedy) == (level, level, remedy)
    assert "instance 2" in problem.what


@pytest.mark.parametrize(
    ("change", "level", "remedy"),
    [
        ({"nginx": "missing"}, "error", "apt install nginx"),
        ({"nginx": "stopped"}, "error", "systemctl start nginx"),
        ({"nginx": "unused"}, "warning", "qgis-serverctl site enable"),
        ({"monitored": False}, "warning", "systemctl start qgis-server-monitor.service"),
        ({"pending": 2}, "warning", "qgis-serverctl apply"),
    ],
)
def test_what_is_around_the_pool(change: dict[str, Any], level: str, remedy: str) -> None:
    found = judge(Package(), pool({}), replace(WELL, **change))
    (problem,) = found.problems
    assert (found.level, problem.remedy) == (level, remedy)


def test_no_instance_at_all() -> None:
    found = judge(Package(), pool({"enabled": "no", "socket": "dead", "pid": 0}), WELL)
    assert found.level == "error"
    assert found.problems[0].what == "no instance is enabled"


def test_drained_and_starting_ones_do_not_serve() -> None:
    lines = pool({}, {"drained": "administrator"}, {"work": "starting"})
    found = judge(Package(), lines, WELL)
    assert found.summary == "1 of 3 instances serve, 0 busy, 1 drained, nothing waits"


def test_all_busy_and_a_queue() -> None:
    found = judge(Package(), pool({"work": "busy", "queued": 1}, {"work": "busy"}), WELL)
    assert found.level == "warning"
    assert "--instances 3" in found.problems[0].remedy


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
    )
    assert processes.replaced(maps, program) == (program, "/usr/lib/libqgis_core.so.3.40.6")
