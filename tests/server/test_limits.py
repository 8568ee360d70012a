# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request, and a client, may ask for: limits, each a setting."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from shared.harm import connections, in_background, let_go_wrong, sleeping, timed
from shared.pool import ctl, path, serving_bed, wait_for
from testbed import Reply, Snapshot, Testbed

SETTINGS = """
map_parameter = true
instances = 2
image_size_max = 512
dpi_max = 100
api_results_max = 3
request_body_max = "1M"
request_header_max = "4K"
client_rate = 2
client_connections = 2
trusted_proxies = ["127.0.0.1"]
"""
BASE = "http://127.0.0.1/qgis-server"
WORLD = f"{BASE}?MAP=/srv/maps/world.qgz"
WMS = (
    f"{WORLD}&SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=countries&STYLES=&CRS=EPSG:4326"
    "&BBOX=-60,-120,60,120&FORMAT=image/png"
)
WCS = (
    f"{WORLD}&SERVICE=WCS&VERSION=1.0.0&REQUEST=GetCoverage&COVERAGE=relief&CRS=EPSG:4326"
    "&BBOX=-180,-90,180,90&FORMAT=GTiff"
)
PRINT = (
    f"{WORLD}&SERVICE=WMS&VERSION=1.3.0&REQUEST=GetPrint&TEMPLATE=A4&CRS=EPSG:4326&FORMAT=pdf"
    "&map0:EXTENT=-60,-120,60,120"
)


@pytest.fixture(scope="module")
def bed(installed: Snapshot) -> Iterator[Testbed]:
    with serving_bed(installed) as testbed:
        before = testbed.fetch(f"{WMS}&WIDTH=600&HEIGHT=300")
        assert before.status == 200, "the default allows it"
        let_go_wrong(testbed)
        testbed.run("tee", "/etc/qgis-server/server.toml", input=SETTINGS)
        ctl(testbed, "apply")
        ctl(testbed, "restart")
        yield testbed


def ask(bed: Testbed, url: str, *curl_args: str, client: str) -> Reply:
    """As a client of an address that no other test has."""
    forwarded = ("--header", f"X-Forwarded-For: 198.51.100.7, {client}")
    return bed.fetch(url, *forwarded, *curl_args)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        (f"{WMS}&WIDTH=512&HEIGHT=256", 200),
        (f"{WMS}&WIDTH=513&HEIGHT=256", 403),
        (f"{WMS}&WIDTH=256&HEIGHT=%35%31%33", 403),
        (f"{WMS}&WIDTH=256&HEIGHT=%2535%2531%2533", 403),
        (f"{WMS}&WIDTH=256&HEIGHT=256&DPI=101", 403),
        (f"{WCS}&WIDTH=512&HEIGHT=256", 200),
        (f"{WCS}&WIDTH=64&HEIGHT=513", 403),
        (f"{PRINT}&DPI=100", 200),
        (f"{PRINT}&DPI=101", 403),
    ],
)
def test_images_have_a_size(bed: Testbed, url: str, status: int) -> None:
    reply = ask(bed, url, client=f"192.0.2.{len(url) % 200}")
    assert reply.status == status, reply.body[:300]


def test_a_reply_of_the_ogc_api_has_a_number_of_features(bed: Testbed) -> None:
    items = f"{BASE}/wfs3/collections/countries/items.json?MAP=/srv/maps/world.qgz"
    few = ask(bed, f"{items}&limit=3", client="192.0.2.201")
    assert len(json.loads(few.body)["features"]) == 3
    many = ask(bed, f"{items}&limit=4", client="192.0.2.202")
    assert many.status == 400, many.body[:300]


def test_a_body_and_a_header_have_a_length(bed: Testbed) -> None:
    bed.run(
        "sh", "-c", "head -c 1000000 /dev/zero >/root/short; head -c 1100000 /dev/zero >/root/long"
    )
    for file, status in (("short", 200), ("long", 413)):
        body = ("--data-binary", f"@/root/{file}", "--header", "Content-Type: text/xml")
        capabilities = f"{WORLD}&SERVICE=WMS&REQUEST=GetCapabilities"
        reply = ask(bed, capabilities, *body, client="192.0.2.203")
        assert (reply.status == 413) is (status == 413), reply.body[:300]
    for length, status in ((3000, 200), (5000, 414)):
        url = f"{WORLD}&SERVICE=WMS&REQUEST=GetCapabilities&PADDING={'x' * length}"
        assert ask(bed, url, client="192.0.2.204").status == status
    assert ask(bed, BASE, "--header", f"X: {'x' * 5000}", client="192.0.2.205").status == 400


def test_a_client_has_a_rate_of_its_own(bed: Testbed) -> None:
    url = f"{WORLD}&SERVICE=WMS&REQUEST=GetCapabilities"
    # Only the entry that the proxy itself wrote counts: these are one client.
    several = f"{BASE}?SERVICE=x&N=[1-20]"
    first, second = ("X-Forwarded-For: 192.0.2.1, 192.0.2.206", "X-Forwarded-For: 192.0.2.206")
    how = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code}\\n", "--header")
    said = bed.out("curl", *how, first, several, "--next", *how, second, several).split()
    assert said[:10].count("429") == 0, "what comes within five seconds may come at once"
    assert said[20:].count("429") > 10, said
    assert ask(bed, url, client="192.0.2.207").status == 200


# Each is one client, by what a proxy says; with another one.
ONES = {
    "203.0.113.1:10{}": "203.0.113.2",
    "2001:db8:1:2::{}": "2001:db8:1:3::1",
    "2001:db8:1:6:a:b:c:{}": "2001:db8:1:7:a:b:c:1",
    "[2001:db8:1:4::1]:10{}": "2001:db8:1:5::1",
    "2001:db8::{}": "2001:db8:0:1:2:3:4:5",
}


@pytest.mark.parametrize(("one", "other"), ONES.items())
def test_a_client_has_many_addresses_of_ipv6_and_ports(bed: Testbed, one: str, other: str) -> None:
    how = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code}\\n")
    calls: list[str] = []
    for number in range(40):
        address = f"X-Forwarded-For: {one.format(10 + number)}"
        calls += [*how, "--header", address, f"{BASE}?SERVICE=x", "--next"]
    said = bed.out("curl", *calls[:-1]).split()
    assert said[:10].count("429") == 0, said
    assert said[20:].count("429") > 10, said
    assert ask(bed, f"{BASE}?SERVICE=x", client=other).status != 429


def test_a_client_has_so_many_requests_in_the_making(bed: Testbed) -> None:
    slow = sleeping(3)
    client = ("--header", "X-Forwarded-For: 192.0.2.209")
    calls = [lambda: timed(bed, slow, *client)[0].status for _ in range(3)]
    assert sorted(in_background(*calls)()) == [200, 200, 429]


def test_requests_of_a_client_that_hangs_up_count_until_they_are_done(bed: Testbed) -> None:
    slow, client = sleeping(5), ("--header", "X-Forwarded-For: 192.0.2.210")
    for _ in range(2):
        bed.run("curl", "--silent", "--max-time", "0.5", *client, slow, check=False)
    assert timed(bed, slow, *client)[0].status == 429
    wait_for(lambda: not any(connections(bed, path(n)).accepted for n in (1, 2)), "all is done")
    assert ask(bed, f"{WMS}&WIDTH=64&HEIGHT=64", client="192.0.2.210").status == 200


def test_the_defaults_limit_no_client(bed: Testbed) -> None:
    bed.run("tee", "/etc/qgis-server/server.toml", input="map_parameter = true\n")
    ctl(bed, "apply")
    text = bed.out("cat", "/etc/nginx/conf.d/qgis-server.conf")
    assert "limit_" not in text
    assert ask(bed, f"{WMS}&WIDTH=600&HEIGHT=300", client="192.0.2.206").status == 200
    assert ask(bed, f"{WMS}&WIDTH=9000&HEIGHT=300", client="192.0.2.206").status == 403
