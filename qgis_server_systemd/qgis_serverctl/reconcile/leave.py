# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes this server out of the hands of the load balancers in front of it, and puts it back
(setting leave_seconds). Whoever sends a request all the same is served."""

import contextlib
import time
from collections.abc import Iterator

from ..config.settings import Settings
from ..pool import instances, service
from ..pool.host import Host
from ..system.output import note, warn
from . import roll

LOOKS = 3
"""So often in a row nothing must be in hand: a request that a worker hands over to the lane for
heavy requests is with none of them for a moment."""

EVERY = 0.2
"""Seconds between two looks."""


def leave(host: Host, settings: Settings) -> None:
    """Returns once the load balancers have noticed and no worker has a request. Nothing happens
    without a load balancer. Raises Failure or OSError."""
    if not settings.leave_seconds:
        return
    service.set_leaving(host, on=True)
    note("load balancers are told to send no more requests here")
    time.sleep(settings.leave_seconds)
    patience = max(settings.stop_timeout, settings.lane_stop_timeout)
    start = time.monotonic()
    idle, told = 0, False
    while idle < LOOKS:
        left = in_hand(host)
        idle = 0 if left else idle + 1
        if left and not told:
            note("finishing the requests in hand")
            told = True
        if time.monotonic() - start > patience:
            warn(f"requests are still in hand after {patience} s: they hang")
            return
        time.sleep(EVERY)


def in_hand(host: Host) -> bool:
    """Has a worker a request, or waits one for a worker?"""
    found = instances.gather(host)
    looks = (roll.look(host, n) for n in sorted(found.listening | found.heavy))
    return any(busy or queued for _, busy, queued in looks)


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
