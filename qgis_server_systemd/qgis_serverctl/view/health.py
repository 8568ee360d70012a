# SPDX-License-Identifier: GPL-2.0-or-later
"""From the state of all instances to one line: is the pool in order, and what is to
be done if not? Pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..config.names import Package
from ..pool.instances import listed

LISTENING = ("listening", "running")
"""Sub-states of a socket unit that is up."""


@dataclass(frozen=True)
class Line:
    """One instance.

    `enabled`: yes, no or masked. `drained`: no, or why NGINX sends it no requests:
    administrator, roll or failed (did not come up in a roll). `socket`, `service`:
    systemd's sub-states. `pid`: of the worker, 0 if there is none. `work`: idle,
    busy or starting. `busy_seconds`: since when. `queued`: requests that wait in
    the socket; `queued_seconds`: without a break since when. `restarts`: those that
    systemd did by itself. `age_seconds`, `memory_mb`: of the process. `version`:
    current, or old if the program or a library of QGIS was replaced since. None is
    what does not apply or can't be told.
    """

    instance: int
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
        up = self.socket in LISTENING and self.service == "running"
        return self.wanted and up and self.drained == "no" and self.work != "starting"


@dataclass(frozen=True)
class Queue:
    """The queue that all workers share. `socket`: systemd's sub-state."""

    socket: str
    queued: int
    queued_seconds: float | None


@dataclass(frozen=True)
class Around:
    """What is around the instances. `nginx`: missing, stopped, unused (no location
    leads to the pool) or serving. `monitored`: the monitor tells since when workers
    are busy. `pending`: number of actions that apply would do. `queue`: the shared
    one, if there is one."""

    live: bool
    nginx: str
    monitored: bool
    pending: int
    queue: Queue | None = None


@dataclass(frozen=True)
class Problem:
    """`level`: warning or error. `remedy`: a command."""

    level: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Verdict:
    """`level`: ok, or the worst of the problems."""

    level: str
    summary: str
    problems: tuple[Problem, ...]


def span(seconds: float) -> str:
    """A duration as people write it: 0.4s, 12s, 3m05s, 2h10m, 5d3h."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{left:02}s" if minutes else f"{left}s"


def _instances(package: Package, lines: Sequence[Line], around: Around) -> Iterator[Problem]:
    wanted = [line for line in lines if line.wanted]
    shared = around.queue
    if shared and shared.socket not in LISTENING:
        yield Problem(
            "error",
            f"the shared socket is {shared.socket}",
            f"systemctl start {package.shared_unit}",
        )
        return
    if not wanted:
        yield Problem("error", "no instance is enabled", f"{package.command} apply")
    for line in wanted:
        n = line.instance
        if line.socket not in LISTENING:
            yield Problem(
                "error",
                f"instance {n}: its socket is {line.socket}",
                f"systemctl start {package.socket_unit(n)}",
            )
        elif line.service in ("dead", "failed"):
            yield Problem(
                "error",
                f"instance {n}: its worker is {line.service}",
                f"systemctl start {package.service_unit(n)}",
            )
        elif not line.pid:
            yield Problem(
                "error",
                f"instance {n}: its worker has ended and is to be restarted "
                f"({line.service}, {line.restarts} restarts)",
                f"{package.command} check",
            )
    if old := [line.instance for line in wanted if line.version == "old"]:
        yield Problem(
            "warning",
            f"instance {listed(old)}: runs a program that was replaced on disk",
            f"{package.command} apply",
        )


def _nginx(package: Package, state: str) -> Iterator[Problem]:
    if state == "missing":
        yield Problem("error", "NGINX is not installed", "apt install nginx")
    elif state == "stopped":
        yield Problem("error", "NGINX does not run", "systemctl start nginx")
    elif state == "unused":
        yield Problem(
            "warning", "no location of NGINX leads to the pool", f"{package.command} site enable"
        )


def _around(package: Package, lines: Sequence[Line], around: Around) -> Iterator[Problem]:
    serving = [line for line in lines if line.serves]
    queued = _queued(lines, around)
    if serving and queued and all(line.work == "busy" for line in serving):
        yield Problem(
            "warning",
            "all instances are busy, and requests wait",
            f"{package.command} apply --instances {len(serving) + 1}, "
            "if it stays so and cores and memory allow",
        )
    if not around.monitored and any(line.pid for line in lines):
        yield Problem(
            "warning",
            "the monitor does not run: nobody looks after workers that hang",
            f"systemctl start {package.monitor_unit}",
        )
    if around.pending:
        yield Problem(
            "warning",
            "one change waits to be applied"
            if around.pending == 1
            else f"{around.pending} changes wait to be applied",
            f"{package.command} apply",
        )


def _queued(lines: Sequence[Line], around: Around) -> int:
    return sum(line.queued for line in lines) + (around.queue.queued if around.queue else 0)


def _waiting(lines: Sequence[Line], around: Around) -> str:
    queued = _queued(lines, around)
    if not queued:
        return "nothing waits"
    waits = [line.queued_seconds for line in lines]
    if around.queue:
        waits.append(around.queue.queued_seconds)
    longest = max((seconds or 0 for seconds in waits), default=0)
    since = f", for up to {span(longest)}" if longest else ""
    return f"{queued} request{' waits' if queued == 1 else 's wait'}{since}"


def judge(package: Package, lines: Sequence[Line], around: Around) -> Verdict:
    """What is wrong comes worst first."""
    if not around.live:
        return Verdict("error", "systemd does not run here", ())
    found = [
        *_instances(package, lines, around),
        *_nginx(package, around.nginx),
        *_around(package, lines, around),
    ]
    found.sort(key=lambda problem: problem.level)  # error before warning
    wanted = [line for line in lines if line.wanted]
    parts = [
        f"{sum(line.serves for line in wanted)} of {len(wanted)} instances serve",
        f"{sum(line.work == 'busy' for line in lines)} busy",
    ]
    if drained := sum(line.drained != "no" for line in wanted):
        parts.append(f"{drained} drained")
    parts.append(_waiting(lines, around))
    return Verdict(found[0].level if found else "ok", ", ".join(parts), tuple(found))
