# SPDX-License-Identifier: GPL-2.0-or-later
"""What the status page shows, as one small file of JSON."""

import json
import time
from collections.abc import Mapping
from typing import Any

from ..config.names import is_heavy, label
from ..monitor.record import Watched
from ..pool.host import Host
from ..system.files import read_or_none
from ..system.output import printable
from .counts import Metrics, state
from .places import place

FORMAT = 1
"""The page asks for this one; another one means that it has to be loaded again."""

FINDINGS = 30
"""Findings that are told at most."""

LONGEST = 300
"""Letters of a text in a finding."""


class Since:
    """Since when each worker does what it does, in seconds of time.monotonic(): None for what it
    was at already when somebody first looked."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[int, str, float | None]] = {}

    def look(self, workers: Mapping[int, Watched], now: float) -> None:
        first = not self.seen
        self.seen = {
            number: former
            if (former := self.seen.get(number)) and former[:2] == (worker.pid, state(worker))
            else (worker.pid, state(worker), None if first else now)
            for number, worker in workers.items()
        }


def findings(host: Host) -> dict[str, Any] | None:
    """What notify has found, each with where more is told of it; None where nobody has it look
    (setting notify)."""
    package = host.package
    if not host.path(package.notify_mark).exists():
        return None
    file = host.path(package.notified)
    try:
        found = [
            [*(printable(str(word), LONGEST) for word in one), place(str(one[1]))]
            for one in json.loads(read_or_none(file) or "")
        ]
        looked = file.stat().st_mtime
    except (OSError, ValueError, TypeError, IndexError):
        return {"looked": None, "count": 0, "all": []}
    return {"looked": looked, "count": len(found), "all": found[:FINDINGS]}


def text(metrics: Metrics, since: Since, host: Host, now: float) -> str:
    """`now`: of time.monotonic(). Durations are in seconds, memory in MB."""
    pool, recent = metrics.pool, metrics.requests.recent
    watch = pool.watch
    queues = watch.queues if watch else {}
    workers = []
    for number, worker in sorted((watch.instances if watch else {}).items()):
        name, what = label(number), state(worker)
        begun = worker.since
        if what != "busy":
            begun = since.seen[number][2] if number in since.seen else None
            if what == "idle" and name in recent.ended:
                # Requests that end between two looks are seen here alone.
                begun = max(begun or 0.0, recent.ended[name])
        workers.append(
            {
                "name": name,
                "lane": "heavy" if is_heavy(number) else "light",
                "state": what,
                "for": None if begun is None else round(max(0.0, now - begun), 1),
                "memory": worker.memory,
                "age": None if worker.started is None else round(now - worker.started),
                "queued": queues.get(name),
            }
        )
    names = {worker["name"] for worker in workers}
    told = {
        "format": FORMAT,
        "written": round(time.time(), 3),
        "watched": watch is not None,
        "able": pool.able,
        "maintenance": pool.maintenance,
        "versions": pool.versions,
        "broken": pool.broken,
        "changed": pool.changed,
        "workers": workers,
        "queue": sum(queues.values()),
        "queues": {name: count for name, count in queues.items() if name not in names},
        "ended": dict(watch.ended) if watch else {},
        "recent": recent.told(now),
        "findings": findings(host),
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n"
