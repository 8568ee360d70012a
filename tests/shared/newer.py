# SPDX-License-Identifier: GPL-2.0-or-later
"""A next version of the package, that differs in every unit, env and the snippet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from qgis_server_systemd import sources

ENTRY = """qgis-server-systemd (0.1.0-2) unstable; urgency=medium

  * Differs everywhere.

 -- qgis-server-systemd maintainers <maintainers@qgis-server-systemd.example>  Tue, 24 Nov 2026 20:00:00 +0000

"""  # noqa: E501
CHANGES = {
    "etc/qgis-server/env": "\n# Newer.\nQGIS_SERVER_IGNORE_BAD_LAYERS=1\n",
    "etc/nginx/snippets/qgis-server.conf": "\n# Newer.\n",
    "etc/qgis-server/nginx-request.conf": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server@.socket": "\n[Socket]\nBacklog=1000\n",
    "usr/lib/systemd/system/qgis-server@.service": "\n[Service]\nEnvironment=NEWER=1\n",
    "usr/lib/systemd/system/qgis-server@.service.d/10-folders.conf": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server@.service.d/10-queue.conf": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server@catalogue.service.d/10-queue.conf": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server@catalogue.service.d/zz-catalogue.conf": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server.socket": "\n[Socket]\nBacklog=1000\n",
    "usr/lib/systemd/system/qgis-server-wake.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-heavy.socket": "\n[Socket]\nBacklog=1000\n",
    "usr/lib/systemd/system/qgis-server-heavy-wake.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-heavy.slice": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server.target": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server.slice": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-apply.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-leave.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-roll.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-monitor.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-cache.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-metrics.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-metrics.socket": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-front.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-front.path": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-notify.service": "\n# Newer.\n",
    "usr/lib/systemd/system/qgis-server-notify.timer": "\n# Newer.\n",
}


def build_newer(folder: Path) -> Path:
    """Build it from a changed copy of the sources; returns the binary package."""
    copy = folder / "source"
    sources.copy(copy)
    changelog = copy / "debian/changelog"
    changelog.write_text(ENTRY + changelog.read_text())
    for name, addition in CHANGES.items():
        file = copy / "debian/root" / name
        file.write_text(file.read_text() + addition)
    root = copy / "debian/root"
    units = {file for file in (root / "usr/lib/systemd/system").rglob("*") if file.is_file()}
    assert units == {root / name for name in CHANGES if "/system/" in name}
    command = [sys.executable, "-m", "qgis_server_systemd", "build", "--output", str(folder)]
    subprocess.run(command, cwd=copy, check=True, env={**os.environ, "PYTHONPATH": str(copy)})
    (deb,) = folder.glob("*.deb")
    return deb
