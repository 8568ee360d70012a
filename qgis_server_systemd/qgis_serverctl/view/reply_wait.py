# SPDX-License-Identifier: GPL-2.0-or-later
"""Does QGIS Server hold back its replies? As its files tell: nothing is asked of a worker."""

import platform
from typing import Literal

from ..config.qgis import REPLY_WAIT
from ..config.settings import Settings
from ..pool.host import Host
from ..system import processes

State = Literal["none", "removed", "kept", "unknown"]
"""none: this release has no such wait. removed: workers skip it. kept: the setting
quick_replies says so. unknown: this QGIS Server is not known well enough, and is left as it
is."""

ARCHITECTURES = ("x86_64", "aarch64")
"""Those that the plugin's reply_wait knows."""

SAID = {
    "removed": "its wait before each reply is skipped",
    "kept": "its wait before each reply stays (setting quick_replies)",
    "unknown": "it is not known whether it waits before each reply",
}


def state(host: Host, settings: Settings | None, *, cancels: bool) -> State:
    """`settings`: None where they can't be read. `cancels`: see plan.Facts."""
    program = host.path(host.package.mapserv)
    version = processes.qgis_version(program)
    library = processes.qgis_library_file(program, host.root)
    if version is None or library is None or settings is None:
        return "unknown"
    if not cancels:
        return "none"  # it comes with the thread that looks for clients that hang up
    known = version.rpartition(".")[0] in REPLY_WAIT and platform.machine() in ARCHITECTURES
    if not known or b"\0select\0" not in library.read_bytes():
        return "unknown"
    return "removed" if settings.quick_replies else "kept"
