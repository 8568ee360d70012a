# SPDX-License-Identifier: GPL-2.0-or-later
"""What the monitor makes of what it sees."""

from __future__ import annotations

import errno
import itertools
import os
import time
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.monitor import mounts, record
from qgis_server_systemd.qgis_serverctl.monitor.record import Watch, Watched
from qgis_server_systemd.qgis_serverctl.monitor.watch import (
    Monitor,
    Worker,
    observe,
    recycle_limit,
    to_recycle,
)
from qgis_server_systemd.qgis_serverctl.pool import instances, roll_state
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.system import unix_sockets
from qgis_server_systemd.qgis_serverctl.system.output import Failure

HOUR = 3600.0
DAY = Settings(max_age_hours=24)


# ---- Since when


def test_a_request_is_as_old_as_its_connection() -> None:
    seen = observe(None, pid=7, request=100, queued=0, now=10.0)
    assert (seen.request, seen.since) == (100, 10.0)
    seen = observe(seen, pid=7, request=100, queued=0, now=11.0)
    assert seen.since == 10.0
    # Never seen idle in between, yet it is another request.
    seen = observe(seen, pid=7, request=101, queued=0, now=12.0)
    assert seen.since == 12.0
    # The same number in another process is another connection.
    seen = observe(seen, pid=8, request=101, queued=0, now=13.0)
    assert seen.since == 13.0
    seen = observe(seen, pid=8, request=None, queued=0, now=14.0)
    assert seen.since is None


def test_a_queue_is_as_old_as_the_last_look_without_one() -> None:
    seen = observe(None, pid=7, request=1, queued=2, now=10.0)
    seen = observe(seen, pid=7, request=2, queued=1, now=11.0)
    assert (seen.queued, seen.queued_since) == (1, 10.0)
    seen = observe(seen, pid=7, request=3, queued=0, now=12.0)
    assert seen.queued_since is None
    assert observe(seen, pid=7, request=3, queued=1, now=13.0).queued_since == 13.0


def test_a_monitor_that_sees_no_sockets_forgets_what_it_knew_and_goes_on_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker would be killed for a request that has ended since."""

    def refuse() -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    host = Host(Package(), tmp_path)
    record.save(host, Watch(1.0, {1: Watched(pid=7, request=100, since=0.0)}))
    monitor = Monitor(host)
    monitor.stuck = {2: 0.0}
    assert monitor.watched
    monkeypatch.setattr(unix_sockets, "dump", refuse)
    with pytest.raises(Failure, match="which sockets there are: Address family"):
        monitor.turn()
    assert (monitor.watched, monitor.stuck) == ({}, {})
    assert monitor.recycled > 0
    kept = record.load(host)
    assert kept
    assert kept.written > 1.0
    assert kept.instances == {}


def test_systemd_is_asked_when_something_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question takes it as long as ten looks of the monitor."""
    unit = {"MainPID": str(os.getpid()), "ActiveEnterTimestampMonotonic": "5"}
    groups = {"qgis-server@1.service": 10}
    now, asked = 0.0, []

    def services(_: Host) -> dict[str, dict[str, str]]:
        asked.append(now)
        return {"qgis-server@1.service": dict(unit)}

    monkeypatch.setattr(instances, "services", services)
    monkeypatch.setattr(instances, "groups", lambda _: dict(groups))
    monitor = Monitor(Host(Package(), tmp_path))

    def looks(*times: float) -> list[float]:
        nonlocal now
        asked.clear()
        for now in times:
            monitor._ask_systemd(now)
        return asked

    assert looks(0, 1, 30, 59) == [0]
    assert looks(60, 61) == [60]
    groups["qgis-server@2.service"] = 11
    assert looks(62, 63) == [62]
    # The same instance, another process.
    groups["qgis-server@1.service"] = 12
    assert looks(64, 65) == [64]
    # It is about to be up.
    unit["ActiveEnterTimestampMonotonic"] = "0"
    assert looks(124, 125, 129, 133, 134) == [124, 129, 134]
    unit["ActiveEnterTimestampMonotonic"] = "5"
    # What runs can't be seen.
    groups.clear()
    assert looks(135, 136, 140, 141) == [135, 140]
    # It is gone.
    unit["MainPID"] = "0"
    assert looks(145, 146, 147) == [145, 146, 147]


# ---- Restarts between requests


def test_the_largest_beyond_the_limit_goes_first() -> None:
    ages = dict.fromkeys((1, 2, 3), 60.0)
    due = to_recycle(ages, {1: 900, 2: 1200, 3: 1100}, DAY, limit=1000)
    assert due == (2, "has grown to 1200 MB, the limit is 1000")
    assert to_recycle(ages, {1: 900, 2: 1000, 3: 800}, DAY, limit=1000) is None


@pytest.mark.parametrize(
    ("settings", "memory", "count", "limit"),
    [
        (Settings(), 16000, 4, 2400),
        (Settings(), 2000, 4, 512),
        (Settings(), 16000, 0, 9600),
        (Settings(memory_recycle="900M"), 16000, 4, 900),
        (Settings(memory_recycle="2G"), 16000, 4, 2048),
    ],
)
def test_the_limit_of_memory(settings: Settings, memory: int, count: int, limit: int) -> None:
    assert recycle_limit(settings, memory, count) == limit


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_workers_that_started_together_are_restarted_one_by_one(count: int) -> None:
    """Ten days, looked at each minute."""
    started = dict.fromkeys(range(1, count + 1), 0.0)
    restarts: list[tuple[float, int]] = []
    for minute in range(10 * 24 * 60):
        now = minute * 60.0
        due = to_recycle({n: now - t for n, t in started.items()}, {}, DAY, limit=512)
        if due:
            instance, why = due
            assert why.endswith("hours old, the limit is 24")
            assert now - started[instance] > 24 * HOUR
            # Spread over half as long, and the minute of the look.
            assert now - started[instance] <= 36 * HOUR + count * 60
            started[instance] = now
            restarts.append((now, instance))
    assert {instance for _, instance in restarts} == set(started)
    gaps = [late - early for (early, _), (late, _) in itertools.pairwise(restarts)]
    assert min(gaps) >= 12 * HOUR / count


def test_for_ever_is_for_ever() -> None:
    assert to_recycle({1: 1e9}, {1: 1}, Settings(max_age_hours=0), limit=512) is None


@pytest.mark.parametrize("by_hand", [True, False])
def test_workers_made_by_hand_are_never_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_hand: bool
) -> None:
    host = Host(Package(), tmp_path)
    monkeypatch.setattr(Host, "start_later", lambda *_: None)
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    if by_hand:
        (folder / "qgis-server@.service").write_text("[Service]\n")
    monitor = Monitor(host)
    monitor.workers = {1: Worker(os.getpid(), 0, 1.0)}
    monitor._recycle(now=1.0 + 3600 * 1000)
    assert roll_state.wishes(host) == (frozenset() if by_hand else {1})


# ---- What workers were given when they started


def test_workers_that_began_before_a_change_are_due_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"/proc/1/root/secret": 0.0}
    monkeypatch.setattr(mounts, "changed", times.get)
    monkeypatch.setattr(mounts, "identity", lambda path: (1, 2))
    look, now = mounts.Mounts(), time.monotonic()
    workers = {1: (11, now - 60), 2: (12, now - 20)}

    def due(age: float) -> dict[int, str]:
        times["/proc/1/root/secret"] = time.time() - age
        return look.ask(["/srv"], ["/secret", "/none"], workers)

    assert due(100) == {}
    assert due(40) == {1: "/secret"}
    # Another one may follow.
    assert due(0) == {}
    times["/proc/1/root/secret"] = time.time() - 10
    assert look.ask([], ["/secret"], workers) == {1: "/secret", 2: "/secret"}
    assert look.ask([], ["/secret"], workers) == {}, "what can't be helped is tried once"
    # Restarted since.
    workers[1] = 13, time.monotonic()
    assert look.ask([], ["/secret"], workers) == {}
