# SPDX-License-Identifier: GPL-2.0-or-later
"""What the contestants are asked for. All get the same requests, drawn once from a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bench.inside.drive import Group, Request

LIGHT_SIZE = 256
HEAVY_SIZE = 4000
"""About two seconds of processor time on the machine where it was chosen."""
DRAWN = 400
CACHE = "ours-cache"
"""The contestant that NGINX replies for, from its cache."""

Groups = Callable[[str], list[Group]]
"""What clients send, given the beginning of a contestant's URLs, up to the query."""


@dataclass(frozen=True)
class Workload:
    """`restarts`: the contestant's workers are restarted meanwhile, by the best way it has.
    `first`: the contestant is stopped before, and what counts is the time from its start to
    the first reply. `after`: a start or a restart, after which the first requests count once
    workers wait for them; then there is no load.

    `seconds`: how long, unless there have been `enough` light requests before. `every`: it has
    a part in the first round and in each so many-th after it: what bars are about in all, the
    rest as time allows. `expected`: seconds that it takes all in all. `only`: no other
    contestants, if any is named."""

    name: str
    title: str
    groups: Groups
    restarts: bool = False
    first: bool = False
    after: str = ""
    seconds: float = 4.0
    enough: int = 0
    every: int = 5
    expected: float = 6.0
    only: tuple[str, ...] = ()

    def takes_part(self, number: int) -> bool:
        """In this round, counted from 1?"""
        return (number - 1) % self.every == 0


def ask(base: str, kind: str, content: str, *, pixels: int = 0, **parameters: object) -> Request:
    return Request(kind, f"{base}{urlencode(parameters)}", content, pixels)


def get_map(
    base: str, kind: str, layers: str, bbox: tuple[float, float, float, float], size: int
) -> Request:
    return ask(
        base,
        kind,
        "image/png",
        pixels=size * size,
        SERVICE="WMS",
        VERSION="1.3.0",
        REQUEST="GetMap",
        LAYERS=layers,
        STYLES="",
        CRS="EPSG:4326",
        BBOX=",".join(f"{value:.3f}" for value in bbox),
        WIDTH=size,
        HEIGHT=size,
        FORMAT="image/png",
    )


def boxes(number: int, degrees: float = 20) -> list[tuple[float, float, float, float]]:
    """South, west, north and east of boxes that lie at random."""
    dice = random.Random(1)
    found = []
    for _ in range(number):
        south, west = dice.uniform(-60, 60), dice.uniform(-180, 180 - degrees)
        found.append((south, west, south + degrees, west + degrees))
    return found


def light(base: str) -> list[Request]:
    """Tiles of one layer."""
    return [get_map(base, "light", "countries", box, LIGHT_SIZE) for box in boxes(DRAWN)]


def heavy(base: str) -> list[Request]:
    """A large map of two layers."""
    return [get_map(base, "heavy", "countries,states_provinces", (-90, -180, 90, 180), HEAVY_SIZE)]


def replay(base: str) -> list[Request]:
    """What viewers send: a client begins with the capabilities and the legend, then come
    tiles, now and then a click, features and a print."""
    kinds = ("tile", "capabilities", "legend", "info", "features", "print")
    order = random.Random(2).choices(kinds, (70, 4, 6, 12, 6, 2), k=DRAWN)
    return [_replayed(base, kind, box) for kind, box in zip(order, boxes(DRAWN), strict=True)]


def _replayed(base: str, kind: str, box: tuple[float, float, float, float]) -> Request:
    wms: dict[str, Any] = {"SERVICE": "WMS", "VERSION": "1.3.0"}
    south, west, north, east = box
    if kind == "tile":
        return get_map(base, kind, "countries,disputed_borders", box, LIGHT_SIZE)
    if kind == "capabilities":
        return ask(base, kind, "text/xml", **wms, REQUEST="GetCapabilities")
    if kind == "legend":
        return ask(
            base,
            kind,
            "image/png",
            **wms,
            REQUEST="GetLegendGraphic",
            LAYERS="countries",
            FORMAT="image/png",
        )
    if kind == "info":
        return ask(
            base,
            kind,
            "application/json",
            **wms,
            REQUEST="GetFeatureInfo",
            LAYERS="countries",
            QUERY_LAYERS="countries",
            STYLES="",
            CRS="EPSG:4326",
            BBOX=f"{south:.3f},{west:.3f},{north:.3f},{east:.3f}",
            WIDTH=LIGHT_SIZE,
            HEIGHT=LIGHT_SIZE,
            I=128,
            J=128,
            INFO_FORMAT="application/json",
        )
    if kind == "features":
        return ask(
            base,
            kind,
            "application/",
            SERVICE="WFS",
            VERSION="1.1.0",
            REQUEST="GetFeature",
            TYPENAME="countries",
            BBOX=f"{west:.3f},{south:.3f},{east:.3f},{north:.3f}",
            MAXFEATURES=5,
            OUTPUTFORMAT="application/vnd.geo+json",
        )
    return ask(
        base,
        kind,
        "application/pdf",
        **wms,
        REQUEST="GetPrint",
        TEMPLATE="A4",
        CRS="EPSG:4326",
        map0_EXTENT=f"{south:.3f},{west:.3f},{north:.3f},{east:.3f}",
        LAYERS="countries",
        DPI=150,
        FORMAT="pdf",
    )


ENOUGH = 1000
"""Light requests in a round; a contestant that is too slow for them is bounded by time."""
OURS = ("ours-per-worker", "ours-shared")

FIRST = Workload(
    "first",
    "the first tile after a start",
    lambda base: [Group(1, light(base)[:1])],
    first=True,
    every=1,
    expected=0,
)
WORKLOADS = (
    Workload(
        "light",
        "4 clients, tiles",
        lambda base: [Group(4, light(base))],
        seconds=5,
        enough=ENOUGH,
        every=1,
        expected=5.5,
    ),
    Workload("single", "1 client, tiles", lambda base: [Group(1, light(base))], seconds=3),
    Workload(
        "heavy",
        "1 client, a large map alone",
        lambda base: [Group(1, heavy(base))],
        # One request each: no round ends within one.
        seconds=0.5,
        expected=3,
    ),
    Workload(
        "3+1",
        "3 clients with tiles, 1 with large maps",
        lambda base: [Group(3, light(base)), Group(1, heavy(base))],
        seconds=7,
        enough=ENOUGH,
        every=1,
        expected=10,
    ),
    Workload(
        "6+3",
        "6 clients with tiles, 3 with large maps",
        lambda base: [Group(6, light(base)), Group(3, heavy(base))],
        seconds=6,
        expected=12,
    ),
    Workload("replay", "4 viewers", lambda base: [Group(4, replay(base))]),
    Workload(
        "repeat",
        "4 clients, the same 8 tiles",
        lambda base: [Group(4, light(base)[:8])],
        seconds=3,
    ),
    Workload(
        "restart",
        "4 clients, tiles, while all workers are restarted",
        lambda base: [Group(4, light(base))],
        restarts=True,
        expected=10,
    ),
    Workload(
        "roll",
        "the first tiles after all workers were restarted",
        lambda base: [Group(1, light(base)[:1])],
        after="restart",
        every=2,
        expected=14,
        only=OURS,
    ),
    Workload(
        "boot",
        "the first tiles after a start, once workers wait for requests",
        lambda base: [Group(1, light(base)[:1])],
        after="start",
        every=2,
        expected=6,
        only=("recipe", *OURS),
    ),
    FIRST,
)
