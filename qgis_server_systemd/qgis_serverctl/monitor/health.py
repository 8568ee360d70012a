# SPDX-License-Identifier: GPL-2.0-or-later
"""Can the pool serve? What the monitor tells NGINX, by a file that is there or not: it answers
load balancers by that, and asks no worker."""

from ..config.names import Package, is_heavy
from ..pool import connections
from ..pool.host import Host

RESTART = 20.0
"""Seconds within which workers that have ended take requests again: 10 for what they load in
advance (setting warm), and as long for the start. For so long a pool that can't serve is no
news to a load balancer, since requests wait."""


def reachable(
    package: Package, instances: frozenset[int], table: connections.Table
) -> frozenset[int]:
    """Those for ordinary requests whose queue can be reached."""
    return frozenset(
        n
        for n in instances
        if not is_heavy(n)
        and connections.is_reachable(table, connections.queue_of(package, n, table))
    )


class Health:
    """Keeps the file."""

    def __init__(self, host: Host) -> None:
        self.file = host.path(host.package.able)
        self.unable_since: float | None = None

    def look(self, open: frozenset[int], up: frozenset[int], now: float) -> None:
        """`open`: instances whose queue can be reached. `up`: those that take requests, or have
        one in hand. A pool of which nothing listens was stopped, which is true at once."""
        if open & up:
            self.unable_since = None
            if not self.file.exists():
                self.file.touch()
            return
        self.unable_since = now if self.unable_since is None else self.unable_since
        if not open or now - self.unable_since > RESTART:
            self.file.unlink(missing_ok=True)
