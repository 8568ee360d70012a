# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the projects whose replies are watched: rich.qgs, with whatever a request can change for
its own reply, and spare.qgs, with a layer that may be edited.

Run inside a testbed, after make_projects.py, on a folder that holds its files and another one that
workers may write to:

    python3 rich.py /var/lib/qgis-server/projects /srv/edit
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, "/srv/maps")

from make_projects import (
    WORLD,
    borders,
    close_database,
    countries,
    fill_project,
    relief,
    save,
    set_short_name,
    states,
    vector_layer,
)
from osgeo import gdal, ogr, osr
from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsFillSymbol,
    QgsLayoutItemLabel,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsMapLayer,
    QgsMapThemeCollection,
    QgsMarkerSymbol,
    QgsPrintLayout,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsRectangle,
    QgsRuleBasedRenderer,
    QgsSettings,
    QgsSingleBandGrayRenderer,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
    QgsVectorLayerJoinInfo,
)
from qgis.PyQt.QtCore import QSettings

CODES = ("DE", "FR", "IT", "ES", "PL", "SE", "NO", "FI", "GB", "TR", "EG", "BR")


def make_data(file: Path) -> None:
    """Points and a table; and points that requests add to."""
    crs = osr.SpatialReference()
    crs.ImportFromEPSG(4326)
    dataset = gdal.GetDriverByName("GPKG").Create(str(file), 0, 0, 0, gdal.GDT_Unknown)
    for name, kind in (("places", ogr.wkbPoint), ("scratch", ogr.wkbPoint), ("facts", ogr.wkbNone)):
        table = dataset.CreateLayer(name, crs if kind == ogr.wkbPoint else None, kind)
        for field, of_type in (
            ("name", ogr.OFTString),
            ("rank", ogr.OFTInteger),
            ("size", ogr.OFTReal),
        ):
            table.CreateField(ogr.FieldDefn(field, of_type))
        for number, code in enumerate(CODES):
            feature = ogr.Feature(table.GetLayerDefn())
            feature.SetField("name", code)
            feature.SetField("rank", number % 4)
            feature.SetField("size", number * 1.5)
            if kind == ogr.wkbPoint:
                place = f"POINT ({(number * 29) % 340 - 170} {(number * 13) % 160 - 80})"
                feature.SetGeometry(ogr.CreateGeometryFromWkt(place))
            table.CreateFeature(feature)


def style(layer: QgsMapLayer, name: str, renderer: object, opacity: float = 1.0) -> None:
    """A further style, which is not the current one."""
    manager = layer.styleManager()
    current = manager.currentStyle()
    manager.addStyleFromLayer(name)
    manager.setCurrentStyle(name)
    layer.setRenderer(renderer)
    layer.setOpacity(opacity)
    if isinstance(layer, QgsVectorLayer):
        layer.setLabelsEnabled(False)
    manager.setCurrentStyle(current)


def fill(**values: str) -> QgsSingleSymbolRenderer:
    return QgsSingleSymbolRenderer(QgsFillSymbol.createSimple(values))


def dots(**values: str) -> QgsSingleSymbolRenderer:
    return QgsSingleSymbolRenderer(QgsMarkerSymbol.createSimple(values))


def editable(edit: Path, table: str) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"{edit}/rich.gpkg|layername={table}", table, "ogr")
    if not layer.isValid():
        raise SystemExit(f"{edit}/rich.gpkg: can't read {table}")
    set_short_name(layer, table)
    if layer.isSpatial():
        layer.setRenderer(dots(color="#cc2200", size="3"))
    return layer


def canvas(folder: Path) -> QgsRasterLayer:
    """Its colours follow from what the part of it has that is drawn."""
    layer = QgsRasterLayer(f"{folder}/relief.tif", "canvas", "gdal")
    set_short_name(layer, "canvas")
    renderer = QgsSingleBandGrayRenderer(layer.dataProvider(), 1)
    stretch = QgsContrastEnhancement(layer.dataProvider().dataType(1))
    stretch.setContrastEnhancementAlgorithm(QgsContrastEnhancement.StretchToMinimumMaximum)
    stretch.setMinimumValue(-3500)
    stretch.setMaximumValue(3500)
    renderer.setContrastEnhancement(stretch)
    origin = QgsRasterMinMaxOrigin()
    origin.setLimits(QgsRasterMinMaxOrigin.MinMax)
    origin.setExtent(QgsRasterMinMaxOrigin.UpdatedCanvas)
    renderer.setMinMaxOrigin(origin)
    layer.setRenderer(renderer)
    return layer


def joined(folder: Path, facts: QgsVectorLayer) -> QgsVectorLayer:
    layer = vector_layer(folder, "countries", "joined")
    set_short_name(layer, "joined")
    info = QgsVectorLayerJoinInfo()
    info.setJoinLayer(facts)
    info.setJoinFieldName("name")
    info.setTargetFieldName("iso_a2")
    info.setUsingMemoryCache(True)
    info.setPrefix("fact_")
    layer.addJoin(info)
    root = QgsRuleBasedRenderer.Rule(None)
    for rank, colour in enumerate(("#440154", "#3b528b", "#21918c", "#5ec962")):
        rule = QgsRuleBasedRenderer.Rule(QgsFillSymbol.createSimple({"color": colour}))
        rule.setFilterExpression(f'"fact_rank" = {rank}')
        rule.setLabel(f"rank {rank}")
        root.appendChild(rule)
    layer.setRenderer(QgsRuleBasedRenderer(root))
    return layer


def make_layers(folder: Path, edit: Path) -> dict[str, QgsMapLayer]:
    land = countries(folder)
    land.styleManager().renameStyle(land.styleManager().currentStyle(), "groups")
    style(land, "plain", fill(color="#dddddd"), 0.8)
    style(land, "dark", fill(color="#202020", outline_color="#eeeeee"))
    land.setFieldAlias(land.fields().indexFromName("NAME"), "Country")
    land.setDisplayExpression('upper("NAME")')
    land.setMapTipTemplate('<b>[% "NAME" %]</b>')
    places = editable(edit, "places")
    style(places, "big", dots(color="#0022cc", size="8", name="square"))
    part = vector_layer(folder, "countries", "filtered")
    set_short_name(part, "filtered")
    part.setRenderer(fill(color="#66aa66"))
    part.setSubsetString("\"iso_a2\" > 'M'")
    facts = editable(edit, "facts")
    # Two of one name, as projects have them.
    twins = [borders(folder), states(folder)]
    for twin in twins:
        twin.setName("twin")
        set_short_name(twin, "")
        style(twin, "other", twin.renderer().clone(), 0.5)
    return {
        "places": places,
        "countries": land,
        "joined": joined(folder, facts),
        "filtered": part,
        "twin": twins[0],
        "twin2": twins[1],
        "relief": relief(folder),
        "canvas": canvas(folder),
        "facts": facts,
    }


def add_layout(
    project: QgsProject, name: str, text: str
) -> tuple[QgsPrintLayout, QgsLayoutItemMap]:
    layout = QgsPrintLayout(project)
    layout.initializeDefaults()
    layout.setName(name)
    shown = QgsLayoutItemMap(layout)
    label = QgsLayoutItemLabel(layout)
    label.setId("note")
    label.setText(text)
    legend = QgsLayoutItemLegend(layout)
    for item, place, size in (
        (shown, (10, 30), (200, 120)),
        (label, (10, 10), (200, 15)),
        (legend, (215, 30), (75, 120)),
    ):
        layout.addLayoutItem(item)
        item.attemptMove(QgsLayoutPoint(*place))
        item.attemptResize(QgsLayoutSize(*size))
    legend.setLinkedMap(shown)
    shown.zoomToExtent(QgsRectangle(*WORLD))
    project.layoutManager().addLayout(layout)
    return layout, shown


def arrange(project: QgsProject, layers: dict[str, QgsMapLayer]) -> None:
    """Groups, a theme, and layouts that follow it and an atlas."""
    root = project.layerTreeRoot()
    for name, members in (("Base", ("relief", "countries")), ("Twins", ("twin", "twin2"))):
        group = root.addGroup(name)
        for member in members:
            node = root.findLayer(layers[member].id())
            group.addChildNode(node.clone())
            root.removeChildNode(node)
    theme = QgsMapThemeCollection.MapThemeRecord()
    for name, chosen in (("countries", "dark"), ("relief", "grey")):
        record = QgsMapThemeCollection.MapThemeLayerRecord(layers[name])
        record.isVisible = True
        record.usingCurrentStyle = True
        record.currentStyle = chosen
        theme.addLayerRecord(record)
    project.mapThemeCollection().insert("night", theme)

    _, shown = add_layout(project, "Theme", "By night, [% @project_title %]")
    shown.setFollowVisibilityPreset(True)
    shown.setFollowVisibilityPresetName("night")
    layout, shown = add_layout(project, "Atlas", '[% "NAME" %]: [% @atlas_featurenumber %]')
    shown.setAtlasDriven(True)
    layout.atlas().setEnabled(True)
    layout.atlas().setCoverageLayer(layers["countries"])
    project.writeEntry("WMSMaxAtlasFeatures", "/", 10)


def allow_edits(project: QgsProject, layer: QgsMapLayer) -> None:
    for what in ("Update", "Insert", "Delete"):
        project.writeEntry("WFSTLayers", what, [layer.id()])


def make(folder: Path, edit: Path) -> None:
    layers = make_layers(folder, edit)
    project = QgsProject()
    fill_project(project, "Rich", list(layers.values()))
    # The OGC API serves none of a project that has two collections of one name.
    known = project.readListEntry("WFSLayers", "/")[0]
    twins = {layers[name].id() for name in ("twin", "twin2")}
    project.writeEntry("WFSLayers", "/", [name for name in known if name not in twins])
    arrange(project, layers)
    allow_edits(project, layers["places"])
    save(project, folder / "rich.qgs")
    spare = editable(edit, "scratch")
    project = QgsProject()
    fill_project(project, "Spare", [spare])
    allow_edits(project, spare)
    save(project, folder / "spare.qgs")


def main() -> None:
    folder, edit = (Path(name) for name in sys.argv[1:])
    gdal.UseExceptions()
    osr.UseExceptions()
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    application = QgsApplication([], True)
    application.initQgis()
    # Several layers are of one file, and a log of its own for each would be in the way.
    QgsSettings().setValue("qgis/walForSqlite3", False)
    make_data(edit / "rich.gpkg")
    make(folder, edit)
    application.exitQgis()
    close_database(folder / "world_map.gpkg")


if __name__ == "__main__":
    main()
