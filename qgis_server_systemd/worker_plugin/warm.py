# SPDX-License-Identifier: GPL-2.0-or-later
"""Load projects and draw each once, so that no user's request has to."""

import json
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import urlencode
from xml.etree import ElementTree

from qgis.core import QgsProject
from qgis.server import (
    QgsBufferServerRequest,
    QgsBufferServerResponse,
    QgsConfigCache,
    QgsServerInterface,
    QgsServerSettings,
)

from . import memory
from .archives import Archives
from .fresh import Fresh, of_file
from .journal import say

BUDGET = 60.0
"""Seconds after which no further project of the settings is begun."""

LEARNED_BUDGET = 10.0
"""The same for those that were asked for lately: nobody has asked for this to be done."""

PART = 16
"""This part of the width and height of a project is drawn: all of it might take minutes."""

WMS = "{http://www.opengis.net/wms}"


def ask(iface: QgsServerInterface, project: QgsProject, **parameters: str) -> bytes:
    """The body of a reply, of WMS unless `parameters` name another service. Raises RuntimeError
    for an answer that is an error."""
    given = {"SERVICE": "WMS", "VERSION": "1.3.0", **parameters}
    request = QgsBufferServerRequest(f"http://localhost/?{urlencode(given)}")
    response = QgsBufferServerResponse()
    service = iface.serviceRegistry().getService(given["SERVICE"], given["VERSION"])
    if service is None:
        raise RuntimeError(f"this QGIS Server has no {given['SERVICE']}")
    service.executeRequest(request, response, project)
    response.finish()
    body = bytes(response.body())
    if response.statusCode() != 200:
        raise RuntimeError(f"{parameters['REQUEST']}: status {response.statusCode()}")
    return body


def map_of(capabilities: bytes) -> dict[str, str]:
    """Parameters of a small map of all layers, in the middle of the project."""
    top = ElementTree.fromstring(capabilities).find(f"{WMS}Capability/{WMS}Layer")
    if top is None:
        return {}
    names = [
        layer.findtext(f"{WMS}Name", "")
        for layer in top.iter(f"{WMS}Layer")
        if layer.find(f"{WMS}Layer") is None
    ]
    box = top.find(f"{WMS}BoundingBox")
    if box is None or not any(names):
        return {}
    x1, y1, x2, y2 = (float(box.get(key, "0")) for key in ("minx", "miny", "maxx", "maxy"))
    x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / PART / 2, (y2 - y1) / PART / 2
    return {
        "LAYERS": ",".join(filter(None, names)),
        "STYLES": "",
        "CRS": box.get("CRS", ""),
        "BBOX": f"{x - w},{y - h},{x + w},{y + h}",
        "WIDTH": "256",
        "HEIGHT": "256",
        "FORMAT": "image/png",
    }


def load(iface: QgsServerInterface, path: str, settings: QgsServerSettings) -> None:
    """Load a project into the cache that requests are served from, and use it."""
    project = QgsConfigCache.instance().project(path, settings)
    if project is None:
        raise RuntimeError("QGIS Server can't read it")
    # The key of its cache of capabilities.
    iface.setConfigFilePath(path)
    try:
        parameters = map_of(ask(iface, project, REQUEST="GetCapabilities"))
        if parameters:
            ask(iface, project, REQUEST="GetMap", **parameters)
    finally:
        iface.setConfigFilePath("")


def before(tried: Path) -> dict[str, list[object]]:
    """What the last worker was about to load when it ended. It may have been taken over, and have
    left something else there, such as a pipe that this one would wait for."""
    try:
        if tried.is_symlink() or not tried.is_file():
            tried.unlink()
        found = json.loads(tried.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def warm(
    iface: QgsServerInterface,
    fresh: Fresh,
    archives: Archives,
    projects: Sequence[str],
    learned: Iterable[str],
    most: int,
    tried: Path,
) -> None:
    """Load all projects, and after them those that were asked for lately, as long as that takes
    no more than LEARNED_BUDGET and the worker has less than `most` MB. One that can't be loaded
    is reported, and one that ended the worker the last time, as `tried` tells, is left out until
    it has changed."""
    settings = QgsServerSettings()
    settings.load()
    fatal = before(tried)
    start = time.monotonic()
    more = (path for path in learned if path not in projects and of_file(path))
    for path in chain(projects, more):
        late = time.monotonic() - start > LEARNED_BUDGET
        if path not in projects and (late or memory.private() >> 20 >= most):
            break
        signature = list(of_file(path))
        if fatal.get(path) == signature:
            say(f"{path}: not loaded in advance, since that ended this worker before")
            continue
        if time.monotonic() - start > BUDGET:
            say(f"{path}: not loaded in advance: the projects before it took {BUDGET:.0f} s")
            continue
        tried.write_text(json.dumps({**fatal, path: signature}), encoding="utf-8")
        begun = time.monotonic()
        try:
            fresh.is_stale(path)
            if reason := archives.refusal(path):
                raise RuntimeError(f"it {reason}")
            load(iface, path, settings)
            say(f"{path}: loaded in advance in {time.monotonic() - begun:.1f} s")
        except Exception as error:
            say(f"{path}: can't be loaded in advance: {error}")
        fatal.pop(path, None)
        tried.write_text(json.dumps(fatal), encoding="utf-8")
