# SPDX-License-Identifier: GPL-2.0-or-later
"""The last ten minutes, for the status page: how much came, how long it took, what was slow and
what failed. Pure logic. All times are seconds of time.monotonic(). Whatever clients send, what is
kept is bounded: by slots of time, by projects (counts.PROJECTS), and by the lengths below.
"""

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .fact import Fact

STEP, SLOTS = 10, 60
"""Seconds of a slot, and how many of them are told: ten minutes."""

SLOW, FAILED, BUSY = 10, 20, 20
"""How many are told at most: slow requests, failed ones, projects by load."""

BOUNDS = tuple(0.001 * 1.1**n for n in range(140))
"""Upper bounds of the counts that quantiles are made of, in seconds up to ten minutes: a quantile
is told at most a tenth too high."""


def quantile(counts: list[int], share: float) -> float | None:
    """The upper bound of the count that it falls in; None without any."""
    wanted = share * sum(counts)
    if not wanted:
        return None
    seen = 0
    for bound, count in zip((*BOUNDS, BOUNDS[-1]), counts, strict=True):
        seen += count
        if seen >= wanted:
            return round(bound, 4)
    raise AssertionError("a share is at most 1")


def _none() -> list[int]:
    return [0] * (len(BOUNDS) + 1)


@dataclass
class Load:
    """Of one project. `seconds`: of workers."""

    requests: int = 0
    failed: int = 0
    seconds: float = 0.0


Told = tuple[float, int, float, Fact, str]
"""How long a request took, a number of its own, when it ended, and what the project is called."""


@dataclass
class Slot:
    """`failed`: by the server (5xx); `wrong`: by the client (4xx). `queue`: the most waiting."""

    requests: int = 0
    failed: int = 0
    wrong: int = 0
    queue: int = 0
    waited: list[int] = field(default_factory=_none)
    drawn: list[int] = field(default_factory=_none)
    projects: dict[str, Load] = field(default_factory=dict)
    slow: list[Told] = field(default_factory=list)


class Recent:
    """`begun`: since when it counts. `ended`: when each worker has ended its last request."""

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.slots: dict[int, Slot] = {}
        self.failed: deque[Told] = deque(maxlen=FAILED)
        self.ended: dict[str, float] = {}
        self.count_of_all = 0

    def slot(self, now: float) -> Slot:
        number = int(now // STEP)
        if number not in self.slots:
            self.slots[number] = Slot()
            for old in [one for one in self.slots if one < number - SLOTS]:
                del self.slots[old]
        return self.slots[number]

    def count(self, fact: Fact, project: str, now: float) -> None:
        """`project`: its label in the metrics, so no name that a client has made up."""
        slot, took = self.slot(now), (fact.waited or 0.0) + (fact.drawn or 0.0)
        load = slot.projects.setdefault(project, Load())
        self.count_of_all += 1
        told = took, self.count_of_all, now, fact, project
        slot.requests += 1
        load.requests += 1
        load.seconds += fact.drawn or 0.0
        if fact.status >= 500:
            slot.failed += 1
            load.failed += 1
            self.failed.append(told)
        elif fact.status >= 400:
            slot.wrong += 1
        if fact.waited is not None:
            slot.waited[bisect_left(BOUNDS, fact.waited)] += 1
        if fact.drawn is not None:
            slot.drawn[bisect_left(BOUNDS, fact.drawn)] += 1
            if len(slot.slow) < SLOW:
                heapq.heappush(slot.slow, told)
            elif took > slot.slow[0][0]:
                heapq.heapreplace(slot.slow, told)
        if fact.worker:
            self.ended[fact.worker] = now

    def wait(self, queued: int, now: float) -> None:
        """So many requests wait now, in all queues."""
        slot = self.slot(now)
        slot.queue = max(slot.queue, queued)

    def told(self, now: float) -> dict[str, Any]:
        """What the page gets: only numbers, listed words, ids of NGINX's and names of projects."""
        self.slot(now)
        last = int(now // STEP)
        # One that was not seen from its begin tells too little, as the one that goes on does.
        first = int(self.begun // STEP) + 1
        series: dict[str, list[Any]] = {
            "requests": [], "failed": [], "wrong": [], "queue": [],
            "waited_half": [], "waited_most": [], "drawn_half": [], "drawn_most": [],
        }  # fmt: skip
        for number in range(last - SLOTS, last):
            # Without a request nobody has made one.
            slot = self.slots.get(number, Slot()) if number >= first else None
            for name, values in series.items():
                kind, _, part = name.partition("_")
                value = None if slot is None else getattr(slot, kind)
                if part and value is not None:
                    value = quantile(value, 0.5 if part == "half" else 0.99)
                values.append(value)
        loads: dict[str, Load] = {}
        for slot in self.slots.values():
            for name, load in slot.projects.items():
                total = loads.setdefault(name, Load())
                total.requests += load.requests
                total.failed += load.failed
                total.seconds += load.seconds
        busy = heapq.nlargest(BUSY, loads.items(), lambda one: (one[1].seconds, one[1].requests))
        slow = heapq.nlargest(SLOW, (one for slot in self.slots.values() for one in slot.slow))
        return {
            "step": STEP,
            "series": series,
            # The page divides by it.
            "seconds": round(min(max(1.0, now - self.begun), STEP * SLOTS + now % STEP), 1),
            "slow": _requests(slow, now),
            "failed": _requests(reversed(self.failed), now),
            "projects": [
                {
                    "name": name,
                    "requests": load.requests,
                    "failed": load.failed,
                    "seconds": round(load.seconds, 3),
                }
                for name, load in busy
            ],
        }


def _requests(found: Iterable[Told], now: float) -> list[dict[str, Any]]:
    return [
        {
            "ago": round(now - when, 1),
            "project": project,
            "service": fact.service,
            "request": fact.request,
            "status": fact.status,
            "waited": fact.waited,
            "drawn": None if fact.drawn is None else round(fact.drawn, 3),
            "seconds": fact.seconds,
            "id": fact.id,
        }
        for _, _, when, fact, project in found
    ]
