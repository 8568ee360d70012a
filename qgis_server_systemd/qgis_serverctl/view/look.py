# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pool is and does.

Nothing is sent to a worker and no connection held; see pool/connections.py.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..config.stored import Resolved
from ..front import nginx, site
from ..monitor import record
from ..monitor.record import Watch
from ..pool import connections, cores, instances
from ..pool.host import Host, Snapshot
from ..pool.instances import Instances
from ..pool.roll_state import Rolling
from ..pool.settings import load_settings
from ..pool.state import State
from ..reconcile.inputs import gather, want
from ..reconcile.plan import make
from ..system import processes
from ..system.output import Failure
from .health import Around, Line, Queue, judge


@dataclass(frozen=True)
class Pool:
    """What belongs to all instances; `pending` is None where it can't be told."""

    known: Instances
    own: frozenset[int]
    drained: frozenset[int]
    rolling: Rolling
    nginx: nginx.Nginx
    loaded: bool
    resolved: Resolved | None
    pending: tuple[str, ...] | None
    notes: tuple[str, ...]


def survey(host: Host) -> Pool:
    """Another user than root may not read all files: then the rest is told."""
    try:
        facts = gather(host)
        resolved = load_settings(host)
        steps = make(want(host, resolved.settings, facts, explicit=False), facts)
    except (Failure, OSError) as error:
        if os.geteuid() == 0:
            raise
        return survey_in_part(host, str(error))
    return Pool(
        known=facts.instances,
        own=facts.state.enabled,
        drained=facts.state.drained,
        rolling=facts.rolling,
        nginx=facts.nginx,
        loaded=facts.loaded,
        resolved=resolved,
        pending=tuple(map(str, steps.actions)),
        notes=steps.notes,
    )


def survey_in_part(host: Host, obstacle: str) -> Pool:
    try:
        state = State.load(host)
    except (Failure, OSError):
        state = State()
    on = instances.enabled(host)
    up = (name for name, unit in instances.units(host).items() if unit["ActiveState"] == "active")
    listening = instances.numbers(up, host.package.pool, "socket")
    masked = frozenset(n for n in on | listening if instances.is_masked(host, n))
    return Pool(
        known=Instances(enabled=on, listening=listening, masked=masked),
        own=state.enabled,
        drained=state.drained,
        rolling=Rolling(),
        nginx=nginx.gather(host),
        loaded=False,
        resolved=None,
        pending=None,
        notes=(f"not all can be told to this user: {obstacle}",),
    )


@dataclass(frozen=True)
class Look:
    """What one look at the machine gives for all instances."""

    host: Host
    pool: Pool
    units: Mapping[str, Mapping[str, str]]
    watch: Watch | None
    now: float
    shared: bool

    def shared_queue(self, table: str) -> Queue | None:
        """The one queue, if the settings want it, or if it is still open."""
        package = self.host.package
        socket = self.units.get(package.shared_unit, {})
        is_open = socket.get("ActiveState") == "active"
        if not self.shared and not is_open:
            return None
        queued = connections.connections(table, package.shared_socket).queued
        seen = self.watch.instances.values() if self.watch and queued else ()
        since = [one.queued_since for one in seen if one.queued_since is not None]
        return Queue(
            socket=socket.get("SubState", "dead" if self.host.live else "-"),
            queued=queued,
            queued_seconds=self._since(min(since, default=None)),
        )

    def line(self, instance: int, table: str) -> Line:
        package = self.host.package
        queue = connections.queue_of(package, instance, table)
        shared = queue == package.shared_socket and self.shared
        name = package.shared_unit if shared else package.socket_unit(instance)
        socket = self.units.get(name, {})
        service = self.units.get(package.service_unit(instance), {})
        unloaded = "dead" if self.host.live else "-"
        pid = int(service.get("MainPID") or 0)
        there = connections.connections(table, queue)
        work, since = self._work(instance, pid, there)
        seen = self.watch.instances.get(instance) if self.watch else None
        # What waits in the shared queue is no instance's: see Queue.
        queued = 0 if shared else there.queued
        queued_since = seen.queued_since if seen and queued else None
        known = self.pool.known
        return Line(
            instance=instance,
            enabled="masked" if instance in known.masked else _yes(instance in known.enabled),
            drained=self._drained(instance),
            socket=socket.get("SubState", unloaded),
            service=service.get("SubState", unloaded),
            pid=pid,
            work=work,
            busy_seconds=self._since(since),
            queued=queued,
            queued_seconds=self._since(queued_since),
            restarts=int(service.get("NRestarts") or 0),
            age_seconds=self._age(pid, service),
            memory_mb=_rounded(processes.memory(pid)) if pid else None,
            version=self._version(pid),
        )

    def _work(
        self, instance: int, pid: int, there: connections.Connections
    ) -> tuple[str | None, float | None]:
        """Idle, busy or starting, and busy since when."""
        if not pid:
            return None, None
        try:
            held = connections.socket_inodes(pid) & there.accepted
        except OSError:
            # Not to be told by whoever is not root; that a connection was taken is.
            return ("busy" if there.accepted else None), None
        if held:
            return "busy", self.watch.busy_since(instance, pid, held) if self.watch else None
        if connections.is_accepting(pid):
            return "idle", None
        # Between the table of connections and now it may have taken one.
        table = connections.table()
        queue = connections.queue_of(self.host.package, instance, table)
        again = connections.connections(table, queue)
        return ("busy" if connections.holds(pid, again) else "starting"), None

    def _drained(self, instance: int) -> str:
        rolls = self.pool.rolling
        if instance in self.pool.drained:
            return "administrator"
        if instance in rolls.failed:
            return "failed"
        return "roll" if rolls.alive and instance in rolls.drained else "no"

    def _since(self, moment: float | None) -> float | None:
        return None if moment is None else _rounded(self.now - moment)

    def _age(self, pid: int, service: Mapping[str, str]) -> float | None:
        started = int(service.get("ExecMainStartTimestampMonotonic") or 0)
        return _rounded(self.now - started / 1e6) if pid and started else None

    def _version(self, pid: int) -> str | None:
        found = processes.replaced_files(pid, self.host.package.mapserv) if pid else None
        return None if found is None else "old" if found else "current"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _rounded(value: float | None) -> float | None:
    return None if value is None else max(0.0, round(value, 1))


def _nginx_state(found: nginx.Nginx) -> str:
    if not found.installed:
        return "missing"
    if not found.running:
        return "stopped"
    return "serving" if found.uses else "unused"


def collect(machine: Host) -> dict[str, Any]:
    """Everything that `status --json` prints; see status.schema.json."""
    host = Snapshot.of(machine)
    pool = survey(host)
    found = cores.detect(host)
    watch = record.load_fresh(host) if host.live else None
    is_shared = pool.resolved is not None and pool.resolved.settings.is_shared
    look = Look(host, pool, instances.units(host), watch, time.monotonic(), is_shared)
    sockets = connections.table()
    shown = sorted(pool.known.enabled | pool.known.listening | pool.own)
    lines = [look.line(n, sockets) for n in shown]
    queue = look.shared_queue(sockets)
    link = site.enabled_link(host)
    resolved = pool.resolved
    state = _nginx_state(pool.nginx)
    verdict = judge(
        host.package,
        lines,
        Around(host.live, state, watch is not None, len(pool.pending or ()), queue),
    )
    return {
        "verdict": asdict(verdict),
        "qgis": processes.qgis_version(host.path(host.package.mapserv)),
        "monitor": watch is not None,
        "instances": [asdict(line) for line in lines],
        "shared_queue": asdict(queue) if queue else None,
        "settings": {
            key: {"value": value, "from": resolved.source[key]}
            for key, value in asdict(resolved.settings).items()
        }
        if resolved
        else {},
        "cores": {**asdict(found), "count": found.count},
        "nginx": {
            "installed": pool.nginx.installed,
            "running": pool.nginx.running,
            "site": str(link) if link else None,
            "loaded": pool.loaded,
        },
        "pending": None if pool.pending is None else list(pool.pending),
        "notes": list(pool.notes),
    }
