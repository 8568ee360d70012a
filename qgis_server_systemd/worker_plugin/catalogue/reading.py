# SPDX-License-Identifier: GPL-2.0-or-later
"""One project, read with QGIS as a worker reads it."""

import math
import re
from contextlib import ExitStack
from typing import Any
from urllib.parse import unquote, urlsplit

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsDataSourceUri,
    QgsMapLayer,
    QgsProject,
    QgsProviderRegistry,
    QgsRectangle,
    QgsUnitTypes,
)
from qgis.server import QgsServerProjectUtils

from .. import archives
from ..stores import ask_nobody, content
from .children import Send
from .postgres import Connection, connection
from .sources import Reason, in_wal, misses_edits, of_path, of_server, signature

LONGEST, LONGEST_ABSTRACT = 200, 5000
"""Characters of a title or name, and of an abstract."""

MOST_PROBLEMS = 200
MOST_FILES = 1000
MOST_DRAWN = 50
"""Layers of a small map."""

LOCAL = ("annotation", "delimitedtext", "gdal", "gpx", "mdal", "memory", "ogr", "pdal",
         "spatialite", "virtual")  # fmt: skip
"""Providers of files; all others ask a server."""

OVER_NETWORK = re.compile(
    r"/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)|https?:|[A-Za-z]{2,}:"
)
"""At the beginning of a source of GDAL's: it is asked for over a network, or from a database."""

IN_GEOPACKAGE = "geopackage:/"
"""At the beginning of the URI of a project."""

WAITS = ("silent", "special")
"""Of what QGIS would wait for for long, or for ever."""


def start() -> QgsApplication:
    """QGIS, with all of its providers. To be kept while it is used."""
    application = QgsApplication([], False)
    application.initQgis()
    ask_nobody()
    return application


def without_layers() -> Any:
    """The flag that has a project read without its data."""
    if hasattr(Qgis, "ProjectReadFlag"):
        return Qgis.ProjectReadFlags(Qgis.ProjectReadFlag.DontResolveLayers)
    return QgsProject.ReadFlags(QgsProject.FlagDontResolveLayers)


def services(project: QgsProject) -> list[str]:
    """Those of QGIS Server that the project offers something by."""
    found = ["WMS"]
    utils = QgsServerProjectUtils
    if (
        project.readBoolEntry("WMTSLayers", "Project")[0]
        or project.readListEntry("WMTSLayers", "Group")[0]
        or project.readListEntry("WMTSLayers", "Layer")[0]
    ):
        found.append("WMTS")
    if utils.wfsLayerIds(project):
        found += ["WFS", "OGC API Features"]
    if utils.wcsLayerIds(project):
        found.append("WCS")
    return found


def visible(project: QgsProject) -> list[str]:
    """The layers of a small map, as a request names them, the lowest first."""
    utils = QgsServerProjectUtils
    restricted = set(utils.wmsRestrictedLayers(project))
    by_id = utils.wmsUseLayerIds(project)
    shown = set()
    for node in project.layerTreeRoot().findLayers():
        parts, at = [], node
        while at is not None:
            parts.append(at.name())
            at = at.parent()
        if node.isVisible() and restricted.isdisjoint(parts):
            shown.add(node.layerId())
    names = []
    for layer in reversed(project.layerTreeRoot().layerOrder()):
        own = layer.serverProperties() if hasattr(QgsMapLayer, "serverProperties") else layer
        short = own.shortName() if hasattr(own, "shortName") else layer.shortName()
        if layer.id() in shown:
            names.append(layer.id() if by_id else short or layer.name())
    return names[:MOST_DRAWN]


def extent(rectangle: QgsRectangle) -> list[float]:
    """West, south, east and north; empty for one that is none."""
    sides = [
        rectangle.xMinimum(), rectangle.yMinimum(), rectangle.xMaximum(), rectangle.yMaximum()
    ]  # fmt: skip
    good = all(map(math.isfinite, sides)) and sides[0] < sides[2] and sides[1] < sides[3]
    return sides if good else []


def chosen_extent(project: QgsProject) -> list[float]:
    """Where the map begins, as far as that is told without data."""
    view = project.viewSettings().defaultViewExtent()
    if view.crs() != project.crs():
        view = QgsRectangle()
    return extent(QgsServerProjectUtils.wmsExtent(project)) or extent(view)


def metres(project: QgsProject) -> float:
    """Of a unit of its reference system, of a degree on the equator; 0 if that can't be told."""
    unit = project.crs().mapUnits()
    if hasattr(Qgis, "DistanceUnit"):
        known, unknown = Qgis.DistanceUnit.Meters, Qgis.DistanceUnit.Unknown
    else:
        known, unknown = QgsUnitTypes.DistanceMeters, QgsUnitTypes.DistanceUnknownUnit
    if unit == unknown:
        return 0.0
    return float(QgsUnitTypes.fromUnitToUnitFactor(unit, known))


def overview(project: QgsProject) -> dict[str, Any]:
    title = project.readEntry("WMSServiceTitle", "/")[0] or project.title()
    abstract = project.readEntry("WMSServiceAbstract", "/")[0]
    return {
        "title": title[:LONGEST],
        "abstract": abstract[:LONGEST_ABSTRACT],
        "services": services(project),
        "layers": len(project.mapLayers()),
        "crs": project.crs().authid(),
        "inverted": project.crs().hasAxisInverted(),
        "metres": metres(project),
        "extent": chosen_extent(project),
        "drawn": visible(project),
    }


def provider_of(layer: QgsMapLayer) -> str:
    return layer.providerType() if hasattr(layer, "providerType") else ""


def path_of(layer: QgsMapLayer) -> str:
    """The file that a layer needs; empty if it needs none, or none that can be told."""
    provider, source = provider_of(layer), layer.source()
    if provider == "spatialite":
        path = QgsDataSourceUri(source).database()
    elif provider in LOCAL:
        parts = QgsProviderRegistry.instance().decodeUri(provider, source)
        path = str(parts.get("path") or "")
    else:
        path = ""
    return path if path.startswith("/") and not path.startswith("/vsi") else ""


def is_remote(layer: QgsMapLayer) -> bool:
    """Does it depend on more than files?"""
    provider = provider_of(layer)
    if provider in ("", *LOCAL):
        return bool(provider in ("ogr", "gdal") and OVER_NETWORK.match(layer.source()))
    return True


def server_of(layer: QgsMapLayer) -> tuple[str, int] | None:
    """The server that a layer asks by a URL."""
    source = layer.source()
    uri = QgsDataSourceUri()
    uri.setEncodedUri(source)
    url = uri.param("url") or QgsDataSourceUri(source).param("url")
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname else None


def stored_refusal(path: str) -> str:
    """Why QGIS must not open a project that is no file; of files it is known before QGIS is
    asked."""
    return "" if path.startswith("/") else archives.look(path, content)[1]


class Look:
    """At one project. `silent`: servers that did not answer when others were looked at, and why;
    they are not waited for again."""

    def __init__(self, path: str, send: Send, silent: dict[str, dict[str, Any]]) -> None:
        self.path = path
        self.send = send
        self.silent = silent
        self.stack = ExitStack()
        self.databases: dict[str, Connection] = {}
        self.servers: dict[str, Reason | None] = {}
        self.said: list[str] = []

    def look(self) -> None:
        project = QgsProject()
        if not self.is_loaded(project, without_layers()):
            return
        layers = list(project.mapLayers().values())
        paths = sorted({path for layer in layers if (path := path_of(layer))})[:MOST_FILES]
        remote = not self.path.startswith("/") or any(map(is_remote, layers))
        self.send(overview(project) | {"remote": remote})
        self.send({"files": {path: signature(path) for path in paths}})
        waiting = []
        for layer in layers:
            reason = self.suspect(layer)
            if reason and reason.kind in WAITS:
                waiting.append((layer, reason))
        if waiting:
            for layer, reason in waiting:
                self.tell(layer, reason, project)
            self.send({"partly": True})
            return
        del layers, project
        self.read()

    def is_loaded(self, project: QgsProject, *flags: Any) -> bool:
        """Else it is told why."""
        if refusal := stored_refusal(self.path):
            self.send({"problem": Reason("archive", self.path, detail=refusal).as_dict()})
            return False
        if project.read(self.path, *flags):
            return True
        reason = self.in_the_way() or Reason("unloadable", detail=project.error()[:LONGEST])
        self.send({"problem": reason.as_dict()})
        return False

    def in_the_way(self) -> Reason | None:
        """Of a project in a GeoPackage: what keeps the file from being opened."""
        if not self.path.startswith(IN_GEOPACKAGE):
            return None
        file = unquote(urlsplit(self.path).path)
        if reason := of_path(file):
            return reason
        return Reason("wal", file) if in_wal(file) else None

    def read(self) -> None:
        """With all data."""
        QgsApplication.messageLog().messageReceived.connect(self.hear)
        project = QgsProject()
        if not self.is_loaded(project):
            return
        QgsApplication.processEvents()
        invalid = [layer for layer in project.mapLayers().values() if not layer.isValid()]
        for layer in sorted(invalid, key=lambda one: str(one.name()))[:MOST_PROBLEMS]:
            reason = self.suspect(layer) or self.table(layer)
            self.tell(layer, reason or self.words(layer), project)
        self.old_data(project)
        self.send({"whole": True})
        if not chosen_extent(project):
            found = overview(project)
            self.send(found | {"extent": extent(project.viewSettings().fullExtent())})

    def old_data(self, project: QgsProject) -> None:
        """It is served all the same, as with a layer that is hidden."""
        layers = sorted(project.mapLayers().values(), key=lambda one: str(one.name()))
        told = [layer for layer in layers if misses_edits(path_of(layer))]
        for layer in told[:MOST_PROBLEMS]:
            problem = {"layer": layer.name()[:LONGEST], "hidden": True}
            self.send({"problem": problem | Reason("wal", path_of(layer)).as_dict()})

    def tell(self, layer: QgsMapLayer, reason: Reason, project: QgsProject) -> None:
        hidden = layer.name() in QgsServerProjectUtils.wmsRestrictedLayers(project)
        problem = {"layer": layer.name()[:LONGEST], "hidden": hidden, **reason.as_dict()}
        self.send({"problem": problem})

    def hear(self, *said: object) -> None:
        """A message, its tag and its level; the signal has another form, too, without words.
        PyQt ends the process where this raises anything."""
        if len(said) == 3 and len(self.said) < MOST_PROBLEMS:
            self.said.append(f"{said[1]}: {said[0]}"[:LONGEST])

    def words(self, layer: QgsMapLayer) -> Reason:
        """What the provider says, for somebody to read."""
        provider = provider_of(layer)
        known = QgsProviderRegistry.instance().providerList()
        if provider and provider not in known:
            return Reason("provider-missing", provider[:LONGEST])
        error = layer.error()
        # Of an empty error, QGIS 3.22 crashes as it is asked for a summary.
        said = ("" if error.isEmpty() else error.summary()) or next(iter(self.said), "")
        return Reason("invalid", detail=said[:LONGEST])

    def suspect(self, layer: QgsMapLayer) -> Reason | None:
        """What keeps its data away, found out without QGIS."""
        if path := path_of(layer):
            return of_path(path)
        provider = provider_of(layer)
        if provider == "postgres":
            made = self.database(layer)
            return made.reason if made else None
        if is_remote(layer) and (server := server_of(layer)):
            return self.server(*server)
        return None

    def server(self, host: str, port: int) -> Reason | None:
        place = f"{host}:{port}"
        if place in self.silent:
            return Reason(**self.silent[place])
        if place not in self.servers:
            found = self.servers[place] = of_server(host, port)
            if found and found.kind == "silent":
                self.send({"silent": {place: found.as_dict()}})
        return self.servers[place]

    def database(self, layer: QgsMapLayer) -> Connection | None:
        uri = QgsDataSourceUri(layer.source())
        info = uri.connectionInfo(True)
        if info not in self.databases:
            try:
                self.databases[info] = self.stack.enter_context(connection(info, uri.service()))
            except (OSError, ValueError):
                return None
        return self.databases[info]

    def table(self, layer: QgsMapLayer) -> Reason | None:
        if provider_of(layer) != "postgres":
            return None
        made, uri = self.database(layer), QgsDataSourceUri(layer.source())
        # Else it is a query, whose text is the author's.
        if made and not made.reason and uri.table() and not uri.table().startswith("("):
            return made.table(uri.quotedTablename())
        return None


def look(path: str, send: Send, silent: dict[str, dict[str, Any]]) -> None:
    """In a process of its own."""
    application = start()
    found = Look(path, send, silent)
    with found.stack:
        found.look()
    del application


def causes(path: str, send: Send) -> None:
    """What may be the cause that a look at the project did not end: all sources of its layers
    are tried, but for QGIS's own ways."""
    application = start()
    found = Look(path, send, {})
    project = QgsProject()
    with found.stack:
        if not stored_refusal(path) and project.read(path, without_layers()):
            for layer in project.mapLayers().values():
                if reason := found.suspect(layer):
                    found.tell(layer, reason, project)
    del application
