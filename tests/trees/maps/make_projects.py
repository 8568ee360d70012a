# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the map projects that the tests are served from.

Run inside a Debian tree that has python3-qgis, on a folder that holds world_map.gpkg (Natural
Earth, from Debian's qgis-common):

    QT_QPA_PLATFORM=offscreen python3 make_projects.py /srv/maps

It writes relief.tif, world.qgz, second.qgs and "Straßen & Wege/Übersicht Köln.qgs". Two runs with
one QGIS version give the same bytes: identifiers and dates in the project files are rewritten.
"""

import os
import re
import sqlite3
import struct
import sys
import uuid
import zipfile
from array import array
from math import cos, pi, sin
from pathlib import Path

# Qt orders XML attributes by a hash that is seeded anew in each process, unless it is told not to.
os.environ["QT_HASH_SEED"] = "0"
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from osgeo import gdal, osr
from qgis.core import (
    QgsApplication,
    QgsCategorizedSymbolRenderer,
    QgsColorRampShader,
    QgsCoordinateReferenceSystem,
    QgsFillSymbol,
    QgsLayoutItem,
    QgsLayoutItemLabel,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutItemScaleBar,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsLineSymbol,
    QgsMapLayer,
    QgsPalLayerSettings,
    QgsPrintLayout,
    QgsProject,
    QgsRasterLayer,
    QgsRasterShader,
    QgsRectangle,
    QgsReferencedRectangle,
    QgsRendererCategory,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
    QgsSingleSymbolRenderer,
    QgsTextFormat,
    QgsVectorLayer,
    QgsVectorLayerSimpleLabeling,
)
from qgis.PyQt.QtCore import QSettings
from qgis.PyQt.QtGui import QColor, QFont

WORLD = (-180.0, -90.0, 180.0, 90.0)
RELIEF_SIZE = (720, 360)
FONT = "DejaVu Sans"

# The date that stands in every project file and archive instead of the day of the run.
DATE = "2024-01-01T00:00:00"


def make_relief(target: Path) -> None:
    """A smooth height model from a formula, as 16-bit GeoTIFF in EPSG:4326."""
    width, height = RELIEF_SIZE
    west, _, east, north = WORLD
    step = (east - west) / width
    dataset = gdal.GetDriverByName("GTiff").Create(
        str(target), width, height, 1, gdal.GDT_Int16, ["COMPRESS=DEFLATE", "TILED=YES"]
    )
    dataset.SetGeoTransform((west, step, 0.0, north, 0.0, -step))
    crs = osr.SpatialReference()
    crs.ImportFromEPSG(4326)
    dataset.SetProjection(crs.ExportToWkt())
    band = dataset.GetRasterBand(1)
    band.SetNoDataValue(-32768)
    for row in range(height):
        lat = (north - (row + 0.5) * step) * pi / 180
        heights: array[int] = array("h")
        for column in range(width):
            lon = (west + (column + 0.5) * step) * pi / 180
            heights.append(
                round(2000 * sin(3 * lon) * cos(2 * lat) + 1500 * cos(5 * lon + 2 * lat))
            )
        band.WriteRaster(0, row, width, 1, heights.tobytes())
    band.ComputeStatistics(False)
    band = None
    dataset = None
    # The statistics went into the TIFF; a side file would only carry them twice.
    Path(f"{target}.aux.xml").unlink(missing_ok=True)


def set_short_name(layer: QgsMapLayer, name: str) -> None:
    # QGIS 3.38 moved it to the server properties and 4 has it nowhere else.
    properties = layer.serverProperties() if hasattr(layer, "serverProperties") else layer
    (properties if hasattr(properties, "setShortName") else layer).setShortName(name)


def vector_layer(folder: Path, table: str, title: str) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"{folder}/world_map.gpkg|layername={table}", title, "ogr")
    if not layer.isValid():
        raise SystemExit(f"{folder}/world_map.gpkg: can't read the table {table}")
    set_short_name(layer, table)
    return layer


def countries(folder: Path) -> QgsVectorLayer:
    layer = vector_layer(folder, "countries", "Countries")
    colours = ("#a6cee3", "#b2df8a", "#fb9a99", "#fdbf6f", "#cab2d6")
    categories = [
        QgsRendererCategory(
            value,
            QgsFillSymbol.createSimple(
                {"color": colour, "outline_color": "#555555", "outline_width": "0.2"}
            ),
            f"Group {value}",
        )
        for value, colour in enumerate(colours)
    ]
    layer.setRenderer(QgsCategorizedSymbolRenderer('ascii("iso_a2") % 5', categories))
    settings = QgsPalLayerSettings()
    settings.fieldName = "NAME"
    settings.setFormat(text_format(8, "#222222"))
    layer.setLabeling(QgsVectorLayerSimpleLabeling(settings))
    layer.setLabelsEnabled(True)
    return layer


def states(folder: Path) -> QgsVectorLayer:
    layer = vector_layer(folder, "states_provinces", "States and provinces")
    symbol = QgsFillSymbol.createSimple(
        {"style": "no", "outline_color": "#7f7f7f", "outline_width": "0.1"}
    )
    layer.setRenderer(QgsSingleSymbolRenderer(symbol))
    return layer


def borders(folder: Path) -> QgsVectorLayer:
    layer = vector_layer(folder, "disputed_borders", "Disputed borders")
    symbol = QgsLineSymbol.createSimple(
        {"line_color": "#d7191c", "line_width": "0.4", "line_style": "dash"}
    )
    layer.setRenderer(QgsSingleSymbolRenderer(symbol))
    return layer


def relief(folder: Path) -> QgsRasterLayer:
    layer = QgsRasterLayer(f"{folder}/relief.tif", "Relief", "gdal")
    if not layer.isValid():
        raise SystemExit(f"{folder}/relief.tif: can't read it")
    set_short_name(layer, "relief")
    layer.setRenderer(QgsSingleBandGrayRenderer(layer.dataProvider(), 1))
    layer.styleManager().renameStyle(layer.styleManager().currentStyle(), "grey")
    layer.styleManager().addStyleFromLayer("tinted")
    layer.styleManager().setCurrentStyle("tinted")
    ramp = QgsColorRampShader(-3500, 3500)
    ramp.setColorRampItemList(
        [
            QgsColorRampShader.ColorRampItem(-3500, QColor("#08306b"), "-3500"),
            QgsColorRampShader.ColorRampItem(0, QColor("#c7e9c0"), "0"),
            QgsColorRampShader.ColorRampItem(3500, QColor("#7f2704"), "3500"),
        ]
    )
    shader = QgsRasterShader()
    shader.setRasterShaderFunction(ramp)
    layer.setRenderer(QgsSingleBandPseudoColorRenderer(layer.dataProvider(), 1, shader))
    return layer


def text_format(size: float, colour: str) -> QgsTextFormat:
    result = QgsTextFormat()
    result.setFont(QFont(FONT))
    result.setSize(size)
    result.setColor(QColor(colour))
    return result


def add_layout(project: QgsProject, title: str, layers: list[QgsMapLayer]) -> None:
    """The layout A4: landscape, with a map, a title, a legend and a scale bar."""
    layout = QgsPrintLayout(project)
    layout.initializeDefaults()
    layout.setName("A4")

    def place(item: QgsLayoutItem, x: float, y: float, width: float, height: float) -> None:
        layout.addLayoutItem(item)
        item.attemptMove(QgsLayoutPoint(x, y))
        item.attemptResize(QgsLayoutSize(width, height))

    map_item = QgsLayoutItemMap(layout)
    map_item.setId("map")
    place(map_item, 10, 25, 277, 140)
    map_item.setLayers(layers)
    map_item.zoomToExtent(QgsRectangle(*WORLD))

    label = QgsLayoutItemLabel(layout)
    label.setId("title")
    label.setText(title)
    # QGIS 3.24 replaced the label's font by a text format.
    if hasattr(label, "setTextFormat"):
        label.setTextFormat(text_format(20, "#000000"))
    else:
        label.setFont(QFont(FONT, 20))
    place(label, 10, 8, 277, 14)

    legend = QgsLayoutItemLegend(layout)
    legend.setId("legend")
    legend.setLinkedMap(map_item)
    place(legend, 10, 168, 120, 38)

    scale_bar = QgsLayoutItemScaleBar(layout)
    scale_bar.setId("scale bar")
    scale_bar.setLinkedMap(map_item)
    scale_bar.applyDefaultSize()
    place(scale_bar, 190, 180, 90, 15)

    project.layoutManager().addLayout(layout)


def fill_project(project: QgsProject, title: str, layers: list[QgsMapLayer]) -> None:
    """Put the layers into the project and publish them over every service QGIS Server has."""
    project.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    project.setTitle(title)
    project.addMapLayers(layers)
    extent = QgsReferencedRectangle(QgsRectangle(*WORLD), project.crs())
    project.viewSettings().setDefaultViewExtent(extent)
    ids = [layer.id() for layer in layers]
    vectors = [layer.id() for layer in layers if isinstance(layer, QgsVectorLayer)]
    rasters = [layer.id() for layer in layers if isinstance(layer, QgsRasterLayer)]

    entries: dict[tuple[str, str], bool | int | str | list[str]] = {
        ("WMSServiceCapabilities", "/"): True,
        ("WMSServiceTitle", "/"): title,
        ("WMSServiceAbstract", "/"): f"{title}: Natural Earth data for tests",
        ("WMSRootName", "/"): "root",
        ("WMSCrsList", "/"): ["EPSG:4326", "EPSG:3857"],
        ("WMSExtent", "/"): [str(edge) for edge in WORLD],
        ("WMSAddWktGeometry", "/"): True,
        ("WFSLayers", "/"): vectors,
        ("WCSLayers", "/"): rasters,
        ("WMTSLayers", "Project"): True,
        ("WMTSLayers", "Layer"): ids,
        ("WMTSPngLayers", "Project"): True,
        ("WMTSPngLayers", "Layer"): ids,
        ("WMTSJpegLayers", "Project"): True,
        ("WMTSJpegLayers", "Layer"): ids,
        ("WMTSGrids", "CRS"): ["EPSG:3857", "EPSG:4326"],
        # Per grid: its name, top, left, the scale denominator of level 0 and the last level.
        ("WMTSGrids", "Config"): [
            "EPSG:3857,20037508.3428,-20037508.3428,559082264.0287178,18",
            "EPSG:4326,90.0,-180.0,279541132.0143589,18",
        ],
    }
    for layer_id in vectors:
        entries[("WFSLayersPrecision", f"/{layer_id}")] = 8
    for (scope, key), value in entries.items():
        # Python's writeEntry would store a bool as a number, which some readers don't take for one.
        write = project.writeEntryBool if isinstance(value, bool) else project.writeEntry
        write(scope, key, value)
    add_layout(project, title, layers)


def stable_text(text: str) -> str:
    """The project file without what differs between two runs: random ids, dates and users."""
    numbers: dict[str, uuid.UUID] = {}

    def stand_in(match: re.Match[str]) -> str:
        found = match.group().replace("_", "-").lower()
        number = numbers.setdefault(found, uuid.uuid5(uuid.NAMESPACE_OID, str(len(numbers))))
        return str(number).replace("-", "_") if "_" in match.group() else str(number)

    text = re.sub(r"(?i)\b(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", stand_in, text)
    # Layers are named after their title: Countries_0b5e0e3c_8e53_4f0b_9a6c_…
    text = re.sub(r"(?i)(?<=_)[0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{12}\b", stand_in, text)
    text = re.sub(r'( save(?:User|UserFull)=)"[^"]*"', r'\1""', text)
    text = re.sub(r'( saveDateTime=)"[^"]*"', rf'\1"{DATE}"', text)
    text = re.sub(r'(<date type="Created" value=)"[^"]*"', rf'\1"{DATE}"', text)
    text = re.sub(r"(<creation>)[^<]*(</creation>)", rf"\g<1>{DATE}\g<2>", text)
    # The style database is named at random; none of these projects uses its own.
    text = re.sub(r'( projectStyleId=)"[^"]*"', r'\1""', text)
    # Elevation profiles get random colours and snapping is listed by memory address; neither has
    # a part in what a server sends.
    for element in ("elevation", "individual-layer-settings"):
        text = re.sub(rf"(?s) *<{element}\b(?:[^>]*/>|.*?</{element}>)\n", "", text)
    return text


def save(project: QgsProject, target: Path) -> None:
    """Write the project as .qgs or .qgz."""
    plain = target.with_suffix(".qgs")
    if not project.write(str(plain)):
        raise SystemExit(f"{plain}: can't write it: {project.error()}")
    text = stable_text(plain.read_text("utf-8"))
    plain.write_text(text, "utf-8")
    # QGIS keeps the former text of a project beside the new one, and later versions its
    # empty style database too.
    Path(f"{plain}~").unlink(missing_ok=True)
    plain.with_name(f"{plain.stem}_attachments.zip").unlink(missing_ok=True)
    if target.suffix == ".qgz":
        # QGIS puts the time of the run into the archive, so it's packed by hand.
        member = zipfile.ZipInfo(plain.name, (2024, 1, 1, 0, 0, 0))
        member.compress_type = zipfile.ZIP_DEFLATED
        member.external_attr = 0o644 << 16
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(member, text)
        plain.unlink()


def make_projects(folder: Path) -> None:
    project = QgsProject()
    fill_project(
        project,
        "World",
        [countries(folder), states(folder), borders(folder), relief(folder)],
    )
    save(project, folder / "world.qgz")

    nested = folder / "Straßen & Wege"
    nested.mkdir(exist_ok=True)
    project = QgsProject()
    fill_project(project, "Übersicht Köln", [countries(folder), borders(folder)])
    save(project, nested / "Übersicht Köln.qgs")

    layer = vector_layer(folder, "countries", "Land")
    set_short_name(layer, "land")
    symbol = QgsFillSymbol.createSimple({"color": "#336633", "outline_style": "no"})
    layer.setRenderer(QgsSingleSymbolRenderer(symbol))
    project = QgsProject()
    fill_project(project, "Second", [layer])
    save(project, folder / "second.qgs")


def close_database(path: Path) -> None:
    """Leave the GeoPackage readable for a server that may not write into its folder.

    QGIS turns on SQLite's write-ahead log where it can write, and a file left in that state can't
    be opened read-only without the -shm file beside it. It also stamps contents it has touched.
    """
    with sqlite3.connect(path) as connection:
        mode = connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
    connection.close()
    if mode != "delete":
        raise SystemExit(f"{path}: SQLite's journal stays in mode {mode}")
    header = path.read_bytes()[:20]
    if struct.unpack("BB", header[18:20]) != (1, 1):
        raise SystemExit(f"{path}: the write-ahead log is still on")


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} FOLDER")
    folder = Path(sys.argv[1]).resolve()
    gdal.UseExceptions()
    osr.UseExceptions()
    # Keep the run apart from a user's own QGIS settings.
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    application = QgsApplication([], True)
    application.initQgis()
    make_relief(folder / "relief.tif")
    make_projects(folder)
    application.exitQgis()
    close_database(folder / "world_map.gpkg")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
