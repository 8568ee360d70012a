# SPDX-License-Identifier: GPL-2.0-or-later
"""The QGIS Server plugin in each worker of the pool.

It refuses what is not for clients, loads listed projects before the worker takes its first
request, and throws a project that has changed out of QGIS Server's cache. Every QGIS Server
on the machine finds it; without the variable that the pool's unit sets it does nothing.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .journal import say

if TYPE_CHECKING:
    from qgis.server import QgsServerInterface

    from .guard import After

WORKER = f"{__name__.upper()}_WORKER"
"""Names the file that the pool's helper makes of its settings."""

REPLY_WAIT = f"{__name__.upper()}_REPLY_WAIT"
"""Names the releases of QGIS Server whose wait before each reply is taken away."""

READY = "ready"
"""In the worker's runtime folder: this worker has come up; see ``backoff``."""


def start(iface: "QgsServerInterface", file: Path, runtime: Path, after: "After") -> None:
    """Load the listed projects, then look after changes."""
    from .fresh import LISTED, Fresh
    from .stores import sign
    from .wanted import FILE, Wanted
    from .warm import warm

    given = json.loads(file.read_text(encoding="utf-8"))
    after.fresh = fresh = Fresh(Path(given["reload"]), sign, listed=runtime / LISTED)
    most, learned, folders = given["learn"], [], after.knowledge.folders
    if most and (cache := os.environ.get("CACHE_DIRECTORY")):
        after.wanted = Wanted(Path(cache) / FILE)
        learned = [one for one in after.wanted.listed() if folders.has(one)]
    tried = runtime / "warming.json"
    warm(iface, fresh, after.knowledge.archives, given["warm"], learned, most, tried)


def forget_writable_folders() -> None:
    """Import nothing from where this worker could have written, such as QGIS's profile: QGIS puts
    it before Python's own modules. Folders of plugins that the administrator names stay."""
    kept = os.environ.get("QGIS_PLUGINPATH", "").split(os.pathsep)
    sys.path[:] = [path for path in sys.path if path in kept or not os.access(path, os.W_OK)]


def serverClassFactory(iface: "QgsServerInterface") -> object:  # noqa: N802
    """Called by QGIS Server once it has started, before the first request."""
    file, runtime = os.environ.get(WORKER), os.environ.get("RUNTIME_DIRECTORY")
    if file and runtime:
        forget_writable_folders()
        try:
            from . import apart

            apart.keep(json.loads(Path(file).read_text(encoding="utf-8")).get("system_calls", ()))
        except Exception as error:
            say(f"{error}: this worker could disturb the others")
        try:
            from . import edits

            edits.keep_journals()
        except Exception as error:
            say(f"{error!r}: edits of GeoPackages may fail while several workers make some")
        try:
            from . import guard

            after = guard.install(iface, Path(file))
        except Exception as error:
            say(f"{file}: {error!r}: requests can't be judged, so this worker serves none")
            os._exit(1)
        try:
            from . import stores

            stores.ask_nobody()
        except Exception as error:
            say(f"{error!r}: workers may hang where the master password is a wrong one")
        try:
            start(iface, Path(file), Path(runtime), after)
        except Exception as error:
            say(f"{file}: {error!r}: no project is loaded in advance")
        try:
            from . import reply_wait

            reply_wait.remove(os.environ.get(REPLY_WAIT, "").split())
        except Exception as error:
            say(f"QGIS Server's wait before each reply stays: {error}")
        try:
            from .stop import install

            install()
        except Exception as error:
            say(f"{error!r}: a stop may cut off the reply that is being sent")
        try:
            (Path(runtime) / READY).touch()
        except OSError as error:
            say(f"{error.filename}: {error.strerror}")
    return object()
