# SPDX-License-Identifier: GPL-2.0-or-later
"""Refuses requests that are not for clients, with what QGIS Server has made of them.

NGINX sees the query of a request. Its body is a query as well if it is neither XML nor JSON,
or malformed XML, and the attributes of a root element are parameters, too: so only here is
known what a request asks for. One filter comes before all others. Another one comes after
them, since they may choose the project, as that of the landing page does.

Once a request has an exception, QGIS Server executes nothing of it (QgsServer::handleRequest).
"""

import json
import os
from pathlib import Path

from qgis.core import (
    QgsExpression,
    QgsLayoutItemHtml,
    QgsLayoutItemLabel,
    QgsPrintLayout,
)
from qgis.server import (
    QgsConfigCache,
    QgsRequestHandler,
    QgsServerException,
    QgsServerFilter,
    QgsServerInterface,
    QgsServerSettings,
)

from .folders import Folders
from .journal import say
from .rules import Parameters, Rules, is_print, is_text, readings, unsafe

FIRST, LAST = -1_000_000, 1_000_000
"""Priorities of filters; those of others are about 0."""

LANDING = ("/", "/index.json", "/index.html", "/map", "/project")
"""Paths of the landing page, below its prefix, that tell of the projects in its folders."""


class Knowledge:
    """What the settings say, read anew when their file has changed: by its time, at each
    request."""

    def __init__(self, file: Path) -> None:
        # A text, as a Path would be made one at each request.
        self.file = str(file)
        self.time = 0
        self.landing = os.environ.get("QGIS_SERVER_LANDING_PAGE_PREFIX", "").rstrip("/")
        folders = os.environ.get("QGIS_SERVER_LANDING_PAGE_PROJECTS_DIRECTORIES", "")
        self.listed = tuple(filter(None, folders.split("||")))
        self.functions = unsafe(
            (function.name(), function.aliases(), function.groups())
            for function in QgsExpression.Functions()
        )
        self.look()

    def look(self) -> None:
        changed = os.stat(self.file).st_mtime_ns
        if changed != self.time:
            given = json.loads(Path(self.file).read_text(encoding="utf-8"))["guard"]
            self.mode: str = given["mode"]
            self.folders = Folders((*given["folders"], *self.listed), given["projects"])
            self.rules = Rules(self.functions, given["remote"], given["side"], given["dpi"])
            self.time = changed


class Guard(QgsServerFilter):  # type: ignore[misc]
    """A filter that may refuse a request; what it can't judge it refuses."""

    def __init__(self, iface: QgsServerInterface, knowledge: Knowledge) -> None:
        super().__init__(iface)
        self.iface = iface
        self.knowledge = knowledge

    def requestReady(self) -> None:  # noqa: N802
        handler = self.iface.requestHandler()
        try:
            if handler.exceptionRaised():
                return
            reason, status = self.refusal(handler), 403
        except Exception as error:
            say(f"{error!r}: a request is refused")
            reason, status = "it can't be judged", 500
        if reason:
            handler.setServiceException(QgsServerException(f"Refused: {reason}.", status))

    def refusal(self, handler: QgsRequestHandler) -> str:
        raise NotImplementedError


class Before(Guard):
    """What the request itself says."""

    def refusal(self, handler: QgsRequestHandler) -> str:
        known = self.knowledge
        known.look()
        parameters = handler.parameterMap()
        if "MAP" in parameters:
            # Without the variable it is a file of NGINX's that knows nothing of it.
            if self.iface.getEnv(known.mode) == "refuse":
                return "MAP may not name a project here"
            project = parameters["MAP"]
            if project and not known.folders.has(project):
                return "MAP leads out of the folders of projects"
        path = handler.path()
        body = bytes(handler.data())
        return known.rules.refusal(parameters, body, path) or self.of_landing_page(path, parameters)

    def of_landing_page(self, path: str, parameters: Parameters) -> str:
        known = self.knowledge
        top, below = path[: len(known.landing)], path[len(known.landing) :].split("/")
        page = "/".join(below[:2]) or ("" if parameters.get("SERVICE") else "/")
        if top != known.landing or page not in LANDING:
            return ""
        for folder in known.listed:
            for stray in known.folders.strays(folder):
                say(f"{stray}: leads out of the folders of projects")
                return "a project of the landing page leads out of the folders of projects"
        return ""


class After(Guard):
    """The project that was found for the request."""

    def refusal(self, handler: QgsRequestHandler) -> str:
        known = self.knowledge
        project = handler.parameter("MAP") or self.iface.getEnv("QGIS_PROJECT_FILE")
        if project and not known.folders.has(project):
            return "the project is outside of the folders of projects"
        if project and is_print(handler.parameter("REQUEST")) and not known.rules.remote:
            texts = {
                name.upper(): text
                for name, text in handler.parameterMap().items()
                if text and is_text("GetPrint", name)
            }
            return self.of_print(project, texts)
        return ""

    def of_print(self, project: str, texts: dict[str, str]) -> str:
        """A page of HTML in a layout is at the URL that a request gives it; a label may be
        HTML, too."""
        settings = QgsServerSettings()
        settings.load()
        found = QgsConfigCache.instance().project(project, settings)
        layouts = found.layoutManager().layouts() if found else []
        for layout in layouts:
            if not isinstance(layout, QgsPrintLayout):
                continue
            for page in layout.multiFrames():
                if isinstance(page, QgsLayoutItemHtml) and any(
                    frame.id().upper() in texts for frame in page.frames()
                ):
                    return "a page in a print is at another place"
            for item in layout.items():
                if not isinstance(item, QgsLayoutItemLabel) or item.mode() != item.ModeHtml:
                    continue
                text = texts.get(item.id().upper(), "")
                if any("<" in one for one in readings(text)):
                    return "a label in a print has HTML"
        return ""


def install(iface: QgsServerInterface, file: Path) -> None:
    """Register both filters; whatever goes wrong is for the caller, who must not serve."""
    knowledge = Knowledge(file)
    for kind, priority in ((Before, FIRST), (After, LAST)):
        iface.registerFilter(kind(iface, knowledge), priority)
