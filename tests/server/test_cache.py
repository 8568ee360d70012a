# SPDX-License-Identifier: GPL-2.0-or-later
"""The reply cache: what is kept, and that nothing is sent of a project that has changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.harm import held, holding, in_background, let_go_wrong, noted, release
from shared.pool import apt, ctl, load, reload_nginx, serving_bed, wait_for
from shared.projects import title_in, titles
from shared.serving import get_map, wfs, wms, wmts
from testbed import Reply, Snapshot, Testbed

TOML = "etc/qgis-server/server.toml"
UNIT = "qgis-server-cache.service"
COUNT = 2


# ---- What is kept

PORT = 8191
SITE = f"""
server {{
    listen {PORT};
    add_header X-Cache $upstream_cache_status always;
    set $qgis_server_user $http_x_verified;
    include snippets/qgis-server.conf;
}}
"""
WORLD = "MAP=/srv/maps/world.qgz"
TILE = f"{WORLD}&{get_map(WIDTH=256, HEIGHT=256)}"
CAPABILITIES = f"{WORLD}&{wms('GetCapabilities')}"


@pytest.fixture(scope="module")
def bed(installed: Snapshot) -> Iterator[Testbed]:
    with serving_bed(installed, let_go_wrong, prepare) as testbed:
        yield testbed


def prepare(bed: Testbed) -> None:
    (bed.root / "etc/nginx/conf.d/cache-test.conf").write_text(SITE)
    write(bed, "Old")
    settle(bed, 'reply_cache = "50M"')


def settle(bed: Testbed, *lines: str) -> None:
    warm = f'warm = ["/srv/maps/world.qgz", "{PROJECT}"]'
    (bed.root / TOML).write_text("\n".join([f"instances = {COUNT}", warm, *lines, ""]))


def use(bed: Testbed, *lines: str) -> None:
    settle(bed, *lines)
    ctl(bed, "apply")


def link(bed: Testbed, project: str) -> str | None:
    file = Path(f"/proc/{bed.pid}/root/run/qgis-server-cache/projects{project}")
    return os.readlink(file) if file.is_symlink() else None


def ready(bed: Testbed, project: str = "/srv/maps/world.qgz") -> str:
    """Wait until replies of the project are kept; returns its generation."""
    wait_for(lambda: link(bed, project) is not None, "replies are kept")
    generation = link(bed, project)
    assert generation
    return generation


def ask(bed: Testbed, query: str, *curl_args: str) -> tuple[int, str]:
    reply = fetch(bed, query, *curl_args)
    return reply.status, reply.headers.get("x-cache", "")


def fetch(bed: Testbed, query: str, *curl_args: str) -> Reply:
    return bed.fetch(f"http://127.0.0.1:{PORT}/qgis-server?{query}", *curl_args)


@pytest.mark.parametrize(
    "query",
    [
        TILE,
        CAPABILITIES,
        f"map=%2Fsrv%2Fmaps%2Fworld.qgz&{get_map(WIDTH=1024, HEIGHT=1024)}",
        f"{WORLD}&{wms('GetLegendGraphic', LAYERS='countries', FORMAT='image/png')}",
        f"{WORLD}&{wms('GetLegendGraphic', LAYERS='countries', FORMAT='application/json')}",
        f"{WORLD}&{wmts('GetCapabilities')}",
        f"{WORLD}&{wfs('GetCapabilities')}",
    ],
    ids=["tile", "WMS", "encoded path", "legend", "legend as JSON", "WMTS", "WFS"],
)
def test_what_is_kept(bed: Testbed, query: str) -> None:
    ready(bed)
    first, second = fetch(bed, query), fetch(bed, query)
    assert (first.status, first.headers["x-cache"]) == (200, "MISS")
    assert (second.status, second.headers["x-cache"]) == (200, "HIT")
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (TILE, ("--data", "a=b")),
        (TILE, ("--head",)),
        (TILE, ("--header", "Authorization: Basic YTpi")),
        (TILE, ("--header", "Cookie: session=1")),
        (f"{WORLD}&{get_map(WIDTH=1025, HEIGHT=2)}", ()),
        (f"{WORLD}&{wfs('GetFeature', TYPENAME='countries', MAXFEATURES=1)}", ()),
        (f"M%41P=/srv/maps/second.qgs&{TILE}", ()),
        (f"{TILE}&MAP=/srv/maps/second.qgs", ()),
        (f"{TILE}&REQUEST=GetCapabilities", ()),
        (TILE.replace("/srv/maps", "/srv/../srv/maps"), ()),
        (TILE.replace("/srv/maps", "//srv/maps"), ()),
        (get_map(WIDTH=256, HEIGHT=256), ()),
    ],
    ids=[
        *("POST", "HEAD", "authorization", "cookie", "large", "features", "coded", "two projects"),
        *("two requests", "dots", "slashes", "no project"),
    ],
)
def test_what_has_nothing_to_do_with_the_cache(
    bed: Testbed, query: str, options: tuple[str, ...]
) -> None:
    ready(bed)
    ask(bed, TILE)
    assert [ask(bed, query, *options)[1] for _ in range(2)] == ["", ""]


def test_what_the_ogc_api_replies_is_not_kept(bed: Testbed) -> None:
    """It depends on Accept as well."""
    ready(bed)
    url = f"http://127.0.0.1:{PORT}/qgis-server/wfs3/collections?{WORLD}&REQUEST=GetCapabilities"
    reply = bed.fetch(url, "--header", "Accept: application/json")
    assert (reply.status, reply.headers.get("x-cache", "")) == (200, "")


def test_what_is_for_a_user_is_neither_kept_nor_sent_from_the_cache(bed: Testbed) -> None:
    ready(bed)
    tile = TILE.replace("LAYERS=countries", "LAYERS=states_provinces")
    assert tile != TILE
    user = ("--header", "X-Verified: anna")
    assert ask(bed, tile, *user) == (200, "BYPASS")
    assert [ask(bed, tile)[1] for _ in range(2)] == ["MISS", "HIT"]
    assert ask(bed, tile, *user) == (200, "BYPASS")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"{WORLD}&{get_map('nowhere', WIDTH=256, HEIGHT=256)}", 400),
        (f"{WORLD}&SERVICE=NONE&REQUEST=GetCapabilities", 200),
        (f"{WORLD}&SERVICE=NONE&REQUEST=GetTile", 200),
    ],
    ids=["layer", "capabilities", "tile"],
)
def test_an_error_is_not_kept(bed: Testbed, query: str, status: int) -> None:
    ready(bed)
    assert [ask(bed, query) for _ in range(2)] == [(status, "MISS")] * 2


def test_each_public_name_has_its_own_replies(bed: Testbed) -> None:
    ready(bed)
    for name in ("one.example", "two.example:8080"):
        for _ in range(2):
            reply = fetch(bed, CAPABILITIES, "--header", f"Host: {name}")
            assert f'href="http://{name}/qgis-server?'.encode() in reply.body


def test_requests_that_come_together_are_one(bed: Testbed) -> None:
    ready(bed)
    query = holding(CAPABILITIES, "together")
    all = in_background(*[lambda: ask(bed, query)] * 4)
    wait_for(lambda: len(held(bed, COUNT)) == 1, "a worker has it")
    waiting = f"sport = :{PORT}"
    wait_for(
        lambda: len(bed.out("ss", "-tnH", "state", "established", waiting).splitlines()) == 4,
        "the others have come",
    )
    release(bed, COUNT)
    assert sorted(all()) == [(200, "HIT")] * 3 + [(200, "MISS")]
    assert reached(bed, "together") == 1


def test_what_is_kept_is_made_anew_unless_there_is_no_worker(bed: Testbed) -> None:
    use(bed, 'reply_cache = "50M"', "reply_cache_seconds = 1")
    try:
        ready(bed)
        query = f"{CAPABILITIES}&NAME=anew"
        wait_for(lambda: ask(bed, query) == (200, "STALE"), "it is too old")
        wait_for(lambda: ask(bed, query) == (200, "HIT"), "it was made anew")
        assert reached(bed, "anew") > 1
        bed.run("systemctl", "stop", "qgis-server@*.socket", "qgis-server@*.service")
        before = reached(bed, "anew")
        wait_for(lambda: ask(bed, query) == (200, "STALE"), "it is too old again")
        assert ask(bed, query) == (200, "STALE")
        assert reached(bed, "anew") == before
    finally:
        bed.run("systemctl", "start", "qgis-server.target")
        use(bed, 'reply_cache = "50M"')


def test_only_the_origins_that_may_read_replies_are_told_so(bed: Testbed) -> None:
    use(bed, 'reply_cache = "50M"', 'cors_origins = ["https://a.example"]')
    try:
        site = bed.root / "etc/nginx/conf.d/cache-test.conf"
        site.write_text(SITE.replace("add_header", "#"))
        reload_nginx(bed)
        ready(bed)
        for origin, told in (("https://a.example", "https://a.example"), ("https://b.example", "")):
            reply = fetch(bed, TILE, "--header", f"Origin: {origin}")
            assert reply.headers.get("access-control-allow-origin", "") == told
            assert reply.headers["vary"] == "Origin"
    finally:
        site.write_text(SITE)
        use(bed, 'reply_cache = "50M"')


# ---- A project that changes

PROJECT = "/srv/maps/changing.qgs"
TITLE = f"MAP={PROJECT}&{wms('GetCapabilities')}"


def write(bed: Testbed, title: str) -> None:
    template = (bed.root / "srv/maps/second.qgs").read_text()
    content = template.replace(">Second<", f">{title}<").encode()
    (bed.root / PROJECT.lstrip("/")).write_bytes(content)


def title(reply: Reply) -> str:
    return title_in(reply.body)


def reached(bed: Testbed, name: str) -> int:
    """How many requests of this name have reached a worker."""
    return sum(one == name for one, _ in noted(bed))


def old_is_kept(bed: Testbed) -> str:
    """By NGINX, and loaded by each worker. Returns the generation."""
    former = link(bed, PROJECT)
    if titles(bed, PROJECT) == {"Old"}:
        # Else nothing tells whether a worker has the new file, or the same of before.
        write(bed, "Former")
        wait_for(lambda: titles(bed, PROJECT) == {"Former"}, "every worker has it")
    write(bed, "Old")
    wait_for(lambda: titles(bed, PROJECT) == {"Old"}, "every worker has it")
    wait_for(lambda: link(bed, PROJECT) not in (None, former), "it is kept")
    before = ready(bed, PROJECT)
    fetch(bed, TITLE)
    reply = fetch(bed, TITLE)
    assert (title(reply), reply.headers["x-cache"]) == ("Old", "HIT")
    return before


def test_a_change_is_served_in_time_and_for_good(bed: Testbed) -> None:
    old_is_kept(bed)
    url = f"http://127.0.0.1:{PORT}/qgis-server?{TITLE}"
    with load(bed, url, clients=2) as result:
        write(bed, "New")
        wait_for(lambda: title(fetch(bed, TITLE)) == "New", "the change is served")
        ready(bed, PROJECT)
        for _ in range(5):
            assert title(fetch(bed, TITLE)) == "New"
    assert result["failed"] == []
    assert ask(bed, TITLE) == (200, "HIT")


def test_a_reply_that_was_in_the_making_is_never_sent_again(bed: Testbed) -> None:
    before = old_is_kept(bed)
    query = holding(TITLE, "making")
    slow = in_background(lambda: fetch(bed, query))
    wait_for(lambda: len(held(bed, COUNT)) == 1, "a worker has it")
    write(bed, "New")
    wait_for(lambda: link(bed, PROJECT) not in (None, before), "the next generation")
    release(bed, COUNT)
    # It was held before the worker looked at the project.
    assert title(slow()[0]) in ("Old", "New")
    again = in_background(lambda: fetch(bed, query))
    wait_for(lambda: len(held(bed, COUNT)) == 1, "a worker has it once more")
    release(bed, COUNT)
    assert title(again()[0]) == "New"


def test_reload_and_purge_are_at_once(bed: Testbed) -> None:
    old_is_kept(bed)
    ctl(bed, "reload", PROJECT)
    assert ask(bed, TITLE)[1] != "HIT"
    old_is_kept(bed)
    ctl(bed, "purge")
    assert ask(bed, TITLE)[1] != "HIT"
    ready(bed, PROJECT)
    assert [ask(bed, TITLE)[1] for _ in range(2)] == ["MISS", "HIT"]


def test_without_its_watch_nothing_is_kept_or_sent(bed: Testbed) -> None:
    old_is_kept(bed)
    bed.run("systemctl", "stop", UNIT)
    try:
        assert ask(bed, TITLE) == (200, "")
        assert "watch over the reply cache does not run" in ctl(bed, "check", check=False)
    finally:
        bed.run("systemctl", "start", UNIT)
    before = ready(bed, PROJECT)
    bed.run("systemctl", "kill", "--signal=KILL", UNIT)
    wait_for(lambda: link(bed, PROJECT) not in (None, before), "it is back")


DEEP = "import sys; print('<qgis>' * 20_000_000)"


def test_nothing_that_a_worker_leaves_ends_the_watch(bed: Testbed) -> None:
    """One that was taken over writes what it likes, also projects."""

    def main_pid() -> str:
        return bed.out("systemctl", "show", "--property=MainPID,NRestarts", UNIT)

    before = main_pid()
    deep = "/var/cache/qgis-server/1/deep.qgs"
    notes = "/run/qgis-server/1/projects.json"
    kept = bed.run("cat", notes).stdout
    bed.run("sh", "-c", f'python3 -c "$0" >{deep}; touch -d "1 hour ago" {deep}', DEEP)

    def is_watched() -> None:
        former = ready(bed, PROJECT)
        write(bed, "Old")
        wait_for(lambda: link(bed, PROJECT) not in (None, former), "it is still watched")

    try:
        for note in ("[" * 1_000_000, '["/\\ud800", 7]', f'["{deep}"]'):
            bed.run("tee", notes, input=note)
            is_watched()
        bed.run("sh", "-c", f"rm {notes}; mkfifo {notes}; chmod 644 {notes}")
        is_watched()
        assert main_pid() == before
        assert link(bed, deep) is None
    finally:
        bed.run("rm", notes, deep)
        bed.run("install", "-o", "qgis-server", "/dev/stdin", notes, input=kept)


def test_nothing_outlasts_a_stop_of_the_pool(bed: Testbed) -> None:
    """Which is how to get rid of what a worker that was taken over has left behind."""
    ready(bed)
    ask(bed, TILE)
    assert ask(bed, TILE)[1] == "HIT"
    bed.run("systemctl", "stop", "qgis-server.slice")
    assert ask(bed, TILE) == (503, "")
    bed.run("systemctl", "start", "qgis-server.target")
    ready(bed)
    assert [ask(bed, TILE)[1] for _ in range(2)] == ["MISS", "HIT"]


def test_a_restart_of_the_workers_costs_no_request_and_no_reply(bed: Testbed) -> None:
    ready(bed)
    ask(bed, TILE)
    before = link(bed, "/srv/maps/world.qgz")
    urls = (f"http://127.0.0.1:{PORT}/qgis-server?{query}" for query in (TILE, TITLE))
    with load(bed, *urls, clients=2) as result:
        ctl(bed, "restart")
    assert result["failed"] == []
    assert (link(bed, "/srv/maps/world.qgz"), ask(bed, TILE)[1]) == (before, "HIT")


def test_without_the_setting_or_the_package_nothing_of_it_is_there(bed: Testbed) -> None:
    ready(bed)
    use(bed)
    dump = re.sub(r"(?m)^\s*fastcgi_cache off;", "", bed.out("nginx", "-T", "-q"))
    assert not re.search(r"(?m)^\s*fastcgi_(no_)?cache", dump)
    assert bed.out("systemctl", "show", "--property=ActiveState", "--value", UNIT) == "inactive"
    assert ask(bed, TILE) == (200, "")
    done = bed.run("qgis-serverctl", "purge", check=False)
    assert (done.returncode, "there is no reply cache" in done.stderr) == (1, True)
    use(bed, 'reply_cache = "50M"')
    ready(bed)
    assert "nothing to do" in ctl(bed, "apply")
    (bed.root / "etc/nginx/conf.d/cache-test.conf").unlink()
    assert (bed.root / "var/cache/qgis-server-replies").is_dir()
    apt(bed, "purge", "qgis-server-systemd")
    assert not (bed.root / "var/cache/qgis-server-replies").exists()
    assert not Path(f"/proc/{bed.pid}/root/run/qgis-server-cache").exists()
