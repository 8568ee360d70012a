# SPDX-License-Identifier: GPL-2.0-or-later
"""``monitor``: looks at the workers once a second, from outside.

It kills a worker that hangs, has one restarted that has grown too much or is too
old, and tells what the requests behind a lost worker went through. Since when a
request is in hand is the age of its connection's inode: that some worker was last
seen idle long ago says nothing in a pool that is busy.
"""

import argparse
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..config.names import Package, is_heavy, label
from ..config.settings import Settings
from ..config.values import megabytes
from ..pool import connections, instances, overrides, roll_state
from ..pool.host import Host
from ..pool.settings import auto_file, load_settings, settings_file
from ..pool.state import State
from ..system import processes
from ..system.files import inode
from ..system.output import Failure, note, warn
from ..units import sandbox
from . import ends, health, mounts, record
from .record import Watch, Watched

EVERY = 1.0
"""Seconds between two looks."""


ASK_EVERY = 5.0
"""Seconds between two questions to systemd where a worker is starting, or it can't be seen whether
there is a new one. If one is gone, there are EVERY seconds."""


ASK_ANYWAY = 60.0
"""The same where nothing has changed. Each question takes systemd 30 ms of processor time."""


RECYCLE_EVERY = 5.0
"""Seconds between two looks at age and memory, and at what workers were given when they started."""


MINUTE = 60.0
"""Seconds."""


HOUR = 3600.0
"""Seconds."""


LEAST_RECYCLE = 512
"""MB that a worker may always have."""


def observe(
    former: Watched | None, pid: int, request: int | None, queued: int, now: float
) -> Watched:
    """What is known of an instance after one more look at it."""
    same = former is not None and former.pid == pid and former.request == request
    waiting = former.queued_since if former and former.queued else now
    return Watched(
        pid=pid,
        request=request,
        since=None if request is None else former.since if same and former else now,
        queued=queued,
        queued_since=waiting if queued else None,
    )


@dataclass(frozen=True)
class Worker:
    """What systemd says of a worker. `started`: seconds of the monotonic clock."""

    pid: int
    restarts: int
    started: float


@dataclass(frozen=True)
class Lost:
    """A worker that has ended: since when, and the most that has waited for it."""

    since: float
    queued: int


def recycle_limit(settings: Settings, memory_mb: int, count: int) -> int:
    """MB beyond which a worker is to be restarted."""
    if settings.memory_recycle != "auto":
        return megabytes(settings.memory_recycle)
    return max(LEAST_RECYCLE, memory_mb * 60 // 100 // max(1, count))


def to_recycle(
    ages: Mapping[int, float], sizes: Mapping[int, int], settings: Settings, limit: int
) -> tuple[int, str] | None:
    """The one instance that should be restarted now, and why. By age they are
    spread: not while another one is younger than its part of half the time."""
    if large := [n for n in sizes if sizes[n] > limit]:
        n = max(large, key=lambda one: sizes[one])
        return n, f"has grown to {sizes[n]} MB, the limit is {limit}"
    longest = settings.max_age_hours * HOUR
    if longest and ages:
        n = max(ages, key=lambda one: ages[one])
        if ages[n] > longest and (len(ages) == 1 or min(ages.values()) > longest / 2 / len(ages)):
            return n, f"is {ages[n] / HOUR:.1f} hours old, the limit is {settings.max_age_hours}"
    return None


class Monitor:
    """All that is kept from one look to the next; most of it in a file as well, so
    that a new monitor goes on where one was cut off."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.settings = Settings()
        self.files: tuple[int, ...] = ()
        self.asked = self.recycled = -1e9
        self.groups: Mapping[str, int] = {}
        self.workers: dict[int, Worker] = {}
        kept = record.load(host) or Watch(0.0)
        self.watched: dict[int, Watched] = dict(kept.instances)
        self.ends = ends.Ends(kept.ended, kept.runs)
        self.queues: dict[str, int] = {}
        self.memory: dict[int, int] = {}
        self.stuck: dict[int, float] = {}
        self.lost: dict[int, Lost] = {}
        self.mounts = mounts.Mounts()
        self.health = health.Health(host)
        self.lane: dict[int, tuple[int, int | None]] = {}
        self.lane_used = -1e9

    def turn(self) -> None:
        """One look, and what follows from it."""
        now = time.monotonic()
        self._read_settings()
        self._ask_systemd(now)
        try:
            self._look_at_all(now)
        finally:
            told = Watch(now, self.watched, self.queues, self.ends.counts, self.ends.runs)
            record.save(self.host, told)
            if now - self.recycled >= RECYCLE_EVERY:
                self.recycled = now
                self._put_back()
                self._recycle(now)

    def _look_at_all(self, now: float) -> None:
        try:
            table = connections.table()
        except Failure:
            # What was known is of the past, and nothing must follow from it.
            self.watched.clear()
            self.stuck.clear()
            self.queues.clear()
            # All that can be told is whether workers run.
            run = frozenset(n for n, w in self.workers.items() if w.pid and not is_heavy(n))
            self.health.look(run, run, now)
            raise
        self.queues.clear()
        up = {n for n, worker in self.workers.items() if self._look(n, worker, table, now)}
        for gone in self.watched.keys() - self.workers.keys():
            del self.watched[gone]
        named = frozenset(self.workers) - self._drained() or frozenset(self.workers)
        open = health.reachable(self.host.package, named, table)
        self.health.look(open, frozenset(up), now)
        self._rest(now)

    def _drained(self) -> frozenset[int]:
        """Those that NGINX does not name, since an administrator says so."""
        try:
            return State.load(self.host).drained
        except Failure:
            return frozenset()

    def _rest(self, now: float) -> None:
        """End the workers for heavy requests if there has been none for long. One that comes at
        this moment waits in their socket, which starts them again."""
        lane = {n: w.pid for n, w in self.workers.items() if is_heavy(n)}
        seen = {n: (pid, processes.switches(pid)) for n, pid in lane.items()}
        waits = any(self.watched[n].request is not None or self.watched[n].queued for n in lane)
        if seen != self.lane or waits:
            self.lane, self.lane_used = seen, now
        idle = self.settings.heavy_idle_minutes * MINUTE
        if not lane or not idle or now - self.lane_used < idle or roll_state.load(self.host).alive:
            return
        note(f"no heavy request for {self.settings.heavy_idle_minutes} minutes: their workers end")
        self.lane_used = now
        package = self.host.package
        units = map(package.service_unit, sorted(lane))
        self.host.systemctl("stop", "--no-block", *units)

    def _read_settings(self) -> None:
        times = tuple(
            file.stat().st_mtime_ns if file.exists() else 0
            for file in (settings_file(self.host), auto_file(self.host))
        )
        if times == self.files:
            return
        self.files = times
        try:
            self.settings = load_settings(self.host).settings
        except Failure as error:
            warn(f"{error}: the monitor goes on with the settings that it had")

    def _ask_systemd(self, now: float) -> None:
        here = all(w.pid and Path(f"/proc/{w.pid}").exists() for w in self.workers.values())
        groups = instances.groups(self.host)
        if here and groups == self.groups:
            known = groups and all(w.started for w in self.workers.values())
            if now - self.asked < (ASK_ANYWAY if known else ASK_EVERY):
                return
        self.asked, self.groups = now, groups
        found = {}
        for name, unit in instances.services(self.host).items():
            number = instances.number(name, self.host.package.pool, "service")
            pid = int(unit.get("MainPID") or 0)
            # One of the lane for heavy requests that nobody has asked for is not missed.
            if number is not None and (pid or not is_heavy(number) or _is_kept(unit)):
                found[number] = Worker(
                    pid=pid,
                    restarts=int(unit.get("NRestarts") or 0),
                    started=int(unit.get("ActiveEnterTimestampMonotonic") or 0) / 1e6,
                )
        for number, worker in found.items():
            former = self.workers.get(number)
            if former and former.pid and worker.pid != former.pid:
                # One that was stopped or restarted on purpose starts to count again.
                restarted = worker.restarts > former.restarts
                if restarted or not (worker.pid or is_heavy(number)):
                    self.lost.setdefault(number, Lost(now, 0))
            elif former and not former.pid and worker.restarts < former.restarts:
                self.lost.pop(number, None)
        self.workers = found
        self.ends.see({n: ends.Run(worker.pid, worker.restarts) for n, worker in found.items()})

    def _look(self, instance: int, worker: Worker, table: connections.Table, now: float) -> bool:
        """One look at one worker. Returns whether it takes requests, or has one in hand."""
        queue = connections.queue_of(self.host.package, instance, table)
        there = connections.connections(table, queue)
        try:
            held = (
                connections.socket_inodes(worker.pid) & there.accepted
                if worker.pid
                else frozenset()
            )
        except OSError:
            held = frozenset()
        former = self.watched.get(instance)
        seen = observe(former, worker.pid, min(held, default=None), there.queued, now)
        if former and former.pid != seen.pid:
            # Requests that waited for the former worker wait still. How long that one took none
            # is no fault of the new one, which has to start first.
            seen = replace(seen, queued_since=former.queued_since or seen.queued_since)
            self.stuck.pop(instance, None)
        accepting = bool(worker.pid) and connections.is_accepting(worker.pid)
        seen = replace(
            seen,
            accepting=accepting,
            started=worker.started if worker.pid else None,
            memory=self.memory.get(worker.pid),
        )
        self.watched[instance] = seen
        self.queues[_queue_name(self.host.package, instance, queue)] = there.queued
        if worker.pid and seen.request is None and (there.queued or not accepting):
            self.stuck.setdefault(instance, now)
        else:
            self.stuck.pop(instance, None)
        self._tell_of_loss(instance, seen, accepting, now)
        since, what = seen.since, "has had a request in hand"
        if since is None and instance in self.stuck:
            since, what = self.stuck[instance], "has taken no request"
        if since is not None and now - since > self._limit(instance):
            self._kill(instance, seen, f"{what} for {now - since:.0f} s")
        serves = accepting or seen.request is not None
        return serves and not processes.is_stopped(worker.pid)

    def _limit(self, instance: int) -> int:
        """Seconds that a request may be in its worker's hand."""
        own = self.settings
        return own.lane_stop_timeout if is_heavy(instance) else own.stop_timeout

    def _tell_of_loss(self, instance: int, seen: Watched, accepting: bool, now: float) -> None:
        lost = self.lost.get(instance)
        if lost is None:
            return
        if accepting or seen.request is not None:
            waited = f"{lost.queued} requests waited" if lost.queued else "no request waited"
            note(
                f"instance {label(instance)}: its worker had ended, and is back after"
                f" {now - lost.since:.1f} s; {waited} for it meanwhile"
            )
            del self.lost[instance]
        else:
            self.lost[instance] = replace(lost, queued=max(lost.queued, seen.queued))

    def _kill(self, instance: int, seen: Watched, why: str) -> None:
        try:
            process = os.pidfd_open(seen.pid)
        except OSError:
            return
        try:
            # With the process held, is it still that worker, at that request?
            if self._is_at(seen):
                now = time.monotonic()
                waited = now - (seen.queued_since or now)
                own = is_heavy(instance) and self.settings.heavy_timeout != "auto"
                limit = "heavy_timeout allows" if own else "kill_timeout is"
                warn(
                    f"instance {label(instance)}: its worker {seen.pid} {why} ({limit}"
                    f" {self._limit(instance)} s) and is killed; {seen.queued} requests"
                    f" wait behind it, the first for {waited:.0f} s"
                )
                signal.pidfd_send_signal(process, signal.SIGKILL)
                self.ends.kill(instance, seen.pid)
        except OSError as error:
            warn(f"instance {label(instance)}: worker {seen.pid} can't be killed: {error.strerror}")
        finally:
            os.close(process)

    def _is_at(self, seen: Watched) -> bool:
        held = connections.socket_inodes(seen.pid)
        return seen.request in held if seen.request is not None else True

    def _put_back(self) -> None:
        """Workers that did not come up in a roll, and have since."""
        now = roll_state.load(self.host)
        back = {
            n
            for n in now.failed
            if n in self.workers and connections.is_accepting(self.workers[n].pid)
        }
        if back and not now.alive:
            note(f"back in NGINX's upstream: instance {instances.listed(back)}")
            roll_state.save(self.host, replace(now, failed=now.failed - back))
            self.host.start_later(self.host.package.roll_unit)

    def _is_foreign(self) -> bool:
        """Are the workers an administrator's own? Those are not restarted; nor is any, while it
        can't be told."""
        try:
            return overrides.find(self.host, State.load(self.host)).foreign
        except Failure:
            return True

    def _recycle(self, now: float) -> None:
        up = {n: w for n, w in self.workers.items() if w.pid and w.started}
        ages = {n: now - worker.started for n, worker in up.items()}
        sizes = {}
        for n, worker in up.items():
            if (size := processes.private_memory(worker.pid)) is not None:
                sizes[n] = int(size)
        self.memory = {up[n].pid: size for n, size in sizes.items()}
        state = roll_state.load(self.host)
        if state.alive or state.failed or roll_state.wishes(self.host) or self._is_foreign():
            return
        limit = recycle_limit(self.settings, int(processes.memory_total()), len(up))
        folders = sandbox.watched(self.host.package, self.settings)
        read = sandbox.read_at_start(self.host.package)
        known = {n: (worker.pid, worker.started) for n, worker in up.items()}
        moved = self.mounts.ask(folders, read, known)
        mounts.told(moved)
        due = None if moved else to_recycle(ages, sizes, self.settings, limit)
        if due:
            instance, why = due
            name = label(instance)
            note(f"instance {name}: its worker {why}: to be restarted between two requests")
        if wished := frozenset({due[0]} if due else moved):
            grown = due and sizes.get(due[0], 0) > limit
            self.ends.wish(wished, "folders" if moved else "memory" if grown else "age")
            roll_state.wish(self.host, wished)
            self.host.start_later(self.host.package.roll_unit)


def _queue_name(package: Package, instance: int, queue: str) -> str:
    """What people call the socket that an instance takes its requests from."""
    if is_heavy(instance):
        return "heavy"
    return "shared" if queue == package.shared_socket else label(instance)


def _is_kept(unit: Mapping[str, str]) -> bool:
    """Does systemd start it, or start it again?"""
    return unit.get("ActiveState") not in instances.ENDED


def command(host: Host, args: argparse.Namespace) -> int:
    """What the unit runs; ends only to be started again after an upgrade."""
    if os.geteuid() != 0:
        raise Failure("only root can see what the workers do")
    monitor, program = Monitor(host), Path(__file__)
    version = inode(program)
    told = ""
    while version == inode(program):
        start = time.monotonic()
        try:
            monitor.turn()
            told = ""
        except (Failure, OSError) as error:
            # Such as a systemd that does not answer: the next look may go well.
            if str(error) != told:
                warn(str(error))
            told = str(error)
        time.sleep(max(0.1, EVERY - (time.monotonic() - start)))
    note("the program was replaced: starting again")
    return 0
