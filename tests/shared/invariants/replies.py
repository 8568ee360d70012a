# SPDX-License-Identifier: GPL-2.0-or-later
"""The replies that must stay as they are: of all services and of several projects."""

from __future__ import annotations

from collections.abc import Iterator

from testbed import Reply

from shared.serving import (
    HTML,
    JSON,
    Case,
    get_map,
    parameters,
    shown,
    wcs,
    wfs,
    wms,
    wmts,
)

RICH = "/qgis/rich"
SMALL = {"WIDTH": 60, "HEIGHT": 40}
INFO = {"BBOX": "-90,-180,90,180", "WIDTH": 60, "HEIGHT": 30, "CRS": "EPSG:4326", "STYLES": ""}


def good(reply: Reply) -> None:
    """What was asked for. A complaint would stay the same, too."""
    assert reply.status == 200, shown(reply)
    for complaint in (b"ServiceException", b"ExceptionReport"):
        assert complaint not in reply.body, shown(reply)


def sld(layer: str, colour: str, symbol: str = "Polygon") -> str:
    """A style that fills with a colour."""
    fill = f'<se:Fill><se:SvgParameter name="fill">{colour}</se:SvgParameter></se:Fill>'
    drawn = f"<se:{symbol}Symbolizer>{fill}</se:{symbol}Symbolizer>"
    if symbol == "Point":
        mark = f"<se:Mark><se:WellKnownName>square</se:WellKnownName>{fill}</se:Mark>"
        drawn = (
            f"<se:PointSymbolizer><se:Graphic>{mark}<se:Size>9</se:Size></se:Graphic>"
            "</se:PointSymbolizer>"
        )
    return (
        '<StyledLayerDescriptor version="1.1.0" xmlns="http://www.opengis.net/sld" '
        'xmlns:se="http://www.opengis.net/se" xmlns:ogc="http://www.opengis.net/ogc">'
        f"<NamedLayer><se:Name>{layer}</se:Name><UserStyle><se:FeatureTypeStyle><se:Rule>"
        f"{drawn}</se:Rule></se:FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>"
    )


def small_map(layers: str, **more: object) -> str:
    return get_map(layers, "image/png", **(SMALL | more))


def info(layers: str, kind: str, **more: object) -> str:
    at = {"I": 31, "J": 7, "QUERY_LAYERS": layers, "LAYERS": layers, "FEATURE_COUNT": 5}
    return wms("GetFeatureInfo", "1.3.0", **(INFO | at | {"INFO_FORMAT": kind} | more))


def legend(layer: str, **more: object) -> str:
    asked = {"LAYER": layer, "FORMAT": "image/png", "SLD_VERSION": "1.1.0"}
    return wms("GetLegendGraphic", "1.3.0", **(asked | more))


def printed(layout: str, kind: str = "png", **more: object) -> str:
    asked = {
        "TEMPLATE": layout, "CRS": "EPSG:4326", "map0_EXTENT": "-60,-120,60,120",
        "LAYERS": "places,countries", "DPI": 30, "FORMAT": kind,
    }  # fmt: skip
    return wms("GetPrint", "1.3.0", **(asked | more))


def queries() -> Iterator[tuple[str, str]]:
    """Of the rich project, by their names."""
    for version in ("1.1.1", "1.3.0"):
        yield f"capabilities {version}", wms("GetCapabilities", version)
    yield "project settings", wms("GetProjectSettings")
    yield "context", wms("GetContext")
    yield "described", wms("DescribeLayer", LAYERS="countries,places", SLD_VERSION="1.1.0")
    yield "styles", wms("GetStyles", LAYERS="countries,places,joined,twin")

    everything = "countries,joined,filtered,Twins,places,relief"
    yield "map", small_map(everything)
    for layer, styles in (
        ("countries", ("groups", "plain", "dark")),
        ("places", ("default", "big")),
        ("relief", ("grey", "tinted")),
        ("Twins", ("", "other")),
    ):
        for style in styles:
            yield f"map {layer} {style}", small_map(layer, STYLES=style)
    for layer in ("joined", "filtered", "canvas", "Base", "twin"):
        yield f"map {layer}", small_map(layer)
    yield "map of a part", small_map("canvas", BBOX="40,0,50,15")
    mercator = {"CRS": "EPSG:3857", "BBOX": "-2226389,4163881,4452779,11000000"}
    yield "map in Mercator", small_map("relief,countries,places", **mercator)
    yield "map as JPEG", small_map(everything, FORMAT="image/jpeg")
    yield "map of a palette", small_map(everything, FORMAT="image/png; mode=8bit")
    changed = {
        "STYLES": "plain,big", "OPACITIES": "200,120", "SELECTION": "places:1,2,3",
        "FILTER": "places:\"rank\" > 1",
    }  # fmt: skip
    yield "map, changed", small_map("countries,places", **changed)
    yield "map, styled", small_map("countries", SLD_BODY=sld("countries", "#ff8800"))
    marked = {"HIGHLIGHT_GEOM": "POINT(10 50)", "HIGHLIGHT_LABELSTRING": "here"}
    drawn = sld("highlight", "#0000ff", "Point")
    yield "map, highlighted", small_map("countries", HIGHLIGHT_SYMBOL=drawn, **marked)
    yield "drawing", small_map("countries", FORMAT="application/dxf")

    for kind in (JSON, "text/xml", "text/html", "text/plain", "application/vnd.ogc.gml"):
        yield f"information {kind}", info("countries,joined,relief", kind, WITH_MAPTIP="true")
    yield (
        "information by filter",
        info("places", JSON, I="", J="", FILTER='places:"rank" = 2', WITH_GEOMETRY="true"),
    )

    # Not of "canvas": QGIS shows in it what was drawn last.
    for layer in ("countries", "joined", "relief", "places", "Base"):
        yield f"legend {layer}", legend(layer)
    yield "legend with counts", legend("joined", SHOWFEATURECOUNT="TRUE")
    yield "legend of what is there", legend("joined", BBOX="30,-20,70,40", CRS="EPSG:4326", **SMALL)
    yield "legend as JSON", legend("countries", FORMAT=JSON)
    yield "legend of a rule", legend("joined", RULE="rank 1", WIDTH=20, HEIGHT=20)

    for layout in ("A4", "Theme"):
        yield f"print {layout}", printed(layout)
    yield "print as SVG", printed("A4", "svg")
    yield "print as PDF", printed("A4", "pdf")
    yield "print of an atlas", printed("Atlas", "pdf", ATLAS_PK="2")

    for version in ("1.0.0", "1.1.0"):
        yield f"WFS capabilities {version}", wfs("GetCapabilities", version)
        yield f"types {version}", wfs("DescribeFeatureType", version, TYPENAME="places,joined")
        yield f"features {version}", wfs("GetFeature", version, TYPENAME="places")
    for layer in ("joined", "filtered", "places"):
        asked = {"TYPENAME": layer, "OUTPUTFORMAT": "GeoJSON", "MAXFEATURES": 12}
        yield f"features {layer}", wfs("GetFeature", "1.1.0", **asked)
    yield (
        "features by expression",
        wfs("GetFeature", TYPENAME="places", OUTPUTFORMAT="GeoJSON", EXP_FILTER='"rank" = 1'),
    )
    yield "WCS capabilities", wcs("GetCapabilities")
    yield "coverage, described", wcs("DescribeCoverage", COVERAGE="relief")
    box = {"CRS": "EPSG:4326", "BBOX": "-20,30,40,70", "FORMAT": "GTiff"}
    yield "coverage", wcs("GetCoverage", COVERAGE="relief", **box, **SMALL)
    yield "WMTS capabilities", wmts("GetCapabilities")
    for layer in ("relief", "countries"):
        yield f"tile {layer}", wmts(
            "GetTile", LAYER=layer, STYLE="default", TILEMATRIXSET="EPSG:3857", TILEMATRIX=2,
            TILEROW=1, TILECOL=2, FORMAT="image/png",
        )  # fmt: skip


def make() -> Iterator[Case]:
    def case(name: str, query: str, prefix: str = RICH, path: str = "", accept: str = "") -> Case:
        return Case(name, query, good, path=path, project=None, accept=accept, prefix=prefix)

    for name, query in queries():
        yield case(name, query)
    items = "/wfs3/collections/places/items"
    for path, accept, query in (
        ("/wfs3", JSON, ""),
        ("/wfs3/collections", JSON, ""),
        ("/wfs3/collections/places", JSON, ""),
        (items, JSON, "limit=5"),
        (items, HTML, "limit=5"),
        (items, JSON, parameters(bbox="-180,-90,20,90", rank="1")),
        (f"{items}/3", JSON, ""),
        ("/wfs3/api", JSON, ""),
    ):
        yield case(f"API {path} {query} {accept[:16]}", query, path=path, accept=accept)
    yield case("projects", "", "/qgis-server", "/index.json")
    world = "/qgis/world"
    yield case("map of another project", small_map("countries,relief"), world)
    yield case("capabilities of another project", wms("GetCapabilities"), world)
    yield case("capabilities of one that is edited", wms("GetCapabilities"), "/qgis/spare")


CASES = tuple(make())
