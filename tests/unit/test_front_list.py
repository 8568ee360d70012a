# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of the front page: what everybody may know, and when projects are looked at."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from shared.paths import TOP

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import PAGES, Settings
from qgis_server_systemd.qgis_serverctl.config.values import NAME
from qgis_server_systemd.qgis_serverctl.front import nginx_config
from qgis_server_systemd.worker_plugin.catalogue import front
from qgis_server_systemd.worker_plugin.catalogue.front import EVERY, Found, Front

WWW = TOP / "debian/root/usr/share/qgis-server-systemd/www"
STATUS = WWW.with_name("status")


class Server:
    """A folder of projects, what the look finds in it, and what everybody gets to see."""

    def __init__(self, top: Path) -> None:
        self.projects, self.out = top / "projects", top / "out"
        self.projects.mkdir()
        self.out.mkdir()
        self.result, self.worker = top / "catalogue.json", top / "worker.json"
        self.settle()
        self.front = Front(self.worker, self.result, self.out)
        self.now = 1000.0

    def settle(self, page: str = "/qgis-server", below: str = "/qgis", **changes: Any) -> None:
        given = {
            "page": page,
            "title": "",
            "text": "",
            "logo": "",
            "unlisted": [],
            "hosts": {},
            "named": {},
            "project": "",
        }
        given |= changes
        named, project = given.pop("named"), given.pop("project")
        addresses = {
            "below": below, "name": NAME, "named": named, "folders": [str(self.projects)],
        }  # fmt: skip
        text = {"front": given, "addresses": addresses, "catalogue": {"project": project}}
        self.worker.write_text(json.dumps(text))

    def put(self, *names: str) -> None:
        for name in names:
            (self.projects / f"{name}.qgs").write_text("<qgis/>")

    def record(self, name: str, /, **changes: Any) -> dict[str, Any]:
        return {
            "name": name, "path": f"{self.projects}/{name}.qgs", "read": True, "looked": 1.0,
            "title": f"Title of {name}", "abstract": "A", "services": ["WMS"], "changed": 5.0,
            "crs": "EPSG:4326", "inverted": True, "metres": 0.5, "extent": [0, 1, 2, 3],
            "drawn": ["land"], "problems": [],
            "files": {"/secret/data.gpkg": [1]},
        } | changes  # fmt: skip

    def finds(self, *records: object, **changes: Any) -> None:
        """A look ends with that."""
        given = {
            "format": 1, "begun": self.now, "ended": self.now + 1, "ignores": False,
            "projects": records,
        }  # fmt: skip
        beside = self.result.with_suffix(".new")
        beside.write_text(json.dumps(given | changes))
        beside.replace(self.result)

    def turn(self, seconds: float = EVERY) -> bool:
        """Is a look wished for?"""
        self.now += seconds
        wish = self.out / "wish"
        wish.unlink(missing_ok=True)
        self.front.turn(self.now, self.now)
        return wish.exists()

    def shown(self) -> dict[str, dict[str, Any]]:
        self.turn()
        found = json.loads((self.out / "projects.json").read_text())
        return {card["name"]: card for card in found["projects"]}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


# ---- What everybody may know


def test_a_project_in_order_is_shown_and_nothing_of_the_inside(server: Server) -> None:
    server.put("city")
    server.finds(server.record("city"))
    assert server.shown() == {
        "city": {
            "address": "../qgis/city", "name": "city", "title": "Title of city", "abstract": "A",
            "services": ["WMS"], "changed": 5.0,
            "map": {
                "crs": "EPSG:4326", "inverted": True, "metres": 0.5, "extent": [0, 1, 2, 3],
                "layers": ["land"],
            },
        }
    }  # fmt: skip
    assert str(server.projects) not in (server.out / "projects.json").read_text()


LAYER = {"kind": "missing", "layer": "L"}


@pytest.mark.parametrize(
    ("changes", "ignores", "shown"),
    [
        ({"problems": [{"kind": "not-whole", "layer": ""}]}, True, False),
        ({"problems": [LAYER]}, False, False),
        ({"problems": [LAYER]}, True, True),
        ({"problems": [LAYER | {"hidden": True}]}, False, True),
        ({"problems": [LAYER | {"hidden": True}, LAYER]}, False, False),
        ({"problems": [3]}, True, False),
        ({"read": False}, False, False),
        ({"looked": 0}, False, False),
        ({"path": "/etc/passwd"}, False, False),
        ({"name": "other"}, False, False),
        ({"title": ""}, False, True),
    ],
)
def test_what_is_broken_is_absent(
    server: Server, changes: Mapping[str, Any], ignores: bool, shown: bool
) -> None:
    server.put("city")
    server.finds(server.record("city", **changes), ignores=ignores)
    assert ("city" in server.shown()) == shown
    # Of another path or name nothing is known, and of one that nobody has read yet neither.
    known = not {"path", "name", "looked"} & {*changes}
    assert (server.out / "broken").read_text() == f"{int(known and not shown)}\n"


def test_what_is_removed_is_gone_before_the_next_look(server: Server) -> None:
    server.put("a", "b")
    server.finds(server.record("a"), server.record("b"))
    assert {*server.shown()} == {"a", "b"}
    (server.projects / "a.qgs").unlink()
    assert {*server.shown()} == {"b"}


def test_the_logo_has_the_address_that_its_kind_gives(server: Server) -> None:
    for logo, shown in (("", ""), ("/etc/x.y/a.b.png", "page/logo.png")):
        server.settle(logo=logo)
        server.finds()
        server.turn()
        assert json.loads((server.out / "projects.json").read_text())["logo"] == shown


def test_a_host_name_has_a_list_of_its_own(server: Server) -> None:
    server.put("city", "water", "draft")
    server.finds(*map(server.record, ("city", "water", "draft")))
    own = {"title": "Of the city", "projects": ["city", "draft"]}
    hosts = {"city.acme.example": own, "acme.example": {"logo": "/etc/logo.png"}}
    server.settle(title="Maps", unlisted=["draft"], hosts=hosts)
    assert {*server.shown()} == {"city", "water"}

    def of(host: str) -> tuple[str, str, list[str]]:
        found = json.loads((server.out / f"projects-{host}.json").read_text())
        return found["title"], found["logo"], [one["name"] for one in found["projects"]]

    assert of("city.acme.example") == ("Of the city", "", ["city"])
    assert of("acme.example") == ("Maps", "page/logo.png", ["city", "water"])
    # What the settings no longer name is gone, and comes again with them.
    server.settle()
    server.turn()
    assert [file.name for file in server.out.glob("projects*")] == ["projects.json"]
    server.settle(hosts=hosts)
    server.turn()
    assert of("acme.example")[2] == ["city", "draft", "water"]


def test_unlisted_and_named_projects_and_the_one_without_a_name(server: Server) -> None:
    server.put("a", "draft")
    other = f"{server.projects}/a.qgs"
    server.settle(unlisted=["draft"], named={"plan": "postgresql://db"}, project="/srv/only.qgs")
    records = [
        server.record("a"), server.record("draft"), server.record("plan", path="postgresql://db"),
        server.record("", path="/srv/only.qgs", title=""),
    ]  # fmt: skip
    server.finds(*records)
    assert {name: card["address"] for name, card in server.shown().items()} == {
        "a": "../qgis/a", "plan": "../qgis/plan", "qgis-server": ".",
    }  # fmt: skip
    # One that has a name, too, is shown once.
    server.settle(project=other)
    server.finds(*records, server.record("", path=other))
    assert {*server.shown()} == {"a", "draft"}


@pytest.mark.parametrize(
    ("page", "below", "address"),
    [
        ("/qgis-server", "/qgis", "../qgis/a"),
        ("/gis/maps", "/gis/map", "../map/a"),
        ("/maps", "/gis/all", "../gis/all/a"),
    ],
)
def test_addresses_are_relative(server: Server, page: str, below: str, address: str) -> None:
    server.put("a")
    server.settle(page, below)
    server.finds(server.record("a"))
    assert server.shown()["a"]["address"] == address


EVIL = '</script><img src=x onerror=alert(1)>"\u202e\x00'


def test_whatever_a_stranger_writes_is_text_of_known_length(server: Server) -> None:
    server.put("a", "b", "c")
    server.finds(
        server.record("a", title=EVIL * 99, abstract=EVIL * 999, services=["WMS", EVIL, 3]),
        server.record("b", title=["x"], abstract=3, services={}, changed="x", crs=EVIL),
        server.record("c", extent=[0, 1, 2], drawn=[3, "a,b"], changed=10**400),
        3, {"name": [], "path": "/x"}, {"path": 3},
    )  # fmt: skip
    shown = server.shown()
    assert len(shown["a"]["title"]) == front.LONGEST_TITLE
    assert len(shown["a"]["abstract"]) == front.LONGEST_ABSTRACT
    assert shown["a"]["services"] == ["WMS"]
    assert (shown["b"]["title"], shown["b"]["abstract"], shown["b"]["map"]) == ("b", "", {})
    assert (shown["c"]["changed"], shown["c"]["map"]) == (None, {})
    # In a page it would be no markup either.
    assert (server.out / "projects.json").read_text().isascii()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b"[" * 100_000, b"{}" * 2, b'{"format": 2}', b'{"projects": []}', b"3"],
)
def test_anything_else_is_passed_over(server: Server, content: bytes) -> None:
    server.put("a")
    server.finds(server.record("a"))
    assert server.shown()
    server.result.write_bytes(content)
    assert server.shown()


def test_no_link_or_pipe_in_the_place_of_the_file_is_followed(server: Server) -> None:
    server.put("a")
    os.mkfifo(server.result)
    server.turn()
    assert not (server.out / "projects.json").exists()
    server.finds(server.record("a"))
    kept = server.result.rename(server.result.with_name("kept"))
    server.result.symlink_to(kept)
    server.turn()
    assert not (server.out / "projects.json").exists()


def test_what_was_known_is_shown_while_all_are_read_again(server: Server) -> None:
    server.put("a")
    server.turn()
    server.finds(server.record("a"))
    assert server.shown()
    blank = server.record("a", read=False, looked=0.0, title="")
    server.finds(blank, ended=None)
    assert server.shown()["a"]["title"] == "Title of a"
    server.finds(blank)
    assert not server.shown()


# ---- When projects are looked at


def test_a_look_is_wished_for_when_something_changes_and_not_before(server: Server) -> None:
    server.put("a")
    assert server.turn()
    assert not server.turn()
    server.finds(server.record("a"))
    assert not any(server.turn() for _ in range(100))
    for change in (
        lambda: server.put("b"),
        lambda: (server.projects / "a.qgs").write_text("<qgis></qgis>"),
        lambda: (server.projects / "b.qgs").unlink(),
        lambda: server.settle(named={"plan": "/srv/plan.qgs"}),
    ):
        change()
        assert server.turn()
        assert not server.turn()
        server.finds(server.record("a"))
        assert not any(server.turn() for _ in range(10))


def test_data_are_looked_at_from_time_to_time(server: Server) -> None:
    server.put("a")
    server.turn()
    server.finds(server.record("a"))
    server.turn()
    assert not server.turn(front.AGAIN - 1)
    assert server.turn(1)


def test_a_change_during_a_look_leads_to_another_one(server: Server) -> None:
    server.put("a")
    server.turn()
    server.finds(server.record("a"), ended=None)
    server.put("b")
    assert not server.turn()
    server.finds(server.record("a"))
    assert any(server.turn() for _ in range(5))


def test_a_look_that_began_before_the_wish_does_not_count(server: Server) -> None:
    server.put("a")
    before = server.now
    assert server.turn()
    server.finds(server.record("a"), begun=before)
    assert server.turn()


def test_a_wish_that_nobody_follows_is_repeated_but_less_and_less(server: Server) -> None:
    server.put("a")
    wishes = [server.now for _ in range(300) if server.turn(10)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(wishes)]
    assert gaps[0] <= front.PATIENCE + 10
    assert gaps == sorted(gaps)
    assert gaps[-1] >= front.AGAIN


def test_between_two_looks_it_waits_for_as_long_as_one_took(server: Server) -> None:
    server.put("a")
    server.turn()
    for _ in range(10):
        server.finds(ended=None, begun=server.now)
        server.turn(10)
    (server.projects / "a.qgs").write_text("<qgis></qgis>")
    server.finds(server.record("a"))
    server.turn()
    assert not server.turn(90)
    # But for one that is new.
    server.put("b")
    assert server.turn()
    server.finds(server.record("a"), server.record("b"))
    (server.projects / "a.qgs").unlink()
    assert any(server.turn() for _ in range(5))


def test_hundreds_of_projects_cost_little(server: Server) -> None:
    names = [f"project-{n}" for n in range(300)]
    server.put(*names)
    server.finds(*map(server.record, names))
    assert len(server.shown()) == 300
    listed = server.out / "projects.json"
    before = listed.stat().st_ino
    server.turn()
    assert listed.stat().st_ino == before


def test_the_list_has_a_settled_order_of_its_own(server: Server) -> None:
    assert Found(b"{}").begun is None
    server.put("b", "a")
    server.finds(server.record("a"), server.record("b"))
    assert [*server.shown()] == ["a", "b"]


def test_a_new_project_is_there_within_ten_seconds() -> None:
    """What it takes to read it included, as far as the machine has time. That a new one does not
    wait for others is tested above."""
    (again,) = re.findall(r"AGAIN = ([0-9_]+);", (WWW / "page.js").read_text())
    assert EVERY + front.SOON + int(again) / 1000 < 8


# ---- The page


def test_the_page_is_small_and_names_no_other_host() -> None:
    files = [*WWW.iterdir(), *STATUS.iterdir()]
    assert sum(file.stat().st_size for file in files) < 120_000
    for file in files:
        urls = re.findall(r"https?://[^\s\"'`]+", file.read_text())
        assert set(urls) <= {"http://www.w3.org/2000/svg"}, file


def test_nothing_of_a_stranger_becomes_markup() -> None:
    for file in (*WWW.glob("*.js"), *STATUS.glob("*.js")):
        text = file.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "cookie",
        ):
            assert word not in text, file
    for page in (*WWW.glob("*.html"), *STATUS.glob("*.html")):
        markup = r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:"
        assert not re.search(markup, page.read_text()), page
    # QGIS Server takes it for a template, and would fill in what is in braces, or after "##".
    assert not re.search(r"\{[{%#]|##", (WWW / "api.html").read_text())


@pytest.mark.parametrize(
    ("file", "users"), [("words.js", ("page.js", "map.js")), ("api-words.js", ("api.js",))]
)
def test_each_language_says_all(file: str, users: tuple[str, ...]) -> None:
    text = (WWW / file).read_text()
    parts = re.findall(r"^  (\w\w): \{\n(.*?)^  \},", text, re.M | re.S)
    keys = {code: re.findall(r"^    (\w+):", body, re.M) for code, body in parts}
    assert {*keys} == {"en", "de", "fr"}
    assert keys["en"] == keys["de"] == keys["fr"]
    text = "".join((WWW / one).read_text() for one in users)
    used = {*re.findall(r"\bwords\.(\w+)", text)}
    assert used <= {*keys["en"], "js"}


@pytest.mark.parametrize("page", PAGES)
def test_which_requests_get_the_page(page: str) -> None:
    text = nginx_config.http_text(Package(), Settings(front_page=page), ["/run/x.sock"])
    assert f"map $qgis_server_name $qgis_server_shown {{\n    default {page};\n" in text
    block = text[text.index('map "$qgis_server_shown $request_method') :].partition("}")[0]
    rules = re.findall(r'^ +"~(.+)" (\w+);$', block, re.M)

    def decided(request: str) -> str:
        asked = f"{page} {request}"
        return next((word for rule, word in rules if re.search(rule, asked)), "")

    top = "/qgis-server"
    front_page = {"list": "list", "qgis": "", "off": "off"}[page]
    assert decided(f"GET {top}/?") == decided(f"HEAD {top}/?") == front_page
    assert decided(f"GET {top}/page/page.js?") == ("" if page == "list" else "off")
    own = {"list": "slash", "qgis": "", "off": "off"}[page]
    assert decided(f"GET {top}?") == decided(f"HEAD {top}?utm_source=x") == own
    assert decided(f"GET {top}/?utm_source=x") == front_page
    own = "" if page == "qgis" else "off"
    for path in ("index.json", "index.html", "map/1", "css/app.css", "js/app.js", "favicon.ico"):
        assert decided(f"GET {top}/{path}?") == decided(f"POST {top}/{path}?a=b") == own, path
        assert decided(f"M-SEARCH {top}/{path}?") == decided(f"X_Y {top}/{path}?") == own, path
    off = "off" if page == "off" else ""
    assert decided(f"GET {top}/project/1/?SERVICE=WMS") == off
    for request in (
        f"GET {top}?SERVICE=WMS&REQUEST=GetMap", f"POST {top}/?", f"GET {top}/?service=WMS",
        "GET /qgis/city?SERVICE=WMS", f"GET {top}/wfs3/?", "GET /qgis/page/wfs3/?",
    ):  # fmt: skip
        assert decided(request) == "", request


def test_which_page_a_host_name_gets() -> None:
    lines = (
        "city.acme.example title=City", "city.acme.example logo=/etc/city logo.png",
        "hidden.acme.example page=off",
    )  # fmt: skip

    def maps(**settings: Any) -> dict[str, dict[str, str]]:
        text = nginx_config.http_text(
            Package(), Settings(front_hosts=lines, **settings), ["/run/x.sock"]
        )
        found = {}
        for name in ("shown", "list", "logo"):
            block = text[text.index(f"map $qgis_server_name $qgis_server_{name} {{") :]
            found[name] = dict(re.findall(r'^ +"~\*(.+)" (.+);$', block.partition("}")[0], re.M))
        return found

    city, hidden = r"^city\.acme\.example$", r"^hidden\.acme\.example$"
    assert maps() == {
        "shown": {hidden: "off"},
        "list": {city: '"-city.acme.example"'},
        "logo": {city: '"/etc/city logo.png"'},
    }
    assert maps(front_page="qgis") == {"shown": {}, "list": {}, "logo": {}}
