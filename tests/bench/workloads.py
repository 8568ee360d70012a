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
HEAVY_SIZE = 3000
"""The width; a third of a second of processor time on the machine where it was chosen."""
DRAWN = 400
RECIPE = "recipe"
CACHE = "ours-cache"
"""The contestant that NGINX replies for, from its cache."""
SHARE = 0.25
"""Of what the recipe's pool can draw alone, the light requests that come at a rate."""
RATE = 40.0
"""So many a second, where the recipe has no part in a run."""


@dataclass(frozen=True)
class Given:
    """What requests depend on: the beginning of a contestant's URLs, up to the query; how many
    workers each contestant has; at which rate light requests come, and by which seed."""

    base: str
    workers: int = 4
    rate: float = RATE
    seed: int = 1


Groups = Callable[[Given], list[Group]]
"""What clients send."""


@dataclass(frozen=True)
class Workload:
    """`restarts`: the contestant's workers are restarted meanwhile, by the best way it has.
    `first`: the contestant is stopped before, and what counts is the time from its start to
    the first reply. `after`: a start or a restart, after which the first requests count once
    workers wait for them; then there is no load.

    `seconds`: how long, unless there have been `enough` light requests before. `every`: it has
    a part in the first round and in each so many-th after it: what bars are about in all, the
    rest as time allows; `each`: contestants for which it has a part in all. `expected`: seconds
    that it takes all in all. `only`: no other contestants, if any is named."""

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
    each: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def takes_part(self, number: int, contestant: str) -> bool:
        """In this round, counted from 1?"""
        if self.only and contestant not in self.only:
            return False
        return (number - 1) % self.every == 0 or contestant in self.each


def ask(base: str, kind: str, content: str, *, pixels: int = 0, **parameters: object) -> Request:
    return Request(kind, f"{base}{urlencode(parameters)}", content, pixels)


def get_map(
    base: str,
    kind: str,
    layers: str,
    bbox: tuple[float, float, float, float],
    width: int,
    height: int,
) -> Request:
    return ask(
        base,
        kind,
        "image/png",
        pixels=width * height,
        SERVICE="WMS",
        VERSION="1.3.0",
        REQUEST="GetMap",
        LAYERS=layers,
        STYLES="",
        CRS="EPSG:4326",
        BBOX=",".join(f"{value:.3f}" for value in bbox),
        WIDTH=width,
        HEIGHT=height,
        FORMAT="image/png",
    )


WORLD = (-90.0, -180.0, 90.0, 180.0)


def boxes(number: int, degrees: float = 20) -> list[tuple[float, float, float, float]]:
    """South, west, north and east of boxes that lie at random."""
    dice = random.Random(1)
    found = []
    for _ in range(number):
        south, west = dice.uniform(-60, 60), dice.uniform(-180, 180 - degrees)
        found.append((south, west, south + degrees, west + degrees))
    return found


def light(base: str, degrees: float = 20) -> list[Request]:
    """Tiles of one layer: the smaller, the less on them."""
    size = (LIGHT_SIZE, LIGHT_SIZE)
    return [get_map(base, "light", "countries", box, *size) for box in boxes(DRAWN, degrees)]


def heavy(base: str) -> list[Request]:
    """A large map of two layers."""
    size = (HEAVY_SIZE, HEAVY_SIZE // 2)
    return [get_map(base, "heavy", "countries,states_provinces", WORLD, *size)]


def prints(base: str) -> list[Request]:
    """A print whose parameters are in the body of a POST, as QWC2 and Lizmap send it: the URL
    does not tell what it is."""
    form = urlencode(get_print(WORLD, "countries"))
    return [Request("heavy", base.rstrip("?&"), "application/pdf", form=form)]


def get_print(bbox: tuple[float, float, float, float], layers: str) -> dict[str, Any]:
    """Its parameters."""
    return {
        "SERVICE": "WMS",
        "VERSION": "1.3.0",
        "REQUEST": "GetPrint",
        "TEMPLATE": "A4",
        "CRS": "EPSG:4326",
        "map0:EXTENT": ",".join(f"{value:.3f}" for value in bbox),
        "LAYERS": layers,
        "DPI": 150,
        "FORMAT": "pdf",
    }


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
        layers = "countries,disputed_borders"
        return get_map(base, kind, layers, box, LIGHT_SIZE, LIGHT_SIZE)
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
    return ask(base, kind, "application/pdf", **get_print(box, "countries"))


ENOUGH = 1000
"""Light requests in a round; a contestant that is too slow for them is bounded by time."""
OURS = ("ours-per-worker", "ours-shared")
MANY = 3
"""Heavy clients for each worker, where there are many."""


def tiles(clients: int, number: int = DRAWN, degrees: float = 20) -> Groups:
    """A closed loop."""
    return lambda given: [Group(clients, light(given.base, degrees)[:number])]


def at_a_rate(times: int = 0, requests: Callable[[str], list[Request]] = heavy) -> Groups:
    """Tiles in an open loop, beside so many clients for each worker in a closed one."""

    def groups(given: Given) -> list[Group]:
        open_loop = Group(0, light(given.base), given.rate, given.seed)
        if not times:
            return [open_loop]
        return [open_loop, Group(times * given.workers, requests(given.base))]

    return groups


FIRST = Workload(
    "first", "the first tile after a start", tiles(1, 1), first=True, every=1, expected=0
)
WORKLOADS = (
    Workload("light", "4 clients, tiles", tiles(4), seconds=5, enough=ENOUGH, every=1, expected=5),
    Workload("single", "1 client, tiles", tiles(1), seconds=2, expected=2.5, each=(RECIPE, *OURS)),
    Workload(
        "small",
        "4 clients, tiles with little on them",
        tiles(4, degrees=2),
        seconds=3,
        enough=ENOUGH,
        expected=3.5,
        each=(RECIPE, *OURS),
    ),
    Workload(
        "small, single",
        "1 client, tiles with little on them",
        tiles(1, degrees=2),
        seconds=2,
        expected=2.5,
        each=(RECIPE, *OURS),
    ),
    Workload("open", "tiles at a rate", at_a_rate(), seconds=5, expected=5.5, each=OURS),
    Workload(
        "open+N",
        "tiles at a rate, 1 client with large maps for each worker",
        at_a_rate(1),
        seconds=5,
        expected=6.5,
    ),
    Workload(
        "open+3N",
        "tiles at a rate, 3 clients with large maps for each worker",
        at_a_rate(MANY),
        seconds=5,
        every=1,
        expected=8,
    ),
    Workload(
        "open+prints",
        "tiles at a rate, 3 clients with prints by POST for each worker",
        at_a_rate(MANY, prints),
        seconds=5,
        every=1,
        expected=8,
    ),
    Workload(
        "replay",
        "4 viewers",
        lambda given: [Group(4, replay(given.base))],
        only=(RECIPE, *OURS),
    ),
    Workload(
        "repeat",
        "4 clients, the same 8 tiles",
        tiles(4, 8),
        seconds=3,
        expected=3.5,
        only=(RECIPE, "ours-per-worker", CACHE),
    ),
    Workload(
        "restart",
        "4 clients, tiles, while all workers are restarted",
        tiles(4),
        restarts=True,
        expected=10,
    ),
    Workload(
        "roll",
        "the first tiles after all workers were restarted",
        tiles(1, 1),
        after="restart",
        every=2,
        expected=14,
        only=OURS,
    ),
    Workload(
        "boot",
        "the first tiles after a start, once workers wait for requests",
        tiles(1, 1),
        after="start",
        every=2,
        expected=6,
        only=OURS,
    ),
    FIRST,
)
