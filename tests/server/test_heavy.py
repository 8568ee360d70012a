# SPDX-License-Identifier: GPL-2.0-or-later
"""Heavy requests have their share of the workers, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from shared.harm import (
    FEATURES,
    IMAGE,
    SERVICE,
    connections,
    held,
    holding,
    in_background,
    let_go_wrong,
    noted,
    release,
    timed,
    unharmed,
)
from shared.pool import MAP, ctl, is_served, load, main_pid, path, serving_bed, wait_for
from testbed import Snapshot, Testbed

pytestmark = pytest.mark.either

SHARED = "/run/qgis-server.sock"
TOML = "etc/qgis-server/server.toml"
HTTP = "etc/nginx/conf.d/qgis-server.conf"
COUNT = 3
WIDE = MAP.replace("WIDTH=256&HEIGHT=128", "WIDTH=3000&HEIGHT=2")


HEAVY = (
    "SERVICE=WMS&REQUEST=GetPrint&TEMPLATE=A4",
    "service=wms&request=getprintatlas",
    "REQUEST=GetMap&WIDTH=3000&HEIGHT=10",
    "HEIGHT=010000&width=10&request=getmap",
    "REQUEST=GetMap&FORMAT=application/dxf",
    "FORMAT=application%2fDXF&REQUEST=GetMap",
    "SERVICE=WCS&REQUEST=GetCoverage",
    "SERVICE=WFS&REQUEST=GetFeature&TYPENAME=a",
    "TYPENAME=a&COUNT=1000&REQUEST=GetFeature",
    "REQUEST=GetFeature&maxfeatures=12345",
    "R%45QUEST=GetPrint",
    "REQUEST=GetMap&WIDTH=%39%39%39%39",
)
LIGHT = (
    "",
    "SERVICE=WMS&REQUEST=GetMap&WIDTH=2999&HEIGHT=256",
    "REQUEST=GetFeatureInfo&WIDTH=3840&HEIGHT=2160",
    "REQUEST=GetFeature&MAXFEATURES=999",
    "COUNT=10&REQUEST=GetFeature",
    "REQUEST=GetFeature&FEATUREID=a.1",
    "REQUEST=GetMap&LAYERS=L%C3%A4nder,b%20c%2Fd&BBOX=1%2C2",
    "REQUEST=GetMap&STYLES=GetPrint",
    "REQUEST=GetPrints",
    "XREQUEST=GetPrint",
)
SHOW = """
server {
    listen 8190;
    location / { return 200 "$qgis_server_heavy,"; }
}
"""


@pytest.fixture(scope="module")
def bed(installed: Snapshot) -> Iterator[Testbed]:
    with serving_bed(installed) as testbed:
        let_go_wrong(testbed)
        use(testbed, "heavy_workers = 1")
        ctl(testbed, "restart")
        yield testbed


def use(bed: Testbed, *lines: str) -> None:
    text = "\n".join([f"instances = {COUNT}", 'warm = ["/srv/maps/world.qgz"]', *lines, ""])
    (bed.root / TOML).write_text(text)
    ctl(bed, "apply")


def test_the_url_tells(bed: Testbed) -> None:
    use(bed, "heavy_workers = 1")
    site = bed.root / "etc/nginx/conf.d/show.conf"
    site.write_text(SHOW)
    try:
        bed.run("systemctl", "reload", "nginx")
        wait_for(lambda: ":8190" in bed.out("ss", "-ltnH"), "NGINX listens")

        def told(queries: tuple[str, ...], url: str = "http://127.0.0.1:8190/qgis-server") -> str:
            return bed.out("curl", "--silent", *(f"{url}?{query}" for query in queries))

        assert told(HEAVY) == "1," * len(HEAVY)
        assert told(LIGHT) == "," * len(LIGHT)
        items = "http://127.0.0.1:8190/qgis-server/wfs3/collections/a/items"
        assert told(("limit=1000", "a=b&limit=999", "limit=10"), items) == "1,,,"
    finally:
        site.unlink()
        bed.run("systemctl", "reload", "nginx")


# ---- What they may have


def had(bed: Testbed, name: str) -> set[str]:
    """The processes of the workers that had the requests of this name."""
    return {pid for one, pid in noted(bed) if one == name}


def test_they_wait_for_their_share_and_others_do_not(bed: Testbed) -> None:
    use(bed, "heavy_workers = 1")
    slow = in_background(lambda: timed(bed, holding(WIDE, "own")))
    wait_for(lambda: len(held(bed, COUNT)) == 1, "one is in hand")
    more = in_background(*[lambda: timed(bed, f"{WIDE}&NAME=own")] * 2)
    wait_for(lambda: connections(bed, path(1)).queued == 2, "two wait")
    for _ in range(10):
        is_served(bed)
    assert connections(bed, path(1)).queued == 2
    release(bed, COUNT)
    assert [reply.status for reply, _ in slow() + more()] == [200] * 3
    assert had(bed, "own") == {str(main_pid(bed, 1))}


def test_a_quick_request_may_have_any_worker(bed: Testbed) -> None:
    use(bed, "heavy_workers = 1")
    slow = in_background(*[lambda: timed(bed, holding(MAP, "any"))] * COUNT)
    wait_for(lambda: len(held(bed, COUNT)) == COUNT, "each worker has one")
    release(bed, COUNT)
    assert [reply.status for reply, _ in slow()] == [200] * COUNT


def test_on_the_shared_queue_what_is_too_much_is_refused(bed: Testbed) -> None:
    use(bed, "heavy_workers = 2", 'queue = "shared"')
    try:
        slow = in_background(*[lambda: timed(bed, holding(WIDE, "shared"))] * 2)
        wait_for(lambda: len(held(bed, COUNT)) == 2, "two are in hand")
        reply = bed.fetch(WIDE)
        assert (reply.status, reply.headers.get("retry-after")) == (503, "5")
        for _ in range(10):
            is_served(bed)
        release(bed, COUNT)
        assert [reply.status for reply, _ in slow()] == [200] * 2
        is_served(bed, WIDE)
    finally:
        use(bed, "heavy_workers = 1")


# ---- While workers come and go


def named(bed: Testbed) -> list[str]:
    """The sockets of the upstream for heavy requests, each once."""
    text = (bed.root / HTTP).read_text().partition("upstream qgis-server-heavy {")[2]
    found = re.findall(r"^\s*server unix:([^\s;]+)", text.partition("}")[0], re.MULTILINE)
    return list(dict.fromkeys(found))


def test_a_drained_worker_gets_none(bed: Testbed) -> None:
    use(bed, "heavy_workers = 1")
    ctl(bed, "drain", "1")
    try:
        assert named(bed) == [path(2)]
        is_served(bed, f"{WIDE}&NAME=drained")
        assert had(bed, "drained") == {str(main_pid(bed, 2))}
    finally:
        ctl(bed, "undrain", "1")
    assert named(bed) == [path(1)]


def test_a_restart_of_all_loses_none(bed: Testbed) -> None:
    use(bed, "heavy_workers = 1")
    options = ("--same", "--kept", "1")
    with load(bed, MAP, IMAGE, FEATURES, clients=2, options=options) as result:
        ctl(bed, "restart")
    unharmed(result)
    assert named(bed) == [path(1)]


def test_without_the_setting_nothing_of_it_is_there(bed: Testbed) -> None:
    use(bed)
    dump = bed.out("nginx", "-T", "-q")
    assert "upstream qgis-server " in dump
    assert "heavy" not in dump
    for url in (IMAGE, FEATURES, f"{SERVICE}&SERVICE=WMS&REQUEST=GetCapabilities"):
        assert bed.fetch(url).status == 200
