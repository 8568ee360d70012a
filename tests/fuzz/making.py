# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: E501
"""Makes requests. Each follows from a seed and its number alone, so that any of them can be
made again. Pure functions."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, quote_from_bytes, unquote_to_bytes

from shared.invariants.replies import CASES

OUTSIDE = "/opt/outside"
OTHER = f"{OUTSIDE}/other.qgs"
SECRET_FILE = f"{OUTSIDE}/secret.txt"
PROJECT = "/var/lib/qgis-server/projects/world.qgz"
REMOTE = "http://127.0.0.1:8999/style.sld"

PATHS = (
    "/qgis-server", "/qgis-server/", "/qgis/world", "/qgis/world/", "/qgis/second", "/qgis/none",
    "/qgis/world/wfs3", "/qgis/world/wfs3/collections", "/qgis/world/wfs3/api.openapi3",
    "/qgis/world/wfs3/collections/countries/items", "/qgis/world/wfs3/collections/countries",
    "/qgis/world/wfs3/static/style.css", "/qgis-server/index.json", "/qgis-server/map/world",
    "/qgis-server/project/world", "/qgis-server/wfs3/collections/countries/items/1",
    "/qgis/../qgis-server", "/qgis/world/../../../opt/outside/other", "/qgis//opt/outside/other",
)  # fmt: skip
SERVICES = ("WMS", "WFS", "WCS", "WMTS", "wms", "OWS", "")
REQUESTS = (
    "GetCapabilities", "GetMap", "GetFeatureInfo", "GetLegendGraphic", "GetPrint", "GetPrintAtlas",
    "GetStyles", "GetContext", "GetSchemaExtension", "GetProjectSettings", "DescribeLayer",
    "GetFeature", "DescribeFeatureType", "Transaction", "GetCoverage", "DescribeCoverage",
    "GetTile", "getmap", "",
)  # fmt: skip
NAMES = (
    "MAP", "map", "VERSION", "LAYERS", "LAYER", "STYLES", "STYLE", "SLD", "SLD_BODY", "CRS", "SRS",
    "BBOX", "WIDTH", "HEIGHT", "FORMAT", "INFO_FORMAT", "QUERY_LAYERS", "I", "J", "X", "Y",
    "FILTER", "EXP_FILTER", "FILTER_GEOM", "SELECTION", "OPACITIES", "DPI", "MAP_RESOLUTION",
    "FORMAT_OPTIONS", "TEMPLATE", "ATLAS_PK", "FEATURE_COUNT", "WITH_GEOMETRY", "FI_POINT_TOLERANCE",
    "HIGHLIGHT_GEOM", "HIGHLIGHT_SYMBOL", "HIGHLIGHT_LABELSTRING", "map0:EXTENT", "map0:LAYERS",
    "map0:SCALE", "map0:STYLES", "map0:HIGHLIGHT_GEOM", "TYPENAME", "TYPENAMES", "FEATUREID",
    "PROPERTYNAME", "MAXFEATURES", "STARTINDEX", "SORTBY", "OUTPUTFORMAT", "SRSNAME", "GEOMETRYNAME",
    "COVERAGE", "IDENTIFIER", "TILEMATRIXSET", "TILEMATRIX", "TILEROW", "TILECOL", "FILE_NAME",
    "limit", "offset", "bbox", "crs", "datetime", "resultType", "properties", "sortby", "REMOTE:url",
    "REMOTE:format", "TRANSPARENT", "BGCOLOR", "TILED", "RULE", "SHOWFEATURECOUNT", "title", "url",
    "INFOFORMAT", "RESPONSE_CRS", "SUBSETTINGCRS", "bbox-crs", "EXCEPTIONS", "TIME", "DIM_LEVEL",
    "SRCWIDTH", "RESOURCEID", "REQUEST_BODY", "sortdesc",
)  # fmt: skip
CHANGING = (
    "STYLES", "STYLE", "SLD_BODY", "OPACITIES", "FILTER", "SELECTION", "BBOX", "CRS", "LAYERS",
    "map0:STYLES", "map0:LAYERS",
)  # fmt: skip
"""What changes a layer, so that QGIS Server has to put it back."""
VALUES = (
    "countries", "states", "borders", "relief", "countries,states", "EPSG:4326", "EPSG:3857",
    "CRS:84", "-90,-180,90,180", "-180,-90,180,90", "-60,-120,60,120", "64", "256", "1", "0", "-1",
    "image/png", "image/jpeg", "application/json", "text/html", "application/pdf", "svg", "1.3.0",
    "1.1.0", "A4", "countries:\"name\" = 'France'", "\"name\" LIKE 'F%'", "countries.1", "5",
    "default", "true", "POLYGON((0 0, 0 9, 9 9, 0 0))", "EXTERNAL_WMS:REMOTE", "4294967296", "1e309",
    "NaN", "*", "%", "",
)  # fmt: skip
HOSTILE = (
    OTHER, SECRET_FILE, f"file://{SECRET_FILE}", f"file://{OTHER}", REMOTE, "/etc/passwd",
    "/proc/self/environ", "/dev/zero", "..", f"../../../..{SECRET_FILE}", f"{PROJECT}/../../../../..{OTHER}",
    "env('SECRET_WORD')", "file_exists('/opt/outside/secret.txt')", "@project_path", "eval('1')",
    "load_layer('/opt/outside/world_map.gpkg', 'ogr')", "raster_value('x', 1, make_point(0, 0))",
    "countries:'x'||(select group_concat(name) from sqlite_master)||'y' LIKE '%a%'",
    "text/html\r\nX-Split: 1\r\n\r\n", f"PROJ:+proj=tinshift +file={SECRET_FILE}", "/vsicurl/" + REMOTE,
    "transform(@geometry, 'EPSG:4326', 'PROJ:+init=/opt/outside/secret.txt:a')",
    "\"name\" = env('SECRET_WORD')", "[% env('SECRET_WORD') %]", "'; DROP TABLE x; --", "\0",
    f"<!DOCTYPE a [<!ENTITY x SYSTEM \"file://{SECRET_FILE}\">]><a>&x;</a>", "\r\nX-Accel-Redirect: /x",
    f"<StyledLayerDescriptor><NamedLayer><Name>countries</Name><UserStyle><FeatureTypeStyle><Rule>"
    f"<PointSymbolizer><Graphic><ExternalGraphic><OnlineResource href=\"file://{SECRET_FILE}\"/>"
    "<Format>image/svg+xml</Format></ExternalGraphic></Graphic></PointSymbolizer></Rule>"
    "</FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>",
    "<Filter><PropertyIsEqualTo><Function name=\"env\"><Literal>SECRET_WORD</Literal></Function>"
    "<Literal>x</Literal></PropertyIsEqualTo></Filter>", "A" * 5000, "(" * 2000, "<a>" * 500,
)  # fmt: skip
HEADERS = (
    "X-Qgis-Service-Url: http://evil.example/", "X-Forwarded-Host: evil.example",
    "X-Forwarded-Proto: https", "Forwarded: host=evil.example;proto=https", "Proxy: http://evil.example",
    "X-Qgis-Wms-Service-Url: http://evil.example/", "Accept: application/json", "Accept: text/html",
    "Content-Type: text/xml", "Content-Type: application/json", "Expect: 100-continue",
    "Content-Type: application/x-www-form-urlencoded", "Accept-Encoding: gzip", "Range: bytes=0-9",
    f"Cookie: MAP={OTHER}", f"Query-String: MAP={OTHER}", "Authorization: Basic YTpi", "Host: [::1",
    f"QGIS-PROJECT-FILE: {OTHER}", f"X-Project: {OTHER}",
)  # fmt: skip
METHODS = (
    ("GET",) * 8 + ("POST",) * 5 + ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "XYZ")
)
BODIES = (
    '<GetFeature service="WFS" version="1.1.0" xmlns="http://www.opengis.net/wfs"><Query typeName='
    '"countries"><Filter><PropertyIsEqualTo><PropertyName>name</PropertyName><Literal>France'
    "</Literal></PropertyIsEqualTo></Filter></Query></GetFeature>",
    '<Transaction service="WFS" version="1.1.0"><Delete typeName="countries"><Filter><FeatureId fid='
    '"countries.1"/></Filter></Delete></Transaction>',
    f'<a MAP="{OTHER}" REQUEST="GetCapabilities" SERVICE="WMS"/>',
    f"<broken MAP={OTHER}&SERVICE=WMS&REQUEST=GetCapabilities",
    '{"type": "Feature", "properties": {"name": "x"}, "geometry": null}',
    f"MAP={OTHER}&SERVICE=WMS&REQUEST=GetCapabilities",
    f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file://{SECRET_FILE}">]>'
    '<GetFeature service="WFS"><Query typeName="&x;"/></GetFeature>',
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A request as it is sent."""

    seed: int
    number: int
    head: bytes
    body: bytes

    @property
    def name(self) -> str:
        return f"seed {self.seed}, number {self.number}"

    @property
    def raw(self) -> bytes:
        return self.head + self.body


def _spelled(dice: random.Random, name: str) -> str:
    """A parameter's name, or a spelling of it that a filter may miss."""
    kind = dice.randrange(12)
    if kind == 0:
        return "".join(f"%{ord(c):02x}" if dice.random() < 0.5 else c for c in name)
    if kind == 1:
        return "".join(c.swapcase() if dice.random() < 0.5 else c for c in name)
    if kind == 2:
        return quote(quote(name, safe=""), safe="").replace("M", "%254D", 1)
    if kind == 3:
        return dice.choice((" ", "+", "%00", "%0a")) + name
    return name


def _value(dice: random.Random) -> str:
    value = dice.choice(HOSTILE if dice.random() < 0.4 else VALUES)
    kind = dice.randrange(10)
    if kind == 0:
        value = quote(value)
    elif kind == 1 and value:
        at = dice.randrange(len(value))
        value = value[:at] + chr(dice.randrange(1, 0x2FF)) + value[at + 1 :]
    elif kind == 2:
        value = value + dice.choice(VALUES)
    return value


def _query(dice: random.Random) -> str:
    pairs = []
    if dice.random() < 0.9:
        pairs += [("SERVICE", dice.choice(SERVICES)), ("REQUEST", dice.choice(REQUESTS))]
    if dice.random() < 0.5:
        # Most requests come to nothing without these.
        good = {
            "VERSION": "1.3.0", "LAYERS": "countries", "STYLES": "", "CRS": "EPSG:4326",
            "BBOX": "-60,-120,60,120", "WIDTH": "64", "HEIGHT": "32", "FORMAT": "image/png",
            "TYPENAME": "countries", "TEMPLATE": "A4", "map0:EXTENT": "-60,-120,60,120",
        }  # fmt: skip
        pairs += [pair for pair in good.items() if dice.random() < 0.9]
    pairs += [(dice.choice(NAMES), _value(dice)) for _ in range(dice.randrange(6))]
    dice.shuffle(pairs)
    safe = dice.choice(("", "/:,", "/:,<>\"'()"))
    return dice.choice("&&&&&;").join(
        f"{_spelled(dice, name)}={quote(value.encode('utf-8', 'surrogateescape'), safe=safe)}"
        for name, value in pairs
    )


def _changed(dice: random.Random) -> tuple[str, str]:
    """Path and query of a reply that is watched, changed: such a request comes far."""
    case = dice.choice(CASES)
    pairs = parse_qsl(case.query, keep_blank_values=True)
    known = [*(name for name, _ in pairs), *dice.sample(NAMES, 5), *dice.sample(CHANGING, 2)]
    for _ in range(dice.randrange(1, 5)):
        name, kind = dice.choice(known), dice.randrange(8)
        value = dict(parse_qsl(dice.choice(CASES).query)).get(name)
        if kind == 0:
            pairs = [pair for pair in pairs if pair[0] != name]
        elif kind == 1 or value is None:
            pairs.append((_spelled(dice, name), _value(dice)))
        elif kind == 2:
            pairs.append((name, re.sub(r"\d+", lambda _: str(dice.randrange(200)), value)))
        else:
            pairs = [pair for pair in pairs if pair[0] != name] + [(name, value)]
    query = "&".join(
        f"{name}={quote(value.encode('utf-8', 'surrogateescape'), safe='/:,')}"
        for name, value in pairs
    )
    return f"{case.prefix}{case.path}", query


def _body(dice: random.Random) -> bytes:
    body = dice.choice((*BODIES, _query(dice))).encode("utf-8", "surrogateescape")
    for _ in range(dice.choice((0, 0, 0, 1, 5))):
        at = dice.randrange(len(body) + 1)
        body = body[:at] + dice.randbytes(1) + body[at + dice.randrange(2) :]
    return body


def make(seed: int, number: int) -> Made:
    dice = random.Random(f"{seed}:{number}")
    method, path = dice.choice(METHODS), dice.choice(PATHS)
    query = _query(dice)
    if dice.random() < 0.5:
        method = dice.choice(("GET", "GET", "GET", method))
        path, query = _changed(dice)
    elif dice.random() < 0.1:
        at = dice.randrange(len(path))
        path = path[:at] + quote_from_bytes(dice.randbytes(1)) + path[at:]
    target = f"{path}?{query}" if dice.random() < 0.9 else path
    # A line of HTTP can't have these, and NGINX would see another request.
    target = target.replace(" ", "%20").replace("\r", "%0d").replace("\n", "%0a")
    body = _body(dice) if method in ("POST", "PUT", "PATCH") else b""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [dice.choice(HEADERS) for _ in range(dice.randrange(4))]
    if body:
        lines.append(f"Content-Length: {len(body) + dice.choice((0,) * 20 + (-1,))}")
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
    return Made(seed, number, head, body)


def comparable(seed: int, numbers: Iterable[int]) -> list[Made]:
    """Those of the requests after which replies can be compared by bytes."""
    return [one for one in (make(seed, number) for number in numbers) if not is_left_out(one)]


def moves_texts(made: Made) -> bool:
    """A legend as JSON: after one, a worker's Qt draws outlines of letters up to 1/64 of a pixel
    elsewhere, see docs/security.md. So it is not sent where replies are compared by bytes."""
    text = unquote_to_bytes(unquote_to_bytes(made.raw)).lower()
    return b"getlegendgraphic" in text and b"json" in text


def edits(made: Made) -> bool:
    """By the OGC API, a feature of a layer that a project lets everybody edit: that it is another
    one afterwards is what was asked for."""
    line = unquote_to_bytes(unquote_to_bytes(made.raw.partition(b"\r\n")[0])).lower()
    return b"/items" in line and line.startswith((b"post", b"put", b"patch", b"delete"))


def is_left_out(made: Made) -> bool:
    return moves_texts(made) or edits(made)
