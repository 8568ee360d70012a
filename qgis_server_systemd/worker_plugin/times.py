# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a request has waited for its worker, and how long that took for it. Knows nothing of
QGIS.

NGINX sees only the sum: a connection to a socket succeeds when it is queued. So NGINX sends the
time, and the worker tells both in headers of its reply, which NGINX logs and keeps from clients.
Of a reply that is sent in pieces the second one is left to NGINX, which knows when it ended.
"""

import time
from collections.abc import Callable

WORKER, WAITED, DRAWN = "X-Worker", "X-Worker-Waited", "X-Worker-Drawn"
"""Headers of a reply: which worker it was, and seconds."""

SLOW = 10.0
"""Seconds from which on a request has a line in the log. Tiles take hundredths of one."""


class Times:
    """Of the request in hand. `worker`: what the instance is called. `clock`: seconds since 1970,
    as NGINX's; `steady`: seconds that no change of the clock moves."""

    def __init__(
        self,
        worker: str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker = worker
        self.clock = clock
        self.steady = steady
        self.waited: float | None = None
        self.begun = 0.0

    def begin(self, sent: str) -> None:
        """`sent`: when NGINX sent the request; empty where NGINX's file knows nothing of it."""
        self.begun = self.steady()
        try:
            self.waited = max(0.0, self.clock() - float(sent)) if sent else None
        except ValueError:
            self.waited = None

    def headers(self, *, whole: bool) -> dict[str, str]:
        """What the reply says; nothing where nobody would keep it from the client. `whole`: the
        reply is; of one that is sent in pieces nobody knows yet how long it will take."""
        if self.waited is None:
            return {}
        drawn = {DRAWN: f"{self.steady() - self.begun:.3f}"} if whole else {}
        return {WORKER: self.worker, WAITED: f"{self.waited:.3f}", **drawn}

    def line(self, status: int, *, failed: bool) -> str:
        """What the log says of the request that ends; empty where it is ordinary."""
        drawn = self.steady() - self.begun
        if not failed and drawn < SLOW:
            return ""
        waited = "" if self.waited is None else f", waited {self.waited:.3f} s"
        return f"status {status}, took {drawn:.3f} s{waited}"
