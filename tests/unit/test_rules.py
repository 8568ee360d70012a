# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request may not ask for, and which projects a client may open."""

import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qgis_server_systemd.worker_plugin import folders
from qgis_server_systemd.worker_plugin.folders import Folders
from qgis_server_systemd.worker_plugin.rules import (
    ENCODED,
    SIZED,
    Rules,
    is_harmless,
    plain,
    readings,
    unsafe,
)

RULES = Rules(
    unsafe(
        [
            ("file_exists", [], ["Files and Paths"]),
            ("env", [], ["General"]),
            ("with_variable", [], ["General"]),
            ("scale_polynomial", ["scale_exp"], ["Math"]),
            ("raster_value", ["pixel"], ["Rasters"]),
        ]
    )
)


def refusal(path: str = "/qgis/city", **parameters: str) -> str:
    return RULES.refusal(parameters, b"", path)


def refusal_of(parameters: dict[str, str], body: bytes = b"") -> str:
    return RULES.refusal(parameters, body, "/qgis/city")


@pytest.mark.parametrize(
    "value",
    [
        "env('X') = 'a'",
        "ENV ('X')",
        "env/* */('X')",
        "env --\n('X')",
        "'/*' || env('X')",
        "file_exists('/etc/passwd')",
        "file_ex\u0131sts".replace("\u0131", "i") + "('/')",
        "file_exi\u017fts('/')",
        "pixel('layer', 1)",
        "eval('1')",
        "aggregate('other', 'max', name)",
        "@project_path LIKE '/srv%'",
        "1=1 OR @secret = 'a'",
        "1=1 and@secret = 'a'",
        "1-@secret = 1",
        "1.and@secret = 'a'",
        "1e5OR@secret = 'a'",
        "transform(@geometry, 'EPSG:4326', 'PROJ:+proj=longlat +nadgrids=/etc/passwd')",
        "transform(@geometry, 'EPSG:4326', 'PROJ:+init=/etc/passwd:a')",
        quote("env('X')"),
        quote(quote("env('X')")),
        "<Function name='env'><Literal>X</Literal></Function>",
        '<ogc:Function\nname = "&#101;n&#x76;">',
        "<PropertyName>e<!-- > -->n<![CDATA[v]]>('X')</PropertyName>",
        "<?a <!-- ?>e<?b?>nv('X')<!-- -->",
        "<!DOCTYPE a>",
        "<!doctype a [<!ENTITY b 'c'>]>",
    ],
)
@pytest.mark.parametrize("name", ["EXP_FILTER", "SLD_BODY", "FILTER", "MAP0:HIGHLIGHT_SYMBOL"])
def test_expressions_that_look_around_are_refused(name: str, value: str) -> None:
    assert refusal_of({"REQUEST": "GetFeature", name: value})
    assert refusal_of({"REQUEST": "GetPrint", name: value}) or name == "EXP_FILTER"


@pytest.mark.parametrize(
    "value",
    [
        "upper(name) = 'BERLIN' AND scale_exp(x, 1, 2, 3, 4) > 2",
        "with_variable('a', 1, 2)",
        "name = 'environment (of)' AND mail = 'a.b-c@example.org'",
        "array_filter(tags, @element > 1)",
        "countries:\"iso_a2\" = 'DE'",
        "x(transform(@geometry, 'EPSG:4326', 'EPSG:25832')) > 500000",
        "100 % 30 = 10",
        "<Filter><PropertyIsEqualTo><PropertyName>env</PropertyName><Literal>&lt;1"
        "</Literal></PropertyIsEqualTo></Filter>",
    ],
)
def test_ordinary_expressions_are_not(value: str) -> None:
    assert refusal(REQUEST="GetFeature", EXP_FILTER=value) == ""


@pytest.mark.parametrize(
    "parameters",
    [
        {"SLD": "http://192.0.2.1/a.sld"},
        {"MAP0:SLD": "file:///etc/passwd"},
        {"LAYERS": "city,EXTERNAL_WMS:a"},
        {"MAP0:LAYERS": "external_wms:a"},
        {"SLD_BODY": "<a><se:ExternalGraphic>"},
        {"HIGHLIGHT_SYMBOL": "<OnlineResource xlink:href='/etc/a.svg'/>"},
        {"SLD_BODY": quote("<sld:InlineContent>")},
    ],
)
def test_references_are_a_choice(parameters: dict[str, str]) -> None:
    assert refusal_of({"REQUEST": "GetMap", **parameters})
    assert Rules(remote=True).refusal({"REQUEST": "GetMap", **parameters}, b"", "/") == ""


@pytest.mark.parametrize("name", ["S%4CD", "SLD\0X", "%4DAP"])
def test_a_name_that_is_coded_once_more_is_refused(name: str) -> None:
    assert refusal_of({name: "a"})


@pytest.mark.parametrize("value", ['a"b', "a\r\nX-Accel-Redirect: /b", "a%0ab", "a\x7f"])
def test_a_name_of_a_file_makes_no_header(value: str) -> None:
    assert refusal(FILE_NAME=value)
    assert refusal(FILE_NAME="Karte von Köln.pdf") == ""


def test_a_text_in_a_print_may_be_anything_but_an_expression() -> None:
    assert refusal(REQUEST="GetPrint", TITLE="Var (83), <b>env(x)</b> @home") == ""
    assert refusal(REQUEST="GetPrint", TITLE="[% env('X') %]")
    assert refusal(REQUEST="GetPrint", TITLE="%5B%25 @project_path %25%5D")


def test_a_backslash_ends_no_string_of_the_api() -> None:
    path = "/qgis/city/wfs3/collections/a/items"
    assert refusal(path, NAME="x\\' or 1=1 --")
    assert refusal(path.replace("c", "%63"), NAME="x%5C' or 1=1 --")
    assert refusal(path, NAME="O'Hare") == ""
    assert refusal(LAYERS="a\\b") == ""


@pytest.mark.parametrize("path", ["/qgis/a/../b", "/qgis/a/%2e%2e/b", "/qgis/%2e%2e%2fb"])
def test_dots_in_the_path_are_refused(path: str) -> None:
    assert refusal(path)
    assert refusal("/qgis/a..b/c") == ""


def test_the_values_of_a_transaction_may_be_any_text() -> None:
    text = "<Transaction><Value>Var (83) env(x) @home</Value></Transaction>"
    assert refusal(REQUEST="wfs:Transaction", REQUEST_BODY=text) == ""
    assert refusal(REQUEST="GetFeature", REQUEST_BODY=text)
    filtered = text + "<Function name='env'>"
    assert refusal(REQUEST="Transaction", REQUEST_BODY=filtered)


def test_a_body_that_is_no_parameter_is_looked_at_as_well() -> None:
    assert refusal_of({}, b"\xef\xbb\xbf <!DOCTYPE a><a/>")
    assert refusal_of({}, b'{"name": "env(x) <!DOCTYPE a>"}') == ""


@pytest.mark.parametrize(
    "part",
    ["<!--", "<?", "<![CDATA[", "env/*", "env--", "< ", "name=", "a.", "1", "%25", "&#", "(", "@"],
)
def test_no_text_takes_long(part: str) -> None:
    began = time.process_time()
    refusal(REQUEST="GetFeature", EXP_FILTER="<" + part * (200_000 // len(part)))
    assert time.process_time() - began < 5


WORDS = (
    "env", "eval", "pixel", "external_wms", "init", "name", "doctype", "and", "geometry", "4000",
    "(", "/", "*", "-", "--", " ", ",", ".", ":", ";", "_", "@", "=", "<", "%", "%25", "[%", "\\",
    "\0", "a", "sld", "/collections/",
)  # fmt: skip
NAMES = (
    "LAYERS", "Width", "HEIGHT", "MAP0:DPI", "FORMAT_OPTIONS", "SLD", "sld_body", "FILE_NAME",
    "a%41",
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(NAMES), st.lists(st.sampled_from(WORDS), max_size=6).map("".join)
    ),
    st.sampled_from(["", "GetPrint", "transaction"]),
    st.sampled_from(["/qgis/city", "/wfs3/collections/a", "/..", "/%41", "/a--"]),
)
@settings(max_examples=500, deadline=None)
@example({"LAYERS": "env--"}, "", "/")
@example({"LAYERS": "env(1"}, "", "/")
@example({"LAYERS": "env/*"}, "", "/")
@example({"LAYERS": "a-", "HEIGHT": "-b(1)"}, "", "/")
def test_what_is_harmless_at_a_glance_is_so_by_all_rules(
    given: dict[str, str], request: str, path: str
) -> None:
    """Each parameter, looked at by itself."""
    if not is_harmless(given, path):
        return
    assert list(readings(path)) == [path]
    assert ".." not in path.split("/")
    for name, value in given.items():
        assert name.isupper()
        assert not ENCODED.search(name)
        found = RULES.of_value(name, value, request, api="collections" in path)
        assert found == RULES.of_size(name, value)
        assert not found or name in SIZED


def test_parameters_of_ordinary_maps_are_harmless() -> None:
    given = {"BBOX": "-50.5,-180,1e5,7", "CRS": "EPSG:4326", "FORMAT": "image/png", "STYLES": ""}
    assert is_harmless(given, "/qgis/city")


def test_sizes_of_ordinary_maps_are_looked_at_as_well() -> None:
    rules = Rules(side=100, dpi=300)
    for name, value in (("WIDTH", "101"), ("width", "101"), ("MAP1:HEIGHT", "1e3"), ("DPI", "301")):
        assert rules.refusal({name: value}, b"", "/")
        assert not rules.refusal({name: "100"}, b"", "/")
    assert rules.refusal({"FORMAT_OPTIONS": "dpi:301;a:b"}, b"", "/")


def test_readings() -> None:
    assert list(readings("a")) == ["a"]
    assert list(readings("%2541")) == ["%2541", "%41", "A"]
    assert plain("<a>1<!-- 2 --><b/>&lt;&#x33;<![CDATA[<4]]>") == "<a>1<b/><3<4"
    assert plain("<a><!-- 1") == "<a><!-- 1"


# ---- Folders


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for file in ("in/a.qgs", "in/b/c.qgz", "out/d.qgs", "inside/e.qgs"):
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).touch()
    (tmp_path / "in/link.qgs").symlink_to("../out/d.qgs")
    (tmp_path / "in/own.qgs").symlink_to("b/c.qgz")
    (tmp_path / "in/folder").symlink_to("../out")
    (tmp_path / "other").symlink_to("in")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "is_in"),
    [
        ("in/a.qgs", True),
        ("in/b/../a.qgs", True),
        ("in/own.qgs", True),
        ("other/a.qgs", True),
        ("in/missing.qgs", True),
        ("in", False),
        ("in/link.qgs", False),
        ("in/folder/d.qgs", False),
        ("in/../out/d.qgs", False),
        ("inside/e.qgs", False),
        ("out/d.qgs", False),
    ],
)
def test_links_are_followed(top: Path, path: str, is_in: bool) -> None:
    assert Folders([str(top / "in")], []).has(f"{top}/{path}") == is_in
    assert Folders([str(top / "other")], []).has(f"{top}/{path}") == is_in
    assert Folders([str(top / "in")], [f"{top}/{path}"]).has(f"{top}/{path}")


@pytest.mark.parametrize(
    "project", ["", "a.qgs", "/srv\0/a.qgs", "file:///srv/a.qgs", "/vsizip//srv/a.zip", "pg://a"]
)
def test_only_files_are_in_folders(project: str) -> None:
    assert not Folders(["/srv"], []).has(project)
    assert Folders(["/"], []).has("/srv/a.qgs")


def test_an_answer_is_good_for_a_moment(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Folders([str(top / "in")], [])
    assert known.has(f"{top}/in/a.qgs")
    (top / "in/a.qgs").unlink()
    (top / "in/a.qgs").symlink_to("../out/d.qgs")
    monkeypatch.setattr(folders, "LOOK_EVERY", 0.0)
    assert not known.has(f"{top}/in/a.qgs")


def test_links_of_a_folder_that_lead_out(top: Path) -> None:
    known = Folders([str(top / "in")], [])
    assert known.strays(str(top / "in")) == [f"{top}/in/folder", f"{top}/in/link.qgs"]
    assert known.strays(str(top / "missing")) == []
