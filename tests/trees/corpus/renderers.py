# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to draw vectors and rasters."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsClassificationQuantile,
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsGraduatedSymbolRenderer,
    QgsHeatmapRenderer,
    QgsInvertedPolygonRenderer,
    QgsMergedFeatureRenderer,
    QgsPalettedRasterRenderer,
    QgsPointClusterRenderer,
    QgsPointDisplacementRenderer,
    QgsRasterContourRenderer,
    QgsRasterShader,
    QgsRendererCategory,
    QgsRuleBasedRenderer,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
    QgsStyle,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor
from styles import plain, simple


def ramp(name: str) -> Any:
    return QgsStyle.defaultStyle().colorRamp(name)


def categorized(made: QgsVectorLayer) -> QgsCategorizedSymbolRenderer:
    colours = ("#a6cee3", "#b2df8a", "#fb9a99", "#fdbf6f", "#cab2d6")
    categories = [
        QgsRendererCategory(at, simple("fill", color=colour), f"Group {at}")
        for at, colour in enumerate(colours)
    ]
    return QgsCategorizedSymbolRenderer('ascii("iso_a2") % 5', categories)


def graduated(made: QgsVectorLayer) -> QgsGraduatedSymbolRenderer:
    renderer = QgsGraduatedSymbolRenderer("size")
    renderer.setSourceSymbol(simple("marker", size=4))
    renderer.setSourceColorRamp(ramp("Spectral"))
    renderer.setClassificationMethod(QgsClassificationQuantile())
    renderer.updateClasses(made, 5)
    return renderer


def ruled(made: QgsVectorLayer) -> QgsRuleBasedRenderer:
    root = QgsRuleBasedRenderer.Rule(None)
    for expression, colour in (
        ("$area > 1e12", "#dd3333"),
        ("\"NAME\" ILIKE '%a'", "#33aa33"),
        ("ELSE", "#cccccc"),
    ):
        rule = QgsRuleBasedRenderer.Rule(simple("fill", color=colour))
        rule.setLabel(expression)
        rule.setFilterExpression(expression)
        root.appendChild(rule)
    return QgsRuleBasedRenderer(root)


def heat(made: QgsVectorLayer) -> QgsHeatmapRenderer:
    renderer = QgsHeatmapRenderer()
    renderer.setColorRamp(ramp("Reds"))
    renderer.setRadius(8)
    return renderer


def clustered(made: QgsVectorLayer) -> QgsPointClusterRenderer:
    renderer = QgsPointClusterRenderer()
    renderer.setTolerance(5)
    return renderer


def displaced(made: QgsVectorLayer) -> QgsPointDisplacementRenderer:
    renderer = QgsPointDisplacementRenderer()
    renderer.setTolerance(5)
    return renderer


def inverted(made: QgsVectorLayer) -> QgsInvertedPolygonRenderer:
    return QgsInvertedPolygonRenderer(plain("fill", color="#88aacc", outline_color="#224466"))


def merged(made: QgsVectorLayer) -> QgsMergedFeatureRenderer:
    return QgsMergedFeatureRenderer(plain("fill", color="#cc8844", outline_color="#442200"))


def shaded(made: Any) -> QgsSingleBandPseudoColorRenderer:
    made_of = QgsColorRampShader(-3500, 3500)
    made_of.setColorRampItemList(
        [
            QgsColorRampShader.ColorRampItem(-3500, QColor("#08306b"), "-3500"),
            QgsColorRampShader.ColorRampItem(0, QColor("#c7e9c0"), "0"),
            QgsColorRampShader.ColorRampItem(3500, QColor("#7f2704"), "3500"),
        ]
    )
    shader = QgsRasterShader()
    shader.setRasterShaderFunction(made_of)
    return QgsSingleBandPseudoColorRenderer(made.dataProvider(), 1, shader)


def grey(made: Any, least: int = -3500, most: int = 3500) -> QgsSingleBandGrayRenderer:
    renderer = QgsSingleBandGrayRenderer(made.dataProvider(), 1)
    stretch = QgsContrastEnhancement(made.dataProvider().dataType(1))
    stretch.setMinimumValue(least)
    stretch.setMaximumValue(most)
    stretch.setContrastEnhancementAlgorithm(QgsContrastEnhancement.StretchToMinimumMaximum)
    renderer.setContrastEnhancement(stretch)
    return renderer


def classes(made: Any) -> QgsPalettedRasterRenderer:
    colours = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02")
    return QgsPalettedRasterRenderer(
        made.dataProvider(),
        1,
        [
            QgsPalettedRasterRenderer.Class(at, QColor(colour), f"Class {at}")
            for at, colour in enumerate(colours)
        ],
    )


def contours(made: Any) -> QgsRasterContourRenderer:
    renderer = QgsRasterContourRenderer(made.dataProvider())
    renderer.setContourInterval(500)
    renderer.setContourSymbol(simple("line", color="#804000"))
    return renderer
