# SPDX-License-Identifier: GPL-2.0-or-later
"""Which requests a worker finds heavy: by what they ask for, and by what the like of them took."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from qgis_server_systemd.worker_plugin import lane
from qgis_server_systemd.worker_plugin.lane import LONGEST, MOST, OFTEN, RETRY, Lane

ITEMS = "/qgis/world/wfs3/collections/countries/items.json"
TILE = (
    "SERVICE=WMS&REQUEST=GetMap&LAYERS=countries&WIDTH=256&HEIGHT=256&BBOX=0,0,10,10&CRS=EPSG:4326"
)


def parameters(query: str) -> dict[str, str]:
    return {name.upper(): value for name, value in parse_qsl(query)}


class Clock:
    """`now`, and how long this process `waited` for a processor."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited = 0.0

    def lane(self) -> Lane:
        return Lane(3000, 1000, lambda: self.now, lambda: self.waited)

    def serve(self, judge: Lane, query: str, seconds: float, project: str = "/p.qgz") -> bool:
        """Is it handed over? Else it is answered, and takes its time."""
        if judge.takes(parameters(query), project, "/qgis/p"):
            judge.ends()
            return True
        self.now += seconds
        judge.ends()
        return False


@pytest.mark.parametrize(
    "query",
    [
        "SERVICE=WMS&REQUEST=GetPrint&TEMPLATE=A4",
        "service=wms&request=getprintatlas",
        "REQUEST=GetCoverage",
        "REQUEST=GetMap&WIDTH=3000&HEIGHT=10",
        "REQUEST=GetMap&WIDTH=10&HEIGHT=1e4",
        "REQUEST=GetMap&FORMAT=Application/DXF",
        "REQUEST=GetFeature&TYPENAME=a",
        "REQUEST=GetFeature&TYPENAME=a&MAXFEATURES=1000",
        "REQUEST=GetFeature&TYPENAME=a&COUNT=1000",
    ],
)
def test_what_asks_for_much_is_heavy(query: str) -> None:
    assert Clock().lane().takes(parameters(query), "/p.qgz", "/qgis/p")


@pytest.mark.parametrize(
    "query",
    [
        TILE,
        "REQUEST=GetMap&WIDTH=2999&HEIGHT=2999",
        "REQUEST=GetMap&WIDTH=wide&HEIGHT=nan",
        "REQUEST=GetFeatureInfo&WIDTH=4000&HEIGHT=4000",
        "REQUEST=GetFeature&TYPENAME=a&COUNT=10",
        "REQUEST=GetFeature&FEATUREID=a.1",
        "REQUEST=GetCapabilities",
        "",
    ],
)
def test_what_asks_for_little_is_not(query: str) -> None:
    assert not Clock().lane().takes(parameters(query), "/p.qgz", "/qgis/p")


def test_of_the_ogc_api_the_limit_counts() -> None:
    judge = Clock().lane()
    assert judge.takes({"LIMIT": "1000"}, "/p.qgz", ITEMS)
    assert not judge.takes({"LIMIT": "999"}, "/p.qgz", ITEMS)
    assert not judge.takes({"LIMIT": "1000"}, "/p.qgz", ITEMS.replace("items", "queryables"))


def test_what_was_slow_often_is_handed_over_until_it_is_tried_again() -> None:
    clock = Clock()
    judge = clock.lane()
    assert [clock.serve(judge, TILE, 1.2) for _ in range(OFTEN)] == [False] * OFTEN
    assert clock.serve(judge, TILE, 1.2)
    clock.now += RETRY
    assert not clock.serve(judge, TILE, 1.2)
    # Still slow: now for twice as long.
    clock.now += 1.5 * RETRY
    assert clock.serve(judge, TILE, 1.2)
    clock.now += 0.5 * RETRY
    assert not clock.serve(judge, TILE, 0.1)
    # It has become quick: it counts from the beginning.
    assert not clock.serve(judge, TILE, 1.2)
    assert not clock.serve(judge, TILE, 0.1)


def test_it_is_tried_again_for_ever() -> None:
    clock = Clock()
    judge = clock.lane()
    for _ in range(20):
        clock.serve(judge, TILE, 2)
        clock.now += LONGEST
    assert not clock.serve(judge, TILE, 2)


def test_one_slow_request_makes_nothing_heavy() -> None:
    clock = Clock()
    judge = clock.lane()
    taken = [clock.serve(judge, TILE, seconds) for seconds in (5, 0.1, 5, 0.1, 5, 0.1)]
    assert not any(taken)


@pytest.mark.parametrize(
    "other",
    [
        TILE.replace("countries", "rivers"),
        TILE.replace("256", "1024"),
        TILE.replace("10,10", "160,160"),
        TILE.replace("GetMap", "GetFeatureInfo"),
        # Else a client could make what others ask for heavy.
        f'{TILE}&FILTER=countries:"a" = 1',
        f"{TILE}&HIGHLIGHT_GEOM=POINT(0 0)",
        f"{TILE}&STYLES=detailed",
        f"{TILE}&MAP_RESOLUTION=600",
        f"{TILE}&OPACITIES=1",
        f"{TILE}&SELECTION=countries:1",
        f"{TILE}&TIME=1900/2100",
        TILE.replace("EPSG:4326", "EPSG:3857"),
        f"{TILE}&FORMAT=image/png; mode=8bit",
    ],
)
def test_another_kind_is_not_judged_by_it(other: str) -> None:
    clock = Clock()
    judge = clock.lane()
    for _ in range(OFTEN):
        clock.serve(judge, TILE, 2)
    assert not clock.serve(judge, other, 0.1)
    assert not clock.serve(judge, TILE, 0.1, project="/other.qgz")
    assert clock.serve(judge, TILE.replace("0,0,10,10", "3,3,12,12"), 0.1)


def test_what_waits_for_a_processor_is_not_slow_by_itself() -> None:
    clock = Clock()
    judge = clock.lane()
    for _ in range(2 * OFTEN):
        assert not judge.takes(parameters(TILE), "/p.qgz", "/qgis/p")
        clock.now += 3
        clock.waited += 2.5
        judge.ends()
    assert not clock.serve(judge, TILE, 0.1)


def test_what_is_remembered_has_a_bound() -> None:
    clock = Clock()
    judge = clock.lane()
    for number in range(MOST + 10):
        clock.serve(judge, TILE, 2, project=f"/{number}.qgz")
    assert len(judge.past) == MOST


def test_the_kernel_tells_how_long_a_process_has_waited() -> None:
    assert 0 <= lane.waited() < 1e6
