# SPDX-License-Identifier: GPL-2.0-or-later
"""A model of many hosts behind one or several fronts: python3 -m bench.fleet

Requests come at random times. Each takes a front at random, as by DNS or anycast. The front sends
it to the host of which it has the fewest requests in hand, but to none more than that host has
workers; else it waits in the front. A host that has more in hand, of several fronts, than workers
lets it wait there. This is what HAProxy does with the role qgis_front (leastconn, maxconn).

Prints a table of docs/fleet.md. How long replies take is random as well (exponential). The seed is
fixed. Behind one front it is Erlang's queue, for which there is a formula.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field

CORES = 8
"""Of each host, with a worker for each."""
TILES = 75
"""A second and core: 148 to 164 on two cores in docs/benchmarks.md, row "light"."""
REPLY_MS = 1000 / TILES
LOAD = 0.7
"""The share of its time in which a worker is busy."""
FRONT_US, CHECK_US = 120, 50
"""Processor time of HAProxy 2.6 for a tile of 12,000 bytes by TLS on a connection that is kept, and
for asking a host for its health; measured, see docs/fleet.md."""
TILE_BYTES = 12_000
FRONTS = (1, 2, 4, 16)


@dataclass
class Front:
    """What one front has in hand of each host. levels: the hosts by how many."""

    hosts: int
    most: int
    levels: list[list[int]] = field(init=False)
    queue: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.levels = [list(range(self.hosts))] + [[] for _ in range(self.most)]
        self.level = [0] * self.hosts
        self.place = list(range(self.hosts))

    def least(self, chance: random.Random) -> int | None:
        """A host of those with the fewest; None: all have as many as they may."""
        for hosts in self.levels[: self.most]:
            if hosts:
                return hosts[int(chance.random() * len(hosts))]
        return None

    def move(self, host: int, by: int) -> None:
        old = self.levels[self.level[host]]
        last = old.pop()
        if last != host:
            old[self.place[host]] = last
            self.place[last] = self.place[host]
        self.level[host] += by
        new = self.levels[self.level[host]]
        self.place[host] = len(new)
        new.append(host)


def waits(hosts: int, workers: int, fronts: int, load: float, requests: int) -> list[float]:
    """How long each of so many requests waited, after as many to warm up; sorted, in units of a
    mean reply. load: the share of their time in which workers are busy."""
    chance = random.Random(19)
    rate = load * hosts * workers
    many = [Front(hosts, workers) for _ in range(fronts)]
    free = [workers] * hosts
    local: list[deque[tuple[float, int]]] = [deque() for _ in range(hosts)]
    ends: list[tuple[float, int, int]] = []
    found: list[float] = []

    def some(mean: float) -> float:
        return -math.log(1.0 - chance.random()) * mean

    def begin(now: float, came: float, front: int, host: int) -> None:
        free[host] -= 1
        found.append(now - came)
        heapq.heappush(ends, (now + some(1.0), front, host))

    def send(now: float, came: float, front: int, host: int) -> None:
        many[front].move(host, 1)
        if free[host]:
            begin(now, came, front, host)
        else:
            local[host].append((came, front))

    now = 0.0
    for _ in range(2 * requests):
        now += some(1 / rate)
        while ends and ends[0][0] <= now:
            then, front, host = heapq.heappop(ends)
            free[host] += 1
            if local[host]:
                begin(then, *local[host].popleft(), host)
            many[front].move(host, -1)
            if many[front].queue:
                send(then, many[front].queue.popleft(), front, host)
        front = int(chance.random() * fronts)
        host_or_none = many[front].least(chance)
        if host_or_none is None:
            many[front].queue.append(now)
        else:
            send(now, now, front, host_or_none)
    return sorted(found[requests:])


def row(hosts: int) -> str:
    """Of the table in docs/fleet.md."""
    tiles = LOAD * hosts * CORES * TILES
    cores = (tiles * FRONT_US + hosts * CHECK_US) / 1e6
    gigabits = tiles * TILE_BYTES * 8 / 1e9
    requests = max(20_000, 5 * hosts * CORES)
    late = [waits(hosts, CORES, fronts, LOAD, requests)[-requests // 100] for fronts in FRONTS]
    cells = [f"{hosts:,}", f"{tiles:,.0f}", f"{cores:.2g}", f"{gigabits:.2g}"]
    return f"| {' | '.join([*cells, *(f'{wait * REPLY_MS:.0f}' for wait in late)])} |"


def main() -> None:
    for hosts in (1, 3, 10, 100, 1000):
        print(row(hosts))


if __name__ == "__main__":
    main()
