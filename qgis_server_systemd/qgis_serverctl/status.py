# SPDX-License-Identifier: GPL-2.0-or-later
"""``status``: what the pool is and does, as a table or as JSON.

Nothing is sent to a worker and no connection held; see workers.py.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from . import cores, instances, monitor_file, nginx, processes, site, workers
from .host import Host
from .instances import Instances
from .log import Failure
from .monitor_file import Watch
from .plan import make
from .rolling import Rolling
from .settings import Resolved
from .snapshot import Snapshot
from .state import State
from .survey import gather, load_settings, want
from .verdict import Around, Line, Queue, judge, span

CLEAR = "\033[H\033[J"
"""Cursor to the top, and erase what is below (console_codes(4))."""


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
        queued = workers.connections(table, package.shared_socket).queued
        seen = self.watch.instances.values() if self.watch and queued else ()
        since = [one.queued_since for one in seen if one.queued_since is not None]
        return Queue(
            socket=socket.get("SubState", "dead" if self.host.live else "-"),
            queued=queued,
            queued_seconds=self._since(min(since, default=None)),
        )

    def line(self, instance: int, table: str) -> Line:
        package = self.host.package
        queue = workers.queue_of(package, instance, table)
        shared = queue == package.shared_socket and self.shared
        name = package.shared_unit if shared else package.socket_unit(instance)
        socket = self.units.get(name, {})
        service = self.units.get(package.service_unit(instance), {})
        unloaded = "dead" if self.host.live else "-"
        pid = int(service.get("MainPID") or 0)
        there = workers.connections(table, queue)
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
        self, instance: int, pid: int, there: workers.Connections
    ) -> tuple[str | None, float | None]:
        """Idle, busy or starting, and busy since when."""
        if not pid:
            return None, None
        try:
            held = workers.socket_inodes(pid) & there.accepted
        except OSError:
            # Not to be told by whoever is not root; that a connection was taken is.
            return ("busy" if there.accepted else None), None
        if held:
            return "busy", self.watch.busy_since(instance, pid, held) if self.watch else None
        if workers.is_accepting(pid):
            return "idle", None
        # Between the table of connections and now it may have taken one.
        table = workers.table()
        queue = workers.queue_of(self.host.package, instance, table)
        again = workers.connections(table, queue)
        return ("busy" if workers.holds(pid, again) else "starting"), None

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
    watch = monitor_file.load_fresh(host) if host.live else None
    is_shared = pool.resolved is not None and pool.resolved.settings.is_shared
    look = Look(host, pool, instances.units(host), watch, time.monotonic(), is_shared)
    sockets = workers.table()
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


# ---- For people


def table(rows: list[dict[str, Any]]) -> str:
    """Columns of equal width, headed by the keys."""
    heads = list(rows[0])
    cells = [
        [head.upper() for head in heads],
        *([str(row[head]) for head in heads] for row in rows),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def row(line: Mapping[str, Any]) -> dict[str, Any]:
    """An instance as the table shows it: durations as people write them, and dashes."""
    cells = dict(line)
    for name in ("busy", "queued", "age"):
        seconds = cells.pop(f"{name}_seconds")
        shown = None if seconds is None else span(seconds)
        if name == "age":
            cells["age"] = shown
        elif name == "busy" and shown:
            cells["work"] = f"busy {shown}"
        elif shown:
            cells["queued"] = f"{cells['queued']} ({shown})"
    memory = cells.pop("memory_mb")
    cells["memory"] = None if memory is None else f"{memory:.0f} MB"
    cells["version"] = cells.pop("version")
    cells["pid"] = cells["pid"] or None
    return {key: "-" if value is None else value for key, value in cells.items()}


def _limit(value: object) -> object:
    return "none" if value is None else value


def show_verdict(verdict: Mapping[str, Any]) -> str:
    problems = (f"{p['level']}: {p['what']} ({p['remedy']})" for p in verdict["problems"])
    return "\n".join([f"{verdict['level']}: {verdict['summary']}", *problems])


def shown_queue(queue: Mapping[str, Any]) -> str:
    seconds = queue["queued_seconds"]
    since = "" if seconds is None else f" ({span(seconds)})"
    return f"shared queue: socket {queue['socket']}, {queue['queued']} wait{since}"


def show_pool(status: Mapping[str, Any]) -> str:
    """The instances and the verdict: what changes from one look to the next."""
    lines = status["instances"]
    return "\n\n".join(
        [
            f"QGIS Server {status['qgis'] or 'of an unknown release'}",
            table([row(line) for line in lines]) if lines else "no instance",
            *([shown_queue(queue)] if (queue := status["shared_queue"]) else []),
            show_verdict(status["verdict"]),
        ]
    )


def show(status: Mapping[str, Any]) -> str:
    parts = [show_pool(status)]
    if settings := status["settings"]:
        parts.append(
            table(
                [
                    {"setting": k, "value": json.dumps(v["value"]), "from": v["from"]}
                    for k, v in settings.items()
                ]
            )
        )
    limits = status["cores"]
    rest = [
        f"cores: {limits['count']} (affinity {limits['affinity']}, "
        f"cpuset {_limit(limits['cpuset'])}, quota {_limit(limits['quota'])})"
    ]
    web = status["nginx"]
    state = "running" if web["running"] else "not running" if web["installed"] else "not installed"
    rest.append(f"NGINX: {state}, site {web['site'] or 'not enabled'}")
    rest += [f"note: {text}" for text in status["notes"]]
    rest += [f"to be applied: {text}" for text in status["pending"] or ()]
    return "\n\n".join([*parts, "\n".join(rest)])


# ---- The command


def watch_pool(host: Host, every: float, *, as_json: bool) -> int:
    """Show the pool again and again: on a terminal in place, else one after the
    other, as JSON one line each. Ends with Ctrl-C."""
    clear = CLEAR if sys.stdout.isatty() and not as_json else ""
    try:
        while True:
            status = collect(host)
            text = json.dumps(status, ensure_ascii=False) if as_json else show_pool(status)
            print(clear + text + ("" if clear or as_json else "\n"), flush=True)
            time.sleep(every)
    except KeyboardInterrupt:
        return 0


def seconds(text: str) -> float:
    """For argparse: the time between two looks."""
    value = float(text)
    if not 0.1 <= value <= 86400:
        raise ValueError
    return value


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    if args.watch is not None:
        return watch_pool(host, args.watch, as_json=args.json)
    status = collect(host)
    print(json.dumps(status, indent=2, ensure_ascii=False) if args.json else show(status))
    return 0
