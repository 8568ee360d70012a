# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts back what QGIS Server leaves changed in a project when it has answered a request.

QGIS Server changes the layers of a project for the time of a request, and puts back what it
thinks it has changed (QgsWmsRestorer). It misses:

* What a legend for an extent needs (GetLegendGraphic with BBOX): QGIS Server 3.40 changes style,
  filter, selection and opacity before it notes what they were (legendModel in
  qgswmsgetlegendgraphics.cpp).
* OPACITIES together with a style that is not the current one: when QGIS goes back to the current
  style, it saves the other one with this opacity (QgsMapLayerStyleManager::setCurrentStyle).
* The extent of a layer that FILTER is for: QGIS forgets what the project says of it, and works it
  out anew (QgsVectorLayer::setSubsetString).
* Layers that a Transaction has begun to edit, when it ends with an error (performTransaction in
  qgswfstransaction.cpp): as long as a layer is edited, no filter works on it.

So before such a request it is noted what the layers are like, and put back before the next one.
All others pass at the price of two look-ups.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from qgis.core import (
    QgsMapLayer,
    QgsMapLayerStyle,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.server import QgsConfigCache, QgsServerInterface, QgsServerSettings

from .edits import is_transaction
from .forms import readings
from .journal import say
from .rules import Parameters

STYLES = ("STYLES", "STYLE")
"""Names, or ends of names such as MAP0:STYLES, of parameters that choose a style."""

FILTER = re.compile(r"(?:MAP\d+:)?FILTER")

SHORT_NAME = "wmsShortName"
"""A property of a group."""

MARK = __name__
"""A property of a project that is known."""


def is_for_an_extent(parameters: Parameters) -> bool:
    """Is it a legend of what is drawn?"""
    return bool(parameters.get("BBOX")) and any(
        text.lower().startswith("getlegendgraphic") for text in readings(parameters["REQUEST"])
    )


def has_opacity_and_style(parameters: Parameters) -> bool:
    return bool(parameters.get("OPACITIES")) and any(
        text and name.endswith(STYLES) for name, text in parameters.items()
    )


def filters(parameters: Parameters) -> str:
    """Those of WMS, which are for layers by name."""
    return ";".join(
        text for name, text in parameters.items() if text and FILTER.fullmatch(name) is not None
    )


def may_leave_something(parameters: Parameters) -> bool:
    if "REQUEST" not in parameters:
        return False
    return (
        bool(filters(parameters))
        or has_opacity_and_style(parameters)
        or is_for_an_extent(parameters)
        or is_transaction(parameters["REQUEST"])
    )


@dataclass
class Layer:
    """What it is like: the name of its style, and all others of its styles."""

    style: str
    opacity: float
    others: dict[str, QgsMapLayerStyle] = field(default_factory=dict)
    extent: QgsRectangle | None = None
    subset: str = ""
    selected: list[int] = field(default_factory=list)


def look(layer: QgsMapLayer) -> Layer:
    manager = layer.styleManager()
    found = Layer(manager.currentStyle(), layer.opacity())
    for name in manager.styles():
        if name != found.style:
            found.others[name] = manager.style(name)
    if isinstance(layer, QgsVectorLayer):
        found.subset = layer.subsetString()
        found.selected = layer.selectedFeatureIds()
    return found


def put_back(layer: QgsMapLayer, was: Layer) -> None:
    manager = layer.styleManager()
    if isinstance(layer, QgsVectorLayer) and layer.isEditable():
        layer.rollBack()
    if manager.currentStyle() != was.style:
        manager.setCurrentStyle(was.style)
    for name in manager.styles():
        if name == was.style:
            continue
        if name not in was.others:
            manager.removeStyle(name)
        elif manager.style(name).xmlData() != was.others[name].xmlData():
            manager.removeStyle(name)
            manager.addStyle(name, was.others[name])
    if layer.opacity() != was.opacity:
        layer.setOpacity(was.opacity)
    if isinstance(layer, QgsVectorLayer):
        if layer.subsetString() != was.subset:
            layer.setSubsetString(was.subset)
        if layer.selectedFeatureIds() != was.selected:
            layer.selectByIds(was.selected)
        if was.extent is not None and layer.extent() != was.extent:
            layer.setExtent(was.extent)


def filtered(project: QgsProject, text: str) -> Iterator[str]:
    """The ids of layers that filters may be for: of all that they name, and of groups."""
    if not text:
        return
    for group in project.layerTreeRoot().findGroups(True):
        if any(name and name in text for name in (group.name(), group.customProperty(SHORT_NAME))):
            yield from group.findLayerIds()
    for layer in project.mapLayers().values():
        if any(name and name in text for name in (layer.shortName(), layer.name(), layer.id())):
            yield layer.id()


class Leftovers:
    """Of one request, until the next one comes."""

    def __init__(self, iface: QgsServerInterface) -> None:
        self.iface = iface
        self.settings = QgsServerSettings()
        self.settings.load()
        self.expected = False
        self.filters = ""
        self.path = ""
        self.layers: dict[str, Layer] = {}
        self.number = 0

    def begin(self, parameters: Parameters) -> None:
        """A request has come, and nothing of it has been done."""
        if self.path:
            self._put_back()
        self.expected = may_leave_something(parameters)
        self.filters = filters(parameters) if self.expected else ""

    def look(self, path: str) -> None:
        """It is for this project, and about to be answered."""
        if not self.expected:
            return
        project = self._project(path)
        if project is not None:
            self.number += 1
            project.setProperty(MARK, self.number)
            self.path = path
            self.layers = {name: look(layer) for name, layer in project.mapLayers().items()}
            for name in filtered(project, self.filters):
                if name in self.layers:
                    self.layers[name].extent = project.mapLayer(name).extent()

    def _project(self, path: str) -> QgsProject | None:
        return QgsConfigCache.instance().project(path, self.settings)

    def _put_back(self) -> None:
        path, layers = self.path, self.layers
        self.path, self.layers = "", {}
        try:
            project = self._project(path)
            # Else it has been loaded anew since.
            if project is not None and project.property(MARK) == self.number:
                for name, layer in project.mapLayers().items():
                    put_back(layer, layers[name])
        except Exception as error:
            say(f"{path}: {error!r}: the project is loaded anew")
            self.iface.removeConfigCacheEntry(path)
