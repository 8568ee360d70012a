# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at the pool: what `status` shows and `check` judges by.

Nothing is sent to a worker and no connection held; see pool/connections.py.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..config.names import is_heavy, label
from ..config.settings import Settings
from ..config.stored import Resolved
from ..front import nginx
from ..monitor import record
from ..monitor.record import Watch
from ..pool import connections, cores, instances, roll_state
from ..pool.host import Host
from ..pool.instances import Instances
from ..pool.settings import load_settings
from ..pool.state import State
from ..reconcile import inputs, plan
from ..system import processes
from ..system.output import Failure

LISTENING = ("listening", "running")
"""Sub-states of a socket unit that is up."""


@dataclass(frozen=True)
class Line:
    """One instance.

    `instance`: its number, or such as "heavy-1". `enabled`: yes, no or masked.
    `drained`: no, or why NGINX sends it no requests: administrator, roll or failed (did
    not come up in a roll). `socket`, `service`: systemd's sub-states. `pid`: of the
    worker, 0 if there is none. `work`: idle,
    busy or starting. `busy_seconds`: since when. `queued`: requests that wait in
    the socket; `queued_seconds`: without a break since when. `restarts`: those that
    systemd did by itself. `age_seconds`, `memory_mb`: of the process. `version`:
    current, or old if the program or a library of QGIS was replaced since. None is
    what does not apply or can't be told.
    """

    instance: int | str
    enabled: str
    drained: str
    socket: str
    service: str
    pid: int
    work: str | None
    busy_seconds: float | None
    queued: int
    queued_seconds: float | None
    restarts: int
    age_seconds: float | None
    memory_mb: float | None
    version: str | None

    @property
    def wanted(self) -> bool:
        return self.enabled == "yes"

    @property
    def serves(self) -> bool:
        """Does it take requests?"""
        up = self.socket in LISTENING and self.service == "running"
        return self.wanted and up and self.drained == "no" and self.work != "starting"


@dataclass(frozen=True)
class Queue:
    """The queue that all workers share. `socket`: systemd's sub-state."""

    socket: str
    queued: int
    queued_seconds: float | None


@dataclass(frozen=True)
class Lane:
    """The lane for heavy requests. `socket`, `queued`, `queued_seconds`: as of a queue.
    `wanted`: how many workers it may have. `workers`: those that run."""

    socket: str
    queued: int
    queued_seconds: float | None
    wanted: int
    workers: tuple[Line, ...]


@dataclass(frozen=True)
class Look:
    """All that is known at one moment.

    `root`: the caller may look everywhere. `server`: facts; those that another user
    can't get are left at what the server would be without them. `resolved`, `wanted`
    and `steps` are None where the settings are invalid or can't be read, which
    `obstacle` tells. `units`: properties by unit name. `watch`: what the monitor has
    noted, None if it does not run. `table`: the machine's sockets; none where the
    kernel does not tell them, for the reason `blind`. `now`: seconds of time.monotonic().
    """

    host: Host
    root: bool
    server: plan.Facts
    resolved: Resolved | None
    wanted: plan.Wanted | None
    steps: plan.Plan | None
    obstacle: str
    units: Mapping[str, Mapping[str, str]]
    watch: Watch | None
    table: connections.Table
    blind: str
    now: float

    @property
    def settings(self) -> Settings | None:
        return self.resolved.settings if self.resolved else None

    @property
    def pending(self) -> tuple[str, ...] | None:
        """What apply would do, None if that can't be told. A roll that is under way brings
        NGINX's upstream and what NGINX has read in line by itself."""
        if not self.steps:
            return None
        own = (plan.WriteUpstream, plan.ReloadNginx) if self.server.rolling.alive else ()
        return tuple(str(one) for one in self.steps.actions if not isinstance(one, own))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the administrator should know anyway."""
        if self.steps:
            return self.steps.notes
        return (f"not all can be told to this user: {self.obstacle}",) if not self.root else ()

    @property
    def is_shared(self) -> bool:
        """Is one queue for all workers wanted?"""
        return self.wanted is not None and self.wanted.shared

    @property
    def serving(self) -> frozenset[int]:
        """Instances that shall run."""
        return self.server.instances.enabled - self.server.instances.masked

    # ---- the instances

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The instances that are enabled, that listen, or that the package once enabled."""
        known = self.server.instances
        shown = known.enabled | known.listening | self.server.state.enabled
        return tuple(map(self._line, sorted(shown)))

    @cached_property
    def queue(self) -> Queue | None:
        """The shared queue, if the settings want it, or if it is still open."""
        package = self.host.package
        socket = self.units.get(package.shared_unit, {})
        is_open = socket.get("ActiveState") == "active"
        if not self.is_shared and not is_open:
            return None
        return Queue(*self._queue(package.shared_unit, package.shared_socket, heavy=False))

    @cached_property
    def lane(self) -> Lane | None:
        """The lane for heavy requests, if the settings want one, or if it is still open."""
        package, known = self.host.package, self.server.instances
        wanted = self.wanted.heavy if self.wanted else 0
        if not wanted and not known.lane_open:
            return None
        lines = tuple(map(self._line, sorted(known.heavy)))
        return Lane(
            *self._queue(package.heavy_unit, package.heavy_socket, heavy=True), wanted, lines
        )

    def _queue(self, unit: str, path: str, *, heavy: bool) -> tuple[str, int, float | None]:
        """Of a queue that several workers have: sub-state of the socket, and what waits, and
        since when."""
        socket = self.units.get(unit, {}).get("SubState", "dead" if self.host.live else "-")
        queued = connections.connections(self.table, path).queued
        watched = self.watch.instances.items() if self.watch and queued else ()
        seen = (one.queued_since for n, one in watched if is_heavy(n) == heavy)
        return socket, queued, self._since(min(filter(None, seen), default=None))

    def _line(self, instance: int) -> Line:
        package = self.host.package
        queue = connections.queue_of(package, instance, self.table)
        shared = is_heavy(instance) or (queue == package.shared_socket and self.is_shared)
        on_shared = shared and not is_heavy(instance)
        name = package.shared_unit if on_shared else package.socket_unit(instance)
        socket = self.units.get(name, {})
        service = self.units.get(package.service_unit(instance), {})
        unloaded = "dead" if self.host.live else "-"
        pid = int(service.get("MainPID") or 0)
        there = connections.connections(self.table, queue)
        work, since = self._work(instance, pid, there)
        seen = self.watch.instances.get(instance) if self.watch else None
        # What waits in a queue of several workers is no instance's: see Queue and Lane.
        queued = 0 if shared else there.queued
        queued_since = seen.queued_since if seen and queued else None
        known = self.server.instances
        on = known.enabled | (self.wanted.lane if self.wanted else frozenset())
        return Line(
            instance=label(instance) if is_heavy(instance) else instance,
            enabled="masked" if instance in known.masked else _yes(instance in on),
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
        if not pid or self.blind:
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
        rolls = self.server.rolling
        if instance in self.server.state.drained:
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


def look(host: Host) -> Look:
    """Look at the pool. Raises Failure or OSError for root alone: another user may not
    read all files, and gets what the rest tells."""
    root = os.geteuid() == 0
    resolved = wanted = steps = None
    obstacle = ""
    try:
        server = _gather(host)
    except (Failure, OSError) as error:
        if root:
            raise
        server, obstacle = _in_part(host), str(error)
    else:
        try:
            resolved = load_settings(host)
            wanted = inputs.want(host, resolved.settings, server, explicit=False)
            steps = plan.make(wanted, server)
        except (Failure, OSError) as error:
            resolved = wanted = steps = None
            obstacle = str(error)
    table, blind = connections.Table(), ""
    try:
        table = connections.table()
    except Failure as error:
        blind = str(error)
    return Look(
        host=host,
        root=root,
        server=server,
        resolved=resolved,
        wanted=wanted,
        steps=steps,
        obstacle=obstacle,
        units=instances.units(host),
        watch=record.load_fresh(host) if host.live else None,
        table=table,
        blind=blind,
        now=time.monotonic(),
    )


def _gather(host: Host) -> plan.Facts:
    """A roll that begins, goes on to the next instance, or ends meanwhile: a part of what was found
    is from before that."""
    before = roll_state.load(host)
    found = inputs.gather(host)
    states = (before, found.rolling, roll_state.load(host))
    alive = any(state.alive for state in states)
    drained = frozenset[int]().union(*(state.drained for state in states if state.alive))
    lane = any(state.lane for state in states if state.alive)
    return replace(found, rolling=replace(found.rolling, alive=alive, drained=drained, lane=lane))


def _in_part(host: Host) -> plan.Facts:
    """What a user may know who can't read the package's files."""
    try:
        state = State.load(host)
    except (Failure, OSError):
        state = State()
    on = instances.enabled(host)
    up = (name for name, unit in instances.units(host).items() if unit["ActiveState"] == "active")
    listening = instances.numbers(up, host.package.pool, "socket")
    masked = frozenset(n for n in on | listening if instances.is_masked(host, n))
    return plan.Facts(
        live=host.live,
        cores=cores.detect(host).count,
        instances=Instances(enabled=on, listening=listening, masked=masked),
        state=state,
        nginx=nginx.gather(host),
        files={},
        loaded=False,
    )
