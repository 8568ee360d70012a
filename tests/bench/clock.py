# SPDX-License-Identifier: GPL-2.0-or-later
"""How much time is left."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Of work whose parts are expected to take so many seconds altogether; what has been done
    tells how far off that is on this machine."""

    def __init__(self, expected: float, now: Callable[[], float] = time.monotonic) -> None:
        self.expected = expected
        self.now = now
        self.begin = now()
        self.over = 0.0

    def done(self, expected: float) -> None:
        """A part has ended that was expected to take so many seconds."""
        self.over += expected

    def left(self) -> str:
        pace = (self.now() - self.begin) / self.over if self.over else 1.0
        seconds = max(0.0, self.expected - self.over) * pace
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
