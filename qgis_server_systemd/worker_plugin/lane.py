# SPDX-License-Identifier: GPL-2.0-or-later
"""Which requests are heavy, and go to workers of their own. Knows nothing of QGIS.

NGINX sees the URL of a request alone. The worker sees all parameters, those of a body
included, and remembers how long the like of a request took. What it finds heavy it hands back
before it has done anything for it, and NGINX asks the lane for heavy requests.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import log2

from .allowed import FORMS, HEAVY_REQUESTS

HANDED_OVER = 590
"""Status of the reply to a request that is handed back; NGINX's file has it, too. No other
status may be this one: NGINX keeps it from clients."""

SLOW = 1.0
"""Seconds that a request takes which is slow."""

OFTEN = 2
"""How many slow ones in a row make the like of them heavy."""

RETRY, LONGEST = 600.0, 4 * 3600.0
"""Seconds after which one of a kind that was slow is tried again beside light ones; each time
that it is still slow, twice as long, up to the longest."""

MOST = 1000
"""Kinds of requests that are remembered at most."""

COSTLY = frozenset(
    name
    for form in ("filter", "expression", "order", "style", "geometry", "text", "request")
    for name in f"{FORMS[form].wms} {FORMS[form].others}".split()
) | {"OPACITIES", "SELECTION", "TIME", "ELEVATION"}
"""Parameters by which a client can make a request as slow as it likes: what takes long with one
of them tells nothing of what is asked for without it."""

LIKE = ("CRS", "SRS", "SRSNAME", "FORMAT", "DPI", "MAP_RESOLUTION", "STYLES", "STYLE")
"""What else makes one request slower than the next, and is the same in ordinary ones."""

Kind = tuple[object, ...]
Parameters = Mapping[str, str]
"""By their names in capitals, decoded."""


def number(text: str | None) -> float:
    """That of a parameter; 0 for none, and for what is no number."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def size(amount: float) -> int:
    """Alike for amounts that are about the same, by a factor of two."""
    return round(log2(amount)) if 0 < amount < float("inf") else 0


def extent(box: str) -> int:
    """The size of a BBOX."""
    sides = [number(text) for text in box.split(",")[:4]]
    return size(abs((sides[2] - sides[0]) * (sides[3] - sides[1]))) // 2 if len(sides) == 4 else 0


@cache
def _schedstat() -> int:
    """Held open, since it is read at each request."""
    return os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)


def waited() -> float:
    """Seconds that this process has waited for a processor (the second number of
    /proc/PID/schedstat, see sched-stats.rst of Linux); 0 where the kernel does not tell. What
    others do to the machine makes no request heavy."""
    try:
        return int(os.pread(_schedstat(), 100, 0).split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


@dataclass
class Past:
    """Of a kind of request: how many slow ones came in a row, until when it counts as heavy,
    and for how long it does the next time."""

    slow: int = 0
    until: float = 0.0
    pause: float = RETRY


class Lane:
    """`pixels`: of a map that is heavy, in width or height. `features`: of an export.
    `clock`: seconds; `delay`: see waited."""

    def __init__(
        self,
        pixels: int,
        features: int,
        clock: Callable[[], float] = time.monotonic,
        delay: Callable[[], float] = waited,
    ) -> None:
        self.pixels = pixels
        self.features = features
        self.clock = clock
        self.delay = delay
        self.past: OrderedDict[Kind, Past] = OrderedDict()
        # The request in hand. Its kind is asked for only if it, or another one, was slow.
        self.kind: Callable[[], Kind] | None = None
        self.begun = self.delayed = 0.0

    def takes(self, parameters: Parameters, project: str, path: str) -> bool:
        """Is it for the lane? If not, it begins now: `ends` tells how long it has taken."""
        self.kind = None
        if self.is_heavy(parameters, path):
            return True
        return self.was_slow(lambda: self.kind_of(parameters, project, path))

    def was_slow(self, kind: Callable[[], Kind]) -> bool:
        """The same, of one that is not heavy by what it asks for."""
        self.kind = None
        if self.past:
            past = self.past.get(kind())
            if past and past.slow >= OFTEN and self.clock() < past.until:
                return True
        self.kind = kind
        self.begun, self.delayed = self.clock(), self.delay()
        return False

    def is_heavy(self, parameters: Parameters, path: str) -> bool:
        """By what it asks for."""
        request = parameters.get("REQUEST", "").upper()
        if request in HEAVY_REQUESTS:
            return True
        if request == "GETMAP":
            return (
                number(parameters.get("WIDTH")) >= self.pixels
                or number(parameters.get("HEIGHT")) >= self.pixels
                or parameters.get("FORMAT", "").lower().startswith("application/dxf")
            )
        if request == "GETFEATURE":
            limits = (parameters.get("MAXFEATURES"), parameters.get("COUNT"))
            if any(number(limit) >= self.features for limit in limits):
                return True
            return not any((*limits, parameters.get("FEATUREID"), parameters.get("RESOURCEID")))
        if not request and path.rpartition("/")[2].partition(".")[0] == "items":
            return number(parameters.get("LIMIT")) >= self.features
        return False

    def kind_of(self, parameters: Parameters, project: str, path: str) -> Kind:
        """What requests have in common that take about as long."""
        get = parameters.get
        return (
            project,
            get("REQUEST", "").upper() or path,
            get("LAYERS") or get("LAYER") or get("TYPENAME"),
            size(number(get("WIDTH")) * number(get("HEIGHT"))),
            size(number(get("MAXFEATURES") or get("COUNT") or get("LIMIT"))),
            extent(get("BBOX", "")),
            *(get(name) for name in LIKE),
            COSTLY.intersection(parameters),
        )

    def ends(self) -> None:
        """The request that is in hand has been answered."""
        kind, self.kind = self.kind, None
        if kind is None:
            return
        taken = self.clock() - self.begun
        if taken >= SLOW and taken - (self.delay() - self.delayed) >= SLOW:
            self.note_slow(kind())
        elif self.past:
            self.past.pop(kind(), None)

    def note_slow(self, kind: Kind) -> None:
        past = self.past.setdefault(kind, Past())
        self.past.move_to_end(kind)
        if len(self.past) > MOST:
            self.past.popitem(last=False)
        if past.slow >= OFTEN:
            past.pause = min(2 * past.pause, LONGEST)
        past.slow += 1
        past.until = self.clock() + past.pause
