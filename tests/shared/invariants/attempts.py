# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that change something for their own reply, or try to: all that QGIS Server might keep
of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from shared.paths import SHARED
from shared.serving import JSON

from .replies import CASES, RICH, info, legend, printed, sld, small_map

Changes = Mapping[str, object]
"""Parameters, by their names."""

HUNG_UP = "hung up"
"""In the name of a request whose client does not wait for the reply."""


@dataclass(frozen=True)
class Request:
    """A request as it is sent."""

    name: str
    raw: bytes


def request(
    name: str, target: str, *headers: str, body: str | None = None, method: str = ""
) -> Request:
    method = method or ("GET" if body is None else "POST")
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if not any(header.startswith("Host:") for header in headers):
        lines.append("Host: 127.0.0.1")
    lines.append("Connection: close")
    data = b"" if body is None else body.encode()
    if body is not None:
        lines.append(f"Content-Length: {len(data)}")
    return Request(name, "\r\n".join(lines).encode() + b"\r\n\r\n" + data)


def rich(name: str, query: str, *headers: str, **more: object) -> Request:
    """A GET of the rich project; in the names of parameters __ stands for a colon."""
    pairs = (
        f"{key.replace('__', ':')}={quote(str(value), safe='/:,')}" for key, value in more.items()
    )
    return request(name, f"{RICH}?{'&'.join([query, *pairs])}", *headers)


# ---- WMS

SPARE = "/qgis/spare/wfs3/collections"
STYLES = ("", "groups", "plain", "dark", "default", "big", "grey", "tinted", "other", "unknown")
LAYERS = (
    "countries", "places", "joined", "filtered", "twin", "Twins", "Base", "relief", "canvas",
    "root", "facts", "places,countries", "countries,countries", "relief,Base", "twin,Twins",
)  # fmt: skip

CHANGES: tuple[Changes, ...] = (
    {"OPACITIES": "100"},
    {"OPACITIES": "100,50,10"},
    {"OPACITIES": "0"},
    {"OPACITIES": "x,300"},
    {"FILTER": "countries:\"iso_a2\" = 'DE'"},
    {"FILTER": 'places:"rank" = 1;joined:"iso_a2" > \'D\''},
    {"FILTER": "facts:\"name\" = 'DE'"},
    {"FILTER": "filtered:\"iso_a2\" < 'F'"},
    {"FILTER": 'Twins,twin:"fid" < 3'},
    {"FILTER": 'places:"unknown" = 1'},
    {
        "FILTER": "<Filter><PropertyIsEqualTo><PropertyName>rank</PropertyName><Literal>1"
        "</Literal></PropertyIsEqualTo></Filter>"
    },
    {"SELECTION": "countries:1,2,3;places:2"},
    {"SELECTION": "places:unknown;nothing:1"},
    {"SLD_BODY": sld("countries", "#ff0000")},
    {"SLD_BODY": sld("places", "#00ff00", "Point"), "OPACITIES": "90"},
    {"SLD_BODY": sld("relief", "#ff0000")},
    {"SLD_BODY": sld("twin", "#ff0000")},
    {"SLD_BODY": sld("unknown", "#ff0000")},
    {"SLD_BODY": "<StyledLayerDescriptor>"},
    {"SLD_BODY": sld("countries", "#ff0000"), "FILTER": "countries:\"iso_a2\" = 'DE'"},
    {"FORMAT": "image/jpeg", "IMAGE_QUALITY": "1", "BGCOLOR": "0x112233"},
    {"FORMAT": "image/png; mode=1bit", "TRANSPARENT": "TRUE"},
    {"FORMAT": "application/dxf", "FORMAT_OPTIONS": "SCALE:500;MODE:FEATURESYMBOLOGY"},
    {"FORMAT": "unknown"},
    {"DPI": "300", "TILED": "TRUE", "MAP_RESOLUTION": "300"},
    {"DPI": "0"},
    {"CRS": "EPSG:3857", "BBOX": "-2000000,4000000,4000000,9000000"},
    {"CRS": "CRS:84"},
    {"CRS": "EPSG:2056"},
    {"CRS": "EPSG:1"},
    {"CRS": "EPSG:3031", "BBOX": "-1e7,-1e7,1e7,1e7"},
    {"BBOX": "40,0,41,1.5"},
    {"BBOX": "-90,-180,90,180"},
    {"BBOX": "1,1,1,1"},
    {"BBOX": "a"},
    {"WIDTH": "1", "HEIGHT": "1"},
    {"WIDTH": "0"},
    {"TIME": "2020-01-01/2021-01-01"},
    {"DIM_LEVEL": "3", "ELEVATION": "1"},
    {"EXCEPTIONS": "application/vnd.ogc.se_inimage"},
    {"LANGUAGE": "de", "LANG": "de", "TRANSLATION": "de"},
    {"FILTER_GEOM": "POLYGON((0 0,0 60,60 60,60 0,0 0))"},
    {
        "HIGHLIGHT_GEOM": "POINT(10 50);LINESTRING(0 0,9 9)",
        "HIGHLIGHT_SYMBOL": sld("a", "#ff0000", "Point") + ";" + sld("b", "#00ff00"),
        "HIGHLIGHT_LABELSTRING": "a;b",
        "HIGHLIGHT_LABELSIZE": "30;5",
        "HIGHLIGHT_LABELCOLOR": "#ff0000;#00ff00",
        "HIGHLIGHT_LABELFONT": "Open Sans;Nothing",
        "HIGHLIGHT_LABELWEIGHT": "90;1",
        "HIGHLIGHT_LABELBUFFERCOLOR": "#0000ff;#0000ff",
        "HIGHLIGHT_LABELBUFFERSIZE": "3;3",
        "HIGHLIGHT_LABEL_ROTATION": "45;0",
    },
    {"HIGHLIGHT_GEOM": "NONSENSE"},
    {"SHOWFEATURECOUNT": "TRUE", "FILTER": "joined:\"iso_a2\" = 'DE'"},
    {"ADDLAYERGROUPS": "TRUE"},
)

LEGENDS: tuple[Changes, ...] = (
    *(
        {name: value}
        for name in ("LAYERTITLE", "RULELABEL", "SHOWRULEDETAILS", "SHOWFEATURECOUNT")
        for value in ("TRUE", "FALSE")
    ),
    {"RULELABEL": "AUTO"},
    {"RULE": "rank 1"},
    {"RULE": "unknown", "WIDTH": 20, "HEIGHT": 20},
    *(
        {f"{part}{what}": value for what, value in font.items()}
        for part in ("LAYERFONT", "ITEMFONT")
        for font in (
            {"FAMILY": "DejaVu Serif", "SIZE": "30", "BOLD": "TRUE", "ITALIC": "TRUE"},
            {"FAMILY": "Nothing", "COLOR": "#ff0000"},
            {"SIZE": "0"},
            {"COLOR": "nothing"},
        )
    ),
    *(
        {name: value}
        for name in (
            "BOXSPACE", "LAYERSPACE", "LAYERTITLESPACE", "SYMBOLSPACE", "ICONLABELSPACE",
            "SYMBOLWIDTH", "SYMBOLHEIGHT",
        )
        for value in ("0", "20", "-3", "x")
    ),
    {"BBOX": "30,-20,70,40", "CRS": "EPSG:4326", "WIDTH": "60", "HEIGHT": "40"},
    {"BBOX": "30,-20,70,40", "CRS": "EPSG:4326", "SRCWIDTH": "60", "SRCHEIGHT": "40"},
    {"SCALE": "1000000"},
    {"FORMAT": JSON},
    {"FORMAT": "image/jpeg", "TRANSPARENT": "TRUE", "DPI": "200"},
)  # fmt: skip

PRINTS: tuple[Changes, ...] = (
    {"title": "Another title", "note": "<b>Another</b> note"},
    {"title": "", "note": "", "legend": ""},
    {"map0__EXTENT": "40,0,60,30"},
    {"map0__EXTENT": "", "map1__EXTENT": "40,0,60,30"},
    {"map0__LAYERS": "relief", "map0__STYLES": "grey"},
    {"map0__LAYERS": "countries,relief", "map0__STYLES": "plain,grey", "OPACITIES": "90,90"},
    {"map0__LAYERS": "countries", "map0__STYLES": "unknown"},
    {"map0__LAYERS": "twin,Twins", "map0__STYLES": "other,other"},
    {"map0__FILTER": 'places:"rank" = 1', "map0__SELECTION": "places:1,2"},
    {"map0__SCALE": "100000000", "map0__ROTATION": "45"},
    {"map0__GRID_INTERVAL_X": "10", "map0__GRID_INTERVAL_Y": "10"},
    {"map0__HIGHLIGHT_GEOM": "POINT(10 50)", "map0__HIGHLIGHT_LABELSTRING": "here"},
    {
        "map0__HIGHLIGHT_GEOM": "POINT(10 50)",
        "map0__HIGHLIGHT_SYMBOL": sld("h", "#ff0000", "Point"),
    },
    {"LAYERS": "countries", "STYLES": "dark", "OPACITIES": "60"},
    {"LAYERS": "countries", "SLD_BODY": sld("countries", "#ff0000")},
    {"LAYERS": "places,countries", "FILTER": 'places:"rank" = 1'},
    {"LAYERS": "countries", "SELECTION": "countries:1,2,3,4"},
    {"LAYERS": "unknown"},
    {"CRS": "EPSG:3857", "map0__EXTENT": "-2e6,4e6,4e6,9e6"},
    {"CRS": "EPSG:1"},
    {"DPI": "10"},
    {"DPI": "x"},
    {"FORMAT": "svg"},
    {"FORMAT": "pdf", "FORMAT_OPTIONS": "APPEND_GEOREFERENCE:FALSE;SIMPLIFY_GEOMETRY:TRUE"},
    {"FORMAT": "pdf", "FORMAT_OPTIONS": "FORCE_VECTOR_OUTPUT:TRUE;TEXT_RENDER_FORMAT:AlwaysText"},
    {"FORMAT": "unknown"},
    {"ATLAS_PK": "1"},
    {"ATLAS_PK": "*", "FORMAT": "pdf"},
    {"ATLAS_PK": "1,2,3", "FORMAT": "pdf"},
    {"ATLAS_PK": "99"},
    {"ATLAS_PK": "unknown"},
    {"TEMPLATE": "unknown"},
)


def of_wms() -> Iterator[Request]:
    for layer, style in itertools.product(LAYERS, STYLES):
        yield rich(f"map {layer} {style}", small_map(layer, STYLES=style), OPACITIES="70,60")
    for layer in ("countries", "places", "relief", "Twins", "joined", "facts,joined", "filtered"):
        for number, change in enumerate(CHANGES):
            asked: dict[str, object] = {"STYLES": "plain" if layer == "countries" else "", **change}
            yield rich(f"map {layer}, change {number}", small_map(layer, **asked))
    for layer in ("countries", "places", "joined", "relief"):
        for number, change in enumerate(CHANGES):
            asked = {key: value for key, value in change.items() if key != "FORMAT"}
            yield rich(f"information {layer}, change {number}", info(layer, JSON, **asked))
    for layer in ("countries", "joined", "relief", "canvas", "Base", "places"):
        for number, change in enumerate(LEGENDS):
            yield rich(f"legend {layer}, change {number}", legend(layer, **change))
    for style in STYLES:
        yield rich(f"legend countries {style}", legend("countries", STYLE=style))
        yield rich(f"legend relief {style}", legend("relief", STYLES=style), OPACITIES="50")
    # What is drawn counts in a legend if it is for an extent.
    part = {"BBOX": "30,-20,70,40", "CRS": "EPSG:4326", "WIDTH": 60, "HEIGHT": 40}
    for layer, style in itertools.product(("countries", "places", "relief", "Base"), STYLES):
        asked = {**part, "STYLE": style, "STYLES": style, "LAYERS": layer}
        yield rich(f"legend {layer} {style} of a part", legend(layer, **asked))
    for number, change in enumerate(CHANGES):
        for layer in ("countries", "places", "joined"):
            asked = {**part, "LAYERS": layer, **change}
            yield rich(f"legend {layer} of change {number}", legend(layer, **asked))
    for layout in ("A4", "Atlas", "Theme"):
        for number, change in enumerate(PRINTS):
            asked = {**({"ATLAS_PK": "1"} if layout == "Atlas" else {}), **change}
            yield rich(f"print {layout}, change {number}", printed(layout), **asked)
    for kind in ("text/html", "text/xml", "application/vnd.ogc.gml", "image/png", "unknown"):
        for more in (
            {"FI_POINT_TOLERANCE": "90", "FI_LINE_TOLERANCE": "90", "FI_POLYGON_TOLERANCE": "90"},
            {"WITH_GEOMETRY": "true", "WMS_PRECISION": "1", "FEATURE_COUNT": "1000"},
            {"I": "-1", "J": "999"},
            {"WITH_DISPLAY_NAME": "true", "WITH_MAPTIP": "HTML_FI_ONLY_MAPTIP"},
        ):
            yield rich(
                f"information {kind} {next(iter(more))}", info("countries,twin", kind, **more)
            )
    for name in ("GetStyles", "GetStyle", "DescribeLayer", "GetContext", "GetProjectSettings"):
        for layer in (*LAYERS, "unknown", ""):
            query = f"SERVICE=WMS&VERSION=1.3.0&REQUEST={name}&SLD_VERSION=1.1.0&LAYERS={layer}"
            yield rich(f"{name} {layer}", query, STYLES="plain")
    far = {"EXT__url": "http://127.0.0.1:9/", "EXT__layers": "x", "EXT__format": "image/png"}
    yield rich("a layer of another server", small_map("EXTERNAL_WMS:EXT,countries"), **far)


# ---- Other services

FEATURES: tuple[Changes, ...] = (
    {"TYPENAME": "places", "EXP_FILTER": '"rank" = 1'},
    {"TYPENAME": "places", "EXP_FILTER": '"rank" ='},
    {"TYPENAME": "places", "EXP_FILTER": "to_int('x') = 1"},
    {"TYPENAME": "places", "SORTBY": "size D"},
    {"TYPENAME": "places", "SORTBY": "unknown"},
    {"TYPENAME": "joined", "SORTBY": "fact_rank", "MAXFEATURES": 2, "STARTINDEX": 3},
    {"TYPENAME": "places", "PROPERTYNAME": "name"},
    {"TYPENAME": "places", "PROPERTYNAME": "unknown"},
    {"TYPENAME": "places", "FEATUREID": "places.1,places.99"},
    {"TYPENAME": "places", "FEATUREID": "countries.1"},
    {"TYPENAME": "places", "SRSNAME": "EPSG:3857"},
    {"TYPENAME": "places", "SRSNAME": "EPSG:1"},
    {"TYPENAME": "places", "BBOX": "0,0,90,90,EPSG:4326"},
    {"TYPENAME": "places", "GEOMETRYNAME": "EXTENT"},
    {"TYPENAME": "places", "GEOMETRYNAME": "NONE", "RESULTTYPE": "hits"},
    {"TYPENAME": "places", "OUTPUTFORMAT": "unknown"},
    {"TYPENAME": "unknown"},
    {"TYPENAME": ""},
    {"TYPENAME": "facts,places,filtered", "EXP_FILTER": '("rank" = 1)("rank" = 2)("fid" = 1)'},
    {
        "TYPENAME": "places",
        "FILTER": '<Filter xmlns="http://www.opengis.net/ogc"><PropertyIsEqualTo><PropertyName>rank'
        "</PropertyName><Literal>1</Literal></PropertyIsEqualTo></Filter>",
    },
    {"TYPENAME": "places", "FILTER": "<Filter><PropertyIsNonsense/></Filter>"},
)


def of_others() -> Iterator[Request]:
    top = "SERVICE=WFS&REQUEST=GetFeature"
    for version in ("1.0.0", "1.1.0", "2.0.0", "9"):
        for number, change in enumerate(FEATURES):
            yield rich(f"features {version} {number}", f"{top}&VERSION={version}", **change)
        yield rich(f"types {version}", f"SERVICE=WFS&VERSION={version}&REQUEST=DescribeFeatureType")
    coverage = "SERVICE=WCS&VERSION=1.0.0&REQUEST=GetCoverage&COVERAGE=relief&WIDTH=9&HEIGHT=9"
    more: Changes
    for more in (
        {"CRS": "EPSG:4326", "RESPONSE_CRS": "EPSG:3857", "BBOX": "0,0,9,9", "FORMAT": "GTiff"},
        {"CRS": "EPSG:3857", "BBOX": "0,0,9e5,9e5", "FORMAT": "GTiff"},
        {"CRS": "EPSG:1", "BBOX": "0,0,9,9", "FORMAT": "GTiff"},
        {"CRS": "EPSG:4326", "BBOX": "9,9,0,0"},
        {"CRS": "EPSG:4326"},
    ):
        yield rich(f"coverage {more}", coverage, **more)
    tile = "SERVICE=WMTS&VERSION=1.0.0&FORMAT=image/png&TILEROW=0&TILECOL=0&TILEMATRIX=0"
    for more in (
        {"LAYER": "countries", "STYLE": "plain", "TILEMATRIXSET": "EPSG:4326", "OPACITIES": "9"},
        {"LAYER": "relief", "STYLE": "grey", "TILEMATRIXSET": "EPSG:3857"},
        {"LAYER": "Base", "STYLE": "", "TILEMATRIXSET": "EPSG:3857"},
        {"LAYER": "root", "STYLE": "default", "TILEMATRIXSET": "EPSG:4326"},
        {"LAYER": "canvas", "STYLE": "default", "TILEMATRIXSET": "EPSG:4326", "TILEMATRIX": "3"},
        {"LAYER": "unknown", "TILEMATRIXSET": "EPSG:4326"},
        {"LAYER": "countries", "TILEMATRIXSET": "unknown"},
        {"LAYER": "countries", "TILEMATRIXSET": "EPSG:4326", "INFOFORMAT": JSON, "I": 9, "J": 9},
    ):
        for name in ("GetTile", "GetFeatureInfo"):
            yield rich(f"{name} {more}", f"{tile}&REQUEST={name}", **more)


def of_api() -> Iterator[Request]:
    collection = f"{RICH}/wfs3/collections/places"
    for path in (
        f"{collection}/items", f"{collection}/items.html", f"{collection}/items/1",
        f"{collection}/items/99", f"{collection}/items/x", f"{collection}.json",
        f"{RICH}/wfs3/collections/unknown/items", f"{RICH}/wfs3/api.html", f"{RICH}/wfs3.html",
        f"{RICH}/wfs3/static/style.css", f"{RICH}/wfs3/unknown", f"{RICH}/wfs3/conformance",
        "/qgis-server/wfs3", "/qgis-server/", "/qgis-server/index.html", "/qgis-server/map/unknown",
    ):  # fmt: skip
        for headers in (
            (),
            ("Accept: text/html", "Accept-Language: de"),
            ("Accept: application/geo+json", "Accept-Language: fr;q=0.9, de"),
            ("Accept: nothing/at-all",),
        ):
            yield request(f"API {path} {headers}", path, *headers)
    for query in (
        "limit=1", "limit=-1", "limit=99999999", "offset=3", "offset=99", "bbox=0,0,9,9",
        "bbox=0,0,9,9&bbox-crs=http://www.opengis.net/def/crs/EPSG/0/3857",
        "crs=http://www.opengis.net/def/crs/EPSG/0/3857", "crs=EPSG:1", "datetime=2020-01-01",
        "rank=1", "name=*", "name=DE&rank=0", "unknown=1", "sortby=size&sortdesc=1", "f=html",
        "properties=name", "resultType=hits",
    ):  # fmt: skip
        yield request(f"items {query}", f"{collection}/items?{query}")
    feature = '{"type": "Feature", "properties": %s, "geometry": %s}'
    point = '{"type": "Point", "coordinates": [1, 2]}'
    kind = "Content-Type: application/geo+json"
    for method, path in (("PUT", "items/99"), ("PATCH", "items/99"), ("DELETE", "items/99")):
        for body in (
            feature % ('{"rank": "x"}', point.replace("Point", "Nonsense")),
            feature % ('{"unknown": 1}', point),
            '{"add": {"rank": 1}}',
            '{"modify": {"rank": "x"}}',
        ):
            name = f"{method} {path} {body}"
            yield request(name, f"{collection}/{path}", kind, body=body, method=method)
    for method, path in (("PUT", "items/1"), ("PATCH", "items/1"), ("POST", "items")):
        for body in ("{", "[]", ""):
            name = f"{method} {path} {body}"
            yield request(name, f"{collection}/{path}", kind, body=body, method=method)
    # What may be edited is no part of the replies.
    yield request("item", f"{SPARE}/scratch/items", kind, body=feature % ("{}", point))


# ---- Changes of data

BEGIN = (
    '<Transaction service="WFS" version="{version}" xmlns="http://www.opengis.net/wfs" '
    'xmlns:ogc="http://www.opengis.net/ogc" xmlns:gml="http://www.opengis.net/gml">'
)


def where(key: str) -> str:
    return f'<ogc:Filter><ogc:FeatureId fid="{key}"/></ogc:Filter>'


def update(field: str, value: str, key: str = "places.1", table: str = "places") -> str:
    return (
        f'<Update typeName="{table}"><Property><Name>{field}</Name><Value>{value}</Value>'
        f"</Property>{where(key)}</Update>"
    )


def insert(table: str, inside: str) -> str:
    return f"<Insert><{table}>{inside}</{table}></Insert>"


POINT = "<geometry><gml:Point{more}><gml:coordinates>{at}</gml:coordinates></gml:Point></geometry>"
EDITS = (
    update("name", "DE"),
    update("rank", "x"),
    update("size", "x"),
    update("rank", "1", "places.99"),
    update("geometry", "<gml:Nonsense/>"),
    update("rank", "1", table="countries"),
    update("rank", "1", table="unknown"),
    update("rank", "x") + update("name", "DE"),
    '<Update typeName="places"><Property><Name>rank</Name><Value>x</Value></Property></Update>',
    f'<Delete typeName="places">{where("places.99")}</Delete>',
    '<Delete typeName="places"></Delete>',
    '<Delete typeName="places"><ogc:Filter><ogc:PropertyIsEqualTo><ogc:PropertyName>rank'
    "</ogc:PropertyName><ogc:Literal>99</ogc:Literal></ogc:PropertyIsEqualTo></ogc:Filter></Delete>",
    f'<Delete typeName="countries">{where("countries.1")}</Delete>',
    insert("places", "<rank>x</rank>"),
    insert("places", "<geometry><gml:Nonsense/></geometry>"),
    insert("places", POINT.format(more=' srsName="EPSG:1"', at="x,y")),
    insert("countries", "<name>x</name>"),
    "<Insert></Insert>",
    "<Nonsense/>",
    "",
)  # fmt: skip


def of_edits() -> Iterator[Request]:
    kind = "Content-Type: text/xml"
    for version in ("1.0.0", "1.1.0"):
        for number, edit in enumerate(EDITS):
            body = BEGIN.format(version=version) + edit + "</Transaction>"
            yield request(f"edit {version} {number} {edit}", RICH, kind, body=body)
        added = insert("scratch", "<name>x</name>" + POINT.format(more="", at="1,2"))
        body = BEGIN.format(version=version) + added + "</Transaction>"
        yield request(f"added {version}", "/qgis/spare", kind, body=body)
    top = "SERVICE=WFS&VERSION=1.0.0&REQUEST=Transaction"
    yield rich("delete", top, OPERATION="DELETE", TYPENAME="places", FEATUREID="places.99")
    yield rich("delete nothing", top, OPERATION="DELETE", TYPENAME="places")


# ---- Who asks, how, and for how long

HEADERS = (
    ("Host: evil.example",),
    ("Host: 127.0.0.1:8080",),
    ("Accept: text/html", "Accept-Language: de", "Accept-Encoding: gzip"),
    ("Accept: application/json",),
    ("Authorization: Basic YWRtaW46eA==", "Remote-User: admin"),
    ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https"),
    ("X-Qgis-Service-Url: http://evil.example/", "Forwarded: host=evil.example"),
    ("Cookie: a=b", "Range: bytes=0-9", "Cache-Control: no-cache"),
    ("If-Modified-Since: Thu, 26 Nov 2026 20:00:00 GMT", "If-None-Match: *"),
    ("Lang: de", "Lc-All: de_DE.UTF-8", "Tz: Asia/Tokyo", "Qgis-Project-File: /x", "Path: /x"),
    ("User-Agent: \x1b[31m", "Referer: http://evil.example/"),
)


def of_clients() -> Iterator[Request]:
    """The watched replies, asked for in other ways."""
    for case in CASES:
        body = None if case.body is None else case.body.decode()
        for headers in HEADERS:
            yield request(f"{case.name} {headers}", case.target, *headers, body=body)
        for method in ("HEAD", "OPTIONS"):
            yield request(f"{method} {case.name}", case.target, method=method)
        if case.query:
            form = "Content-Type: application/x-www-form-urlencoded"
            path = f"{case.prefix}{case.path}"
            yield request(f"form {case.name}", path, form, body=case.query)
            yield request(f"slash {case.name}", f"{case.prefix}/{case.path}?{case.query}")
            yield request(f"twice {case.name}", f"{case.target}&{case.query}")
            lower = "&".join(
                f"{name.lower()}={value}"
                for name, _, value in (pair.partition("=") for pair in case.query.split("&"))
            )
            yield request(f"lower {case.name}", f"{path}?{lower}")
        yield request(f"{HUNG_UP} {case.name}", case.target)
    everything = "countries,joined,filtered,Twins,places,relief,canvas"
    for number in range(6):
        more = {"WIDTH": 1500, "HEIGHT": 1000, "BBOX": "-80,-170,80,170", "STYLES": "plain"}
        changed = {"OPACITIES": "99", "FILTER": 'places:"rank" = 1', "SELECTION": "places:2"}
        query = small_map(everything, **more)
        yield rich(f"{HUNG_UP} in a large map {number}", query, **changed, SEED=number)
        query = printed("A4", "pdf", DPI=200)
        yield rich(f"{HUNG_UP} in a print {number}", query, title=f"Other {number}")


def ordinary() -> Iterator[Request]:
    """What ordinary clients send, to the rich project."""
    lines = iter((SHARED / "clients.txt").read_text("utf-8").splitlines())
    for line in lines:
        if line.startswith("GET "):
            _, target = line.split(" ", 1)
            yield request(f"client {target[:80]}", target.replace("/qgis/city", RICH))
        elif line.startswith("POST "):
            target = line.split(" ")[1].replace("/qgis/city", RICH)
            # What is added there is no part of the replies.
            target = target.replace(f"{RICH}/wfs3/collections/places", f"{SPARE}/scratch")
            kind = " ".join(line.split(" ")[2:]) or "text/xml"
            body = "\n".join(iter(lambda: next(lines), ""))
            yield request(f"client {target[:80]}", target, f"Content-Type: {kind}", body=body)


def known() -> Iterator[Request]:
    """What QGIS Server itself does not put back, see leftovers.py."""
    part = {"BBOX": "30,-20,70,40", "CRS": "EPSG:4326", "WIDTH": 60, "HEIGHT": 40}
    for what, layer, change in (
        ("style", "countries", {"STYLE": "plain", "STYLES": "plain"}),
        ("filter", "places", {"FILTER": 'places:"rank" = 1'}),
        ("selection", "places", {"SELECTION": "places:1,2"}),
        ("opacity", "countries", {"OPACITIES": "60"}),
        ("SLD", "countries", {"SLD_BODY": sld("countries", "#ff0000")}),
    ):
        query = legend(layer, LAYERS=layer, **part, **change)
        yield rich(f"{what} of a legend for an extent", query)
    shown = small_map("countries", STYLES="plain", OPACITIES="60")
    yield rich("opacity of a style that is not the current one", shown)
    shown = small_map("places", FILTER='places:"rank" = 1')
    yield rich("extent of a layer that is filtered", shown)
    body = BEGIN.format(version="1.0.0") + insert("places", "<rank>x</rank>") + "</Transaction>"
    yield request("a layer that is edited", RICH, "Content-Type: text/xml", body=body)


def hand_made() -> Iterable[Request]:
    return (*of_wms(), *of_others(), *of_api(), *of_edits(), *of_clients(), *ordinary())
