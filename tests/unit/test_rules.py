# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request may not ask for, and which projects a client may open."""

import contextlib
import sqlite3
import time
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared.expressions import FUNCTIONS

from qgis_server_systemd.worker_plugin import folders
from qgis_server_systemd.worker_plugin.allowed import API
from qgis_server_systemd.worker_plugin.folders import Folders
from qgis_server_systemd.worker_plugin.forms import readings
from qgis_server_systemd.worker_plugin.lane import Lane
from qgis_server_systemd.worker_plugin.mentions import said
from qgis_server_systemd.worker_plugin.rules import (
    EVERYWHERE,
    Rules,
    is_plain,
    ordinary,
    surely_up_to,
)

RULES = Rules(FUNCTIONS)


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
        '"name" ILIKE \'%env (83), @home; -- /* [% 5" %\'',
        "\"a\" IN ('x', 'O''Hare') AND NOT (b IS NULL) OR CASE WHEN (c) THEN 1 ELSE 2 END = 1",
    ],
)
def test_ordinary_expressions_are_not(value: str) -> None:
    assert refusal(REQUEST="GetFeature", EXP_FILTER=value) == ""


@pytest.mark.parametrize(
    "value",
    [
        "both(1) = 1",
        "own(1) = 1",
        "not_known (1)",
        "$env('X')",
        "overlay_within('a')",
        "1 /* ; */ = 1",
        "a = 1; env('X')",
        "'a;' || env('X')",
        "1 /*; env('X')",
        "transform(@geometry, 'EPSG:4326', 'EPSG:' || '1')",
        "transform(@geometry, 'EPSG:4326', '/vsicurl/http://e/')",
        "transform(@geometry, 'EPSG:4326', dest := 'PROJ:+init=/a:b')",
        "'a",
    ],
)
def test_only_what_looks_at_the_feature_is_an_expression(value: str) -> None:
    assert refusal(EXP_FILTER=value)


@pytest.mark.parametrize(
    "parameters",
    [
        {"SLD": "http://192.0.2.1/a.sld"},
        {"MAP0:SLD": "file:///etc/passwd"},
        {"LAYERS": "city,EXTERNAL_WMS:a"},
        {"MAP0:LAYERS": "external_wms:a"},
        {"SLD_BODY": "<Rule><se:ExternalGraphic/></Rule>"},
        {"HIGHLIGHT_SYMBOL": "<OnlineResource xlink:href='/etc/a.svg'/>"},
        {"SLD_BODY": "<Mark><sld:InlineContent>a</sld:InlineContent></Mark>"},
    ],
)
def test_references_are_a_choice(parameters: dict[str, str]) -> None:
    assert refusal_of({"REQUEST": "GetMap", **parameters})
    assert Rules(remote=True).refusal({"REQUEST": "GetMap", **parameters}, b"", "/") == ""


@pytest.mark.parametrize("name", ["S%4CD", "SLD\0X", "%4DAP", "A\nB", "::SLD", "MAP0:::SLD", "::A"])
def test_a_name_that_is_coded_once_more_or_has_a_scope_is_refused(name: str) -> None:
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


@pytest.mark.parametrize("end", ["it%65ms", "items#x", "items?x=1", "%69tems.json"])
def test_a_path_that_is_read_twice_is_refused(end: str) -> None:
    """Decoded, as it is here, it is one of items only once QGIS Server has decoded it again."""
    assert refusal(f"/qgis/city/wfs3/collections/a/{end}")
    assert refusal(f"/qgis-server/{end}")
    assert refusal("/qgis/city/wfs3/collections/100 % (old)/items") == ""


def test_the_values_of_a_transaction_may_be_any_text() -> None:
    text = "<Transaction><Value>Var (83) env(x) @home</Value></Transaction>"
    assert refusal(REQUEST="wfs:Transaction", REQUEST_BODY=text) == ""
    filtered = text + "<Function name='env'>"
    assert refusal(REQUEST="Transaction", REQUEST_BODY=filtered)


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf <!DOCTYPE a><a/>",
        "<GetFeature/>".encode("utf-16"),
        "<GetFeature/>".encode("utf-32"),
        b"<?xml version='1.0' encoding='utf-7'?><GetFeature/>",
        b"<?xml version='1.0' encoding='UTF-16'?><GetFeature/>",
        b"<?php a?><GetFeature/>",
        b"<GetFeature",
        b"<GetFeature><Query srsName='http://a.example/b'/></GetFeature>",
        b"<a><x:Query gml:SRSNAME='/vsicurl/http://a'/></a>",
        b"<Transaction><Insert><a><gml:Point srsName='PROJ:+proj=x'/></a></Insert></Transaction>",
        b"<Transaction><Insert><a><b xlink:href='http://a'/></a></Insert></Transaction>",
        b"<GetFeature><Query><SortBy><SortProperty><PropertyName>env('X')</PropertyName>"
        b"</SortProperty></SortBy></Query></GetFeature>",
        b'<GetFeature><Query><PropertyName>a:b/*" */</PropertyName></Query></GetFeature>',
        b"<GetFeature><Query><Else/></Query></GetFeature>",
        b"<a><Filter><Function name='&#101;nv'/></Filter></a>",
        b"<a><Filter><Function name='e%6ev'/></Filter></a>",
        b"<a><Filter><Function name='e%26%23110;v'/></Filter></a>",
        b"<a><Filter><Literal>%3CFunction name='env'/></Literal></Filter></a>",
        b"<a><Filter><Literal><![CDATA[<Filter>]]></Literal></Filter></a>",
        b"<a><Filter><Function/></Filter></a>",
        b"<a><Filter><Function name='transform'/></Filter></a>",
    ],
)
def test_a_body_is_looked_at_as_it_is(body: bytes) -> None:
    assert refusal_of({}, body)
    if body.isascii():
        assert refusal_of({"REQUEST_BODY": body.decode().replace("+", "%2B")}, body)
    if body.isascii() and b"encoding" not in body:
        assert refusal_of({"REQUEST_BODY": body.decode()})


def test_what_is_no_xml_yet_is_no_body_that_has_been_looked_at() -> None:
    text = quote("<GetFeature><Query><Filter><Function name='env'/></Filter></Query></GetFeature>")
    assert refusal_of({"REQUEST_BODY": text}, text.encode())


def test_ordinary_bodies_are_served() -> None:
    for body in (
        b"",
        b"a=b&c=d",
        b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xfc</a>",
        b'{"name": "env(x) <!DOCTYPE a>"}',
        b"<GetFeature><!-- all --><Query typeName='a' srsName='EPSG:4326'/></GetFeature>",
        b"<Transaction><Insert><a><b>http://x/?a=b%2Cc&amp;d=e%26f 100%</b></a></Insert>"
        b"</Transaction>",
    ):
        assert refusal_of({}, body) == ""


def test_a_feature_names_its_reference_system_by_a_code() -> None:
    def of(crs: str) -> str:
        feature = f'{{"type": "Feature", "crs": {crs}, "properties": {{"crs": "old"}}}}'
        return RULES.refusal({}, feature.encode(), "/qgis/a/wfs3/collections/b/items")

    assert of('{"type": "link", "properties": {"href": "http://a.example/"}}')
    assert of('{"type": "name", "properties": {"name": "PROJ:+init=/etc/passwd:a"}}')
    assert of('{"type": "name", "type": "URL", "properties": {"url": "http://a.example/"}}')
    assert of('{"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}') == ""
    assert of("null") == ""
    assert of('null, "coordRefSys": "http://a.example/b"')
    assert of('null, "coordRefSys": ["http://a.example/b"]')
    assert of('null, "coordRefSys": "http://www.opengis.net/def/crs/EPSG/0/4326"') == ""


def test_a_feature_is_nothing_else_to_gdal() -> None:
    """GDAL looks for the names of elements of its other formats, wherever they are."""

    def of(text: str) -> str:
        return RULES.refusal({}, text.encode(), "/qgis/a/wfs3/collections/b/items")

    source = "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/etc/passwd</SrcDataSource>"
    assert "markup" in of(f'{{"type": "Feature", "a": "{source}"}}')
    assert "markup" in of(f'"{source}"')
    assert of(f'{{"type": "Feature", "a": "{source}"}}'.replace("<", r"\u003c")) == ""
    assert of('{"type": "Feature", "properties": {"a": "1 < 2, a<3, <- <3"}}') == ""


LONG = 20_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WIDTH", "1" * LONG + "x"),
        ("OPACITIES", "1 " * LONG + "x"),
        ("BBOX", "1" * LONG + "x"),
        ("BBOX", "1" + ", " * LONG + "x"),
        ("FILTER", "a:" + "1" * LONG + "x"),
        ("FILTER", "a:" + '""' * LONG + '"'),
        ("SELECTION", "a:" + "b" * LONG + "'"),
        ("FEATUREID", "a" * LONG + "'"),
        ("VERSION", "a" * LONG + "'"),
        ("SORTBY", "a" + " " * LONG + "x"),
        ("SORTBY", ("a" + " " * 150 + ",") * (LONG // 150) + "("),
        ("PROPERTYNAME", "a" + " " * LONG + "x"),
        ("EXP_FILTER", "'" + "''" * LONG),
        ("EXP_FILTER", "transform(a,'EPSG:1','EPSG:2')+" * (LONG // 20) + "1"),
        ("EXP_FILTER", "transform(" * (LONG // 20)),
        ("SLD_BODY", "<a>" * LONG),
    ],
)
def test_a_long_value_takes_no_long_time(name: str, value: str) -> None:
    """By the square of the length it would be many seconds, and hours for a body."""
    begun = time.process_time()
    if not refusal_of({name: value}):
        said({name: value}, b"", "/qgis/city")
    assert time.process_time() - begun < 1.0


SYSTEMS = ("CRS", "SRS", "SRSNAME", "RESPONSE_CRS", "BBOX-CRS", "SUBSETTINGCRS", "OUTPUTCRS")


@pytest.mark.parametrize(
    "value",
    [
        "http://a.example/b",
        "http://a.example/def/crs/EPSG/0/4326",
        "http://www.opengis.net.a.example/def/crs/EPSG/0/4326",
        "http://a@www.opengis.net/def/crs/EPSG/0/../../4326",
        "/vsicurl/http://a.example/b",
        "/srv/fifo",
        "fifo",
        "PROJ:+proj=tinshift +file=/etc/passwd",
        "PROJ:4326",
        "+proj=pipeline +step +proj=defmodel +model=/etc/passwd",
        'WKT:GEOGCS["a",EXTENSION["PROJ4_GRIDS","/etc/passwd"]]',
        "WKT:a",
        "file:a",
        "EPSG:4326\n",
        "EPSG:4326 +nadgrids=/etc/passwd",
        "EPSG:4326/../a",
        "urn:ogc:def:crs:EPSG::4326/a",
    ],
)
def test_a_reference_system_is_a_code(value: str) -> None:
    for name in SYSTEMS:
        assert "EPSG:4326" in refusal_of({name: value}) or "reference" in refusal_of({name: value})
        assert refusal_of({name: quote(value)})
    assert refusal(BBOX=f"1,2,3,4,{value}")
    assert refusal_of({"CRS": value, "LIMIT": "1"})


@pytest.mark.parametrize(
    "value",
    [
        "EPSG:4326", "epsg:25832", "CRS:84", "ESRI:54030", "IGNF:LAMB93", "OGC:CRS84",
        "USER:100001", "urn:ogc:def:crs:EPSG::4326", "urn:ogc:def:crs:EPSG:6.9:4326",
        "urn:x-ogc:def:crs:EPSG:4326",
        "urn:ogc:def:crs:OGC:1.3:CRS84", "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
        "http://www.opengis.net/def/crs/EPSG/0/4326", "https://www.opengis.net/def/crs/EPSG/0/3857",
        "http://www.opengis.net/gml/srs/epsg.xml#4326",
    ],
)  # fmt: skip
def test_all_ordinary_codes_are_known(value: str) -> None:
    for name in SYSTEMS:
        assert refusal_of({name: value}) == ""
        assert refusal_of({name: quote(value)}) == ""
    assert refusal(BBOX=f"1,2,3,4,{value}") == ""
    body = f"<GetFeature><Query srsName='{value}'/></GetFeature>".encode()
    assert refusal_of({}, body) == ""


@pytest.mark.parametrize(
    "value",
    [
        "countries:'x'||(select group_concat(name) from sqlite_master)||'y' LIKE '%a%'",
        "countries:\"a\" = 'x' || 'y'",
        "countries:\"a\" = lower ( 'x' )",
        "countries:a = 1",
        'countries:"a" = 1 -- b',
        'countries:"a" = 1 /* b */',
        'countries:"a" = 1 UNION SELECT 1',
        "countries:\"a\" = E'x'",
        "countries:\"a\" = x'00'",
        'countries:"a" = $$x$$',
        'countries:"a" = [b]',
        'countries:"a" = `b`',
        "countries:\"a\" = 'b\\' || 'c'",
        "countries:\"a\" = 'b;c'",
        'countries:"a" = \'b',
        'countries:"a = 1',
        'countries:"a" @> 1',
        "countries",
        'countries:"a" = \'(<Filter><Function name="env"/></Filter>)\'',
        "countries:\"a\" = '%27%7C%7C(select 1)%7C%7C%27'",
        'countries:"a" IN(select 1)',
        "countries:\"query_to_xml\" ( 'select name from other' ) IS NULL",
        'countries:"pg_sleep"(9) IS NULL',
        "countries:'lower' ( \"a\" ) = 'x'",
        'countries:"a" IN "other"',
        "countries:( 'x' , 'y' ) in 'other'",
        "countries:'x' IN\"pragma_table_list\" ( )",
        "countries:\"regclass\" 'other' IS NULL",
        'countries:"a" "b"',
        "<Filter><Literal>a;countries:'x'||(select 1)||'y'</Literal></Filter>",
        "(<Filter/>)(<Filter/>",
        "(<Filter/>)x(<Filter/>)",
        "(<Filter><Function name='env'/></Filter>)()",
        "()(<Filter><a/></Filter>)",
        "<Filter/>;<Filter><Function name='env'/></Filter>",
        "<Filter/>;countries:'x'||'y'",
    ],
)
def test_a_filter_is_no_sql_of_the_clients_own(value: str) -> None:
    for name in ("FILTER", "MAP0:FILTER"):
        assert refusal_of({name: value})
        assert refusal_of({name: quote(value)})


@pytest.mark.parametrize(
    "value",
    [
        "countries:\"NAME\" = 'Germany'",
        'countries,rivers: "a b (c)" IN ( \'O\'\'Hare\' , "x" , -1.5e3 ) OR NOT "d" IS NULL;'
        'Straßen (alt):"zeit" >= \'12:30\' AND "ä" ILIKE \'%5" & <b> -- /* env( @x%\'',
        ';countries:"a" != 1;',
        "countries:",
        "countries:SOUNDEX ( \"a\" ) = SOUNDEX ( 'b' )",
        "countries:\"a\" IN('x') AND ( \"b\" , '' ) IN ( ( 1 , '''x' ) )",
        'countries:"a" % 2 = 0 and "b" between 1 and 2',
        "<ogc:Filter xmlns:ogc=\"http://www.opengis.net/ogc\"><ogc:PropertyIsLike wildCard='*' "
        "singleChar='.' escape='!'><ogc:PropertyName>env</ogc:PropertyName><ogc:Literal>a &amp; "
        "&lt;b 100%</ogc:Literal></ogc:PropertyIsLike></ogc:Filter>",
        "(<Filter><Not><PropertyIsNull><PropertyName>a</PropertyName></PropertyIsNull></Not>"
        "</Filter>)()",
        "<Filter><PropertyIsEqualTo><Function name='upper'><PropertyName>a</PropertyName>"
        "</Function><Literal>B</Literal></PropertyIsEqualTo></Filter>;<Filter></Filter>",
    ],
)
def test_ordinary_filters_are_served(value: str) -> None:
    assert refusal(FILTER=value) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FILTER", "a:\"b\" < 5 AND 'x%27%7C%7C(select 1)%7C%7C%27y' LIKE 'a'"),
        ("FILTER", "<Filter><Literal>a%3Bb:'x'||(select 1)||'y'</Literal></Filter>"),
        ("FILTER", "(<Filter><Literal>Filter>%29(select 1)</Literal></Filter>)"),
        ("EXP_FILTER", "1 < 2 AND 'x%27 = env(%27SECRET_WORD%27) OR %27' = 'x'"),
        ("SORTBY", '"a<%22 || env(1) || %22"'),
        ("SORTBY", '"a<%2522 || env(1) || %2522"'),
    ],
)
def test_no_part_of_a_value_is_coded_once_more(name: str, value: str) -> None:
    assert refusal_of({name: value})


SQL = (
    '"a"', "'x'", "'", '"', "''", "\\", ";", ":", "||", "(", ")", ",", "=", "<>", "%", " ", "1",
    "-", "--", "/*", "*/", "select", "SELECT 1", "(select name from other)", "from other", "union",
    "AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "lower(", "char(1)", "x", "\n", "`b`", "[b]",
    "b", '"other"', "'other'", '"lower"', "IN ", "(1)",
    "1e", "SOUNDEX", "between", "%27", "a:", "\u00a0", "exists", "case", "end", "collate",
)  # fmt: skip


@given(st.lists(st.sampled_from(SQL), max_size=9).map("".join))
@settings(max_examples=500, deadline=None)
@example("'x'||(select name from other)||'y'")
@example('"lower"("a") = \'x\'')
@example('"a" IN "other"')
@example("'x' IN 'other'")
@example("\"a\" = 'x''||(select 1)||'''")
@example("\"a\" IN ( 'x' , 'y' ) AND \"a\" LIKE '%b%'")
def test_what_a_filter_says_looks_at_its_table_alone(text: str) -> None:
    """As a database sees it, whole, and cut at each semicolon or colon as QGIS may do."""
    if refusal(FILTER=f"t:{text}"):
        return
    seen: list[tuple[int, str | None, str | None]] = []

    def authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
        seen.append((action, first, second))
        return sqlite3.SQLITE_OK

    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.executescript("CREATE TABLE t (a); CREATE TABLE other (name)")
        database.set_authorizer(authorize)
        for part in {text, *text.split(";"), *text.split(":")}:
            with contextlib.suppress(sqlite3.Error, sqlite3.Warning):
                database.execute(f"SELECT 1 FROM t WHERE (({part}) AND 1)")
        database.set_authorizer(None)
    functions = {name for action, _, name in seen if action == sqlite3.SQLITE_FUNCTION}
    tables = {table for action, table, _ in seen if action == sqlite3.SQLITE_READ}
    assert functions <= {"like", "soundex"}
    assert tables <= {"t", ""}
    others = {action for action, _, _ in seen} - {sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_READ}
    assert others <= {sqlite3.SQLITE_SELECT}


def test_words_of_filters_that_the_administrator_allows() -> None:
    text = 'countries:ST_Area ( "geom" ) > 5'
    assert "QGIS_SERVER_ALLOWED_EXTRA_SQL_TOKENS" in refusal(FILTER=text)
    assert Rules(FUNCTIONS, words=["ST_Area"]).refusal({"FILTER": text}, b"", "/") == ""
    assert Rules(FUNCTIONS, words=["ST_Area"]).refusal({"FILTER": f"{text}||1"}, b"", "/")


TEXTS = {"HIGHLIGHT_LABELSTRING", "XSI:SCHEMALOCATION", "EXP_FILTER"}


@pytest.mark.parametrize("name", [*sorted({*EVERYWHERE} - TEXTS), "VENDOR"])
@pytest.mark.parametrize("value", ["text/html\r\nSet-Cookie: a=b", "a%0d%0aLocation: b", "a\0"])
def test_no_parameter_but_texts_has_the_end_of_a_line(name: str, value: str) -> None:
    assert refusal_of({name: value})
    assert refusal_of({"REQUEST": "GetPrint", f"MAP0:{name}": "a\0"})


def test_a_text_may_have_several_lines() -> None:
    text = 'Länge\r\n5" \t100 % (é, "x") \\ /a/'
    assert refusal(HIGHLIGHT_LABELSTRING=text) == ""
    assert refusal(SERVICE="WMS", REQUEST="GetPrint", TITLE=text) == ""
    assert refusal(SERVICE="WMS", REQUEST="GetPrint", TITLE=text + "\0")


@pytest.mark.parametrize("request_", ["", "GetPrint", "getprint", "%47etPrint", "GetPrintAtlas"])
@pytest.mark.parametrize("name", sorted({*EVERYWHERE} & API))
def test_what_the_api_may_answer_is_judged_as_such(name: str, request_: str) -> None:
    """Without a service: no print, whose other parameters are texts."""
    given = {"REQUEST": request_, name: "/vsicurl/http://e/\n"}
    assert RULES.refusal(given, b"", "/qgis/city/wfs3/collections/a/items")


@pytest.mark.parametrize(
    "value", ["env(1)", "a,env(1)", "'a' D", '"a,env(1) --"', "@a", "a;b DESC"]
)
def test_an_order_is_of_fields(value: str) -> None:
    assert refusal(SORTBY=value)


@pytest.mark.parametrize("value", ["a", "a D,b+A", '"a (b)" DESC', "-size,+name", "größe ASC", ""])
def test_an_ordinary_order_is_served(value: str) -> None:
    assert refusal(SORTBY=value) == ""


@pytest.mark.parametrize(
    "parameters",
    [
        {"SELECTION": "countries:1' or '1"},
        {"ATLAS_PK": "1) or env('x') is not null or (1=1"},
        {"FEATUREID": "countries.1' or '1'='1"},
        {"TIME": "2020-01-01' or '1'='1"},
        {"DIM_LEVEL": "1' or '1'='1"},
        {"WIDTH": "256a"},
        {"BBOX": "1,2,3"},
        {"HIGHLIGHT_GEOM": "POINT(0 0)'"},
        {"HIGHLIGHT_SYMBOL": "<Rule/>;<script/>"},
        {"SLD_BODY": "<Rule><Label><PropertyName>a || env('X')</PropertyName></Label></Rule>"},
        {"SLD_BODY": "<Rule><!-- <b> --></Rule>"},
        {"REQUEST": "GetMap\tx"},
    ],
)
def test_a_value_has_its_form(parameters: dict[str, str]) -> None:
    assert refusal_of(parameters)


def test_a_field_of_a_collection_may_have_any_name() -> None:
    path = "/qgis/city/wfs3/collections/a/items"
    assert refusal(path, HEIGHT="tall*", FILTER="coarse", LIMIT="10") == ""
    assert refusal(path, HEIGHT="tall*", SERVICE="WMS")
    assert refusal(path, HEIGHT="tall*", REQUEST="GetMap")
    assert refusal(path, CRS="http://a.example/b")


def test_no_glance_takes_what_may_be_coded() -> None:
    coded = ("%", "%0a", "a%0a:1", "a:1%0a", "1%0a", "a%0a;1")
    glances = RULES.glances.items()
    assert [name for name, glance in glances if any(map(glance, coded))] == []
    for name, value in (("LAYERS", "EXTERNAL_WMS:a"), ("DIM_A", "'"), ("TITLE", "[% 1 %]")):
        glance = RULES.glances.get(name)
        assert not (glance and glance(value))


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
    "(", "/", "*", "-", "--", " ", ",", ".", ":", ";", "_", "@", "=", "<", "%", "%25", "%0a", "[%",
    "\\", "\0", "\r", "a", "sld", "/collections/", "EPSG:4326", "http://", "'", '"',
)  # fmt: skip
NAMES = (
    "LAYERS", "Width", "HEIGHT", "MAP0:DPI", "FORMAT_OPTIONS", "SLD", "sld_body", "FILE_NAME",
    "CRS", "SRSNAME", "FILTER", "INFO_FORMAT", "TITLE", "DIM_A", "a%41", "BBOX", "STYLES",
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(NAMES), st.lists(st.sampled_from(WORDS), max_size=6).map("".join)
    ),
    st.sampled_from(["", "GetPrint", "transaction"]),
    st.sampled_from(["/qgis/city", "/wfs3/collections/a", "/..", "/%41", "/a--"]),
)
@settings(max_examples=500, deadline=None)
@example({"DIM_A": "a'"}, "", "/")
@example({"FORMAT_OPTIONS": "dpi:4000"}, "", "/")
@example({"TITLE": "[% a %]"}, "GetPrint", "/")
def test_what_passes_at_a_glance_passes_all_rules(
    given: dict[str, str], request: str, path: str
) -> None:
    rules = Rules(FUNCTIONS, side=100, dpi=100)
    given = {**given, "REQUEST": request}
    if rules.refusal(given, b"", path) == "":
        assert rules.of_all(given, b"", path) == ""


def test_ordinary_maps_are_judged_at_a_glance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rules, "of_all", None)
    tile = {
        "SERVICE": "WMS", "REQUEST": "GetMap", "LAYERS": "Straßen,a (b)", "STYLES": "", "I": "5",
        "BBOX": "-50.5,-180,1e5,7", "CRS": "EPSG:4326", "FORMAT": "image/png", "WIDTH": "256",
        "TRANSPARENT": "true", "_": "1699999999999", "DPI": "96", "MAP": "/srv/a.qgs",
    }  # fmt: skip
    assert RULES.refusal(tile, b"", "/qgis/city") == ""


def test_sizes_of_ordinary_maps_are_looked_at_as_well() -> None:
    rules = Rules(side=100, dpi=300)
    for name, value in (
        ("WIDTH", "101"), ("width", "101"), ("SRCWIDTH", "101"), ("MAP1:HEIGHT", "1e3"),
        ("DPI", "301"),
    ):  # fmt: skip
        assert "(setting " in rules.refusal({name: value}, b"", "/")
        assert not rules.refusal({name: "100"}, b"", "/")
    assert rules.refusal({"FORMAT_OPTIONS": "dpi:301;a:b"}, b"", "/")


def test_digits_after_the_point_are_as_many_as_a_number_has() -> None:
    for value in ("21", "999999999", "1e3", "%39%39", "+99"):
        assert refusal(WMS_PRECISION=value) == "WMS_PRECISION is more than 20"
    for value in ("0", "4", "20", "-1"):
        assert refusal(WMS_PRECISION=value) == ""


@pytest.mark.parametrize("limit", [1, 9, 100, 512, 600, 999, 8192])
def test_a_number_is_surely_up_to_a_limit(limit: int) -> None:
    pattern = surely_up_to(limit)
    found = [number for number in range(10 * limit + 11) if pattern.fullmatch(str(number))]
    assert max(found) == limit
    assert len(found) > limit * 0.9 or str(limit)[0] == "1"


def test_readings() -> None:
    assert list(readings("a")) == ["a"]
    assert list(readings("%2541")) == ["%2541", "%41", "A"]


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


def test_a_transaction_that_never_ends_is_refused() -> None:
    asked = {"SERVICE": "WFS", "REQUEST": "Transaction", "OPERATION": "DELETE"}
    assert "OPERATION" in refusal_of({**asked, "FEATUREID": "countries.1"})
    assert not refusal_of({**asked, "TYPENAME": "countries"})
    assert not refusal_of({"REQUEST": "GetFeature", "FEATUREID": "countries.1"})


# ---- What is told at one look

ORDINARY = ordinary(3000, 600)
TILE = (
    "SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=countries,rivers&STYLES=&CRS=EPSG%3A4326"
    "&BBOX=-43.8%2C108.1,-23,1e-7&WIDTH=256&HEIGHT=256&FORMAT=image%2Fpng%3B+mode%3D8bit"
    "&FORMAT_OPTIONS=dpi%3A96&DPI=96&TRANSPARENT=TRUE"
)
ASKED = st.sampled_from([*sorted(EVERYWHERE), "MAP0:LAYERS", "OPERATION", "::SLD", "x", "DIM_A"])
ANSWERS = st.one_of(
    st.sampled_from(
        [
            *("WMS", "GetMap", "getmap", "GetTile", "GetPrint", "GetLegendGraphic", "Transaction"),
            *("image/png", "image/jpeg; mode=8bit", "image/png;pdf", "application/dxf"),
            *("256", "2999", "3000", "9e9", "600", "601", "dpi:96", "dpi:601", "dpi:1;LAYERS:a"),
            *("1,2,3,4", "1,2,3,4,EPSG:4326", "EPSG:4326", "CRS:84", "PROJ:x", "%41", "Straße"),
        ]
    ),
    st.text(max_size=6),
    st.text("0123456789.,-+eE%2C:;'\"<>()", max_size=8),
)


def test_most_requests_are_ordinary() -> None:
    assert ORDINARY.fullmatch(TILE)
    assert ORDINARY.fullmatch(TILE.lower())
    assert is_plain("/qgis/city")


@pytest.mark.parametrize(
    "change",
    [
        ("GetMap", "GetPrint"), ("WIDTH=256", "WIDTH=3000"), ("DPI=96", "DPI=601"),
        ("dpi%3A96", "dpi%3A601"), ("countries", "%2563"), ("countries", "%C2%85"),
        ("image%2Fpng", "application%2Fpdf"), ("SERVICE=WMS&", ""), ("STYLES=", "FILTER="),
        ("STYLES=", "SLD="), ("STYLES=", "OPACITIES="), ("STYLES=", "MAP="), ("STYLES=", "X="),
        ("STYLES=", "MAP0%3ASTYLES="), ("EPSG", "PROJ"), ("WIDTH", "W%49DTH"), ("&CRS", ";CRS"),
        ("WIDTH=256", "WIDTH=\u0662"), ("STYLES", "\u017fTYLES"), ("countries", "a%0Ab"),
    ],
)  # fmt: skip
def test_others_are_looked_at_in_full(change: tuple[str, str]) -> None:
    assert change[0] in TILE
    assert not ORDINARY.fullmatch(TILE.replace(*change))


@pytest.mark.parametrize("path", ["/a/../b", "/a b", "/a/%2e", "/collections/b", "/a/items", "\n"])
def test_paths_that_are_looked_at_in_full(path: str) -> None:
    assert not is_plain(path)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(ASKED, ANSWERS), max_size=4), st.booleans())
def test_what_is_ordinary_passes_all_rules(more: list[tuple[str, str]], coded: bool) -> None:
    """A request that is not looked at in full would pass, is light, and names no field."""
    added = "".join(f"&{name}={quote(value) if coded else value}" for name, value in more)
    query = f"SERVICE=WMS&REQUEST=GetMap{added}"
    if not ORDINARY.fullmatch(query):
        return
    parameters = {name.upper(): text for name, text in parse_qsl(query, keep_blank_values=True)}
    assert not Rules(FUNCTIONS, side=8192, dpi=600).refusal(parameters, b"", "/qgis/city")
    assert not Lane(3000, 1000).takes(parameters, "/p.qgz", "/qgis/city")
    for mention in said(parameters, b"", "/qgis/city").mentions:
        assert not (mention.fields or mention.themes or mention.whole or mention.only)
