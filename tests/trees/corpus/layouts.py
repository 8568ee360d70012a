# SPDX-License-Identifier: GPL-2.0-or-later
"""Projects of what is printed."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsLayoutFrame,
    QgsLayoutItemAttributeTable,
    QgsLayoutItemLabel,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutItemPage,
    QgsLayoutItemPicture,
    QgsLayoutItemPolygon,
    QgsLayoutItemScaleBar,
    QgsLayoutItemShape,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsPrintLayout,
    QgsProject,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QPointF
from qgis.PyQt.QtGui import QPolygonF
from registry import Layers, project
from renderers import categorized
from styles import (
    COUNTRIES,
    DATA,
    POINTS,
    labels,
    layer,
    plain,
    written,
)

SVG = "/usr/share/qgis/svg"


def place(
    layout: QgsPrintLayout, item: Any, page: int, x: float, y: float, w: float, h: float
) -> None:
    layout.addLayoutItem(item)
    item.attemptMove(QgsLayoutPoint(x, y), page=page)
    item.attemptResize(QgsLayoutSize(w, h))


def picture(layout: QgsPrintLayout, path: str) -> QgsLayoutItemPicture:
    made = QgsLayoutItemPicture(layout)
    made.setPicturePath(path)
    return made


def mapped(layout: QgsPrintLayout, layers: Layers, number: int) -> QgsLayoutItemMap:
    made = QgsLayoutItemMap(layout)
    made.setId(f"map{number}")
    made.setKeepLayerSet(True)
    made.setLayers(layers)
    return made


def captioned(layout: QgsPrintLayout, text: str, html: bool = False) -> QgsLayoutItemLabel:
    made = QgsLayoutItemLabel(layout)
    made.setText(text)
    if html:
        made.setMode(QgsLayoutItemLabel.ModeHtml)
    if hasattr(made, "setTextFormat"):
        made.setTextFormat(written(size=14))
    else:
        made.setFont(written(size=14).font())
    return made


def new_layout(project: QgsProject, name: str, pages: int = 1) -> QgsPrintLayout:
    layout = QgsPrintLayout(project)
    layout.initializeDefaults()
    layout.setName(name)
    for _ in range(pages - 1):
        page = QgsLayoutItemPage(layout)
        page.setPageSize("A5")
        layout.pageCollection().addPage(page)
    project.layoutManager().addLayout(layout)
    return layout


def add_layouts(project: QgsProject) -> None:
    project.writeEntry("WMSMaxAtlasFeatures", "/", 10)
    world = QgsRectangle(-180, -90, 180, 90)
    countries, points = (project.mapLayersByName(name)[0] for name in ("countries", "points"))

    pages = new_layout(project, "Pages", 3)
    first = mapped(pages, [points, countries], 0)
    place(pages, first, 0, 10, 25, 270, 135)
    first.zoomToExtent(world)
    first.grid().setEnabled(True)
    first.grid().setIntervalX(30)
    first.grid().setIntervalY(30)
    first.grid().setAnnotationEnabled(True)
    place(
        pages,
        captioned(pages, "Page [% @layout_page %] of [% @layout_numpages %]"),
        0,
        10,
        5,
        200,
        15,
    )
    place(pages, picture(pages, f"{SVG}/wind_roses/WindRose_01.svg"), 0, 250, 5, 20, 20)
    bar = QgsLayoutItemScaleBar(pages)
    bar.setStyle("Double Box")
    place(pages, bar, 0, 10, 170, 80, 15)
    bar.setLinkedMap(first)
    bar.applyDefaultSize()
    place(pages, picture(pages, f"{DATA}/picture.png"), 1, 10, 10, 60, 45)
    place(pages, picture(pages, f"{DATA}/picture.jpg"), 1, 80, 10, 60, 45)
    place(pages, picture(pages, f"{DATA}/house.svg"), 1, 10, 70, 40, 40)
    legend = QgsLayoutItemLegend(pages)
    place(pages, legend, 1, 80, 70, 60, 60)
    legend.setLinkedMap(first)
    second = mapped(pages, [countries], 1)
    place(pages, second, 2, 10, 10, 120, 80)
    second.setCrs(QgsCoordinateReferenceSystem("EPSG:3035"))
    second.zoomToExtent(QgsRectangle(2500000, 1400000, 7400000, 5500000))
    shape = QgsLayoutItemShape(pages)
    shape.setShapeType(QgsLayoutItemShape.Ellipse)
    place(pages, shape, 2, 135, 10, 30, 30)
    corners = QPolygonF([QPointF(0, 0), QPointF(30, 0), QPointF(15, 20)])
    polygon = QgsLayoutItemPolygon(corners, pages)
    place(pages, polygon, 2, 135, 50, 30, 20)

    table = new_layout(project, "Table")
    rows = QgsLayoutItemAttributeTable.create(table)
    table.addMultiFrame(rows)
    rows.setVectorLayer(points)
    rows.setMaximumNumberOfFeatures(8)
    rows.setDisplayedFields(["name", "iso_a2", "size"])
    for form in ("setContentTextFormat", "setHeaderTextFormat"):
        if hasattr(rows, form):
            getattr(rows, form)(written(size=9))
    frame = QgsLayoutFrame(table, rows)
    rows.addFrame(frame)
    frame.attemptMove(QgsLayoutPoint(10, 10))
    frame.attemptResize(QgsLayoutSize(250, 120))
    text = captioned(table, "<h1>Words</h1><p>in <b>HTML</b></p>", html=True)
    place(table, text, 0, 10, 140, 200, 50)

    atlas = new_layout(project, "Atlas")
    page = mapped(atlas, [points, countries], 0)
    place(atlas, page, 0, 10, 25, 270, 170)
    page.zoomToExtent(world)
    page.setAtlasDriven(True)
    place(atlas, captioned(atlas, '[% "NAME" %]: [% @atlas_featurenumber %]'), 0, 10, 5, 200, 15)
    atlas.atlas().setEnabled(True)
    atlas.atlas().setCoverageLayer(countries)
    atlas.atlas().setSortFeatures(True)
    atlas.atlas().setSortExpression("NAME")


@project("layouts", "Layouts", more=add_layouts)
def layouts() -> Layers:
    return [
        layer("points", POINTS, renderer=plain("marker", size=2)),
        layer("countries", COUNTRIES, renderer=categorized, labels=labels("NAME")),
    ]
