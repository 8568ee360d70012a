# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes this server out of the hands of the load balancers in front of it, and puts it back
(setting leave_seconds). Whoever sends a request all the same is served."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

from ..config.names import is_heavy
from ..config.settings import Settings
from ..pool import instances, service
from ..pool.host import Host
from ..system.output import note, warn
from . import roll

LOOKS = 3
"""So often a worker for heavy requests must be seen with nothing in hand: a request that a worker
hands over to them is with none of them for a moment."""

EVERY = 0.2
"""Seconds between two looks."""


def leave(host: Host, settings: Settings) -> None:
    """Returns once the load balancers have noticed and what they had sent is answered: each worker
    was seen with nothing in hand, those for heavy requests after all others. Who sends requests
    without a load balancer does not hold this up, unless all workers are busy without a break.
    Nothing happens without a load balancer. Raises Failure or OSError."""
    if not settings.leave_seconds:
        return
    service.set_leaving(host, on=True)
    note("load balancers are told to send no more requests here")
    time.sleep(settings.leave_seconds)
    patience = max(settings.stop_timeout, settings.lane_stop_timeout)
    start = time.monotonic()
    idle: Counter[int] = Counter()
    told = False
    while True:
        hands = in_hand(host)
        idle.update(n for n, busy in hands.items() if not busy and not is_heavy(n))
        if all(idle[n] or is_heavy(n) for n in hands):
            idle.update(n for n, busy in hands.items() if not busy and is_heavy(n))
        if all(idle[n] >= (LOOKS if is_heavy(n) else 1) for n in hands):
            return
        if any(hands.values()) and not told:
            note("finishing the requests in hand")
            told = True
        if time.monotonic() - start > patience:
            warn(f"requests are still in hand after {patience} s: they hang")
            return
        time.sleep(EVERY)


def in_hand(host: Host) -> dict[int, bool]:
    """For each instance: has its worker a request, or waits one for it?"""
    found = instances.gather(host)
    looks = {n: roll.look(host, n) for n in sorted(found.listening | found.heavy)}
    return {n: busy or bool(queued) for n, (_, busy, queued) in looks.items()}


@contextlib.contextmanager
def away(host: Host, settings: Settings) -> Iterator[None]:
    """Out while the block runs. What does so has workers load their projects before it ends."""
    leave(host, settings)
    try:
        yield
    finally:
        if settings.leave_seconds:
            service.set_leaving(host, on=False)
            note("load balancers are told to send requests here again")
