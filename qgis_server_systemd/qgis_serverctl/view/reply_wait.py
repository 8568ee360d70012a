# SPDX-License-Identifier: GPL-2.0-or-later
"""Does QGIS Server hold back its replies? As its files tell: nothing is asked of a worker."""

import platform
from collections.abc import Iterator
from pathlib import Path
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


def _libraries(host: Host, name: str) -> Iterator[Path]:
    """Where a program's library may be: beside it, or in the system's folders."""
    program = host.path(host.package.mapserv)
    yield program.parent.parent / "lib" / name
    for folder in (host.path("/usr/lib"), host.path(f"/usr/lib/{platform.machine()}-linux-gnu")):
        yield folder / name


def state(host: Host, settings: Settings | None) -> State:
    """`settings`: None where they can't be read."""
    program = host.path(host.package.mapserv)
    name, version = processes.qgis_library(program), processes.qgis_version(program)
    found = next((file for file in _libraries(host, name or "") if file.is_file()), None)
    if version is None or found is None or settings is None:
        return "unknown"
    try:
        content = found.read_bytes()
    except OSError:
        return "unknown"
    if b"QgsSocketMonitoringThread" not in content:
        return "none"
    known = version.rpartition(".")[0] in REPLY_WAIT and platform.machine() in ARCHITECTURES
    if not known or b"\0select\0" not in content:
        return "unknown"
    return "removed" if settings.quick_replies else "kept"
