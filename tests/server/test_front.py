# SPDX-License-Identifier: GPL-2.0-or-later
"""The front page: what NGINX serves of it on a booted server, and what Chromium makes of that."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest
from shared.browser import CONTROL, ENTER, TAB, Browser, Driver, browser, hosts
from shared.pool import MAP, ctl, install, put_package, wait_for, workers
from testbed import Reply, Testbed

from qgis_server_systemd import documents

FOLDER = "/var/lib/qgis-server/projects"
SETTINGS = "/etc/qgis-server/server.toml"
PAGE = "http://127.0.0.1/qgis-server/"
LIST = f"{PAGE}page/projects.json"

DRAWN = "document.querySelector('#map img.drawn')"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"></script><b>bold</b>"


@pytest.fixture(scope="module")
def bed(suite: str, package: Path) -> Iterator[Testbed]:
    """A server with the site enabled, and with Chromium."""
    with Testbed(suite, browser=True) as bed:
        put_package(bed, package)
        bed.boot()
        install(bed, "nginx")
        ctl(bed, "site", "enable")
        yield bed


@pytest.fixture
def projects(bed: Testbed) -> Iterator[Path]:
    """The folder of projects, with data, "world" and a hostile one, once these are listed."""
    maps = "cp -r /srv/maps/*.gpkg /srv/maps/*.tif /srv/maps/world.qgz"
    bed.run("sh", "-ec", f"find {FOLDER} -mindepth 1 -delete; {maps} {FOLDER}")
    folder = bed.root / FOLDER.lstrip("/")
    put(bed, "hostile", HOSTILE)
    wait_for(lambda: {*listed(bed)} == {"world", "hostile"}, "both are listed")
    yield folder
    bed.run("find", FOLDER, "-mindepth", "1", "-delete")


def put(bed: Testbed, name: str, title: str, *changes: tuple[str, str]) -> None:
    """A project with that title; words in its file exchanged for others."""
    text = (bed.root / "srv/maps/second.qgs").read_text()
    named = (">Second</WMSServiceTitle>", f">{escape(title)}</WMSServiceTitle>")
    for old, new in (named, *changes):
        assert old in text
        text = text.replace(old, new)
    (bed.root / FOLDER.lstrip("/") / f".{name}.new").write_text(text)
    bed.run("mv", f"{FOLDER}/.{name}.new", f"{FOLDER}/{name}.qgs")


def listed(bed: Testbed) -> dict[str, dict[str, Any]]:
    reply = bed.fetch(LIST)
    if reply.status == 404:
        return {}
    return {one["name"]: one for one in json.loads(reply.body)["projects"]}


# ---- On the server


def test_projects_come_and_go_by_themselves(bed: Testbed, projects: Path) -> None:
    world = listed(bed)["world"]
    assert world["address"] == "../qgis/world"
    assert {"WMS", "WFS", "OGC API Features"} <= {*world["services"]}
    assert world["map"]["layers"]
    assert bed.fetch(f"{PAGE}{world['address']}/wfs3/collections.json").status == 200
    put(bed, "fresh", "Fresh")
    # Without a change all would be looked at again after ten minutes, which is too long for this.
    wait_for(lambda: listed(bed).get("fresh", {}).get("title") == "Fresh", "it is listed")
    put(bed, "fresh", "Changed")
    wait_for(lambda: listed(bed)["fresh"]["title"] == "Changed", "its title is")
    (projects / "fresh.qgs").unlink()
    wait_for(lambda: "fresh" not in listed(bed), "it is gone")
    put(bed, "broken", "Broken", ("./world_map.gpkg", "./gone.gpkg"))
    put(bed, "after", "After")
    wait_for(lambda: "after" in listed(bed), "one that came later is listed")
    assert "broken" not in listed(bed)
    shown = bed.run("qgis-serverctl", "projects", "--json", check=False).stdout
    found = json.loads(shown)["projects"]
    assert {one["name"] for one in found if one["state"] == "error"} == {"broken"}
    assert bed.out("systemctl", "is-failed", "qgis-server-front.service", check=False) == "active"


def test_the_page_comes_with_all_workers_stopped(bed: Testbed, projects: Path) -> None:
    bed.run("systemctl", "stop", "qgis-server.slice")
    try:
        page = bed.fetch(PAGE)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "set-cookie" not in page.headers
        for name in ("page.js", "list.js", "words.js", "style.css", "icon.svg"):
            assert bed.fetch(f"{PAGE}page/{name}").status == 200, name
        assert {*listed(bed)} == {"world", "hostile"}
    finally:
        bed.run("systemctl", "start", "qgis-server.target")


def test_what_is_no_request_for_the_page_is_for_qgis_server(bed: Testbed, projects: Path) -> None:
    url = f"{PAGE}?SERVICE=WMS&REQUEST=GetCapabilities"
    assert bed.fetch(url).headers["content-type"].startswith("text/xml")
    assert bed.fetch(f"{PAGE}page/index.html").status == 404
    assert bed.fetch(f"{PAGE}page/../../../etc/passwd", "--path-as-is").status in (400, 404)
    assert bed.fetch(f"{PAGE}page/%2e%2e/package.toml", "--path-as-is").status != 200


def test_qgis_server_s_own_page_does_not_answer_beside_it(bed: Testbed, projects: Path) -> None:
    """Whose list was old, which one broken project broke, and which logged what is no fault."""
    bed.run("sh", "-ec", f"head -c 9999 /srv/maps/second.qgs >{FOLDER}/half.qgs")
    since = bed.out("date", "+%s.%N").strip()
    for path in (
        "index.json", "index.html", "favicon.ico", "page/../index.json", "css/app.css", "js/app.js",
        "map/0123456789abcdef0123456789abcdef",
    ):  # fmt: skip
        assert bed.fetch(f"{PAGE}{path}", "--path-as-is").status == 404, path
    # QGIS Server takes these for the same page, which would show projects that are unlisted.
    for path in ("index.json/", "index.json%23", "index.json/%23", "index.json/?SERVICE="):
        assert bed.fetch(f"{PAGE}{path}").status == 403, path
    for method in ("POST", "M-SEARCH", "X_Y"):
        for path, status in (("", 403), ("index.json", 404), ("index.json/", 403)):
            reply = bed.fetch(f"{PAGE}{path}", "--request", method, "--data", "")
            assert reply.status == status, (method, path)
    for path in ("", "?utm_source=x", "page/projects.json", "page/icon.svg"):
        assert bed.fetch(f"{PAGE}{path}").status == 200, path
    place = bed.fetch(PAGE.rstrip("/"))
    assert (place.status, place.headers["location"]) == (302, "/qgis-server/")
    put(bed, "last", "Last")
    wait_for(
        lambda: {*listed(bed)} == {"world", "hostile", "last"}, "one that came later is listed"
    )
    said = bed.out(
        "journalctl", "--quiet", "--output=cat", f"--since=@{since}", "--priority=warning",
        "--unit=qgis-server@[0-9]*.service",
    )  # fmt: skip
    assert said == ""


def test_the_workers_user_can_t_choose_another_file(bed: Testbed, projects: Path) -> None:
    listing = "/run/qgis-server-front/projects.json"
    bed.run("systemctl", "stop", "qgis-server-front.service")
    try:
        bed.run("ln", "--symbolic", "--force", "/etc/passwd", listing)
        assert bed.fetch(LIST).status in (403, 404)
    finally:
        bed.run("rm", listing)
        bed.run("systemctl", "start", "qgis-server-front.service")
    wait_for(lambda: bool(listed(bed)), "the list is there again")


def test_the_settings(driver: Driver, bed: Testbed, projects: Path) -> None:
    before = bed.run("cat", SETTINGS).stdout

    def settle(*lines: str) -> None:
        bed.run("tee", SETTINGS, input="\n".join((before, *lines, "")))
        bed.run("qgis-serverctl", "apply")

    try:
        logo = f"{PAGE}page/logo.svg"
        assert bed.fetch(logo).status == 404
        settle(
            'front_title = "Maps of <Acme>"', 'unlisted_projects = ["hostile"]',
            'front_text = "Questions: <b>gis@acme.example</b>"',
            'front_logo = "/usr/share/qgis-server-systemd/www/icon.svg"',
        )  # fmt: skip
        wait_for(lambda: {*listed(bed)} == {"world"}, "one is unlisted")
        shown = json.loads(bed.fetch(LIST).body)
        assert (shown["title"], shown["logo"]) == ("Maps of <Acme>", "page/logo.svg")
        wait_for(lambda: bed.fetch(logo).status == 200, "NGINX has the logo")
        headers = bed.fetch(logo).headers
        assert headers["content-type"] == "image/svg+xml"
        assert "sandbox" in headers["content-security-policy"]
        assert bed.fetch(f"{PAGE}page/logo.html").status == 404
        with browser(driver) as window:
            window.open(PAGE)
            window.wait("return document.querySelector('#logo').naturalWidth", "the logo is seen")
            assert window.texts("h1, #words") == [
                "Maps of <Acme>", "Questions: <b>gis@acme.example</b>",
            ]  # fmt: skip
            assert window.texts("#cards h2") == ["World"]
        city, closed = "city.acme.example", "closed.acme.example"
        own_logo = "<svg xmlns='http://www.w3.org/2000/svg'/>"
        bed.run("install", "-m", "644", "/dev/stdin", "/srv/city.svg", input=own_logo)
        lines = [
            f"{city} title=City", f"{city} project=hostile", f"{closed} page=off",
            f"{city} text=All of it", f"{city} logo=/srv/city.svg",
        ]  # fmt: skip
        settle(f"front_hosts = {json.dumps(lines)}", 'trusted_proxies = ["127.0.0.1"]')

        def of(host: str, path: str = "page/projects.json") -> Reply:
            return bed.fetch(f"{PAGE}{path}", "--header", f"Host: {host}")

        wait_for(
            lambda: of(city).status == 200 and bool(json.loads(of(city).body)["projects"]),
            "a host name has a list of its own",
        )
        own = json.loads(of(city).body)
        assert (own["title"], [one["name"] for one in own["projects"]]) == ("City", ["hostile"])
        assert (own["text"], own["logo"]) == ("All of it", "page/logo.svg")
        wait_for(lambda: of(city, own["logo"]).body == own_logo.encode(), "it has its own logo")
        assert of("other.example", own["logo"]).status == 404
        assert of(city, "").body == of("other.example", "").body == bed.fetch(PAGE).body
        assert {*listed(bed)} == {"world", "hostile"}
        for path in ("", "page/projects.json", "page/page.js", "index.json"):
            assert of(closed, path).status == 404, path
        # As NGINX does by itself, so by what a proxy says.
        for name in (closed, f"{closed}.", f"{closed.upper()}:8443", f"{closed}.:8443"):
            for header in ("Host", "X-Forwarded-Host"):
                assert bed.fetch(PAGE, "--header", f"{header}: {name}").status == 404, name
        settle('front_page = "qgis"')
        wait_for(lambda: bed.fetch(PAGE).status == 302, "QGIS Server's own page is there")
        assert bed.fetch(LIST).status == 404
        settle('front_page = "off"')
        wait_for(lambda: bed.fetch(PAGE).status == 404, "there is no page")
        for path in (
            "", "index.html", "index.json", "page/projects.json", "page/page.js", "page/logo.svg",
            "page/map.html", "page/leaflet/leaflet.js", "favicon.ico",
        ):  # fmt: skip
            assert bed.fetch(f"{PAGE}{path}").status == 404, path
        # The OGC API is a service of QGIS Server, and stays, with its pages.
        for path in (
            "collections.json", "collections.html", "static/style.css", "static/page/api.js",
            "static/page/api.css", "static/page/style.css", "static/page/icon.svg",
            "static/page/api-words.js", "static/page/words.js",
            "static/page/leaflet/leaflet.js",
        ):  # fmt: skip
            assert bed.fetch(f"http://127.0.0.1/qgis/world/wfs3/{path}").status == 200, path
        capabilities = bed.fetch("http://127.0.0.1/qgis/world?SERVICE=WMS&REQUEST=GetCapabilities")
        assert capabilities.status == 200
        assert (
            bed.out("systemctl", "is-active", "qgis-server-front.path", check=False) == "inactive"
        )
    finally:
        settle()
    wait_for(lambda: {*listed(bed)} == {"world", "hostile"}, "all is as before")


API = "/usr/share/qgis/resources/server/api/ogc/templates/wfs3"
PARTS = {"header.html", "footer.html", "leaflet_map.html", "links.html"}
"""What QGIS's own templates include."""


def test_each_page_of_the_ogc_api_has_a_template(bed: Testbed, projects: Path) -> None:
    """Of this release of QGIS; and nothing of an address gets into it."""
    qgis = bed.out("ls", API).split()
    own = bed.out("ls", "/usr/share/qgis-server-systemd/api/ogc/templates/wfs3").split()
    assert {"getFeatures.html", "getLandingPage.html"} <= {*qgis} - PARTS <= {*own}
    page = bed.run("cat", "/usr/share/qgis-server-systemd/www/api.html").stdout.encode()
    accept = ("--header", "Accept: text/html")
    for path in ("wfs3", "wfs3/", "wfs3.html", "wfs3/api", "%22%3E%3Cb%3E/wfs3/collections.html"):
        reply = bed.fetch(f"http://127.0.0.1/qgis/world/{path}", *accept)
        assert (reply.status, reply.body) == (200, page), path
        assert reply.headers["content-type"] == "text/html"
    unknown = bed.fetch("http://127.0.0.1/qgis/world/wfs3/collections/unknown", *accept)
    assert unknown.status == 404
    for name in ("index.html", "projects.json", "page.js", "leaflet/../page.js"):
        asset = f"http://127.0.0.1/qgis/world/wfs3/static/page/{name}"
        assert bed.fetch(asset, "--path-as-is").status != 200, name


def test_an_administrator_s_own_templates_win(bed: Testbed, projects: Path) -> None:
    env, own = "/etc/qgis-server/env", "/etc/qgis-server/own"
    before = bed.run("cat", env).stdout
    template = f"{own}/ogc/templates/wfs3/getLandingPage.html"
    try:
        bed.run("install", "-D", "-m", "644", "/dev/stdin", template, input="Acme")
        bed.run("tee", "-a", env, input=f"QGIS_SERVER_API_RESOURCES_DIRECTORY={own}\n")
        bed.run("qgis-serverctl", "apply")
        assert bed.fetch("http://127.0.0.1/qgis/world/wfs3.html").body == b"Acme"
    finally:
        bed.run("tee", env, input=before)
        bed.run("rm", "-r", own)
        bed.run("qgis-serverctl", "apply")
    assert b"api.js" in bed.fetch("http://127.0.0.1/qgis/world/wfs3.html").body


# ---- In a browser


@pytest.fixture(scope="module")
def driver(bed: Testbed) -> Driver:
    return Driver(bed)


TITLES = "return [...document.querySelectorAll('#cards h2')].map((one) => one.textContent)"


def test_cards_search_and_sorting(driver: Driver, projects: Path) -> None:
    with browser(driver) as window:
        window.open(PAGE)
        window.wait("return document.querySelectorAll('#cards h2').length === 2", "two cards")
        assert {*window.js(TITLES)} == {"World", HOSTILE}
        assert window.js("return document.title") == "Maps"
        assert window.js("return document.querySelectorAll('#cards b, #cards script').length") == 0
        address = "[...document.querySelectorAll('#cards code')].map((one) => one.textContent)"
        assert "http://127.0.0.1/qgis/world" in window.js(f"return {address}")
        drawn = "[...document.querySelectorAll('#cards img')].filter((one) => one.naturalWidth)"
        window.wait(f"return {drawn}.length === 2", "both pictures are drawn")
        window.type("#search", "wörld")
        assert window.js(TITLES) == ["World"]
        window.js("document.querySelector('#search').value = ''")
        window.type("#search", "zzz")
        assert window.texts("#state") == ["No map matches the search."]
        assert hosts(window.asked()) == {"127.0.0.1"}
        assert window.complaints() == []
        assert window.ask("GET", "/cookie") == []


def test_what_the_cards_lead_to(driver: Driver, bed: Testbed, projects: Path) -> None:
    """Each link answers as it says, for each service that is offered and for no other."""
    bed.run("touch", "--date=2020-01-01", f"{FOLDER}/hostile.qgs")
    put(bed, "Größe (2)", "Ähren")
    wait_for(lambda: len(listed(bed)) == 3, "it is listed")
    wait_for(lambda: listed(bed)["hostile"]["changed"] < 1.6e9, "one is old")
    with browser(driver) as window:
        window.open(PAGE)
        window.wait("return document.querySelectorAll('#cards h2').length === 3", "three cards")
        assert window.js(TITLES) == [HOSTILE, "Ähren", "World"]
        window.click("#order option[value=changed]")
        assert window.js(TITLES)[-1] == HOSTILE
        abstracts = window.texts("#cards .abstract")
        assert "World: Natural Earth data for tests" in abstracts
        leads = (
            "[...document.querySelectorAll('#cards .links a')].map((a) => [a.textContent, a.href])"
        )
        offered = window.js(f"return {leads}")
        services = {name.split()[0] for name, _ in offered}
        assert services == {"WMS", "WMTS", "WFS", "WCS", "OGC"}
        assert len(offered) == sum(len(one["services"]) for one in listed(bed).values())
        for name, url in offered:
            reply = bed.fetch(url)
            assert reply.status == 200, url
            if name.startswith("OGC"):
                assert b"/wfs3/collections" in reply.body
            else:
                assert re.search(rb"<(?:\w+:)?(?:\w+_)?Capabilities", reply.body[:9000]), url
        # By an address with letters that are coded there.
        window.js(
            "[...document.querySelectorAll('#cards article')].find((one) =>"
            " one.querySelector('h2').textContent === 'Ähren').querySelector('.open a').click()"
        )
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "its map is drawn")
        assert window.texts("h1") == ["Ähren"]
        assert "/page/map.html#Gr%C3%B6%C3%9Fe%20(2)/" in window.js("return location.href")


@pytest.mark.parametrize(
    ("language", "heading", "items", "layers"),
    [
        ("de-AT,de", "Karten", "Objekte", "Ebenen"),
        ("fr", "Cartes", "Objets", "Couches"),
        ("ja", "Maps", "Items", "Layers"),
    ],
)
def test_the_language_of_the_browser(
    driver: Driver, projects: Path, language: str, heading: str, items: str, layers: str
) -> None:
    with browser(driver, language=language) as window:
        window.open(PAGE)
        window.wait("return document.querySelectorAll('#cards h2').length === 2", "two cards")
        assert window.texts("h1") == [heading]
        window.open("http://127.0.0.1/qgis/world/wfs3/collections.html")
        # A card has no text before the browser knows that it is in sight (content-visibility).
        link = "document.querySelector('#content .about > a')"
        window.wait(f"return {link} && {link}.innerText", "it is shown")
        assert window.texts("#content .about > a")[0] == items
        window.open(f"{PAGE}page/map.html#world")
        window.wait("return document.querySelector('#tree button')", "it is shown")
        assert window.texts("#layers") == [layers]
        assert window.js("return document.documentElement.lang") == language[:2].replace("ja", "en")


AXE = "return axe.run().then((found) => found.violations.map((one) => [one.impact, one.id]))"


@contextmanager
def narrow(driver: Driver, *, dark: bool) -> Iterator[Browser]:
    """A window of 360 pixels, which is less than it can be made by itself."""
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
    with browser(driver, width=500, dark=dark) as window:
        window.ask("POST", "/goog/cdp/execute", **command)
        yield window


def serious(window: Browser) -> list[list[str]]:
    """What hinders somebody on this page, as axe finds it."""
    window.js((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    return [one for one in window.js(AXE) if one[0] in ("serious", "critical")]


def fits(window: Browser) -> None:
    """Into a narrow window; and who sees little can use it."""
    assert window.js("return innerWidth") == 360
    assert window.js("return document.documentElement.scrollWidth") <= 360
    assert serious(window) == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen_the_keyboard_and_who_sees_little(
    driver: Driver, projects: Path, dark: bool
) -> None:
    with narrow(driver, dark=dark) as window:
        window.open(PAGE)
        window.wait("return document.querySelectorAll('#cards h2').length === 2", "two cards")
        fits(window)
        assert reached(window) >= {"search", "order", "A", "BUTTON"}
        window.open(f"{PAGE}page/map.html#world")
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        fits(window)


def reached(window: Browser) -> set[str]:
    """What the tab key leads to, by id or kind."""
    found = set()
    for _ in range(12):
        window.press(TAB)
        found.add(window.js("return document.activeElement.id || document.activeElement.tagName"))
    return found


def test_an_address_is_copied_by_keyboard(driver: Driver, projects: Path) -> None:
    with browser(driver) as window:
        window.open(PAGE)
        window.wait("return document.querySelectorAll('#cards h2').length === 2", "two cards")
        window.js("document.querySelector('#cards button').focus()")
        window.press(ENTER)
        window.wait(
            "return document.querySelector('#cards button').textContent === 'Copied'", "copied"
        )
        # Pasted, it is what the card says.
        said = window.texts("#cards code")
        window.js("document.querySelector('#search').focus()")
        window.press("v", held=CONTROL)
        window.wait("return document.querySelector('#search').value", "it is pasted")
        assert window.js("return document.querySelector('#search').value") in said


def test_hundreds_of_projects_stay_quick(driver: Driver, bed: Testbed, projects: Path) -> None:
    listing = "/run/qgis-server-front/projects.json"
    found = json.loads(bed.fetch(LIST).body)
    one = next(card for card in found["projects"] if card["name"] == "world")
    found["projects"] = [one | {"name": f"w{n}", "title": f"Map {n}"} for n in range(300)]
    bed.run("systemctl", "stop", "qgis-server-front.service")
    try:
        bed.run("tee", listing, input=json.dumps(found))
        with browser(driver) as window:
            window.open(PAGE)
            window.wait("return document.querySelectorAll('#cards h2').length === 300", "all")
            took = "performance.measure('x', 'take', 'shown').duration"
            assert window.js(f"return {took}") < 300
            # Pictures are asked for where they are seen.
            pictures = [url for url in window.asked() if "GetMap" in url]
            assert len(pictures) < 100
    finally:
        bed.run("rm", listing)
        bed.run("systemctl", "start", "qgis-server-front.service")
    wait_for(lambda: {*listed(bed)} == {"world", "hostile"}, "all is as before")


MERCATOR = (
    "<projectCrs>",
    "<projectCrs><spatialrefsys><srsid>3857</srsid><authid>EPSG:3857</authid></spatialrefsys>",
)
"""Of two systems in a project QGIS takes the first."""


def zoomed(window: Browser, layer: str, box: tuple[float, float, float, float]) -> None:
    """By the keyboard to a layer that has that extent: as near as all of it is seen."""
    before = window.js(f"return {DRAWN}.src")
    window.js(
        f"document.querySelector('#tree button[aria-label=\"Zoom to layer: {layer}\"]').focus()"
    )
    window.press(ENTER)
    window.wait(f"return {DRAWN} && {DRAWN}.src !== {before!r}", "it is drawn again")
    asked = parse_qs(urlsplit(window.js(f"return {DRAWN}.src")).query)
    west, south, east, north = map(float, asked["BBOX"][0].split(","))
    size = max((box[2] - box[0]) / (east - west), (box[3] - box[1]) / (north - south))
    assert 0.8 < size < 1.01
    assert west + east == pytest.approx(box[0] + box[2], abs=(east - west) / 50)
    assert south + north == pytest.approx(box[1] + box[3], abs=(north - south) / 50)


SEEN = """
    const [shot] = arguments;
    return (async () => {
    const bytes = Uint8Array.from(atob(shot), (one) => one.charCodeAt(0));
    const drawn = document.querySelector("#map img.drawn");
    const pixels = async (blob) => {
      const image = await createImageBitmap(blob);
      const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
      // What is transparent shows what is below it.
      canvas.fillStyle = getComputedStyle(document.querySelector("#map")).backgroundColor;
      canvas.fillRect(0, 0, image.width, image.height);
      canvas.drawImage(image, 0, 0);
      return canvas.getImageData(0, 0, image.width, image.height);
    };
    const asked = await (await fetch(drawn.src)).blob();
    const [one, other] = [await pixels(new Blob([bytes])), await pixels(asked)];
    if (one.width !== other.width || one.height !== other.height) return 1;
    let wrong = 0;
    for (let at = 0; at < one.data.length; at += 4) {
      // Its controls and what they cast a shadow on are above it.
      const [x, y] = [(at / 4) % one.width, Math.floor(at / 4 / one.width)];
      if ((x < 70 && y < 100) || y > one.height - 30) continue;
      const far = (part) => Math.abs(one.data[at + part] - other.data[at + part]) > 24;
      if (far(0) || far(1) || far(2)) wrong++;
    }
    return wrong / (one.width * one.height);
    })();
"""


def differs(window: Browser) -> float:
    """How much of the map that is seen is not the map of a GetMap of the same extent."""
    window.wait("return document.querySelector('#state').textContent === ''", "it is drawn")
    shot = window.ask("GET", f"/element/{window.element('#map')}/screenshot")
    found: float = window.js(SEEN, shot)
    return found


def test_the_map(driver: Driver, bed: Testbed, projects: Path) -> None:
    with browser(driver) as window:
        window.open(f"{PAGE}page/map.html#world")
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        assert window.texts("h1") == ["World"]
        assert window.js("return location.hash").endswith("/EPSG:4326")
        assert differs(window) < 0.01
        picture = bed.fetch(window.js(f"return {DRAWN}.src"))
        assert picture.headers["content-type"] == "image/png"
        assert len(picture.body) > 5000
        boxes = window.js("return document.querySelectorAll('#tree input[type=checkbox]').length")
        assert boxes > 1
        # As QGIS counts: a pixel has 0.28 mm, and degrees are as wide as in the middle.
        asked = parse_qs(urlsplit(window.js(f"return {DRAWN}.src")).query)
        west, south, east, north = map(float, asked["BBOX"][0].split(","))
        meant = (east - west) * 111_319.49 * math.cos(math.radians((south + north) / 2))
        meant /= int(asked["WIDTH"][0]) * 0.00028
        (said,) = window.texts("#scale")
        assert int(re.sub(r"^Scale 1 : |,", "", said)) == pytest.approx(meant, rel=0.01)
        (position,) = window.texts("#position")
        assert re.fullmatch(r"Position: -?[0-9.]+, -?[0-9.]+ \(EPSG:4326\)", position)
        window.click("#map")
        window.wait("return !document.querySelector('#info').hidden", "there is a feature")
        assert window.texts("#info th")
        before = window.js(f"return {DRAWN}.src")
        window.click("#tree input[type=checkbox]")
        window.wait(f"return {DRAWN} && {DRAWN}.src !== {before!r}", "it is drawn again")
        assert differs(window) < 0.01
        slide = "const [box] = document.querySelectorAll('#tree .opacity'); box.value = 100;"
        before = window.js(f"return {DRAWN}.src")
        window.js("document.querySelector('#tree input[type=checkbox]').click()")
        window.js(f"{slide} box.dispatchEvent(new Event('change'))")
        window.wait(f"return {DRAWN} && {DRAWN}.src !== {before!r}", "it is drawn again")
        (opacities,) = parse_qs(urlsplit(window.js(f"return {DRAWN}.src")).query)["OPACITIES"]
        # The uppermost of the tree is drawn last.
        assert opacities.split(",") == [*["255"] * opacities.count("255"), "100"]
        prints = window.js("return [...document.querySelectorAll('#prints a')].map((a) => a.href)")
        assert bed.fetch(prints[0]).body.startswith(b"%PDF")
        # In boxes of its reference system y comes first.
        zoomed(window, "Disputed borders", (-89.19, -23.84, 149.36, 48.71))
        assert hosts(window.asked()) == {"127.0.0.1"}
        assert window.complaints() == []


def test_the_map_of_a_project_in_metres(driver: Driver, bed: Testbed, projects: Path) -> None:
    name = "<shortname>land</shortname>"
    thanks = f"{name}<attribution>{escape(HOSTILE)}</attribution>"
    project = "Höhen (m)"
    put(bed, project, "In metres", MERCATOR, (name, thanks))
    wait_for(lambda: project in listed(bed), "it is listed")
    with browser(driver) as window:
        window.open(PAGE)
        links = "[...document.querySelectorAll('.open a')].map((one) => one.href)"
        window.wait(f"return {links}.some((one) => one.includes('%20'))", "it has a card")
        window.open(next(one for one in window.js(f"return {links}") if "%20" in one))
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        assert window.texts(".leaflet-control-attribution") == [HOSTILE]
        zoomed(window, "Land", (-20_026_376, -44_927_335, 20_026_376, 18_428_919))
        assert window.complaints() == []


def test_a_map_in_web_mercator_and_its_link(driver: Driver, bed: Testbed, projects: Path) -> None:
    """Where all of the project has a place in it; and a link leads to what was seen."""
    put_places(bed, projects)
    wait_for(lambda: "my places" in listed(bed), "it is listed")
    with browser(driver) as window:
        window.open(f"{PAGE}page/map.html#my%20places")
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        asked = parse_qs(urlsplit(window.js(f"return {DRAWN}.src")).query)
        assert asked["SRS"] == ["EPSG:3857"]
        west, south, east, north = map(float, asked["BBOX"][0].split(","))
        assert east - west == pytest.approx(
            (north - south) * int(asked["WIDTH"][0]) / int(asked["HEIGHT"][0]), rel=0.01
        )
        # A metre on the ground is more than one of this system.
        middle = math.atan(math.sinh((south + north) / 2 / 6_378_137))
        meant = (east - west) * math.cos(middle) / int(asked["WIDTH"][0]) / 0.00028
        (said,) = window.texts("#scale")
        assert int(re.sub(r"^Scale 1 : |,", "", said)) == pytest.approx(meant, rel=0.01)
        (position,) = window.texts("#position")
        lon, lat = map(float, re.findall(r"-?[0-9.]+", position)[:2])
        assert position.endswith("(EPSG:4326)")
        assert lat == pytest.approx(math.degrees(middle), abs=0.5)
        assert lon == pytest.approx((west + east) / 2 / 111_319.49, abs=0.5)
        (printed,) = window.js(
            "return [...document.querySelectorAll('#prints a')].map((a) => a.href)"
        )
        assert "SRS=EPSG%3A3857" in printed
        assert bed.fetch(printed).body.startswith(b"%PDF")
        # One place, in the middle; what is asked there, and all that is said of it.
        window.open("about:blank")
        window.open(f"{PAGE}page/map.html#my%20places/0/6446275.84/-8/EPSG:3857")
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        window.click("#map")
        window.wait("return !document.querySelector('#info').hidden", "there is a feature")
        assert {"name", HOSTILE} <= {*window.texts("#info th")}
        assert HOSTILE in window.texts("#info td")
        assert HOSTILE in window.texts("#tree label span")
        assert window.texts("h1") == [HOSTILE] == [window.js("return document.title")]
        markup = "#info :is(img, b, meta), h1 *, #tree label span *"
        assert window.js(f"return document.querySelectorAll('{markup}').length") == 0
        here, seen = window.js("return location.href"), window.js(f"return {DRAWN}.src")
        window.open("about:blank")
        window.open(here)
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        assert window.js(f"return {DRAWN}.src") == seen
        # In another system these numbers are another place: all of the project is shown.
        window.open("about:blank")
        window.open(here.replace("EPSG:3857", "EPSG:25832"))
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        assert window.js(f"return {DRAWN}.src") != seen
        # Nothing behind "#" leads away.
        for name in ("//evil.example/x", "https:%2F%2Fevil.example", "..%2F..%2Fx", "%", "none"):
            window.open("about:blank")
            window.open(f"{PAGE}page/map.html#{name}")
            window.wait(
                "return document.querySelector('#state').textContent.endsWith('be shown.')",
                name,
            )
        assert hosts(window.asked()) <= {"127.0.0.1", ""}
        assert window.complaints() == []


def many(text: str, number: int) -> str:
    """The project with so many layers in place of one, of which two are shown at first."""

    def part(pattern: str, within: str = text) -> str:
        found = re.search(pattern, within, re.DOTALL)
        assert found
        return found[0]

    node = part("<layer-tree-layer .*?</layer-tree-layer>")
    layer = part("<maplayer .*?</maplayer>")
    tags = ("id", "datasource", "shortname", "layername", "srs", "provider")
    kept = (part(f"<{tag}[ >].*?</{tag}>", layer) for tag in tags)
    small = "".join((part("<maplayer [^>]*>", layer), *kept, "</maplayer>"))
    id = part(r"Land_\w+", node)

    def each(block: str) -> str:
        made = ""
        for place in range(number):
            changes = {
                id: f"{id}_{place}", ">Land<": f">Land {place}<", '"Land"': f'"Land {place}"',
                ">land<": f">land{place}<",
                "Qt::Checked": "Qt::Checked" if place < 2 else "Qt::Unchecked",
            }  # fmt: skip
            one = block
            for old, new in changes.items():
                one = one.replace(old, new)
            made += one
        return made

    return text.replace(node, each(node)).replace(layer, each(small))


@pytest.mark.long
def test_a_map_of_many_layers_stays_usable(driver: Driver, bed: Testbed, projects: Path) -> None:
    text = (bed.root / "srv/maps/second.qgs").read_text()
    (projects / "many.qgs").write_text(many(text, 200))
    wait_for(lambda: "many" in listed(bed), "it is listed")
    with browser(driver) as window:
        window.open(f"{PAGE}page/map.html#many")
        window.wait(f"return {DRAWN} && {DRAWN}.naturalWidth > 0", "a map is drawn")
        boxes = "document.querySelectorAll('#tree input[type=checkbox]')"
        assert window.js(f"return {boxes}.length") == 200
        assert parse_qs(urlsplit(window.js(f"return {DRAWN}.src")).query)["LAYERS"] == [
            "land1,land0"
        ]
        # Legends are asked for where they are seen.
        drawn = "[...document.querySelectorAll('#tree img')].filter((one) => one.naturalWidth)"
        window.wait(f"return {drawn}.length > 1", "legends are there")
        assert len([url for url in window.asked() if "GetLegendGraphic" in url]) < 50
        before = window.js(f"return {DRAWN}.src")
        window.js(f"{boxes}[199].click()")
        window.wait(f"return {DRAWN} && {DRAWN}.src !== {before!r}", "it is drawn again")
        assert "land199" in window.js(f"return {DRAWN}.src")


PLACES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": name, HOSTILE: "</script><meta http-equiv=refresh content=0>"},
            "geometry": {"type": "Point", "coordinates": [lon, 50]},
        }
        for lon, name in enumerate((HOSTILE, *("Köln", "Bonn", "Ulm") * 4))
    ],
}


def put_places(bed: Testbed, projects: Path) -> None:
    """A project of which all words are hostile, and whose names have spaces."""
    (projects / "places.geojson").write_text(json.dumps(PLACES))
    text = (bed.root / "srv/maps/second.qgs").read_text()
    for old, new in {
        "./world_map.gpkg|layername=countries": "./places.geojson",
        "<shortname>land</shortname>": "<shortname>my land</shortname>",
        # Web Mercator has no place for the poles.
        "<value>-90.0</value>": "<value>-60.0</value>",
        "<value>90.0</value>": "<value>60.0</value>",
        "<layername>Land</layername>": f"<layername>{escape(HOSTILE)}</layername>",
        ">Second</WMSServiceTitle>": f">{escape(HOSTILE)}</WMSServiceTitle>",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (projects / "my places.qgs").write_text(text)


def test_the_pages_of_the_ogc_api(driver: Driver, bed: Testbed, projects: Path) -> None:
    put_places(bed, projects)
    top = "http://127.0.0.1/qgis/my%20places/wfs3"
    layer = "/collections/my%20land"
    # An address, its heading, what else is seen, and whether there is a map.
    for path, heading, seen, mapped in (
        ("/", "OGC API Features", "Collections", False),
        (".html", "OGC API Features", "Conformance classes", False),
        ("/collections", "Collections", HOSTILE, False),
        ("/conformance", "Conformance classes", "http://www.opengis.net/spec", False),
        ("/api.html", "API description", "GET /wfs3/conformance", False),
        (f"{layer}.html", HOSTILE, "Extent", True),
        (f"{layer}/items", "my land", HOSTILE, True),
        (f"{layer}/items.html?limit=2&offset=1", "my land", "2 of 13 items", True),
        (f"{layer}/items/0", "my land: 0", HOSTILE, True),
    ):
        # Errors of one page would be those of the next.
        with browser(driver, dark=mapped) as window:
            window.open(f"{top}{path}")
            window.wait("return document.querySelector('#state').textContent === ''", "it is shown")
            assert window.texts("h1") == [heading], path
            assert window.js("return document.title") == heading
            assert seen in window.js("return document.body.textContent"), path
            as_json = window.js("return document.querySelector('#end a').href")
            assert json.loads(bed.fetch(as_json).body), path
            if mapped:
                window.wait("return document.querySelector('#map path')", "a shape is drawn")
            assert window.js("return document.querySelectorAll('main b, main img').length") == 0
            assert serious(window) == [], path
            assert hosts(window.asked()) == {"127.0.0.1"}, path
            assert window.complaints() == [], path
    with browser(driver) as window:
        window.open(f"{top}/")
        for css, there in (
            ("#content a", "/collections"), ("#content h2 a", layer),
            ("#content a", f"{layer}/items"), (".turn a", f"{layer}/items?"),
            ("#content td a", f"{layer}/items/10"),
        ):  # fmt: skip
            window.wait(f"return document.querySelector('{css}')", "there is a link")
            leads = window.js(f"return document.querySelector('{css}').href")
            assert leads.startswith(f"{top}{there}")
            window.click(css)
            window.wait(f"return location.href.startsWith('{top}{there}')", there)
        window.click("#way a")
        window.wait(f"return location.href === '{top}'", "the way leads back")
        # No script but the page's own runs, whatever gets into it.
        window.wait("return document.querySelector('#state').textContent === ''", "it is shown")
        window.js("document.body.insertAdjacentHTML('beforeend', arguments[0])", HOSTILE)
        window.wait("return document.querySelector('body > img')?.complete", "it is there")
        assert window.js("return document.title") == "OGC API Features"
        # In a link such a path would be another host's.
        window.open(f"{top.replace('/qgis', '//qgis')}/collections")
        window.wait("return document.querySelector('#content h2 a')", "it is shown")
        leads = window.js("return [...document.querySelectorAll('a')].map((one) => one.host)")
        assert {*leads} == {"127.0.0.1"}
        window.open(f"{top}/collections/unknown.html")
        assert "not found" in window.js("return document.body.textContent")


def test_the_pictures_of_the_readme(
    driver: Driver, bed: Testbed, projects: Path, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    (projects / "hostile.qgs").unlink()
    put(bed, "land", "Land and water")
    wait_for(lambda: {*listed(bed)} == {"world", "land"}, "both are listed")
    folder = pytestconfig.getoption("--pictures") or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    pages = (("front-page", "", "#cards img"), ("map", "page/map.html#world", "#map img.drawn"))
    with browser(driver, width=900) as window:
        for name, page, drawn in pages:
            window.open(f"{PAGE}{page}")
            images = f"[...document.querySelectorAll('{drawn}')]"
            ready = f"{images}.length && {images}.every((one) => one.naturalWidth)"
            window.wait(f"return {ready}", f"{name} is drawn")
            (folder / f"{name}.webp").write_bytes(window.picture())
    for name, _, _ in pages:
        picture = (folder / f"{name}.webp").read_bytes()
        assert picture.startswith(b"RIFF")
        assert 5_000 < (size := len(picture)) < 150_000, f"{name}: {size}"


def test_an_empty_server(driver: Driver, bed: Testbed) -> None:
    bed.run("find", FOLDER, "-mindepth", "1", "-delete")
    wait_for(lambda: not listed(bed), "nothing is listed")
    with browser(driver, language="de") as window:
        window.open(PAGE)
        window.wait(
            "return document.querySelector('#state').textContent.startsWith('Hier')",
            "it says so",
        )
        assert not window.js("return document.querySelector('#tools').checkVisibility()")


# ---- The status page

STATUS = f"{PAGE}status/"
SHOWN = "return !document.querySelector('#all').hidden"


def cells(window: Browser, table: str, column: int) -> list[str]:
    return window.texts(f"[aria-labelledby={table}] tbody td:nth-child({column})")


def test_the_status_page_is_for_who_may_see_it_and_needs_no_worker(bed: Testbed) -> None:
    place = bed.fetch(STATUS.rstrip("/"))
    assert (place.status, place.headers["location"]) == (302, "/qgis-server/status/")
    kinds = {
        "": "text/html", "status.js": "text/javascript", "numbers.js": "text/javascript",
        "style.css": "text/css", "status.css": "text/css", "icon.svg": "image/svg+xml",
        "status.json": "application/json", "index.html": "text/html",
        **{f"{name}.html": "text/html" for name in documents.SHOWN},
    }  # fmt: skip

    def refused(name: str) -> bool:
        return bed.fetch(f"{STATUS}{name}").status == 403

    before = bed.run("cat", SETTINGS).stdout
    try:
        bed.run("tee", SETTINGS, input=f'{before}\nmonitoring_clients = ["192.0.2.1"]\n')
        ctl(bed, "apply")
        wait_for(lambda: all(map(refused, kinds)), "this machine is not listed")
    finally:
        bed.run("tee", SETTINGS, input=before)
        ctl(bed, "apply")
    wait_for(lambda: not any(map(refused, kinds)), "it is listed")
    bed.run("systemctl", "stop", "qgis-server.slice")
    try:
        for name, kind in kinds.items():
            reply = bed.fetch(f"{STATUS}{name}")
            assert (reply.status, reply.headers["content-type"].split(";")[0]) == (200, kind), name
            assert "default-src 'self'" in reply.headers["content-security-policy"], name
            for header in ("X-Forwarded-For: 192.0.2.1", "Via: 1.1 x"):
                assert bed.fetch(f"{STATUS}{name}", "-H", header).status == 403, name
        assert bed.fetch(f"{STATUS}../page/%2e%2e/package.toml", "--path-as-is").status != 200
    finally:
        bed.run("systemctl", "start", "qgis-server.target")


def test_the_status_page(driver: Driver, bed: Testbed, projects: Path) -> None:
    """Known traffic is there, the page follows what happens, and says so when it can't."""
    map = f"http://127.0.0.1/qgis/world?{MAP.partition('&')[2]}"
    state = "/var/lib/qgis-server-systemd"
    noted = [["error", "nginx-stopped", HOSTILE, "NGINX does not run", "see docs/recipes.md"]]
    bed.run("tee", f"{state}/notified.json", input=json.dumps(noted))
    bed.run("touch", f"{state}/notify")

    def failing() -> None:
        ctl(bed, "maintenance", "on", "--project", "world")
        assert bed.fetch(map).status == 503
        ctl(bed, "maintenance", "off", "--project", "world")

    try:
        for _ in range(3):
            assert bed.fetch(map).status == 200
        failing()
        with browser(driver) as window:
            window.open(STATUS.rstrip("/"))
            window.wait(SHOWN, "it is shown")
            names = {str(number + 1) for number in range(len(workers(bed)))}
            wait_for(lambda: {*cells(window, "workers", 1)} >= names, "all workers are there")
            wait_for(lambda: "idle" in cells(window, "workers", 2), "one waits for requests")
            wait_for(lambda: "Serves" in window.texts("#state")[0], "the pool serves")
            wait_for(lambda: "world" in cells(window, "projects", 1), "the project is there")
            wait_for(lambda: "WMS GetMap" in cells(window, "slow", 2), "the map is there")
            wait_for(lambda: "503" in cells(window, "failed", 3), "what failed is there")
            (id, *_) = cells(window, "failed", 6)
            assert re.fullmatch(r"[0-9a-f]{32}", id)
            wait_for(lambda: cells(window, "findings", 3) == [HOSTILE], "a finding is there")
            assert cells(window, "findings", 2) == ["NGINX does not run [nginx-stopped]"]
            assert cells(window, "findings", 4) == ["see docs/recipes.md"]
            assert cells(window, "findings", 5) == ["administration: the site of nginx"]
            assert window.js("return document.querySelectorAll('main img, main b').length") == 0
            drawn = "[...document.querySelectorAll('#plots .half')].map((one) => one.outerHTML)"
            window.wait(f"return {drawn}.length === 5 && {drawn}[0].includes('L')", "a plot")
            # By itself, without being loaded again.
            window.js("window.same = true")
            failing()
            wait_for(lambda: cells(window, "failed", 6)[0] != id, "a later request is there")
            assert window.js("return window.same")
            old = "!document.querySelector('#old').hidden"
            assert not window.js(f"return {old}")
            unit = "qgis-server-metrics.service"
            bed.run("systemctl", "kill", "--signal=STOP", unit)
            try:
                window.wait(f"return {old}", "it says that this is old")
                assert re.match(r"This is [0-9.]+ s old", window.texts("#old")[0])
            finally:
                bed.run("systemctl", "kill", "--signal=CONT", unit)
            window.wait(f"return !({old})", "it is as before")
            window.click("[aria-labelledby=findings] tbody a")
            section = "document.getElementById('the-site-of-nginx')"
            window.wait(f"return {section} && scrollY > 1000", "the link leads to the text")
            assert window.js(f"return {section}.getBoundingClientRect().top") < 100
            for name in documents.SHOWN:
                window.open(f"{STATUS}{name}.html")
                window.wait("return document.querySelector('h2')", "it is shown")
                text = "\n".join(window.texts("main :is(h1, h2, h3, p, td)"))
                assert not re.search(r"`|\]\(|\*\*", text), name
                leads = "return [...document.querySelectorAll('a')].map((one) => one.href)"
                for link in window.js(leads):
                    place = link.removeprefix(STATUS).partition("#")[0]
                    assert place in ("", *(f"{one}.html" for one in documents.SHOWN)), link
            assert hosts(window.asked()) == {"127.0.0.1"}
            assert window.complaints() == []
            assert window.ask("GET", "/cookie") == []
        told = bed.fetch(f"{STATUS}status.json").body.decode()
        assert len(told) < 60_000
        assert not re.search("LAYERS|BBOX|127[.]0[.]0[.]1", told)
    finally:
        bed.run("rm", "--force", f"{state}/notified.json", f"{state}/notify")


@pytest.mark.parametrize("dark", [False, True])
def test_the_status_page_on_a_narrow_screen_and_for_who_sees_little(
    driver: Driver, bed: Testbed, dark: bool
) -> None:
    with narrow(driver, dark=dark) as window:
        window.open(STATUS)
        window.wait(SHOWN, "it is shown")
        fits(window)
        window.open(f"{STATUS}recipes.html#monitoring")
        window.wait("return document.getElementById('monitoring')", "it is shown")
        fits(window)
