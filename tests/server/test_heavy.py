# SPDX-License-Identifier: GPL-2.0-or-later
"""Heavy requests have workers of their own, and nothing light waits for them."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from shared.harm import (
    FEW,
    IMAGE,
    SERVICE,
    connections,
    held,
    holding,
    in_background,
    let_go_wrong,
    noted,
    release,
    sleeping,
    timed,
    unharmed,
)
from shared.pool import (
    HEAVY as SOCKET,
)
from shared.pool import (
    MAP,
    apt,
    ctl,
    has_rolled,
    is_served,
    load,
    main_pid,
    nginx_is_content,
    reload_nginx,
    serving_bed,
    settled,
    status,
    upstream,
    wait_for,
    workers,
)
from testbed import Reply, Snapshot, Testbed

TOML = "etc/qgis-server/server.toml"
UNITS = "etc/systemd/system"
MONITOR = "/usr/share/qgis-server-systemd/qgis_serverctl/monitor/watch.py"
SNIPPET = "/etc/nginx/snippets/qgis-server.conf"
COUNT = 2
NAMES = tuple(f"heavy-{n}" for n in range(1, COUNT + 1))
SERVICES = tuple(f"qgis-server@{name}.service" for name in NAMES)
WIDE = MAP.replace("WIDTH=256&HEIGHT=128", "WIDTH=3000&HEIGHT=2")
"""Heavy by its URL."""
OVER = f"{MAP}&HAND=over"
"""One that a worker hands over."""
SPACED = "The World"
"""The name of a project."""


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
    with serving_bed(installed, let_go_wrong, settle) as testbed:
        yield testbed


def settle(bed: Testbed, *lines: str) -> None:
    """Write these settings, beside those of all tests here."""
    named = f'named_projects = ["{SPACED}=/srv/maps/world.qgz"]'
    warm = 'warm = ["/srv/maps/world.qgz"]'
    text = "\n".join([f"instances = {COUNT}", warm, named, *lines, ""])
    (bed.root / TOML).write_text(text)


def use(bed: Testbed, *lines: str) -> str:
    settle(bed, *lines)
    return ctl(bed, "apply")


@contextmanager
def using(bed: Testbed, *lines: str) -> Iterator[str]:
    try:
        yield use(bed, *lines)
    finally:
        use(bed)


def pids(bed: Testbed) -> list[int]:
    """The processes of the workers for heavy requests, 0 for one that does not run."""
    return [main_pid(bed, name) for name in NAMES]


def end_all(bed: Testbed) -> None:
    bed.run("systemctl", "stop", *SERVICES)
    wait_for(lambda: pids(bed) == [0] * COUNT, "those for heavy requests have ended")


def are_up(bed: Testbed) -> bool:
    run = Path(f"/proc/{bed.pid}/root/run/qgis-server")
    return 0 not in pids(bed) and all((run / name / "ready").exists() for name in NAMES)


def start_all(bed: Testbed) -> None:
    is_served(bed, WIDE)
    wait_for(lambda: are_up(bed), "those for heavy requests are up")


def had(bed: Testbed, name: str) -> list[str]:
    """The processes of the workers that had the requests of this name, in order."""
    return [pid for one, pid in noted(bed) if one == name]


def is_in_lane(bed: Testbed, pid: str) -> bool:
    return int(pid) in pids(bed)


def post(
    bed: Testbed, url: str, body: str, kind: str = "application/x-www-form-urlencoded"
) -> Reply:
    return bed.fetch(url, "--data-binary", body, "--header", f"Content-Type: {kind}")


def test_the_url_tells(bed: Testbed) -> None:
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


# ---- Who has them


def test_the_first_one_starts_their_workers(bed: Testbed) -> None:
    end_all(bed)
    lane = status(bed)["heavy"]
    assert (lane["queued"], lane["wanted"], lane["workers"]) == (0, COUNT, [])
    assert status(bed)["verdict"]["level"] == "ok"
    assert "nothing to do" in ctl(bed, "apply")
    is_served(bed, f"{WIDE}&NAME=first")
    (pid,) = had(bed, "first")
    wait_for(lambda: are_up(bed), "all of them are up")
    assert is_in_lane(bed, pid)
    found = status(bed)
    assert [line["instance"] for line in found["heavy"]["workers"]] == list(NAMES)
    assert [line["instance"] for line in found["instances"]] == [1, 2]
    assert "nothing to do" in ctl(bed, "apply")
    assert f"{COUNT} of {COUNT} workers run" in ctl(bed, "status")
    assert json.loads(ctl(bed, "check", "--json"))["findings"] == []


@pytest.mark.each
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_worker_hands_one_over(bed: Testbed, method: str) -> None:
    name = f"over-{method}"
    if method == "GET":
        reply = bed.fetch(f"{OVER}&NAME={name}")
    else:
        url, _, query = MAP.partition("?")
        reply = post(bed, url, f"{query}&HAND=over&NAME={name}")
    assert (reply.status, reply.body[:4]) == (200, b"\x89PNG"), reply.body[:300]
    light, heavy = had(bed, name)
    assert int(light) in workers(bed)
    assert is_in_lane(bed, heavy)
    assert reply.body == bed.fetch(MAP).body


@pytest.mark.each
def test_what_a_body_asks_for_is_found_heavy(bed: Testbed) -> None:
    """By the package's own plugin, before it has done anything."""
    url, _, query = WIDE.partition("?")
    reply = post(bed, url, f"{query}&NAME=wide-body")
    assert (reply.status, reply.body[:4]) == (200, b"\x89PNG"), reply.body[:300]
    assert is_in_lane(bed, had(bed, "wide-body")[-1])
    light = post(bed, url, f"{MAP.partition('?')[2]}&NAME=small-body")
    assert light.status == 200
    (pid,) = had(bed, "small-body")
    assert int(pid) in workers(bed)


def test_how_much_is_heavy_is_a_choice(bed: Testbed) -> None:
    """By the URL, and in a body."""
    small, narrow = (MAP.replace("WIDTH=256", f"WIDTH={width}") for width in (300, 299))
    few = FEW.replace("MAXFEATURES=9", "MAXFEATURES=4")
    with using(bed, "heavy_pixels = 300", "heavy_features = 5"):
        for number, (asked, heavy) in enumerate(
            ((small, True), (narrow, False), (FEW, True), (few, False))
        ):
            name = f"choice-{number}"
            url, _, query = asked.partition("?")
            replies = bed.fetch(f"{asked}&NAME={name}"), post(bed, url, f"{query}&NAME={name}-body")
            assert [reply.status for reply in replies] == [200, 200], asked
            for one in (name, f"{name}-body"):
                assert is_in_lane(bed, had(bed, one)[-1]) is heavy, (asked, one)


@pytest.mark.each
def test_names_with_a_space_are_served_there(bed: Testbed) -> None:
    """Handed over, and known by the URL: features are sent piece by piece."""
    url = f"http://127.0.0.1/qgis/{quote(SPACED)}"
    for query, name in (
        ("SERVICE=WMS&REQUEST=GetCapabilities&HAND=over", "spaced-over"),
        ("SERVICE=WFS&VERSION=1.1.0&REQUEST=GetFeature&TYPENAME=countries", "spaced"),
    ):
        reply = bed.fetch(f"{url}?{query}&NAME={name}")
        assert is_in_lane(bed, had(bed, name)[-1])
        assert (reply.status, reply.body.count(SPACED.encode())) == (200, 0), reply.body[:300]
        assert f"{url}?".encode() in reply.body


@pytest.mark.each
def test_what_was_slow_twice_goes_to_the_lane(bed: Testbed) -> None:
    slow = f"{MAP.replace('WIDTH=256', 'WIDTH=700')}&FAULT=sleep&SECONDS=1.5"
    # Each worker learns for itself.
    for number in range(2 * COUNT + 1):
        is_served(bed, f"{slow}&NAME=slow-{number}")
    assert int(had(bed, "slow-0")[-1]) in workers(bed)
    assert is_in_lane(bed, had(bed, f"slow-{2 * COUNT}")[-1])
    # Others stay where they were.
    is_served(bed, f"{MAP}&NAME=quick")
    assert int(had(bed, "quick")[-1]) in workers(bed)


@pytest.mark.each
def test_a_body_is_whole_when_it_is_handed_over(bed: Testbed) -> None:
    """Also one that is longer than NGINX's buffer."""
    url = SERVICE.replace("MAP=", "SERVICE=WFS&MAP=")
    xml = (
        '<wfs:GetFeature service="WFS" version="1.1.0" xmlns:wfs="http://www.opengis.net/wfs"'
        ' outputFormat="GeoJSON" maxFeatures="3">{}<wfs:Query typeName="countries"/>'
        "</wfs:GetFeature>"
    )
    for size in (0, 200_000):
        body = xml.format(" " * size)
        bed.run("tee", "/root/body", input=body)
        asked = ("--data-binary", "@/root/body", "--header", "Content-Type: text/xml")
        there, over = bed.fetch(url, *asked), bed.fetch(f"{url}&HAND=over&NAME=body", *asked)
        assert over.status == there.status == 200, over.body[:300]
        assert len(json.loads(over.body)["features"]) == 3
        assert json.loads(over.body)["features"] == json.loads(there.body)["features"]
    assert [is_in_lane(bed, pid) for pid in had(bed, "body")] == [False, True] * 2


@pytest.mark.each
def test_a_status_between_the_two_is_for_no_client(bed: Testbed) -> None:
    """Even where a worker of the lane sends it, which then has the request no second time."""
    for url in (f"{MAP}&HAND=always&NAME=ever", f"{WIDE}&HAND=always&NAME=wide"):
        assert bed.fetch(url).status == 502
    assert len(had(bed, "ever")) == 2
    assert len(had(bed, "wide")) <= 2


@pytest.mark.each
def test_light_ones_wait_for_none(bed: Testbed) -> None:
    wait_for_none(bed, "slow")


def wait_for_none(bed: Testbed, name: str) -> None:
    """Nothing light waits for requests of this name."""
    start_all(bed)
    slow = in_background(*[lambda: timed(bed, holding(WIDE, name))] * COUNT)
    wait_for(lambda: len(held(bed, COUNT, "heavy-")) == COUNT, "all have one in hand")
    more = in_background(*(partial(timed, bed, f"{url}&NAME=more") for url in (WIDE, OVER, WIDE)))
    wait_for(lambda: connections(bed, SOCKET).queued == 3, "three wait")
    for _ in range(10):
        is_served(bed)
    found = status(bed)
    assert connections(bed, SOCKET).queued == found["heavy"]["queued"] == 3
    assert [line["work"] for line in found["heavy"]["workers"]] == ["busy"] * COUNT
    assert f"heavy: {COUNT} in hand, 3 wait" in found["verdict"]["summary"]
    assert found["verdict"]["level"] == "ok"
    release(bed, COUNT, "heavy-")
    assert [reply.status for reply, _ in slow() + more()] == [200] * (COUNT + 3)
    assert all(is_in_lane(bed, pid) for pid in had(bed, name))


def test_too_many_are_refused_and_told_when_to_come_again(bed: Testbed) -> None:
    with using(bed, "backlog = 2") as said:
        assert "open the socket of heavy requests again" in said
        start_all(bed)
        slow = in_background(*[lambda: timed(bed, holding(WIDE, "full"))] * COUNT)
        wait_for(lambda: len(held(bed, COUNT, "heavy-")) == COUNT, "all have one in hand")
        # In the queue, and the one more that the kernel lets in.
        more = in_background(*[lambda: timed(bed, WIDE)] * 3)
        wait_for(lambda: connections(bed, SOCKET).queued == 3, "the queue is full")
        for url in (WIDE, OVER):
            reply = bed.fetch(url)
            assert (reply.status, reply.headers.get("retry-after")) == (503, "5"), url
        is_served(bed)
        release(bed, COUNT, "heavy-")
        assert [reply.status for reply, _ in slow() + more()] == [200] * (COUNT + 3)


def test_the_shared_queue_changes_nothing_for_them(bed: Testbed) -> None:
    with using(bed, 'queue = "shared"'):
        wait_for_none(bed, "beside")
        is_served(bed, f"{OVER}&NAME=shared")
        assert [is_in_lane(bed, pid) for pid in had(bed, "shared")] == [False, True]
        assert "nothing to do" in ctl(bed, "apply")


def test_what_settings_add_counts_for_them(bed: Testbed) -> None:
    """Also for one that is handed over, and once."""
    origin = "https://app.example.org"
    lines = ('reply_cache = "50M"', f'cors_origins = ["{origin}"]', "client_connections = 1")
    with using(bed, *lines, "client_rate = 100"):
        link = "/run/qgis-server-cache/projects/srv/maps/world.qgz"
        is_served(bed)
        wait_for(lambda: bed.run("test", "-L", link, check=False).returncode == 0, "it is kept")
        replies = [bed.fetch(f"{OVER}&NAME=kept", "--header", f"Origin: {origin}") for _ in "12"]
        assert [reply.status for reply in replies] == [200, 200], replies[-1].body[:300]
        assert {reply.headers["access-control-allow-origin"] for reply in replies} == {origin}
        assert replies[0].body == replies[1].body
        # One worker, and one of the lane, and then the cache.
        assert len(had(bed, "kept")) == 2
        is_served(bed, WIDE)


def test_rules_of_access_hold_for_them(bed: Testbed) -> None:
    """Those of the location."""
    before = bed.run("cat", SNIPPET).stdout
    rule = "fastcgi_pass qgis-server;\n auth_basic maps; auth_basic_user_file /etc/nginx/users;"
    bed.run("tee", "/etc/nginx/users", input="anna:{PLAIN}secret\n")
    bed.run("tee", SNIPPET, input=before.replace("fastcgi_pass qgis-server;", rule, 1))
    try:
        reload_nginx(bed)
        assert bed.fetch(MAP).status == 401
        for url in (WIDE, OVER):
            assert bed.fetch(url).status == 401
            reply = bed.fetch(url, "--user", "anna:secret")
            assert (reply.status, reply.body[:4]) == (200, b"\x89PNG")
    finally:
        bed.run("tee", SNIPPET, input=before)
        reload_nginx(bed)
    assert bed.fetch(MAP).status == 200


def test_a_location_of_ones_own_goes_on(bed: Testbed) -> None:
    """It includes what the settings add, and knows nothing of a lane."""
    site = bed.root / "etc/nginx/conf.d/own.conf"
    site.write_text(
        "server { listen 8191; location / { fastcgi_pass qgis-server;"
        " include fastcgi_params;"
        " include /var/lib/qgis-server-systemd/nginx-location*.conf; } }\n"
    )
    try:
        nginx_is_content(bed)
        bed.run("systemctl", "reload", "nginx")
        wait_for(lambda: ":8191" in bed.out("ss", "-ltnH"), "NGINX listens")
        for url in (MAP, OVER, WIDE):
            is_served(bed, url.replace("127.0.0.1", "127.0.0.1:8191"))
    finally:
        site.unlink()
        bed.run("systemctl", "reload", "nginx")


def test_a_timeout_of_their_own(bed: Testbed) -> None:
    """Workers tell then which ones they are, and the monitor gives them as long."""
    with using(bed, "request_timeout = 40", "heavy_timeout = 12"):
        is_served(bed, f"{WIDE}&NAME=url")
        passed, pid = had(bed, "url")
        assert int(passed) in workers(bed)
        assert is_in_lane(bed, pid)
        is_served(bed, f"{OVER}&NAME=own")
        assert is_in_lane(bed, had(bed, "own")[-1])
        show = ("systemctl", "show", "--property=TimeoutStopUSec", "--value")
        assert bed.out(*show, "qgis-server@heavy-1.service") == "42s"
        assert bed.out(*show, "qgis-server@1.service") == "1min 10s"
        wait_for(lambda: are_up(bed), "all of them are up")
        reply, _ = timed(bed, f"{sleeping(300)}&HAND=over&NAME=hangs")
        assert reply.status == 504
        pid = had(bed, "hangs")[-1]
        wait_for(lambda: not is_in_lane(bed, pid), "it is killed")
        assert "heavy_timeout allows 42 s" in ctl(bed, "logs")
        wait_for(lambda: are_up(bed), "another is up")


# ---- When there are none


@pytest.fixture
def hasty(bed: Testbed) -> Iterator[Testbed]:
    """A minute is a second for the monitor."""
    start_all(bed)
    for former, then in (("60.0", "1.0"), ("1.0", "60.0")):
        bed.run("sed", "-i", f"s/^MINUTE = {former}/MINUTE = {then}/", MONITOR)
        bed.run("systemctl", "restart", "qgis-server-monitor.service")
        if then == "1.0":
            use(bed, "heavy_idle_minutes = 3")
            yield bed
            use(bed)


def test_they_end_after_a_while_without_one(hasty: Testbed) -> None:
    wait_for(lambda: pids(hasty) == [0] * COUNT, "they end")
    before = workers(hasty)
    assert "no heavy request for 3 minutes: their workers end" in ctl(hasty, "logs")
    assert status(hasty)["verdict"]["level"] == "ok"
    assert json.loads(ctl(hasty, "check", "--json"))["findings"] == []
    for url in (WIDE, OVER):
        is_served(hasty, url)
    wait_for(lambda: pids(hasty) == [0] * COUNT, "they end again")
    assert workers(hasty) == before, "the others don't"


def test_they_stay_where_they_are_wanted_to(bed: Testbed) -> None:
    end_all(bed)
    with using(bed, "heavy_idle_minutes = 0"):
        wait_for(lambda: are_up(bed), "apply starts them")
        bed.run("systemctl", "stop", "qgis-server.slice")
        assert pids(bed) == [0] * COUNT
        bed.run("systemctl", "start", "qgis-server.target")
        wait_for(lambda: are_up(bed), "they start with the pool")
    assert "nothing to do" in ctl(bed, "apply")


def test_one_that_comes_as_they_end_is_served(bed: Testbed) -> None:
    """As the monitor ends them, again and again."""
    start_all(bed)
    url, _, query = WIDE.partition("?")
    done = threading.Event()
    posted: list[int] = []
    again = in_background(lambda: post_until(bed, url, f"{query}&HAND=over", done, posted))
    try:
        with load(bed, WIDE, OVER, clients=2, options=("--pause", "0.01")) as result:
            for _ in range(12):
                # At any moment of their end, their start, or their first requests.
                more = len(posted) + random.randint(1, 4)
                bed.run("systemctl", "stop", "--no-block", *SERVICES)
                wait_for(lambda more=more: len(posted) >= more, "some are served")  # type: ignore[misc]
    finally:
        done.set()
        again()
    assert result["failed"] == []
    assert result["sent"] > 12
    assert set(posted) == {200}
    start_all(bed)


def post_until(bed: Testbed, url: str, body: str, done: threading.Event, posted: list[int]) -> None:
    while not done.is_set():
        posted.append(post(bed, url, body).status)


# ---- While the pool changes


def test_a_restart_of_all_loses_none(bed: Testbed) -> None:
    start_all(bed)
    before = pids(bed)
    options = ("--same", "--kept", "1")
    with load(bed, MAP, IMAGE, FEW, OVER, clients=2, options=options) as result:
        said = ctl(bed, "restart")
        assert not set(before) & set(pids(bed))
        before = pids(bed)
        bed.run("systemctl", "restart", "qgis-server.target")
    unharmed(result)
    assert "restarted 1, 2, heavy-1, heavy-2" in said
    # The target waits for the others alone.
    wait_for(lambda: not set(before) & set(pids(bed)), "all for heavy requests are new, or end")


def test_one_of_them_can_be_restarted_and_read_but_not_drained(bed: Testbed) -> None:
    start_all(bed)
    one, other = pids(bed)
    ctl(bed, "restart", "--instance", "heavy-2")
    assert (main_pid(bed, "heavy-1"), main_pid(bed, "heavy-2") != other) == (one, True)
    assert "qgis-server@heavy-2" in ctl(bed, "logs", "--instance", "heavy-2")
    for verb in ("drain", "undrain"):
        done = bed.run("qgis-serverctl", verb, "heavy-1", check=False)
        assert done.returncode == 1
        assert "share a queue" in done.stderr
    end_all(bed)
    done = bed.run("qgis-serverctl", "restart", "--instance", "heavy-2", check=False)
    assert "instance heavy-2 does not run" in done.stderr


def test_their_number_follows_the_setting(bed: Testbed) -> None:
    start_all(bed)
    with load(bed, WIDE, OVER, MAP, clients=2) as result:
        use(bed, "heavy_workers = 3")
        wait_for(lambda: main_pid(bed, "heavy-3") != 0, "the third one runs")
        use(bed, "heavy_workers = 1")
        assert [main_pid(bed, name) for name in ("heavy-2", "heavy-3")] == [0, 0]
        assert dropins(bed) == ["qgis-server@heavy-1.service.d"]
        assert "nothing to do" in ctl(bed, "apply")
        use(bed, "heavy_workers = 0")
        assert SOCKET not in bed.out("ss", "-lxH")
        assert upstream(bed, lane=True) == upstream(bed)
        assert dropins(bed) == []
        assert status(bed)["heavy"] is None
        assert "nothing to do" in ctl(bed, "apply")
        use(bed)
        assert upstream(bed, lane=True) == [SOCKET]
    assert result["failed"] == []


def dropins(bed: Testbed) -> list[str]:
    return sorted(folder.name for folder in (bed.root / UNITS).glob("qgis-server@heavy-*"))


def test_a_share_as_it_was_is_understood_and_told(bed: Testbed) -> None:
    with using(bed, 'heavy_workers = "25%"') as said:
        assert 'heavy_workers = "25%" was a share of the workers' in said
        assert 'it counts as "auto"' in said
        assert status(bed)["heavy"]["wanted"] == COUNT


def test_a_worker_that_is_masked_stays_away(bed: Testbed) -> None:
    end_all(bed)
    bed.run("systemctl", "mask", "qgis-server@heavy-2.service")
    try:
        is_served(bed, WIDE)
        assert "left alone, masked: instance heavy-2" in ctl(bed, "apply")
        assert "nothing to do" in ctl(bed, "apply")
        assert (main_pid(bed, "heavy-1") > 0, main_pid(bed, "heavy-2")) == (True, 0)
    finally:
        bed.run("systemctl", "unmask", "qgis-server@heavy-2.service")
        end_all(bed)


def test_they_are_a_part_of_the_pools_slice_and_weigh_little(bed: Testbed) -> None:
    start_all(bed)
    show = ("systemctl", "show", "--value")
    weights = bed.out(*show, "--property=CPUWeight,IOWeight", "qgis-server-heavy.slice")
    assert weights.split() == ["10", "10"]
    for name, own in (("1", "qgis-server"), ("heavy-1", "qgis-server-heavy")):
        unit = f"qgis-server@{name}.service"
        assert bed.out(*show, "--property=Slice", unit) == f"{own}.slice"
        assert bed.out(*show, "--property=TriggeredBy", unit).split() == [
            "qgis-server-heavy.socket" if "heavy" in own else "qgis-server@1.socket"
        ]
    # No socket of the template has been opened for them.
    assert "/run/qgis-server-heavy-" not in bed.out("ss", "-lxH")
    has_weights = "cpu" in bed.out("cat", "/sys/fs/cgroup/cgroup.controllers", check=False).split()
    told = json.loads(ctl(bed, "check", "--json"))["notes"]
    assert any("no cpu controller" in text for text in told) == (not has_weights)
    # Their socket goes on after a stop of their slice, and not after one of the pool's.
    bed.run("systemctl", "stop", "qgis-server-heavy.slice")
    assert pids(bed) == [0] * COUNT
    start_all(bed)
    bed.run("systemctl", "stop", "qgis-server.slice")
    assert (pids(bed), SOCKET in bed.out("ss", "-lxH")) == ([0] * COUNT, False)
    assert bed.fetch(WIDE).status == 503
    bed.run("systemctl", "start", "qgis-server.target")
    start_all(bed)


def test_a_reboot_keeps_it(bed: Testbed) -> None:
    bed.reboot()
    assert pids(bed) == [0] * COUNT
    start_all(bed)
    assert "nothing to do" in ctl(bed, "apply")


def test_what_is_broken_is_found(bed: Testbed) -> None:
    bed.run("systemctl", "stop", "qgis-server-heavy.socket")
    found = json.loads(ctl(bed, "check", "--json", check=False))["findings"]
    assert {"socket-down", "pending"} == {finding["id"] for finding in found}
    ctl(bed, "apply")
    start_all(bed)


def test_an_upgrade_that_changes_all_units_loses_no_request(
    bed: Testbed, newer_package: Path
) -> None:
    """It leaves another version behind."""
    start_all(bed)
    bed.put(newer_package, "/root/newer.deb")
    before = pids(bed)
    options = ("--same", "--kept", "1")
    with load(bed, MAP, FEW, OVER, clients=2, options=options) as result:
        apt(bed, "install", "/root/newer.deb")
        wait_for(lambda: settled(bed), "the roll is through", timeout=180)
    unharmed(result)
    wait_for(lambda: has_rolled(bed), "the roll has ended")
    assert not set(before) & set(pids(bed))
    lines = [line.split() for line in bed.out("ss", "-lxnH").splitlines()]
    assert [line[3] for line in lines if line[4] == SOCKET] == ["1000"]


def test_removal_and_purge_leave_nothing(bed: Testbed) -> None:
    """The last one: the package is gone."""
    start_all(bed)
    apt(bed, "remove", "qgis-server-systemd")
    assert pids(bed) == [0] * COUNT
    assert SOCKET not in bed.out("ss", "-lxH")
    nginx_is_content(bed)
    apt(bed, "purge", "qgis-server-systemd")
    assert not list((bed.root / UNITS).rglob("*qgis-server*"))
    nginx_is_content(bed)
