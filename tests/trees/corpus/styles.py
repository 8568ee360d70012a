# SPDX-License-Identifier: GPL-2.0-or-later
"""Short ways to layers, symbols and labels, for make_corpus.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from make_projects import set_short_name
from qgis.core import (
    Qgis,
    QgsApplication,
    QgsFillSymbol,
    QgsLineSymbol,
    QgsMapLayer,
    QgsMarkerSymbol,
    QgsMeshLayer,
    QgsPalLayerSettings,
    QgsRasterLayer,
    QgsSingleSymbolRenderer,
    QgsSymbol,
    QgsTextFormat,
    QgsVectorLayer,
    QgsVectorLayerSimpleLabeling,
    QgsVectorTileLayer,
)
from qgis.PyQt.QtGui import QColor, QFont

DATA = "/srv/corpus/data"
COUNTRIES = f"{DATA}/world_map.gpkg|layername=countries"
STATES = f"{DATA}/world_map.gpkg|layername=states_provinces"
POINTS = f"{DATA}/points.gpkg|layername=points"
LINES = f"{DATA}/lines.gpkg|layername=lines"

KINDS: dict[str, Callable[..., Any]] = {
    "mdal": QgsMeshLayer,
    "gdal": QgsRasterLayer,
    "postgresraster": QgsRasterLayer,
    "wms": QgsRasterLayer,
}
SYMBOLS = {"fill": QgsFillSymbol, "line": QgsLineSymbol, "marker": QgsMarkerSymbol}


def layer(name: str, source: str, provider: str = "ogr", **style: Any) -> QgsMapLayer:
    """A layer that is asked for by its name; what can't be read ends the build."""
    if provider == "vectortile":
        made = QgsVectorTileLayer(source, name)
    else:
        made = KINDS.get(provider, QgsVectorLayer)(source, name, provider)
    if not made.isValid():
        raise SystemExit(f"{name}: can't read {source}: {made.error().summary()}")
    set_short_name(made, name)
    if (renderer := style.get("renderer")) is not None:
        made.setRenderer(renderer(made) if callable(renderer) else renderer)
    if (labels := style.get("labels")) is not None:
        made.setLabeling(labels)
        made.setLabelsEnabled(True)
    return made


def part(name: str, /, **values: Any) -> Any:
    """A layer of a symbol, by the name that project files have for its kind."""
    known = QgsApplication.symbolLayerRegistry().symbolLayerMetadata(name)
    if known is None:
        raise SystemExit(f"this QGIS has no symbol layer {name}")
    given = {key: str(value) for key, value in values.items()}
    return known.createSymbolLayer(given)


def symbol(kind: str, *parts: Any) -> QgsSymbol:
    made = SYMBOLS[kind]()
    for at, each in enumerate(parts):
        if at == 0:
            made.changeSymbolLayer(0, each)
        else:
            made.appendSymbolLayer(each)
    return made


def single(kind: str, *parts: Any) -> QgsSingleSymbolRenderer:
    return QgsSingleSymbolRenderer(symbol(kind, *parts))


def simple(kind: str, /, **values: Any) -> QgsSymbol:
    return SYMBOLS[kind].createSimple({key: str(value) for key, value in values.items()})


def plain(kind: str, /, **values: Any) -> QgsSingleSymbolRenderer:
    return QgsSingleSymbolRenderer(simple(kind, **values))


def placement(name: str) -> Any:
    """How labels are placed: an enumeration that QGIS 3.26 moved."""
    where = getattr(Qgis, "LabelPlacement", QgsPalLayerSettings)
    return getattr(where, name)


def written(font: str = "DejaVu Sans", size: float = 8, colour: str = "#222222") -> QgsTextFormat:
    made = QgsTextFormat()
    made.setFont(QFont(font))
    made.setSize(size)
    made.setColor(QColor(colour))
    return made


def label_settings(
    expression: str, form: QgsTextFormat | None = None, **attributes: Any
) -> QgsPalLayerSettings:
    made = QgsPalLayerSettings()
    made.fieldName = expression
    made.isExpression = True
    made.setFormat(form or written())
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def labels(
    expression: str, form: QgsTextFormat | None = None, **attributes: Any
) -> QgsVectorLayerSimpleLabeling:
    return QgsVectorLayerSimpleLabeling(label_settings(expression, form, **attributes))
