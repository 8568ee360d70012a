# SPDX-License-Identifier: GPL-2.0-or-later
"""The file in which the monitor keeps what only somebody who watches can know: since
when a worker has had its request in hand, and since when requests have waited.

All times are seconds of time.monotonic(). The file lies in /run: after a boot there
is none, so no time in it is of another boot.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ..pool.host import Host
from ..system.files import read_or_none, write
from .ends import Run

MAX_AGE = 10.0
"""Seconds after which the file is taken for one that nobody keeps any more."""


@dataclass(frozen=True)
class Watched:
    """One instance. `pid`: its worker, 0 if there is none. `request`: inode of the
    connection that the worker holds, seen first at `since`. `queued`: connections
    that wait in its socket, without a break since `queued_since`. `accepting`: it takes
    requests. `started`: when it began. `memory`: MB that are its own."""

    pid: int
    request: int | None = None
    since: float | None = None
    queued: int = 0
    queued_since: float | None = None
    accepting: bool = False
    started: float | None = None
    memory: int | None = None

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError where `value` is no such record."""
        request, since, queued_since = value["request"], value["since"], value["queued_since"]
        # A monitor of a former version has not written these.
        started, memory = value.get("started"), value.get("memory")
        return cls(
            pid=int(value["pid"]),
            request=None if request is None else int(request),
            since=None if since is None else float(since),
            queued=int(value["queued"]),
            queued_since=None if queued_since is None else float(queued_since),
            accepting=value.get("accepting") is True,
            started=None if started is None else float(started),
            memory=None if memory is None else int(memory),
        )


@dataclass(frozen=True)
class Watch:
    """All instances, as they were at `written`. `queues`: how many requests wait in each, by the
    name of the instance, "shared" or "heavy". `ended`: how many workers have, by cause. `runs`:
    the last one of each instance."""

    written: float
    instances: Mapping[int, Watched] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)
    runs: Mapping[int, Run] = field(default_factory=dict)

    def is_fresh(self, now: float) -> bool:
        return 0 <= now - self.written <= MAX_AGE

    def busy_since(self, instance: int, pid: int, inodes: frozenset[int]) -> float | None:
        """When worker `pid` took up the request that it has in hand now, by the
        `inodes` of the connections that it holds; None if the monitor saw another one."""
        seen = self.instances.get(instance)
        if seen is None or seen.pid != pid or seen.request not in inodes:
            return None
        return seen.since


def path(host: Host) -> Path:
    return host.path(f"{host.package.run}/monitor.json")


def load(host: Host) -> Watch | None:
    """What was saved last, however old; None if there is nothing that can be read."""
    try:
        found = json.loads(read_or_none(path(host)) or "")
        instances = found["instances"].items()
        return Watch(
            written=float(found["written"]),
            instances={int(number): Watched.parse(value) for number, value in instances},
            queues={str(name): int(count) for name, count in found.get("queues", {}).items()},
            ended={str(cause): int(count) for cause, count in found.get("ended", {}).items()},
            # A monitor of a former version has not written them.
            runs={
                int(number): Run(int(run["pid"]), int(run["restarts"]))
                for number, run in found.get("runs", {}).items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def load_fresh(host: Host) -> Watch | None:
    """As load; None, too, if nobody keeps the file any more."""
    found = load(host)
    return found if found and found.is_fresh(time.monotonic()) else None


def save(host: Host, watch: Watch) -> None:
    """Raises Failure."""
    instances = {str(n): asdict(watched) for n, watched in sorted(watch.instances.items())}
    text = json.dumps(
        {
            "written": watch.written,
            "instances": instances,
            "queues": dict(watch.queues),
            "ended": dict(watch.ended),
            "runs": {str(n): asdict(run) for n, run in watch.runs.items()},
        }
    )
    write(path(host), text + "\n")
