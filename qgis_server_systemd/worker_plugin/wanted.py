# SPDX-License-Identifier: GPL-2.0-or-later
"""Which projects were asked for lately (setting warm = "auto"). Knows nothing of QGIS.

Each worker notes its own in its cache folder, which no other worker sees, and loads them when
it starts again, also after a boot.
"""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from .fresh import note

FILE = "wanted.json"

MOST = 50
"""Projects on record at most."""

SAVE_EVERY = 300.0
"""Seconds; a project that is new on record is noted at once."""

HALF = 86400.0
"""Seconds after which a request counts half."""


LONGEST = 1 << 20
"""Bytes of the record that are read."""


class Wanted:
    """`file`: where it is kept. `clock`: seconds since 1970."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self.clock = clock
        self.counts: dict[str, float] = {}
        self.saved = clock()
        wrong = (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError)
        with contextlib.suppress(*wrong, RecursionError):
            given = json.loads(note(file, LONGEST))
            aged = 0.5 ** (max(0.0, clock() - float(given["time"])) / HALF)
            self.counts = {str(one): float(n) * aged for one, n in given["projects"].items()}

    def note(self, project: str) -> None:
        """It was asked for, and is one that clients may have."""
        counts = self.counts
        new = project not in counts
        counts[project] = counts.get(project, 0.0) + 1
        if new or self.clock() - self.saved > SAVE_EVERY:
            self.save()

    def listed(self) -> list[str]:
        """The most wanted first."""
        return sorted(self.counts, key=lambda one: -self.counts[one])

    def save(self) -> None:
        now = self.clock()
        aged = 0.5 ** (max(0.0, now - self.saved) / HALF)
        # The newest one has a place, else none that is new would ever get one.
        newest = next(reversed(self.counts), None)
        kept = {*self.listed()[:MOST], newest}
        self.counts = {one: n * aged for one, n in self.counts.items() if one in kept}
        self.saved = now
        beside = self.file.with_suffix(".new")
        # On a full disk the next start loads what is on record.
        with contextlib.suppress(OSError):
            text = json.dumps({"time": now, "projects": self.counts})
            beside.unlink(missing_ok=True)
            with open(beside, "x", encoding="utf-8") as stream:
                stream.write(text)
            beside.replace(self.file)
