# SPDX-License-Identifier: GPL-2.0-or-later
"""Projects of what is read, and what is worked out from it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from qgis.core import (
    QgsBilinearRasterResampler,
    QgsCoordinateReferenceSystem,
    QgsEditorWidgetSetup,
    QgsExpressionContextUtils,
    QgsHillshadeRenderer,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsProperty,
    QgsRelation,
    QgsRelationContext,
    QgsRuleBasedRenderer,
    QgsVectorLayerJoinInfo,
)
from registry import LAND, Layers, land, project
from renderers import classes, contours, grey, shaded
from styles import (
    COUNTRIES,
    DATA,
    LINES,
    POINTS,
    STATES,
    labels,
    layer,
    placement,
    plain,
    simple,
)


@project("raster", "Rasters")
def raster() -> Layers:
    relief = f"{DATA}/relief.tif"
    smooth = layer("smooth", relief, "gdal", renderer=shaded)
    smooth.resampleFilter().setZoomedInResampler(QgsBilinearRasterResampler())
    bright = layer("bright", f"{DATA}/rgb.tif", "gdal")
    bright.brightnessFilter().setBrightness(80)
    bright.hueSaturationFilter().setSaturation(-50)
    return [
        layer("shaded", relief, "gdal", renderer=shaded),
        layer("grey", relief, "gdal", renderer=grey),
        layer(
            "hills",
            relief,
            "gdal",
            renderer=lambda made: QgsHillshadeRenderer(made.dataProvider(), 1, 315, 45),
        ),
        layer("contours", relief, "gdal", renderer=contours),
        layer(
            "rgb",
            f"{DATA}/rgb.tif",
            "gdal",
            renderer=lambda made: QgsMultiBandColorRenderer(made.dataProvider(), 1, 2, 3),
        ),
        layer("classes", f"{DATA}/classes.tif", "gdal", renderer=classes),
        smooth,
        bright,
        layer("virtual", f"{DATA}/relief.vrt", "gdal", renderer=shaded),
        layer("zipped", f"/vsizip/{DATA}/relief.zip/relief.tif", "gdal", renderer=shaded),
        layer("netcdf", f"{DATA}/relief.nc", "gdal", renderer=shaded),
        layer("jpeg2000", f"{DATA}/relief.jp2", "gdal"),
        layer("ascii", f"{DATA}/relief.asc", "gdal", renderer=shaded),
        layer("webp", f"{DATA}/relief.webp", "gdal"),
        layer("cog", f"{DATA}/cloud.tif", "gdal", renderer=shaded),
        layer("gpkg", f"GPKG:{DATA}/raster.gpkg:raster", "gdal"),
        layer("mbtiles", f"{DATA}/raster.mbtiles", "gdal"),
    ]


# ---- Formats of vectors, meshes and tiles


@project("formats", "Formats")
def formats() -> Layers:
    def dots(colour: str) -> Any:
        return plain("marker", size=3, color=colour)

    csv = f"file://{DATA}/points.csv?type=csv&xField=x&yField=y&crs=EPSG:4326"
    mesh = layer("mesh", f"{DATA}/mesh.2dm", "mdal")
    mesh.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    tiles = layer("tiles", f"type=mbtiles&url={DATA}/tiles.mbtiles", "vectortile")
    return [
        layer("csv", csv, "delimitedtext", renderer=dots("#aa0000")),
        layer("shape", f"{DATA}/points.shp", renderer=dots("#00aa00")),
        layer("geojson", f"{DATA}/points.geojson", renderer=dots("#0000aa")),
        layer("flatgeobuf", f"{DATA}/points.fgb", renderer=dots("#aaaa00")),
        layer(
            "spatialite",
            f"dbname='{DATA}/points.sqlite' table=\"points\" (geom)",
            "spatialite",
            renderer=dots("#aa00aa"),
        ),
        layer("kml", f"{DATA}/points.kml", renderer=dots("#00aaaa")),
        layer("gml", f"{DATA}/points.gml", renderer=dots("#aa5500")),
        layer("gpx", f"{DATA}/points.gpx|layername=waypoints", renderer=dots("#55aa00")),
        layer("zipped", f"/vsizip/{DATA}/points.zip/points.shp", renderer=dots("#0055aa")),
        mesh,
        tiles,
    ]


# ---- Joins and relations


def relate(project: QgsProject) -> None:
    (parent,) = project.mapLayersByName("countries")
    (child,) = project.mapLayersByName("points")
    relation = QgsRelation(QgsRelationContext(project))
    relation.setId("points_of")
    relation.setName("points_of")
    relation.setReferencedLayer(parent.id())
    relation.setReferencingLayer(child.id())
    relation.addFieldPair("iso_a2", "iso_a2")
    if not relation.isValid():
        raise SystemExit("the relation isn't valid")
    project.relationManager().addRelation(relation)
    for made in (parent, child):
        made.setMapTipTemplate(
            '<b>[% "iso_a2" %]</b> '
            "[% relation_aggregate('points_of', 'concatenate', \"name\", concatenator:=',') %]"
        )
    setup = {
        "Layer": parent.id(),
        "LayerName": "countries",
        "Key": "iso_a2",
        "Value": "NAME",
        "OrderByValue": True,
    }
    at = child.fields().indexOf("iso_a2")
    child.setEditorWidgetSetup(at, QgsEditorWidgetSetup("ValueRelation", setup))
    # Where labels were put by hand is kept in a database within the .qgz.
    storage = project.auxiliaryStorage()
    key = child.fields().field("fid")
    added = storage.createAuxiliaryLayer(key, child)
    child.setAuxiliaryLayer(added)


@project("joins", "Joins and relations", more=relate, suffix=".qgz")
def joins() -> Layers:
    csv = f"file://{DATA}/points.csv?type=csv&geomType=none"
    facts = layer("facts", csv, "delimitedtext")
    joined = layer("joined", COUNTRIES)
    info = QgsVectorLayerJoinInfo()
    info.setJoinLayer(facts)
    info.setJoinFieldName("iso_a2")
    info.setTargetFieldName("iso_a2")
    info.setUsingMemoryCache(True)
    info.setPrefix("fact_")
    joined.addJoin(info)
    root = QgsRuleBasedRenderer.Rule(None)
    for at, colour in enumerate(
        ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725", "#eeeeee", "#888888")
    ):
        rule = QgsRuleBasedRenderer.Rule(simple("fill", color=colour))
        rule.setFilterExpression(f'"fact_rank" = {at}')
        root.appendChild(rule)
    joined.setRenderer(QgsRuleBasedRenderer(root))
    return [
        joined,
        layer("countries", COUNTRIES, renderer=plain("fill", **LAND)),
        layer("points", POINTS, renderer=plain("marker", size=3), labels=labels("name")),
        facts,
    ]


# ---- Reprojection, virtual layers, expressions


def many_crs(project: QgsProject) -> None:
    known = ["EPSG:4326", "EPSG:3857", "EPSG:31467", "EPSG:25832", "EPSG:3035", "EPSG:21781"]
    known += ["EPSG:27572", "EPSG:3031", "ESRI:54030", "EPSG:4258", "EPSG:2193"]
    project.writeEntry("WMSCrsList", "/", known)


@project("crs", "Reference systems", more=many_crs)
def crs() -> Layers:
    # Around Frankfurt, on the datum DHDN: the way to WGS 84 is a grid, BETA2007.gsb.
    dots = plain("marker", size=4, color="#cc2200")
    return [
        layer("gauss", f"{DATA}/gauss.gpkg|layername=gauss", renderer=dots),
        land(labels=labels("NAME")),
        layer("relief", f"{DATA}/relief.tif", "gdal", renderer=shaded),
        layer("waves", LINES, renderer=plain("line", color="#2244cc", line_width=0.6)),
    ]


@project("virtual", "Virtual layers")
def virtual() -> Layers:
    countries = quote(COUNTRIES, safe="/:=|.")
    points = quote(POINTS, safe="/:=|.")
    sources = f"?layer=ogr:{countries}:c:UTF8&layer=ogr:{points}:p:UTF8"

    def query(text: str, kind: str) -> str:
        return f"{sources}&query={quote(text)}&geometry=geometry:{kind}:4326&uid=id"

    return [
        layer(
            "joined",
            query(
                "SELECT c.fid AS id, c.NAME AS name, p.rank AS rank, c.geometry AS geometry "
                "FROM c JOIN p ON c.iso_a2 = p.iso_a2 WHERE p.rank < 3",
                "6",
            ),
            "virtual",
            renderer=plain("fill", color="#6699cc"),
        ),
        layer(
            "buffered",
            query(
                "SELECT p.rank AS id, count(*) AS many, "
                "st_union(st_buffer(p.geometry, 2.5)) AS geometry FROM p GROUP BY p.rank",
                "6",
            ),
            "virtual",
            renderer=plain("fill", color="#cc9966"),
        ),
    ]


def set_variables(project: QgsProject) -> None:
    QgsExpressionContextUtils.setProjectVariable(project, "greeting", "Welcome")


@project("expressions", "Expressions", more=set_variables)
def expressions() -> Layers:
    over = {"placement": placement("OverPoint"), "displayAll": True}
    texts = {
        "variables": "@greeting || ' ' || @project_title || ' ' || @layer_name",
        "aggregates": "count(1, rank) || '/' || round(mean(size, rank), 1)",
        "lookups": "attribute(get_feature('land', 'iso_a2', iso_a2), 'NAME')",
        "overlays": "array_to_string(overlay_within('land', \"ISO_A3\"))",
        "rasters": "round(raster_value('relief', 1, $geometry), 1)",
        "formats": "format_date(\"day\", 'd MMMM yyyy', 'de') || format_number(size, 2, 'fr')",
        "files": f"file_size('{DATA}/house.svg') || file_suffix(layer_property(@layer, 'source'))",
        "json": "map_get(from_json('{\"a\": 7}'), 'a') || regexp_replace(name, '[aeiou]', '_')",
        "scales": "round(@map_scale / 1e6) || ' ' || "
        "round(x(transform($geometry, 'EPSG:4326', 'EPSG:3857')))",
    }
    sized = plain("marker", color="#5533aa")
    sized.symbol().setDataDefinedSize(QgsProperty.fromExpression("2 + rank"))
    dot = plain("marker", size=1)
    return [
        *(
            layer(name, POINTS, renderer=dot.clone(), labels=labels(text, **over))
            for name, text in texts.items()
        ),
        layer("sized", POINTS, renderer=sized),
        land(),
        layer("relief", f"{DATA}/relief.tif", "gdal", renderer=shaded),
    ]


# ---- A plugin of the server


@project("plugin", "A plugin")
def plugin() -> Layers:
    return [
        layer("points", POINTS, renderer=plain("marker", size=3)),
        land(),
        layer("hidden", STATES, renderer=plain("fill", color="#cc4444")),
    ]
