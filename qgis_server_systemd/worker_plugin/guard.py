# SPDX-License-Identifier: GPL-2.0-or-later
"""What is called at each request: refuses what is not for clients, with what QGIS Server has
made of it, hands back what is heavy, and has QGIS Server forget a project that has changed.

NGINX sees the query of a request. Its body is a query as well if it is neither XML nor JSON,
or malformed XML, and the attributes of a root element are parameters, too: so only here is
known what a request asks for. One filter comes before all others. Another one comes after
them, since they may choose the project, as that of the landing page does.

Once a request has an exception, QGIS Server executes nothing of it (QgsServer::handleRequest).
"""

import json
import os
import re
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from qgis.core import (
    Qgis,
    QgsExpression,
    QgsLayoutItemHtml,
    QgsLayoutItemLabel,
    QgsLayoutItemMap,
    QgsPrintLayout,
    QgsProject,
    QgsVectorLayer,
)
from qgis.server import (
    QgsConfigCache,
    QgsRequestHandler,
    QgsServerException,
    QgsServerFilter,
    QgsServerInterface,
    QgsServerProjectUtils,
    QgsServerSettings,
)

from .addresses import Addresses, encoded
from .archives import Archives
from .edits import MAPS, Change, Turn, is_change, is_transaction
from .folders import Folders
from .forms import readings
from .fresh import MOST, Folder, Fresh
from .journal import say
from .lane import HANDED_OVER, Kind, Lane
from .leftovers import Leftovers
from .mentions import NOTHING, layers_of, plain, said
from .rules import Parameters, Rules, allowed, is_plain, is_print, is_text, ordinary
from .stores import content
from .times import Times
from .wanted import Wanted
from .warm import ask

FIRST, LAST = -1_000_000, 1_000_000
"""Priorities of filters; those of others are about 0."""

FILES = ("ogr", "spatialite", "delimitedtext")
"""Providers of data in files."""

LANDING = ("/", "/index.json", "/index.html", "/map", "/project")
"""Paths of the landing page, below its prefix, that tell of the projects in its folders."""

HAS_URLS = re.compile("xml|gml|json|html")
"""Types of replies in which QGIS Server writes its own URL."""


NUMBERS = re.compile(r"\*|(?:-?[0-9]+(?:,-?[0-9]+)*)?")
"""Of ATLAS_PK."""


HAS_BAD_INDEX = Qgis.QGIS_VERSION_INT < 34000
"""Does QGIS Server take TILEMATRIX for one of its matrices if it is just beyond the last one?
(translateWmtsParamToWmsQueryItem in qgswmtsutils.cpp)"""

MATRICES = f"{__name__}.matrices"
"""A property of a project that is loaded."""

WHOLE = re.compile(r"\s*\+?0*([0-9]{1,10})\s*", re.ASCII)
WMTS = "{http://www.opengis.net/wmts/1.0}"
OWS = "{http://www.opengis.net/ows/1.1}"


ASKS = (
    b"For OWS services: please provide a SERVICE and a MAP parameter pointing to a valid QGIS "
    b"project file"
)
SAYS = b"No project has this address, or it can't be loaded: the log of the server says why"
"""QGIS Server's words where it has no project, and others in their place."""

ORDINARY = frozenset({"GetMap", "GETMAP", "getmap", "GetTile", "GETTILE", "gettile"})
"""Requests for a map or tile, as they are mostly written."""


def kind_of(lane: Lane, query: str, project: str, path: str) -> Kind:
    """Of an ordinary request."""
    parameters = {name.upper(): text for name, text in parse_qsl(query, keep_blank_values=True)}
    return lane.kind_of(parameters, project, path)


STILL = "script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'"
"""For a browser that shows a reply as a page: nothing in it runs or is sent."""


class Knowledge:
    """What the settings say, read anew when their file has changed."""

    def __init__(self, iface: QgsServerInterface, file: Path) -> None:
        self.file = file
        self.time = 0
        # That of the orders to reload projects, which the command touches when it has changed
        # the settings.
        self.folder: Folder | None = None
        # Until it is looked for orders again, by a request for a project.
        self.has_news = True
        self.landing = os.environ.get("QGIS_SERVER_LANDING_PAGE_PREFIX", "").rstrip("/")
        folders = os.environ.get("QGIS_SERVER_LANDING_PAGE_PROJECTS_DIRECTORIES", "")
        self.listed = tuple(filter(None, folders.split("||")))
        self.functions = allowed(
            (function.name(), function.aliases(), function.groups())
            for function in QgsExpression.Functions()
        )
        words = os.environ.get("QGIS_SERVER_ALLOWED_EXTRA_SQL_TOKENS", "")
        self.words = tuple(word.strip() for word in words.split(",") if word.strip())
        self.archives = Archives(content)
        self.lane: Lane | None = None
        self.addresses: Addresses | None = None
        # Its runtime folder is called as the instance is.
        self.times = Times(os.path.basename(os.environ.get("RUNTIME_DIRECTORY", "")))
        # Of the request at hand, before plugins add to it.
        self.said = NOTHING
        self.is_ordinary = False
        self.plain_paths: dict[str, bool] = {}
        self.leftovers = Leftovers(iface)
        self.turn = Turn(os.path.dirname(file))
        # The project whose data the request at hand changes by the OGC API.
        self.edited = ""
        self.change: Change | None = None
        self.look()

    def look(self) -> None:
        """At each request: has anything changed, the settings or the orders?"""
        folder, self.folder = self.folder, None
        if folder is None or folder.has_changed():
            self.read()
            self.has_news = True
        self.folder = folder or Folder(os.path.dirname(self.orders))

    def read(self) -> None:
        changed = os.stat(self.file).st_mtime_ns
        if changed != self.time:
            given = json.loads(self.file.read_text(encoding="utf-8"))
            self.orders: str = given["reload"]
            lane = given.get("lane")
            self.lane = Lane(lane["pixels"], lane["features"]) if lane else None
            self.lane_variable: str = lane["variable"] if lane else ""
            addresses = given.get("addresses")
            self.turn.folder = given.get("turn", self.turn.folder)
            self.prefix_variable: str = given.get("prefix", "")
            self.sent_variable: str = given.get("sent", "")
            self.addresses = (
                Addresses(self.landing, self.listed, **addresses) if addresses else None
            )
            self.plain_paths = {}
            given = given["guard"]
            self.mode: str = given["mode"]
            self.has_landing: bool = given.get("landing", True)
            self.folders = Folders((*given["folders"], *self.listed), given["projects"])
            self.rules = Rules(
                self.functions, given["remote"], given["side"], given["dpi"], self.words
            )
            side = min(given["side"] + 1, lane["pixels"] if lane else sys.maxsize)
            self.ordinary = ordinary(side, given["dpi"]).fullmatch
            self.time = changed

    def is_plain(self, path: str) -> bool:
        """Can the path of a request be the address of a project alone, of no page below it?"""
        if path not in self.plain_paths:
            if len(self.plain_paths) >= MOST:
                # Clients choose them.
                self.plain_paths.clear()
            self.plain_paths[path] = (
                is_plain(path)
                and not self.is_landing_page(path, "WMS")
                and not self.is_second(path)
            )
        return self.plain_paths[path]

    def is_second(self, path: str) -> bool:
        """Is it below the landing page's address of a project, which has another one?"""
        return bool(self.addresses and self.addresses.is_second(path))

    def is_landing_page(self, path: str, service: str) -> bool:
        """`service`: the parameter."""
        top, below = path[: len(self.landing)], path[len(self.landing) :].split("/")
        page = "/".join(below[:2]) or ("" if service else "/")
        return top == self.landing and page in LANDING


class Guard(QgsServerFilter):  # type: ignore[misc]
    """A filter that may end a request; what it can't judge it refuses."""

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
        else:
            self.passed(handler)

    def passed(self, handler: QgsRequestHandler) -> None:
        """Nothing speaks against the request."""

    def refusal(self, handler: QgsRequestHandler) -> str:
        raise NotImplementedError


class Before(Guard):
    """What the request itself says."""

    # What of the URLs in the reply is to be replaced by what.
    wrong: Mapping[str, str] = {}

    def requestReady(self) -> None:  # noqa: N802
        known = self.knowledge
        known.times.begin(
            str(self.iface.getEnv(known.sent_variable)) if known.sent_variable else ""
        )
        super().requestReady()

    def tell_times(self, *, whole: bool) -> None:
        try:
            handler = self.iface.requestHandler()
            if not handler.headersSent():
                for name, value in self.knowledge.times.headers(whole=whole).items():
                    handler.setResponseHeader(name, value)
        except Exception as error:
            say(f"{error!r}: not told how long a request has taken")

    def refusal(self, handler: QgsRequestHandler) -> str:
        known = self.knowledge
        known.is_ordinary = False
        known.look()
        if known.change:
            # Of a request that was broken off.
            self.end_change(keep=False)
        known.turn.give()
        known.edited = ""
        self.path = path = handler.path()
        self.query = self.iface.getEnv("QUERY_STRING")
        # GET alone has no body.
        if (
            known.ordinary(self.query)
            and self.iface.getEnv("REQUEST_METHOD") == "GET"
            and known.is_plain(path)
        ):
            known.is_ordinary = True
            known.said = NOTHING
            known.leftovers.begin({})
            self.wrong = self.wrong_urls(handler)
            return ""
        parameters = handler.parameterMap()
        known.leftovers.begin(parameters)
        self.wrong = self.wrong_urls(handler)
        if "MAP" in parameters:
            # Without the variable it is a file of NGINX's that knows nothing of it.
            if self.iface.getEnv(known.mode) == "refuse":
                return "MAP may not name a project here (setting map_parameter)"
            project = parameters["MAP"]
            if project and not known.folders.has(project):
                return "MAP leads out of the folders of projects (setting data_folders)"
        self.parameters = parameters
        body = bytes(handler.data())
        reason = known.rules.refusal(parameters, body, path)
        # Only of what has the forms that are allowed it is known how long it takes to read.
        known.said = NOTHING if reason else said(parameters, body, path)
        return reason or self.of_landing_page(path, parameters)

    def passed(self, handler: QgsRequestHandler) -> None:
        # An administrator's own file of NGINX, which has addresses of its own, says no mode.
        known, addresses = self.knowledge, self.knowledge.addresses
        if addresses and addresses.is_second(self.path) and self.iface.getEnv(known.mode):
            self.lead(handler, addresses)
            return
        lane = known.lane
        if not lane or self.iface.getEnv(known.lane_variable) != "light":
            return
        try:
            project = self.iface.configFilePath()
            if known.is_ordinary:
                heavy = lane.was_slow(partial(kind_of, lane, self.query, project, self.path))
            else:
                heavy = lane.takes(self.parameters, project, self.path)
        except Exception as error:
            say(f"{error!r}: not known whether a request is heavy")
        else:
            if heavy:
                # Nothing has been done for it: QGIS Server executes nothing with an exception.
                handler.setServiceException(QgsServerException("Heavy.", HANDED_OVER))

    def lead(self, handler: QgsRequestHandler, addresses: Addresses) -> None:
        """Send the client to the project's one address; the request is not executed."""
        try:
            address = addresses.first(self.iface.getEnv("REQUEST_URI"))
        except Exception as error:
            say(f"{error!r}: not known which address a project has")
            address = ""
        if address:
            handler.setServiceException(QgsServerException("It has another address.", 307))
            handler.setResponseHeader("Location", self.prefix + address)
        else:
            text = "It has no address: no name leads to this project (setting project_folders)."
            handler.setServiceException(QgsServerException(text, 404))

    @property
    def prefix(self) -> str:
        """What a proxy has cut off the path of the request."""
        variable = self.knowledge.prefix_variable
        return str(self.iface.getEnv(variable)) if variable else ""

    def sendResponse(self) -> None:  # noqa: N802
        """Called with each piece of a reply that QGIS Server sends in pieces. The headers go with
        the first one."""
        self.mend()
        self.tell_times(whole=False)

    def responseComplete(self) -> None:  # noqa: N802
        self.end_edit()
        self.knowledge.turn.give()
        if self.knowledge.lane:
            self.knowledge.lane.ends()
        self.mend()
        self.reword()
        self.tell_times(whole=True)
        self.log()

    def mend(self) -> None:
        """What can be said wrong in headers, and in as much of the reply as there is."""
        if self.wrong:
            self.correct()
        if not self.knowledge.is_ordinary:
            self.keep_still()

    def keep_still(self) -> None:
        """What is told of features has values that other clients may have written. Debian 12's
        QGIS Server makes markup of them, and so do map tips of all releases."""
        try:
            handler = self.iface.requestHandler()
            if (
                not handler.headersSent()
                and handler.responseHeader("Content-Type").lower().startswith("text/html")
                and handler.parameter("REQUEST").lower() == "getfeatureinfo"
            ):
                handler.setResponseHeader("Content-Security-Policy", STILL)
        except Exception as error:
            say(f"{error!r}: a browser may run what a value of a feature says")

    def reword(self) -> None:
        """Where a project can't be loaded QGIS Server asks for a parameter that is refused."""
        handler = self.iface.requestHandler()
        try:
            if handler.statusCode() < 500 or self.iface.getEnv(self.knowledge.mode) != "refuse":
                return
            body = bytes(handler.body())
            if ASKS in body:
                handler.clearBody()
                handler.appendBody(body.replace(ASKS, SAYS))
        except Exception as error:
            say(f"{error!r}: a reply may ask for what is refused")

    def end_edit(self) -> None:
        """An edit by the OGC API is kept only now. Where it fails, QGIS may leave a transaction
        open: all others would wait for the lock of the file. With the project it is closed."""
        known = self.knowledge
        if not known.edited:
            return
        try:
            handler = self.iface.requestHandler()
            if reason := self.end_change(keep=handler.statusCode() < 400):
                say(f"{known.edited}: an edit could not be kept: {reason}")
                handler.clear()
                handler.setServiceException(QgsServerException("It could not be kept.", 500))
            if handler.statusCode() >= 500:
                self.iface.removeConfigCacheEntry(known.edited)
        except Exception as error:
            say(f"{known.edited}: {error!r}: a failed edit may have left a lock")

    def end_change(self, *, keep: bool) -> str:
        change, self.knowledge.change = self.knowledge.change, None
        return change.end(keep=keep) if change else ""

    def log(self) -> None:
        """A line for what failed or was slow, so that the request is found in NGINX's log, and the
        lines before it in this one are found by its id."""
        try:
            handler, times = self.iface.requestHandler(), self.knowledge.times
            status = handler.statusCode()
            if line := times.line(status, failed=500 <= status != HANDED_OVER):
                id = self.iface.getEnv("HTTP_X_REQUEST_ID") or "without an id"
                project = handler.parameter("MAP") or self.iface.getEnv("QGIS_PROJECT_FILE")
                say(f"warning: request {id}: {line}, {project or 'no project'}")
        except Exception as error:
            say(f"{error!r}: not told that a request has failed or was slow")

    def wrong_urls(self, handler: QgsRequestHandler) -> Mapping[str, str]:
        """QGIS Server makes its URLs of REQUEST_URI, which has the prefix (see NGINX's file), and
        decodes spaces in it. Only its landing page knows nothing of the prefix."""
        addresses = self.knowledge.addresses
        if addresses and self.path.startswith(addresses.landing) and (prefix := self.prefix):
            return addresses.with_prefix(prefix, handler.url())
        return encoded(handler.url(), self.path) if " " in self.path else {}

    def correct(self) -> None:
        handler = self.iface.requestHandler()
        try:
            place = handler.responseHeader("Location")
            has_urls = HAS_URLS.search(handler.responseHeader("Content-Type"))
            body = bytes(handler.body()) if has_urls else b""
            for wrong, right in self.wrong.items():
                if wrong in place:
                    handler.setResponseHeader("Location", place.replace(wrong, right))
                if wrong.encode() in body:
                    body = body.replace(wrong.encode(), right.encode())
                    handler.clearBody()
                    handler.appendBody(body)
        except Exception as error:
            say(f"{error!r}: URLs in a reply may be wrong")

    def of_landing_page(self, path: str, parameters: Parameters) -> str:
        known = self.knowledge
        # QGIS Server takes these for WMS without a service, too.
        is_map = parameters.get("REQUEST", "") in MAPS
        service = "WMS" if is_map else parameters.get("SERVICE", "")
        if not known.is_landing_page(path, service):
            return ""
        # As above, an administrator's own file of NGINX says no mode. A second address leads to
        # the first one, whichever page there is.
        is_ours = bool(self.iface.getEnv(known.mode))
        if not known.has_landing and is_ours and not known.is_second(path):
            return "QGIS Server's own landing page is off (setting front_page)"
        for folder in known.listed:
            for stray in known.folders.strays(folder):
                say(f"{stray}: leads out of the folders of projects")
                return "a project of the landing page leads out of the folders of projects"
            for project, reason in known.archives.strays(folder):
                say(f"{project}: {reason}")
                return f"a project of the landing page {reason}"
        return ""


class After(Guard):
    """The project that was found for the request."""

    fresh: Fresh | None = None
    wanted: Wanted | None = None
    is_ordinary = False

    def passed(self, handler: QgsRequestHandler) -> None:
        project = self.iface.configFilePath()
        if self.wanted and project:
            self.wanted.note(project)
        if self.is_ordinary:
            return
        request, path = handler.parameter("REQUEST"), handler.path()
        if project and is_transaction(request):
            self.await_turn(project)
        elif project and is_change(
            handler.parameter("SERVICE"),
            request,
            path,
            lambda: str(self.iface.getEnv("REQUEST_METHOD")),
        ):
            self.knowledge.edited = project
            self.await_turn(project)
            self.begin_change(project, path)

    def begin_change(self, project: str, path: str) -> None:
        """If the data are in a file that knows transactions, whose layers the path names."""
        found = opened(project)
        if not found:
            return
        try:
            named = layers_named(found)
            ids = set().union(*(named.get(name, ()) for name in layers_of({}, path)))
            layers = [layer for layer in map(found.mapLayer, ids) if in_file(layer)]
            self.knowledge.change = Change(layers)
        except Exception as error:
            say(f"{project}: {error!r}: an edit is no transaction, and may fail")

    def await_turn(self, project: str) -> None:
        """Databases see to it themselves."""
        found = opened(project)
        layers = found.mapLayers().values() if found else ()
        if any(map(in_file, layers)):
            self.knowledge.turn.take()
            if self.knowledge.lane:
                # How long it took would tell of others.
                self.knowledge.lane.kind = None

    def forget(self) -> None:
        """Have QGIS Server load the project anew if it has changed."""
        project = self.iface.configFilePath()
        try:
            if not project or not self.fresh:
                return
            self.fresh.look = self.knowledge.has_news
            is_stale = self.fresh.is_stale(project)
            self.knowledge.has_news = False
            if is_stale:
                self.iface.removeConfigCacheEntry(project)
                self.knowledge.archives.look_again(project)
        except Exception as error:
            say(f"{error!r}: not known whether the project has changed")

    def refusal(self, handler: QgsRequestHandler) -> str:
        known = self.knowledge
        project = handler.parameter("MAP") or self.iface.getEnv("QGIS_PROJECT_FILE")
        if project and not known.folders.has(project):
            return "the project is outside of the folders of projects (setting data_folders)"
        self.forget()
        if project and (reason := known.archives.refusal(project)):
            say(f"{project}: {reason}")
            return f"the project {reason}"
        request = handler.parameter("REQUEST")
        if project and HAS_BAD_INDEX and (reason := self.of_matrix(project, handler)):
            return reason
        # Other filters may have changed what it asks for.
        self.is_ordinary = known.is_ordinary and request in ORDINARY
        if self.is_ordinary:
            return ""
        if project and (reason := self.of_hidden_fields(project)):
            return reason
        if project and (reason := self.of_hidden_themes(project)):
            return reason
        if project and is_print(request) and (found := loaded(project)):
            layouts = found.layoutManager().layouts()
            prints = [one for one in layouts if isinstance(one, QgsPrintLayout)]
            parameters = {n.upper(): t for n, t in handler.parameterMap().items() if t}
            reason = (
                self.of_hidden_layers(found, prints, parameters)
                or self.of_atlas(prints, parameters)
                or ("" if known.rules.remote else self.of_print(prints, parameters))
            )
            if reason:
                return reason
        if project and known.leftovers.expected and opened(project):
            known.leftovers.look(project)
        return ""

    def of_matrix(self, project: str, handler: QgsRequestHandler) -> str:
        """One matrix too many ends the worker, and as NGINX tries it again, another one. How many
        there are WMTS says itself, once for each project that is loaded."""
        asked = handler.parameter("TILEMATRIX")
        if not asked or not (found := opened(project)):
            return ""
        counts = found.property(MATRICES)
        if counts is None:
            about = {"SERVICE": "WMTS", "VERSION": "1.0.0", "REQUEST": "GetCapabilities"}
            counts = matrices(ask(self.iface, found, **about))
            found.setProperty(MATRICES, counts)
        for name in readings(handler.parameter("TILEMATRIXSET")):
            count = counts.get(name)
            for text in readings(asked) if count is not None else ():
                # Of higher numbers QGIS Server says so itself.
                if (number := WHOLE.fullmatch(text)) and int(number[1]) == count:
                    return f"TILEMATRIX is none of the {count} of this TILEMATRIXSET, from 0"
        return ""

    def of_hidden_fields(self, project: str) -> str:
        """QGIS Server leaves a field that a project hides out of replies, but filters by it."""
        told = self.knowledge.said
        if not told.mentions:
            return ""
        if not (found := opened(project)):
            return ""
        shown, hidden = fields_of(found, told.services)
        if not any(hidden.values()):
            return ""
        named = layers_named(found)
        for one in told.mentions:
            about = one.layers or told.layers
            is_told = bool(about) and about <= named.keys()
            layers = set().union(*(named[name] for name in about)) if is_told else hidden.keys()
            fields: set[str] = set().union(*(hidden.get(layer, ()) for layer in layers))
            if not fields:
                continue
            others: set[str] = set().union(*(shown.get(layer, ()) for layer in layers))
            words = (words for name, words in one.words.items() if name not in others)
            if known := sorted(one.fields.union(*words) & fields):
                return f"{one.parameter} names the field {known[0][:40]}, which the project hides"
            if one.whole:
                return f"{one.parameter} has {one.whole}: the project hides fields"
            if one.only and (unknown := sorted(one.fields - others)):
                return f"{one.parameter} names {unknown[0][:40]}, which is no field"
        return ""

    def of_hidden_layers(
        self, project: QgsProject, prints: list[QgsPrintLayout], parameters: Parameters
    ) -> str:
        """A map of a print for which no layer is asked that WMS has shows those of the project,
        also those that WMS hides."""
        ids = hidden_layers(project)
        if not ids:
            return ""
        asked = nicknames(project, ids)
        for name in parameters:
            number = name.partition(":EXTENT")[0]
            layers = parameters.get(f"{number}:LAYERS") or parameters.get("LAYERS", "")
            if number == name or asked.intersection(unquoted(layers).split(",")):
                continue
            for item in (item for layout in prints for item in layout.items()):
                if not isinstance(item, QgsLayoutItemMap):
                    continue
                if item.keepLayerSet() or item.followVisibilityPreset():
                    continue
                if ids.intersection(layer.id() for layer in item.layers()):
                    return "a print without LAYERS would show layers that WMS hides"
        return ""

    def of_hidden_themes(self, project: str) -> str:
        """A PDF may show themes of the project, with layers that WMS hides."""
        themes = {theme for one in self.knowledge.said.mentions for theme in one.themes}
        if not themes or not (found := opened(project)):
            return ""
        hidden = hidden_layers(found)
        for theme in themes if hidden else ():
            if hidden.intersection(found.mapThemeCollection().mapThemeVisibleLayerIds(theme)):
                return f"FORMAT_OPTIONS names the theme {theme[:40]}, with layers that WMS hides"
        return ""

    def of_atlas(self, prints: list[QgsPrintLayout], parameters: Parameters) -> str:
        """Of a layer that has no key, QGIS Server makes an expression of ATLAS_PK as it is."""
        if all(NUMBERS.fullmatch(text) for text in readings(parameters.get("ATLAS_PK", ""))):
            return ""
        asked = set(readings(parameters.get("TEMPLATE", "")))
        for layout in [one for one in prints if one.name() in asked] or prints:
            layer = layout.atlas().coverageLayer() if layout.atlas() else None
            if layer is not None and not layer.primaryKeyAttributes():
                return "ATLAS_PK is not a number, as it is of a layer without a key"
        return ""

    def of_print(self, prints: list[QgsPrintLayout], parameters: Parameters) -> str:
        """A page of HTML in a layout is at the URL that a request gives it; a label may be
        HTML, too."""
        texts = {name: text for name, text in parameters.items() if is_text(name)}
        for layout in prints:
            for page in layout.multiFrames():
                if isinstance(page, QgsLayoutItemHtml) and any(
                    frame.id().upper() in texts for frame in page.frames()
                ):
                    return "a page in a print is at another place (setting remote_references)"
            for item in layout.items():
                if not isinstance(item, QgsLayoutItemLabel) or item.mode() != item.ModeHtml:
                    continue
                text = texts.get(item.id().upper(), "")
                if any("<" in one for one in readings(text)):
                    return "a label in a print has HTML (setting remote_references)"
        return ""


def matrices(capabilities: bytes) -> dict[str, int]:
    """How many each set of WMTS has, by its name."""
    found: dict[str, int] = {}
    for one in ElementTree.fromstring(capabilities).iter(f"{WMTS}TileMatrixSet"):
        # That of a layer is but a name.
        if name := one.findtext(f"{OWS}Identifier"):
            found[name] = len(one.findall(f"{WMTS}TileMatrix"))
    return found


def loaded(project: str) -> QgsProject | None:
    """The project as the request gets it."""
    settings = QgsServerSettings()
    settings.load()
    return QgsConfigCache.instance().project(project, settings)


def in_file(layer: object) -> bool:
    """Has a layer its data in a file?"""
    return isinstance(layer, QgsVectorLayer) and layer.providerType() in FILES


def opened(project: str) -> QgsProject | None:
    """The same; None if QGIS Server can't open it, which then says why."""
    try:
        return loaded(project)
    except Exception:
        return None


def fields_of(
    project: QgsProject, services: Collection[str]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Of each layer by its id: the names of fields that the project shows, and of those that it
    hides from a service."""
    shown, hidden = {}, {}
    for layer in project.mapLayers().values():
        if isinstance(layer, QgsVectorLayer):
            names = set(layer.excludeAttributesWms() if "WMS" in services else ())
            names |= set(layer.excludeAttributesWfs() if "WFS" in services else ())
            aliases = {one.alias() for one in layer.fields() if one.name() in names}
            hidden[layer.id()] = {plain(name) for name in names | aliases if name}
            rest = [one for one in layer.fields() if one.name() not in names]
            of_rest = {plain(name) for one in rest for name in (one.name(), one.alias()) if name}
            shown[layer.id()] = of_rest - hidden[layer.id()]
    return shown, hidden


def hidden_layers(project: QgsProject) -> set[str]:
    """The ids of layers that WMS hides."""
    names = set(QgsServerProjectUtils.wmsRestrictedLayers(project))
    root = project.layerTreeRoot()
    hidden = {one for one in root.findLayers() if one.name() in names} if names else set()
    for name in names:
        if group := root.findGroup(name):
            hidden.update(group.findLayers())
    return {one.layerId() for one in hidden}


def layers_named(project: QgsProject) -> dict[str, set[str]]:
    """What a request may call layers and groups, and the ids of the layers."""
    found: dict[str, set[str]] = {}
    for layer in project.mapLayers().values():
        for name in (layer.id(), layer.name(), layer.shortName()):
            found.setdefault(plain(name), set()).add(layer.id())
    for group in project.layerTreeRoot().findGroups(True):
        ids = {one.layerId() for one in group.findLayers()}
        for name in (group.name(), group.customProperty("wmsShortName")):
            found.setdefault(plain(name or ""), set()).update(ids)
    found.pop("", None)
    return found


def unquoted(text: str) -> str:
    return [*readings(text)][-1]


def nicknames(project: QgsProject, hidden: set[str]) -> set[str]:
    """What a request may call the layers that WMS has, and their groups."""
    found = set()
    for layer in project.mapLayers().values():
        if layer.id() not in hidden:
            found |= {layer.id(), layer.name(), layer.shortName()}
    for group in project.layerTreeRoot().findGroups(True):
        if any(one.layerId() not in hidden for one in group.findLayers()):
            found |= {group.name(), group.customProperty("wmsShortName") or group.name()}
    return found - {""}


def install(iface: QgsServerInterface, file: Path) -> After:
    """Register both filters; whatever goes wrong is for the caller, who must not serve. What it
    returns looks after changes of projects once it has `fresh`."""
    knowledge = Knowledge(iface, file)
    iface.registerFilter(Before(iface, knowledge), FIRST)
    after = After(iface, knowledge)
    iface.registerFilter(after, LAST)
    return after
