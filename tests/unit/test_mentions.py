# SPDX-License-Identifier: GPL-2.0-or-later
"""Which fields a request names."""

from __future__ import annotations

import pytest

from qgis_server_systemd.worker_plugin.mentions import (
    NOTHING,
    Mention,
    layers_of,
    said,
    services,
)


def mentions(parameters: dict[str, str], body: bytes, path: str) -> tuple[Mention, ...]:
    return said(parameters, body, path).mentions


OGC = (
    '<Filter xmlns:ogc="http://www.opengis.net/ogc"><ogc:PropertyIsEqualTo><ogc:PropertyName>'
    "%s</ogc:PropertyName><ogc:Literal>1</ogc:Literal></ogc:PropertyIsEqualTo></Filter>"
)
QUERY = '<GetFeature><Query typeName="qgs:my_layer">' + OGC % "%s" + "</Query></GetFeature>"

NAMING = [
    ("FILTER", 'a:"Secret" = 1', {"a"}),
    ("FILTER", 'a,b:"x" = \'y\' AND "SECRET" IN (1);c:"z" = 1', {"a", "b"}),
    ("FILTER", OGC % "secret", set()),
    ("FILTER", OGC % "qgs:Secret", set()),
    ("FILTER", OGC % "feature/secret", set()),
    ("FILTER", OGC % "secr&#101;t", set()),
    ("FILTER", f"({OGC % 'x'})()({OGC % 'secret'})", set()),
    ("FILTER", f"{OGC % 'x'};{OGC % 'secret'}", set()),
    ("EXP_FILTER", '"a" = 1 and "Secret" = 1', set()),
    ("EXP_FILTER", "upper(SECRET) like 'A%'", set()),
    ("EXP_FILTER", "1=1;secret=2", set()),
    ("SORTBY", "x,secret D", set()),
    ("SORTBY", "-secret", set()),
    ("SORTBY", '"secret"+DESC', set()),
    ("PROPERTYNAME", "(a,secret)", set()),
    ("PROPERTIES", "a,secret", set()),
    ("SLD_BODY", f"<StyledLayerDescriptor>{OGC % 'secret'}</StyledLayerDescriptor>", {"*"}),
    ("MAP0:FILTER", 'a:"secret" = 1', {"a"}),
    ("FORMAT_OPTIONS", "SCALE:5;LayerAttributes:a,Secret", set()),
    ("REQUEST_BODY", QUERY % "secret", {"my_layer"}),
]


@pytest.mark.parametrize(("name", "value", "layers"), NAMING)
def test_a_field_that_is_named_is_found(name: str, value: str, layers: set[str]) -> None:
    for text in (value, value.replace("%", "%25").replace("e", "%65")):
        given = {name: text}
        found = [one for one in mentions(given, b"", "/") if "secret" in one.fields]
        assert found, text
        assert found[0].layers == layers


def test_a_field_in_a_body_and_in_the_api_is_found() -> None:
    (found,) = mentions({}, (QUERY % "secret").encode(), "/")
    assert (found.fields, found.layers) == ({"secret"}, {"my_layer"})
    path = "/qgis/world/wfs3/collections/My%20layer/items.json"
    assert [one.fields for one in mentions({"SECRET": "1"}, b"", path)] == [{"secret"}]
    assert "my_layer" in layers_of({}, path)
    assert services({}, path) == {"WFS"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FILTER", "a:\"x\" = 'secret'"),
        ("EXP_FILTER", "\"x\" = 'secret'"),
        ("EXP_FILTER", 'secret ("x") = 1'),
        ("FILTER", OGC.replace(">1<", ">secret<") % "x"),
        ("SORTBY", "secrets"),
        ("LAYERS", "secret"),
    ],
)
def test_a_text_and_another_name_are_none(name: str, value: str) -> None:
    assert not any("secret" in one.fields for one in mentions({name: value}, b"", "/"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXP_FILTER", "attribute($currentfeature, 'sec' || 'ret') = 1"),
        ("EXP_FILTER", "Attributes()['secret'] = 1"),
        ("FILTER", f'<Filter><Function name="attribute">{OGC % "x"}</Function></Filter>'),
    ],
)
def test_a_function_that_sees_all_fields_is_told(name: str, value: str) -> None:
    assert any(one.whole.startswith("attribute") for one in mentions({name: value}, b"", "/"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SORTBY", "secret / 1"),
        ("SORTBY", "x,secret - 1 DESC"),
        ("FILTER", OGC % "secret + 0"),
        ("FILTER", OGC % "a = Secret"),
        ("SLD_BODY", f"<StyledLayerDescriptor>{OGC % 'case when secret then 1 end'}</a>"),
    ],
)
def test_a_field_in_what_may_be_an_expression_is_found(name: str, value: str) -> None:
    found = mentions({name: value}, b"", "/")
    assert any("secret" in words for one in found for words in one.words.values())


def test_what_options_of_a_format_tell() -> None:
    def of(options: str) -> Mention:
        (found,) = mentions({"FORMAT_OPTIONS": options}, b"", "/")
        return found

    assert of("EXPORT_METADATA:true;write_geo_pdf: TRUE").whole == "WRITE_GEO_PDF"
    assert of("WRITE_GEO_PDF:true").layers == {"*"}
    assert of("WRITE_GEO_PDF:false").whole == of("WRITE_GEO_PDF:0;dpi:90").whole == ""
    assert of("EXPORT_THEMES:My Theme, b").themes == {"My Theme", "b"}


def test_a_map_as_a_pdf_has_all_fields() -> None:
    (found,) = mentions({"REQUEST": "GetMap", "FORMAT": "application/%50DF"}, b"", "/")
    assert found.whole
    assert mentions({"REQUEST": "GetPrint", "FORMAT": "pdf"}, b"", "/") == ()
    assert said({"REQUEST": "GetMap", "FORMAT": "image/png"}, b"", "/") is NOTHING


def test_only_fields_may_be_named_to_a_database() -> None:
    (found,) = mentions({"FILTER": 'a:"countries" > ( 1 )'}, b"", "/")
    assert (found.only, found.fields) == (True, {"countries"})


def test_what_a_request_is_about() -> None:
    assert layers_of({"LAYERS": "a,B c", "MAP0:LAYERS": "d", "TYPENAME": "(qgs:e)(f)"}, "/") == {
        "a", "b_c", "d", "e", "f"
    }  # fmt: skip
    assert layers_of({"TYPENAME": "a", "FEATUREID": "b.1,c.d.2"}, "/") == {"a", "b", "c"}
    assert services({"SERVICE": "WMTS"}, "/") == {"WMS"}
    assert services({"REQUEST": "GetMap"}, "/qgis/a/wfs3") == {"WMS", "WFS"}
    assert services({"SERVICE": "wfs"}, "/") == {"WFS"}
    for unclear in ({}, {"SERVICE": "W%4dS"}, {"SERVICE": "WCS"}):
        assert services(unclear, "/") == {"WMS", "WFS"}


def test_a_plain_map_is_not_looked_at() -> None:
    assert said({"LAYERS": "a", "BBOX": "1,2,3", "SERVICE": "WMS"}, b"", "/qgis/a") is NOTHING
