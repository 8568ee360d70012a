# SPDX-License-Identifier: GPL-2.0-or-later
"""Projects of what is drawn: vectors, symbols, labels, effects."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Any

from qgis.core import (
    Qgs25DRenderer,
    QgsBlurEffect,
    QgsDiagramLayerSettings,
    QgsDiagramSettings,
    QgsDropShadowEffect,
    QgsEffectStack,
    QgsMapLayer,
    QgsMapLayerServerProperties,
    QgsOuterGlowEffect,
    QgsPieDiagram,
    QgsRuleBasedLabeling,
    QgsSimpleLineCallout,
    QgsSingleCategoryDiagramRenderer,
    QgsSymbol,
    QgsTextBackgroundSettings,
    QgsTextBufferSettings,
    QgsTextShadowSettings,
    QgsVectorLayerSimpleLabeling,
)
from qgis.PyQt.QtCore import QSizeF
from qgis.PyQt.QtGui import QColor, QPainter
from registry import LAND, Layers, land, project
from renderers import (
    categorized,
    clustered,
    displaced,
    graduated,
    heat,
    inverted,
    merged,
    ruled,
    shaded,
)
from styles import (
    COUNTRIES,
    DATA,
    LINES,
    POINTS,
    STATES,
    label_settings,
    labels,
    layer,
    part,
    placement,
    plain,
    simple,
    single,
    written,
)

SVG = "/usr/share/qgis/svg"


def pies() -> QgsMapLayer:
    made = layer("diagrams", POINTS, renderer=plain("marker", size=1))
    settings = QgsDiagramSettings()
    settings.categoryAttributes = ['"rank" + 1', '"size" / 50']
    settings.categoryLabels = ["rank", "size"]
    settings.categoryColors = [QColor("#d95f02"), QColor("#1b9e77")]
    settings.size = QSizeF(5, 5)
    renderer = QgsSingleCategoryDiagramRenderer()
    renderer.setDiagram(QgsPieDiagram())
    renderer.setDiagramSettings(settings)
    made.setDiagramRenderer(renderer)
    placement = QgsDiagramLayerSettings()
    placement.placement = QgsDiagramLayerSettings.OverPoint
    placement.showAll = True
    made.setDiagramLayerSettings(placement)
    return made


def by_day() -> QgsMapLayer:
    made = layer("days", POINTS, renderer=plain("marker", size=4, color="#aa2288"))
    dimension = QgsMapLayerServerProperties.WmsDimensionInfo("time", "day")
    made.serverProperties().addWmsDimension(dimension)
    return made


@project("vector", "Vectors")
def vector() -> Layers:
    narrow = layer("narrow", COUNTRIES, renderer=plain("fill", color="#4477aa"))
    narrow.setSubsetString("\"NAME\" LIKE 'G%'")
    near = layer("near", STATES, renderer=plain("fill", color="#aa7744"))
    near.setScaleBasedVisibility(True)
    near.setMinimumScale(3e7)
    return [
        layer("categorized", COUNTRIES, renderer=categorized),
        layer("graduated", POINTS, renderer=graduated),
        layer("ruled", COUNTRIES, renderer=ruled),
        layer("inverted", COUNTRIES, renderer=inverted),
        layer("merged", STATES, renderer=merged),
        layer("heat", POINTS, renderer=heat),
        layer("clustered", POINTS, renderer=clustered),
        layer("displaced", POINTS, renderer=displaced),
        layer(
            "high", f"{COUNTRIES}|subset=\"NAME\" LIKE 'G%'", renderer=lambda made: Qgs25DRenderer()
        ),
        pies(),
        by_day(),
        narrow,
        near,
        land(),
    ]


# ---- Symbols


def checked(name: str, source: str, kind: str, *parts: Any) -> QgsMapLayer:
    return layer(name, source, renderer=single(kind, *parts))


def nested(name: str, sub: QgsSymbol, /, **values: Any) -> Any:
    made = part(name, **values)
    if not made.setSubSymbol(sub):
        raise SystemExit(f"{name} takes no such symbol")
    return made


@project("symbols", "Symbols")
def symbols() -> Layers:
    small = partial(simple, "marker", size=1.5, name="star", color="#aa0000")
    house = f"{DATA}/house.svg"
    embedded = base64.b64encode(Path(house).read_bytes()).decode()
    return [
        checked(
            "svg_own", POINTS, "marker", part("SvgMarker", name=house, size=5, color="#3377ff")
        ),
        checked(
            "svg_of_qgis",
            POINTS,
            "marker",
            part("SvgMarker", name="symbol/education_school.svg", size=5, color="#117733"),
        ),
        checked(
            "svg_embedded",
            POINTS,
            "marker",
            part("SvgMarker", name=f"base64:{embedded}", size=6, color="#ffaa00"),
        ),
        checked(
            "font_marker",
            POINTS,
            "marker",
            part("FontMarker", font="DejaVu Sans", chr="A", size=4, color="#222288"),
        ),
        checked(
            "raster_marker",
            POINTS,
            "marker",
            part("RasterMarker", imageFile=f"{DATA}/picture.png", size=6),
        ),
        checked(
            "ellipses",
            POINTS,
            "marker",
            part("EllipseMarker", symbol_width=5, symbol_height=2, angle=30, color="#55aaaa"),
        ),
        checked("filled_marker", POINTS, "marker", part("FilledMarker", name="hexagon", size=5)),
        checked(
            "svg_fill",
            COUNTRIES,
            "fill",
            part("SVGFill", svgFile=f"{SVG}/symbol/landuse_coniferous.svg", width=6),
        ),
        checked(
            "raster_fill",
            COUNTRIES,
            "fill",
            part("RasterFill", imageFile=f"{DATA}/picture.jpg", width=10),
        ),
        checked(
            "gradient",
            COUNTRIES,
            "fill",
            part("GradientFill", color="#ff0000", gradient_color2="#0000ff"),
        ),
        checked(
            "shapeburst",
            COUNTRIES,
            "fill",
            part("ShapeburstFill", color="#ffffff", gradient_color2="#006600", max_distance=3),
        ),
        checked("hatched", COUNTRIES, "fill", part("LinePatternFill", angle=30, distance=2)),
        checked("dotted", COUNTRIES, "fill", part("PointPatternFill", distance_x=3, distance_y=3)),
        checked(
            "scattered",
            COUNTRIES,
            "fill",
            nested("RandomMarkerFill", small(), point_count=5, seed=42),
        ),
        checked("centroids", COUNTRIES, "fill", nested("CentroidFill", small())),
        checked("marker_line", LINES, "line", nested("MarkerLine", small(), interval=4)),
        checked("hash_line", LINES, "line", part("HashLine", interval=3, hash_length=3)),
        checked("arrows", LINES, "line", part("ArrowLine", arrow_width=1, is_curved=1)),
        checked(
            "generated",
            POINTS,
            "marker",
            nested(
                "GeometryGenerator",
                simple("fill", color="#88cc88"),
                SymbolType="Fill",
                geometryModifier="buffer($geometry, 1 + rank / 2)",
            ),
        ),
        land(),
    ]


# ---- Labels


def with_(form: Any, **parts: Any) -> Any:
    for name, value in parts.items():
        getattr(form, f"set{name}")(value)
    return form


def ruled_labels() -> QgsRuleBasedLabeling:
    root = QgsRuleBasedLabeling.Rule(None)
    # Where labels of two rules compete, it depends on addresses in memory which one wins.
    for text, colour, expression in (
        ("upper(name)", "#aa0000", "rank < 4"),
        ("name", "#0000aa", "rank > 100"),
    ):
        settings = label_settings(text, written(colour=colour))
        rule = QgsRuleBasedLabeling.Rule(settings, 0, 0, expression)
        root.appendChild(rule)
    return QgsRuleBasedLabeling(root)


@project("labels", "Labels")
def label_kinds() -> Layers:
    halo = QgsTextBufferSettings()
    halo.setEnabled(True)
    halo.setColor(QColor("#ffffff"))
    halo.setSize(1)
    box = QgsTextBackgroundSettings()
    box.setEnabled(True)
    box.setFillColor(QColor("#ffee88"))
    crest = QgsTextBackgroundSettings()
    crest.setEnabled(True)
    crest.setType(QgsTextBackgroundSettings.ShapeSVG)
    crest.setSvgFile(f"{DATA}/house.svg")
    crest.setSize(QSizeF(2, 2))
    shade = QgsTextShadowSettings()
    shade.setEnabled(True)
    shade.setOffsetDistance(1)
    shade.setBlurRadius(1)
    bold = written(size=9)
    font = bold.font()
    font.setBold(True)
    font.setItalic(True)
    bold.setFont(font)
    callout = QgsSimpleLineCallout()
    callout.setEnabled(True)
    far = label_settings("name", written(), yOffset=-5, placement=placement("OverPoint"))
    far.setCallout(callout)
    dot = plain("marker", size=1)
    wave = plain("line", color="#4444cc")
    over = {"placement": placement("OverPoint"), "displayAll": True}
    # Letters of several scripts that DejaVu has.
    scripts = "'Ελλάς Россия العربية'"
    fancy = placement("Curved")
    return [
        layer("simple", POINTS, renderer=dot, labels=labels("name")),
        layer("bold", POINTS, renderer=dot.clone(), labels=labels("name", bold)),
        layer(
            "halo",
            POINTS,
            renderer=dot.clone(),
            labels=labels("name", with_(written(), Buffer=halo)),
        ),
        layer(
            "boxed",
            POINTS,
            renderer=dot.clone(),
            labels=labels("name", with_(written(), Background=box)),
        ),
        layer(
            "crest",
            POINTS,
            renderer=dot.clone(),
            labels=labels("iso_a2", with_(written(size=6), Background=crest)),
        ),
        layer(
            "shadow",
            POINTS,
            renderer=dot.clone(),
            labels=labels("name", with_(written(), Shadow=shade)),
        ),
        layer(
            "serif", POINTS, renderer=dot.clone(), labels=labels("name", written("DejaVu Serif"))
        ),
        layer(
            "fonts_own",
            POINTS,
            renderer=dot.clone(),
            labels=labels("upper(name)", written("OCRA")),
        ),
        layer(
            "missing_font",
            POINTS,
            renderer=dot.clone(),
            labels=labels("upper(name)", written("No Such Font")),
        ),
        layer(
            "scripts",
            POINTS,
            renderer=dot.clone(),
            labels=labels(scripts, written(size=10), **over),
        ),
        layer(
            "lines",
            POINTS,
            renderer=dot.clone(),
            labels=labels("name || '\n' || rank", written(size=6)),
        ),
        layer("ruled", POINTS, renderer=dot.clone(), labels=ruled_labels()),
        layer("called_out", POINTS, renderer=dot.clone(), labels=QgsVectorLayerSimpleLabeling(far)),
        layer(
            "curved", LINES, renderer=wave, labels=labels("name", written(size=9), placement=fancy)
        ),
        layer(
            "areas",
            COUNTRIES,
            renderer=plain("fill", **LAND),
            labels=labels("NAME", placement=placement("Horizontal")),
        ),
    ]


# ---- Blending


@project("blending", "Blending and effects")
def blending() -> Layers:
    relief = layer("relief", f"{DATA}/relief.tif", "gdal", renderer=shaded)

    def over(name: str, mode: Any) -> QgsMapLayer:
        made = layer(name, COUNTRIES, renderer=categorized)
        made.setBlendMode(mode)
        return made

    dots = layer("features", POINTS, renderer=plain("marker", size=8, color="#ff8800"))
    dots.setFeatureBlendMode(QPainter.CompositionMode_Multiply)
    half = layer("half", COUNTRIES, renderer=categorized)
    half.setOpacity(0.4)

    def effect(name: str, *effects: Any) -> QgsMapLayer:
        made = layer(name, POINTS, renderer=plain("marker", size=5, color="#2244aa"))
        stack = QgsEffectStack()
        for each in effects:
            stack.appendEffect(each)
        stack.setEnabled(True)
        made.renderer().setPaintEffect(stack)
        return made

    blur = QgsBlurEffect()
    blur.setBlurLevel(1)
    glow = QgsOuterGlowEffect()
    glow.setColor(QColor("#00aa00"))
    return [
        over("multiply", QPainter.CompositionMode_Multiply),
        over("screen", QPainter.CompositionMode_Screen),
        over("overlay", QPainter.CompositionMode_Overlay),
        over("difference", QPainter.CompositionMode_Difference),
        over("burn", QPainter.CompositionMode_ColorBurn),
        dots,
        half,
        effect("blurred", blur),
        effect("shadows", QgsDropShadowEffect(), QgsBlurEffect()),
        effect("glowing", glow),
        relief,
    ]
