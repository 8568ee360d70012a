# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests that an installed pool must answer, and how its replies are judged.

The projects are those of maps/make_projects.py. Replies differ between QGIS 3.22 (Debian 12) and
3.40 (Debian 13); a status or text that a check names is what both send.
"""

from __future__ import annotations

import json
import re
import shlex
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from testbed import Reply, Testbed

from shared.paths import TESTS
from shared.pool import wait_for

PREFIX = "/qgis-server"
PROJECTS = "/var/lib/qgis-server/projects"
PROGRAM = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
BY_HAND = "/tmp/by-hand/socket"

MAPS = "/srv/maps"
WORLD = f"{MAPS}/world.qgz"
SECOND = f"{MAPS}/second.qgs"
NESTED = f"{MAPS}/Straßen & Wege/Übersicht Köln.qgs"

LAYERS = ("countries", "states_provinces", "disputed_borders", "relief")
VECTORS = LAYERS[:3]

PNG_24 = (2, 6)
"""The colour types of a PNG of 24 bits, without and with an alpha channel."""
PNG_8 = (3,)

JSON = "application/json"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""What a browser accepts."""

Check = Callable[[Reply], None]


@dataclass(frozen=True)
class Case:
    """A request and what its reply must be.

    image: the reply holds nothing but what the request and the project decide, so that it must
    be, byte for byte, what the program sends when it is run by hand.
    """

    name: str
    query: str
    check: Check
    path: str = ""
    project: str | None = WORLD
    body: bytes | None = field(default=None, repr=False)
    content_type: str = ""
    accept: str = ""
    image: bool = False
    prefix: str = PREFIX

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    @property
    def query_string(self) -> str:
        project = [] if self.project is None else [f"MAP={quote(self.project)}"]
        return "&".join([*project, *filter(None, [self.query])])

    @property
    def target(self) -> str:
        """Path and query, as in the first line of the HTTP request."""
        return f"{self.prefix}{self.path}" + (f"?{self.query_string}" if self.query_string else "")


# ---- Judging replies


def media_type(reply: Reply) -> str:
    return reply.headers.get("content-type", "")


def shown(reply: Reply) -> str:
    """A reply, short enough for the message of a failed assertion."""
    return f"{reply.status} {reply.headers} {reply.body[:500]!r}"


def succeeded(reply: Reply, kind: str) -> None:
    assert reply.status == 200, shown(reply)
    assert media_type(reply).partition(";")[0] == kind, shown(reply)


def png(width: int, height: int, colour_types: tuple[int, ...] = PNG_24) -> Check:
    """A PNG of this size that isn't of one colour."""

    def check(reply: Reply) -> None:
        succeeded(reply, "image/png")
        assert reply.body.startswith(b"\x89PNG\r\n\x1a\n"), shown(reply)
        chunks = dict[bytes, bytes]()
        at = 8
        while at < len(reply.body):
            (length,) = struct.unpack_from(">I", reply.body, at)
            kind = reply.body[at + 4 : at + 8]
            data = reply.body[at + 8 : at + 8 + length]
            assert len(data) == length, "the PNG is cut off"
            chunks[kind] = chunks.get(kind, b"") + data
            at += 12 + length
        assert b"IEND" in chunks, "the PNG is cut off"
        found = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
        assert found[:3] == (width, height, 8), found
        assert found[3] in colour_types, found
        assert len(set(zlib.decompress(chunks[b"IDAT"]))) > 8, "the PNG is empty"

    return check


def jpeg(width: int, height: int) -> Check:
    def check(reply: Reply) -> None:
        succeeded(reply, "image/jpeg")
        assert reply.body[:2] == b"\xff\xd8" and reply.body[-2:] == b"\xff\xd9", shown(reply)
        at = 2
        # Up to the frame header, SOF0 or SOF2.
        while (marker := reply.body[at + 1]) not in (0xC0, 0xC2):
            at += 2 + int.from_bytes(reply.body[at + 2 : at + 4], "big")
        assert struct.unpack_from(">HH", reply.body, at + 5) == (height, width), marker

    return check


def geotiff(width: int, height: int) -> Check:
    def check(reply: Reply) -> None:
        succeeded(reply, "image/tiff")
        assert reply.body[:4] == b"II*\0", shown(reply)
        (at,) = struct.unpack_from("<I", reply.body, 4)
        (count,) = struct.unpack_from("<H", reply.body, at)
        tags = {}
        for number in range(count):
            tag, kind, _ = struct.unpack_from("<HHI", reply.body, at + 2 + 12 * number)
            value = "<H" if kind == 3 else "<I"
            (tags[tag],) = struct.unpack_from(value, reply.body, at + 10 + 12 * number)
        assert (tags[256], tags[257]) == (width, height), tags
        assert 34735 in tags, "no GeoKeyDirectory: a TIFF, but not a GeoTIFF"

    return check


def pdf(reply: Reply) -> None:
    """A PDF, whole; pdfinfo counts its pages."""
    succeeded(reply, "application/pdf")
    assert reply.body.startswith(b"%PDF-1."), shown(reply)
    assert reply.body.rstrip().endswith(b"%%EOF"), "the PDF is cut off"


def parsed(reply: Reply) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(reply.body)
    except ElementTree.ParseError as error:
        raise AssertionError(f"not XML: {error}: {shown(reply)}") from None


def local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def words(root: ElementTree.Element) -> Iterator[str]:
    """All texts and attributes of an XML document."""
    for element in root.iter():
        yield (element.text or "").strip()
        yield from element.attrib.values()


def xml(root: str, *expected: str, kind: str = "text/xml") -> Check:
    """An XML document with this root and, somewhere in it, these texts or attributes."""

    def check(reply: Reply) -> None:
        succeeded(reply, kind)
        found = parsed(reply)
        assert local_name(found) == root, shown(reply)
        assert not set(expected) - set(words(found)), shown(reply)

    return check


def features_in_gml(subtype: str, count: int) -> Check:
    def check(reply: Reply) -> None:
        succeeded(reply, "text/xml")
        assert f"subtype={subtype}" in media_type(reply), shown(reply)
        root = parsed(reply)
        assert local_name(root) == "FeatureCollection"
        members = [element for element in root.iter() if local_name(element) == "featureMember"]
        assert len(members) == count, f"{len(members)} features instead of {count}"
        for member in members:
            found = {local_name(element): element.text for element in member.iter()}
            assert found.get("NAME"), "a feature without its attributes"
            assert found.keys() & {"Polygon", "MultiPolygon"}, "a feature without its geometry"

    return check


def decoded(reply: Reply) -> dict[str, object]:
    try:
        found = json.loads(reply.body)
    except ValueError as error:
        raise AssertionError(f"not JSON: {error}: {shown(reply)}") from None
    assert isinstance(found, dict), shown(reply)
    return found


def features_in_json(count: int, kind: str, names: frozenset[str] = frozenset()) -> Check:
    def check(reply: Reply) -> None:
        succeeded(reply, kind)
        collection = decoded(reply)
        assert collection["type"] == "FeatureCollection"
        features = collection["features"]
        assert isinstance(features, list)
        assert len(features) == count, f"{len(features)} features instead of {count}"
        for feature in features:
            assert feature["geometry"]["coordinates"], "a feature without its geometry"
        assert names <= {feature["properties"].get("NAME") for feature in features}

    return check


def germany(reply: Reply) -> None:
    """One feature of OGC API Features."""
    succeeded(reply, "application/geo+json")
    feature = decoded(reply)
    assert feature["type"] == "Feature"
    properties = feature["properties"]
    assert isinstance(properties, dict) and properties["NAME"] == "Germany"


def text(kind: str, *expected: str) -> Check:
    def check(reply: Reply) -> None:
        succeeded(reply, kind)
        body = reply.body.decode()
        for word in expected:
            assert word in body, f"{word!r} isn't in {shown(reply)}"

    return check


def json_with(*keys: str, kind: str = JSON, collections: tuple[str, ...] = ()) -> Check:
    """A JSON object with these keys, which lists these collections if any."""

    def check(reply: Reply) -> None:
        succeeded(reply, kind)
        found = decoded(reply)
        assert not set(keys) - found.keys(), shown(reply)
        if collections:
            listed = found["collections"]
            assert isinstance(listed, list)
            assert {collection["id"] for collection in listed} == set(collections)

    return check


def projects(*titles: str) -> Check:
    """The list of projects of the landing page."""

    def check(reply: Reply) -> None:
        succeeded(reply, JSON)
        listed = decoded(reply)["projects"]
        assert isinstance(listed, list)
        assert {project["title"] for project in listed} >= set(titles), shown(reply)

    return check


def redirects_to(path: str) -> Check:
    def check(reply: Reply) -> None:
        assert reply.status == 302, shown(reply)
        assert reply.headers["location"].endswith(PREFIX + path), shown(reply)

    return check


def refused(*statuses: int, by: str = "") -> Check:
    """An error: a status of 4xx or 5xx, or an OGC exception."""

    def check(reply: Reply) -> None:
        assert reply.status in statuses, shown(reply)
        if reply.status == 200:
            assert local_name(parsed(reply)) == "ServiceExceptionReport", shown(reply)
        assert by in reply.body.decode(errors="replace"), shown(reply)

    return check


# ---- Requests


def parameters(**values: object) -> str:
    """A query string; a keyword map0_EXTENT stands for the parameter map0:EXTENT."""
    return "&".join(
        f"{name.replace('_EXTENT', ':EXTENT')}={quote(str(value), safe='/:,')}"
        for name, value in values.items()
    )


def wms(request: str, version: str = "1.3.0", **more: object) -> str:
    return parameters(SERVICE="WMS", VERSION=version, REQUEST=request, **more)


def wfs(request: str, version: str = "1.1.0", **more: object) -> str:
    return parameters(SERVICE="WFS", VERSION=version, REQUEST=request, **more)


def wcs(request: str, **more: object) -> str:
    return parameters(SERVICE="WCS", VERSION="1.0.0", REQUEST=request, **more)


def wmts(request: str, **more: object) -> str:
    return parameters(SERVICE="WMTS", VERSION="1.0.0", REQUEST=request, **more)


def get_map(layers: str = "countries", image: str = "image/png", **more: object) -> str:
    """Europe, 600 x 400; in WMS 1.3.0 the axes of EPSG:4326 are latitude, longitude."""
    wanted = {
        "LAYERS": layers,
        "STYLES": "",
        "CRS": "EPSG:4326",
        "BBOX": "30,-20,70,40",
        "WIDTH": 600,
        "HEIGHT": 400,
        "FORMAT": image,
    }
    return wms("GetMap", "1.3.0", **(wanted | more))


def get_map_1_1_1(image: str = "image/png") -> str:
    """The same map, asked for with the axes of WMS 1.1.1."""
    return wms(
        "GetMap",
        "1.1.1",
        LAYERS="countries",
        STYLES="",
        SRS="EPSG:4326",
        BBOX="-20,30,40,70",
        WIDTH=600,
        HEIGHT=400,
        FORMAT=image,
    )


def get_feature_info(image: str) -> str:
    """What is at 51 degrees north, 10 degrees east."""
    return wms(
        "GetFeatureInfo",
        LAYERS="countries",
        QUERY_LAYERS="countries",
        STYLES="",
        CRS="EPSG:4326",
        BBOX="30,-20,70,40",
        WIDTH=600,
        HEIGHT=400,
        I=300,
        J=190,
        INFO_FORMAT=image,
        FEATURE_COUNT=5,
        WITH_GEOMETRY="true",
    )


def get_print(kind: str) -> str:
    return wms(
        "GetPrint",
        TEMPLATE="A4",
        CRS="EPSG:4326",
        map0_EXTENT="-90,-180,90,180",
        LAYERS="countries,disputed_borders",
        DPI=72,
        FORMAT=kind,
    )


# Around Germany, as longitude and latitude: WFS reads a bare EPSG:4326 that way, in each version.
GERMANY = "7,49,12,53"

FILTER = b"""<?xml version="1.0" encoding="UTF-8"?>
<wfs:GetFeature service="WFS" version="1.1.0" outputFormat="GeoJSON"
    xmlns:wfs="http://www.opengis.net/wfs" xmlns:ogc="http://www.opengis.net/ogc">
  <wfs:Query typeName="countries" srsName="EPSG:4326">
    <ogc:Filter>
      <ogc:PropertyIsEqualTo>
        <ogc:PropertyName>NAME</ogc:PropertyName>
        <ogc:Literal>Germany</ogc:Literal>
      </ogc:PropertyIsEqualTo>
    </ogc:Filter>
  </wfs:Query>
</wfs:GetFeature>
"""

FORM = "application/x-www-form-urlencoded"

MAP = Case("WMS GetMap png 24 bit", get_map(), png(600, 400), image=True)
MAP_1_1_1 = Case("WMS GetMap 1.1.1", get_map_1_1_1(), png(600, 400), image=True)

WMS_1_1_1 = Case(
    "WMS GetCapabilities 1.1.1",
    wms("GetCapabilities", "1.1.1"),
    xml("WMT_MS_Capabilities", "World", "EPSG:3857", *LAYERS),
)
WMS_1_3_0 = Case(
    "WMS GetCapabilities 1.3.0",
    wms("GetCapabilities"),
    xml("WMS_Capabilities", "World", "EPSG:3857", *LAYERS),
)
WFS_1_0_0 = Case(
    "WFS GetCapabilities 1.0.0",
    wfs("GetCapabilities", "1.0.0"),
    xml("WFS_Capabilities", *VECTORS),
)
WFS_1_1_0 = Case(
    "WFS GetCapabilities 1.1.0",
    wfs("GetCapabilities"),
    xml("WFS_Capabilities", "application/vnd.geo+json", *VECTORS),
)
WCS_1_0_0 = Case(
    "WCS GetCapabilities", wcs("GetCapabilities"), xml("WCS_Capabilities", "World", "relief")
)
WMTS_1_0_0 = Case(
    "WMTS GetCapabilities",
    wmts("GetCapabilities"),
    xml("Capabilities", "EPSG:3857", "EPSG:4326", "root", *LAYERS),
)
API_LANDING = Case("OGC API landing page", "", json_with("links"), path="/wfs3", accept=JSON)
API_COLLECTIONS = Case(
    "OGC API collections",
    "",
    json_with("links", collections=VECTORS),
    path="/wfs3/collections",
    accept=JSON,
)
API_ITEMS = Case(
    "OGC API items",
    "limit=2",
    features_in_json(2, "application/geo+json"),
    path="/wfs3/collections/countries/items",
)
API_DESCRIPTION = Case(
    "OGC API description",
    "",
    json_with("openapi", "paths", "servers", kind="application/vnd.oai.openapi+json"),
    path="/wfs3/api",
)
PROJECT_LIST = Case(
    "landing page json", "", projects("World", "Second"), path="/index.json", project=None
)

PDF = Case("WMS GetPrint pdf", get_print("pdf"), pdf, image=True)

EVERYTHING = Case(
    "WFS GetFeature over 2 MB",
    wfs("GetFeature", TYPENAME="states_provinces", OUTPUTFORMAT="GeoJSON"),
    features_in_json(4556, "application/vnd.geo+json"),
    image=True,
)

CASES: tuple[Case, ...] = (
    WMS_1_1_1,
    WMS_1_3_0,
    Case(
        "WMS GetCapabilities of a path with spaces",
        wms("GetCapabilities"),
        xml("WMS_Capabilities", "Übersicht Köln", "countries", "disputed_borders"),
        project=NESTED,
    ),
    MAP,
    MAP_1_1_1,
    # Not an "image": its palette depends on Qt's hash seed, no two workers agree on it.
    Case(
        "WMS GetMap png 8 bit",
        get_map(image="image/png; mode=8bit"),
        png(600, 400, PNG_8),
    ),
    Case("WMS GetMap jpeg", get_map(image="image/jpeg"), jpeg(600, 400), image=True),
    Case(
        "WMS GetMap of several layers in EPSG:3857",
        get_map(
            "relief,states_provinces,countries,disputed_borders",
            CRS="EPSG:3857",
            STYLES="tinted,,,",
            BBOX="-2226389,4163881,4452779,11000000",
            TRANSPARENT="true",
        ),
        png(600, 400),
        image=True,
    ),
    Case(
        "WMS GetMap with a style",
        get_map("relief", STYLES="grey"),
        png(600, 400),
        image=True,
    ),
    Case(
        "WMS GetMap of a path with spaces",
        get_map("countries,disputed_borders"),
        png(600, 400),
        project=NESTED,
        image=True,
    ),
    Case(
        "WMS GetMap of another project",
        get_map("land"),
        png(600, 400),
        project=SECOND,
        image=True,
    ),
    Case(
        "WMS GetMap by a form",
        "",
        png(600, 400),
        body=get_map().encode(),
        content_type=FORM,
        image=True,
    ),
    Case(
        "WMS GetFeatureInfo xml",
        get_feature_info("text/xml"),
        xml("GetFeatureInfoResponse", "countries", "Germany", "geometry"),
    ),
    Case(
        "WMS GetFeatureInfo json",
        get_feature_info(JSON),
        features_in_json(1, JSON, frozenset({"Germany"})),
    ),
    Case("WMS GetFeatureInfo html", get_feature_info("text/html"), text("text/html", "Germany")),
    Case(
        "WMS GetFeatureInfo plain text",
        get_feature_info("text/plain"),
        text("text/plain", "NAME = 'Germany'"),
    ),
    Case(
        "WMS GetFeatureInfo gml",
        get_feature_info("application/vnd.ogc.gml"),
        text("application/vnd.ogc.gml", "Germany"),
    ),
    Case(
        "WMS GetLegendGraphic",
        wms("GetLegendGraphic", LAYER="countries", FORMAT="image/png", SLD_VERSION="1.1.0"),
        # Its size depends on the height of the font.
        lambda reply: succeeded(reply, "image/png"),
        image=True,
    ),
    PDF,
    # A4 landscape at 72 dots per inch.
    Case("WMS GetPrint png", get_print("png"), png(841, 595), image=True),
    WFS_1_0_0,
    WFS_1_1_0,
    Case(
        "WFS DescribeFeatureType",
        wfs("DescribeFeatureType", TYPENAME="countries"),
        xml("schema", "countries", "NAME"),
    ),
    Case(
        "WFS GetFeature GML2",
        wfs(
            "GetFeature",
            "1.0.0",
            TYPENAME="countries",
            BBOX=GERMANY,
            MAXFEATURES=3,
            OUTPUTFORMAT="GML2",
        ),
        features_in_gml("gml/2.1.2", 3),
    ),
    Case(
        "WFS GetFeature GML3",
        wfs(
            "GetFeature",
            TYPENAME="countries",
            BBOX=GERMANY,
            MAXFEATURES=3,
            OUTPUTFORMAT="GML3",
        ),
        features_in_gml("gml/3.1.1", 3),
    ),
    Case(
        "WFS GetFeature GeoJSON",
        wfs(
            "GetFeature",
            TYPENAME="countries",
            BBOX=GERMANY,
            MAXFEATURES=3,
            OUTPUTFORMAT="GeoJSON",
        ),
        features_in_json(3, "application/vnd.geo+json"),
    ),
    Case(
        "WFS GetFeature by POST",
        "SERVICE=WFS",
        features_in_json(1, "application/vnd.geo+json", frozenset({"Germany"})),
        body=FILTER,
        content_type="text/xml",
    ),
    EVERYTHING,
    WCS_1_0_0,
    Case(
        "WCS DescribeCoverage",
        wcs("DescribeCoverage", COVERAGE="relief"),
        xml("CoverageDescription", "relief"),
    ),
    Case(
        "WCS GetCoverage",
        wcs(
            "GetCoverage",
            COVERAGE="relief",
            CRS="EPSG:4326",
            BBOX="-20,30,40,70",
            WIDTH=120,
            HEIGHT=80,
            FORMAT="GTiff",
        ),
        geotiff(120, 80),
        image=True,
    ),
    WMTS_1_0_0,
    Case(
        "WMTS GetTile of a layer",
        wmts(
            "GetTile",
            LAYER="countries",
            STYLE="default",
            TILEMATRIXSET="EPSG:3857",
            TILEMATRIX=2,
            TILEROW=1,
            TILECOL=2,
            FORMAT="image/png",
        ),
        png(256, 256),
        image=True,
    ),
    Case(
        "WMTS GetTile of the project",
        wmts(
            "GetTile",
            LAYER="root",
            STYLE="default",
            TILEMATRIXSET="EPSG:4326",
            TILEMATRIX=2,
            TILEROW=1,
            TILECOL=4,
            FORMAT="image/jpeg",
        ),
        jpeg(256, 256),
        image=True,
    ),
    API_LANDING,
    Case(
        "OGC API landing page html",
        "",
        text("text/html", "static/page/api.js"),
        path="/wfs3",
        accept=HTML,
    ),
    API_COLLECTIONS,
    Case(
        "OGC API collections html",
        "",
        text("text/html", "static/page/api.js"),
        path="/wfs3/collections",
        accept=HTML,
    ),
    Case(
        "OGC API collection",
        "",
        json_with("id", "extent", "links"),
        path="/wfs3/collections/countries",
        accept=JSON,
    ),
    API_ITEMS,
    Case(
        "OGC API items in a box",
        f"limit=100&bbox={GERMANY}",
        features_in_json(3, "application/geo+json", frozenset({"Germany"})),
        path="/wfs3/collections/countries/items.json",
    ),
    Case(
        "OGC API items html",
        "limit=2",
        text("text/html", "static/page/api.js"),
        path="/wfs3/collections/countries/items.html",
    ),
    Case("OGC API item", "", germany, path="/wfs3/collections/countries/items/3", accept=JSON),
    API_DESCRIPTION,
    Case(
        "OGC API conformance",
        "",
        json_with("conformsTo"),
        path="/wfs3/conformance",
        accept=JSON,
    ),
    Case(
        "OGC API style sheet",
        "",
        text("text/css", ".card-header"),
        path="/wfs3/static/style.css",
        project=None,
    ),
    Case(
        "landing page for programs",
        "",
        redirects_to("/index.json"),
        path="/",
        project=None,
        accept=JSON,
    ),
    Case(
        "landing page for browsers",
        "",
        redirects_to("/index.html"),
        path="/",
        project=None,
        accept=HTML,
    ),
    PROJECT_LIST,
    # Debian 12 has QGIS Server's own page, Debian 13 hasn't and gets a plain one.
    Case(
        "landing page html",
        "",
        text("text/html", "<html", "<script"),
        path="/index.html",
        project=None,
        accept=HTML,
    ),
)

# What tells clients where to send their requests.
ADVERTISING: tuple[Case, ...] = (
    WMS_1_1_1,
    WMS_1_3_0,
    WFS_1_0_0,
    WFS_1_1_0,
    WCS_1_0_0,
    WMTS_1_0_0,
    API_LANDING,
    API_COLLECTIONS,
    API_ITEMS,
    API_DESCRIPTION,
    PROJECT_LIST,
)

NO_PROJECT = refused(500, by="Project file error")
OUTSIDE = refused(403, by="out of the folders")

# The truncated files are made by the tests.
BROKEN = f"{MAPS}/broken"


def capabilities_of(name: str, project: str | None, check: Check = NO_PROJECT) -> Case:
    return Case(name, wms("GetCapabilities"), check, project=project)


GARBAGE: tuple[Case, ...] = (
    capabilities_of("no MAP", None),
    capabilities_of("an empty MAP", ""),
    capabilities_of("an unknown MAP", f"{MAPS}/unknown.qgz"),
    capabilities_of("a folder as MAP", MAPS),
    capabilities_of("a file that's no project as MAP", "/etc/passwd", OUTSIDE),
    # QGIS 3.40 would read these until the memory is used up.
    capabilities_of("a device without end as MAP", "/dev/zero", OUTSIDE),
    capabilities_of("another device without end as MAP", "/dev/full", OUTSIDE),
    capabilities_of("an image as MAP", f"{MAPS}/relief.tif"),
    capabilities_of("a URL as MAP", "http://127.0.0.1:1/world.qgz", OUTSIDE),
    capabilities_of("a truncated .qgs", f"{BROKEN}/half.qgs"),
    capabilities_of("a truncated .qgz", f"{BROKEN}/half.qgz"),
    capabilities_of("a MAP with a NUL", f"{WORLD}\0.png", OUTSIDE),
    Case(
        "a broken XML body",
        "SERVICE=WFS",
        refused(403, by="is not well-formed XML"),
        body=FILTER[: len(FILTER) // 2],
        content_type="text/xml",
    ),
    Case(
        "a body of odd bytes",
        wfs("GetFeature"),
        refused(403, by="has a NUL"),
        body=bytes(range(256)) * 16,
        content_type="text/xml",
    ),
    Case(
        "an XML body of 1 MB",
        "SERVICE=WFS",
        refused(501, by="OperationNotSupported"),
        body=b"<?xml version='1.0'?><a>" + b"x" * (1 << 20) + b"</a>",
        content_type="text/xml",
    ),
    Case(
        "a form of 1 MB",
        "",
        refused(200, by="Service unknown or unsupported"),
        body=b"SERVICE=WXS&A=" + b"x" * (1 << 20),
        content_type=FORM,
    ),
    Case(
        "a body over the limit",
        "SERVICE=WFS",
        refused(413),
        body=b"x" * (11 << 20),
        content_type="text/xml",
    ),
    Case("a query of 1 MB", get_map() + "&A=" + "x" * (1 << 20), refused(414)),
    Case(
        "an image too wide", get_map(WIDTH=10_000_000), refused(403, by="WIDTH is more than 8192")
    ),
    Case(
        "an image too high", get_map(HEIGHT=10_000_000), refused(403, by="HEIGHT is more than 8192")
    ),
    Case("a negative size", get_map(WIDTH=-600, HEIGHT=-400), refused(400, by="too large")),
    Case("a size of zero", get_map(WIDTH=0, HEIGHT=0), refused(400, by="too large")),
    Case("a size that's no number", get_map(WIDTH="wide"), refused(403, by="WIDTH")),
    Case(
        "a coverage too wide",
        wcs(
            "GetCoverage",
            COVERAGE="relief",
            CRS="EPSG:4326",
            BBOX="-20,30,40,70",
            WIDTH=10_000_000,
            HEIGHT=10_000_000,
            FORMAT="GTiff",
        ),
        refused(403, by="is more than 8192"),
    ),
    Case("a box that's none", get_map(BBOX="a,b,c,d"), refused(403, by="BBOX")),
    Case("an unknown SERVICE", "SERVICE=WXS&REQUEST=GetMap", refused(200, by="unknown")),
    Case("an unknown REQUEST", wms("GetNothing"), refused(501, by="GetNothing")),
    Case("no SERVICE", "REQUEST=GetMap", refused(501, by="OperationNotSupported")),
    Case("an unknown layer", get_map("unknown"), refused(400, by="LayerNotDefined")),
    Case("an unknown style", get_map(STYLES="unknown"), refused(400, by="StyleNotDefined")),
    Case("an unknown CRS", get_map(CRS="EPSG:999999"), refused(400, by="InvalidCRS")),
    Case("an unknown type", wfs("GetFeature", TYPENAME="unknown"), refused(400, by="TypeName")),
    Case("an unknown coverage", wcs("GetCoverage", COVERAGE="unknown"), refused(400)),
    Case(
        "an unknown tile matrix",
        wmts(
            "GetTile",
            LAYER="countries",
            STYLE="default",
            TILEMATRIXSET="EPSG:3857",
            TILEMATRIX=99,
            TILEROW=1,
            TILECOL=1,
            FORMAT="image/png",
        ),
        refused(400),
    ),
    Case("a NUL in a layer", get_map("count\0ries"), refused(403, by="LAYERS")),
    Case(
        "bytes that aren't UTF-8 in a layer",
        get_map().replace("LAYERS=countries", "LAYERS=%ff%fe%c3%28"),
        refused(400, by="LayerNotDefined"),
    ),
    Case(
        "control characters in a layer",
        get_map().replace("LAYERS=countries", "LAYERS=count%01%7fries"),
        refused(403, by="LAYERS"),
    ),
    Case("a broken percent code", get_map() + "&LAYERS=%zz%", refused(400)),
    Case("an unknown collection", "", refused(404), path="/wfs3/collections/unknown/items"),
)

# Deep nesting ends a worker of either version, by overflow of its stack.
DEADLY = Case(
    "deeply nested XML",
    "SERVICE=WFS",
    refused(502),
    body=b"<?xml version='1.0'?>" + b"<a>" * 200_000,
    content_type="text/xml",
)


# ---- Sending them


def fetch(bed: Testbed, url: str, *curl_args: str) -> Reply:
    """Ask for a URL from within the testbed.

    Not Testbed.fetch: the header_json of Debian 12's curl loses what follows a repeated header.
    """
    command = ("curl", "-q", "--silent", "--show-error", "--dump-header", "/dev/stderr")
    done = bed.run_bytes(*command, *curl_args, "--", url)
    return reply_of(done.stderr, done.stdout)


def reply_of(head: bytes, body: bytes) -> Reply:
    """A reply by its lines of status and headers; of repeated headers, all values."""
    status, *lines = head.decode().strip().split("\r\n")
    values: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        values.setdefault(name.lower(), []).append(value.strip())
    return Reply(
        int(status.split()[1]), {name: ", ".join(all) for name, all in values.items()}, body
    )


def ask(bed: Testbed, case: Case, origin: str = "http://127.0.0.1", *curl_args: str) -> Reply:
    """Send a request from within the testbed."""
    arguments = ["--globoff", "--max-time", "60"]
    if case.accept:
        arguments += ["--header", f"Accept: {case.accept}"]
    if case.body is not None:
        file = f"/tmp/body-{zlib.crc32(case.body):08x}"
        bed.run_bytes("sh", "-c", 'cat >"$0"', file, input=case.body)
        # The empty "Expect:" keeps curl from waiting for "100 Continue".
        arguments += ["--header", f"Content-Type: {case.content_type}", "--header", "Expect:"]
        arguments += ["--data-binary", f"@{file}"]
    if len(case.target) > MAX_ARGUMENT:
        return ask_at_length(bed, case)
    return fetch(bed, origin + case.target, *arguments, *curl_args)


# Longer arguments can't be given to a program.
MAX_ARGUMENT = 65536

# NGINX answers before it has read such a request, hence this patience with a broken connection.
AT_LENGTH = """
import contextlib, socket, sys

with socket.create_connection(("127.0.0.1", 80)) as connection:
    connection.settimeout(60)
    with contextlib.suppress(ConnectionError):
        connection.sendall(sys.stdin.buffer.read())
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            sys.stdout.buffer.write(part)
"""


def ask_at_length(bed: Testbed, case: Case) -> Reply:
    """Send a GET request that is too long for an argument of curl."""
    request = f"GET {case.target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    done = bed.run_bytes("python3", "-c", AT_LENGTH, input=request.encode())
    head, blank, body = done.stdout.partition(b"\r\n\r\n")
    assert blank, f"no reply: {done.stdout[:500]!r}"
    return reply_of(head, body)


def environment(case: Case) -> dict[str, str]:
    """The CGI variables of a request."""
    variables = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": case.method,
        "REQUEST_URI": case.target,
        "QUERY_STRING": case.query_string,
        "SCRIPT_NAME": case.prefix,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "HTTP_HOST": "127.0.0.1",
    }
    if case.accept:
        variables["HTTP_ACCEPT"] = case.accept
    if case.body is not None:
        variables["CONTENT_TYPE"] = case.content_type
        variables["CONTENT_LENGTH"] = str(len(case.body))
    return variables


def cgi_body(output: bytes) -> bytes:
    """What follows the headers of a CGI program's output."""
    # QGIS Server ends its lines with LF alone when it runs as a CGI program.
    blank = re.search(rb"\r?\n\r?\n", output)
    assert blank, f"no CGI reply: {output[:500]!r}"
    return output[blank.end() :]


def start_by_hand(bed: Testbed) -> None:
    """Run QGIS Server as an ordinary user who can read the maps, without any of the package's
    settings and confinements."""
    folder = str(Path(BY_HAND).parent)
    bed.put(TESTS / "trees/corpus/plain_worker.py", "/usr/local/lib/")
    bed.run("rm", "--recursive", "--force", folder)
    # Without a home of its own it writes a complaint where the reply is expected.
    bed.run("install", "--directory", "--owner=nobody", folder)
    bed.run(
        "systemd-run", "--unit=by-hand", "--uid=nobody", f"--setenv=HOME={folder}",
        "--setenv=LANG=C.UTF-8", "python3", "/usr/local/lib/plain_worker.py", BY_HAND, PROGRAM,
    )  # fmt: skip
    wait_for(lambda: not bed.run("test", "-S", BY_HAND, check=False).returncode, "it listens")


def render_by_hand(bed: Testbed, case: Case) -> bytes:
    """What QGIS Server sends when it is run by hand; one process for all, since each start takes
    two seconds."""
    if bed.run("systemctl", "is-active", "--quiet", "by-hand", check=False).returncode:
        start_by_hand(bed)
    return ask_worker(bed, BY_HAND, case)


def ask_worker(bed: Testbed, socket: str, case: Case) -> bytes:
    """The body of the reply of whichever worker accepts at this socket, without NGINX."""
    variables = [f"{name}={value}" for name, value in environment(case).items()]
    # cgi-fcgi reads its own PATH and the like from here too, hence no "env -i".
    command = f"exec env {shlex.join(variables)} cgi-fcgi -bind -connect {shlex.quote(socket)}"
    return cgi_body(bed.run_bytes("sh", "-c", command, input=case.body or b"").stdout)


def comparable(body: bytes) -> bytes:
    """A reply without what differs between two runs: a PDF's date and, since QGIS 3.40, the
    random number in its metadata; the time in replies of the OGC API."""
    body = re.sub(rb"/CreationDate \(D:[^)]*\)", b"/CreationDate ()", body)
    body = re.sub(rb'xmpMM:DocumentID="uuid:[^"]*"', b'xmpMM:DocumentID=""', body)
    return re.sub(rb'"timeStamp":"[^"]*"', b'"timeStamp":""', body)


# ---- URLs in replies

# Namespaces, schemas and the like, which don't depend on the server.
FOREIGN = re.compile(
    r"https?://(?:www\.opengis\.net|schemas\.opengis\.net|www\.w3\.org|www\.qgis\.org|"
    # Examples in the description of the OGC API.
    r"example\.com|data\.example\.(?:com|org)|schemas\.example\.org)(?=[/:\"]|$)"
)


def own_urls(reply: Reply) -> set[str]:
    """The URLs of the server itself that a reply names."""
    body = reply.body.decode()
    found = set(re.findall(r"https?://[^\s\"'<>\\)`]*", body))
    if "location" in reply.headers:
        found.add(reply.headers["location"])
    return {url for url in found if not FOREIGN.match(url)}
