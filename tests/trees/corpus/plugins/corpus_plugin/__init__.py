# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin of QGIS Server, for tests: it does what plugins do.

SERVICE=CORPUS&REQUEST=buffer    a file of its own, a database, a thread and a program, and
                                 what PyQGIS makes of them, as JSON
STAMP=text                       the text at the end of the reply, read from a file first
any request                      the layer "hidden" is refused, of "points" a part is seen
"""

from __future__ import annotations

import json
import mmap
import sqlite3
import subprocess
import tempfile
import threading
from pathlib import Path

from qgis.core import QgsGeometry, QgsMapLayer, QgsProject, QgsVectorLayer
from qgis.server import (
    QgsAccessControlFilter,
    QgsServerFilter,
    QgsServerInterface,
    QgsServerRequest,
    QgsServerResponse,
    QgsService,
)

HERE = Path(__file__).parent


def is_ours(iface: QgsServerInterface) -> bool:
    return str(iface.configFilePath()).endswith("/plugin.qgs")


class Buffers(QgsService):  # type: ignore[misc]
    def name(self) -> str:
        return "CORPUS"

    def version(self) -> str:
        return "1.0"

    def executeRequest(  # noqa: N802
        self, request: QgsServerRequest, response: QgsServerResponse, project: QgsProject
    ) -> None:
        found: dict[str, object] = {}
        (points,) = project.mapLayersByName("points")
        areas: list[float] = []

        def measure() -> None:
            for feature in points.getFeatures():
                areas.append(round(feature.geometry().buffer(1, 8).area(), 6))

        thread = threading.Thread(target=measure)
        thread.start()
        thread.join()
        found["areas"] = sum(areas)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "notes.sqlite"
            with sqlite3.connect(file) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("CREATE TABLE notes (area REAL)")
                connection.executemany("INSERT INTO notes VALUES (?)", [(a,) for a in areas])
                (found["count"],) = connection.execute("SELECT count(*) FROM notes").fetchone()
            connection.close()
        program = ["sort", "--reverse", str(HERE / "words.txt")]
        found["words"] = subprocess.check_output(program, text=True).split()
        with tempfile.TemporaryFile(dir="/dev/shm") as block:
            block.truncate(16)
            with mmap.mmap(block.fileno(), 16) as shared:
                shared[:5] = b"bytes"
                found["shared"] = shared[:5].decode()
        union = QgsGeometry.unaryUnion([f.geometry().buffer(5, 4) for f in points.getFeatures()])
        found["union"] = round(union.area(), 6)
        response.setHeader("Content-Type", "application/json")
        response.write(json.dumps(found))


class Stamp(QgsServerFilter):  # type: ignore[misc]
    def responseComplete(self) -> None:  # noqa: N802
        handler = self.serverInterface().requestHandler()
        if text := handler.parameterMap().get("STAMP"):
            words = (HERE / "words.txt").read_text("utf-8").split()
            handler.appendBody(f"<!-- {text} {words} -->".encode())


class Rights(QgsAccessControlFilter):  # type: ignore[misc]
    def __init__(self, iface: QgsServerInterface) -> None:
        super().__init__(iface)
        self.iface = iface

    def layerPermissions(  # noqa: N802
        self, layer: QgsMapLayer
    ) -> QgsAccessControlFilter.LayerPermissions:
        rights = super().layerPermissions(layer)
        if is_ours(self.iface) and layer.name() == "hidden":
            rights.canRead = False
        return rights

    def layerFilterExpression(self, layer: QgsVectorLayer) -> str:  # noqa: N802
        if is_ours(self.iface) and layer.name() == "points":
            return "rank < 3"
        return str(super().layerFilterExpression(layer))


def serverClassFactory(iface: QgsServerInterface) -> object:  # noqa: N802
    service = Buffers()
    iface.serviceRegistry().registerService(service)
    iface.registerFilter(Stamp(iface), 10)
    iface.registerAccessControl(Rights(iface), 10)
    return service
