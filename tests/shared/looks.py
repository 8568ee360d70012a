# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at pools that are made up, and what the checks may find."""

from __future__ import annotations

import re
from pathlib import Path

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.front.nginx import Nginx
from qgis_server_systemd.qgis_serverctl.monitor.record import Watch
from qgis_server_systemd.qgis_serverctl.pool import connections
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.pool.instances import Instances
from qgis_server_systemd.qgis_serverctl.pool.state import State
from qgis_server_systemd.qgis_serverctl.reconcile import plan
from qgis_server_systemd.qgis_serverctl.view.look import Look
from shared.paths import TOP

HOST = Host(Package(), Path("/nowhere"))
SERVING = Nginx(installed=True, running=True, user="www-data", uses=True)


def seen(
    *workers: dict[str, str], listening: set[int] | None = None, nginx: Nginx = SERVING,
    watch: Watch | None = None, shared: bool = False, masked: set[int] | None = None,
) -> Look:  # fmt: skip
    """A pool whose workers have these properties."""
    numbers = range(1, len(workers) + 1)
    there = frozenset(numbers if listening is None else listening)
    known = Instances(
        enabled=frozenset(numbers), listening=there, masked=frozenset(masked or ()),
        shared=there if shared else frozenset(), shared_open=shared,
    )  # fmt: skip
    units = {
        HOST.package.service_unit(n): {"MainPID": "0", **worker}
        for n, worker in enumerate(workers, 1)
    }
    return Look(
        host=HOST, root=True, resolved=None, wanted=None, steps=None, obstacle="", units=units,
        watch=watch, table=connections.Table(), blind="", now=1000.0,
        server=plan.Facts(
            live=True, cores=2, instances=known, state=State(), nginx=nginx, files={}, loaded=True
        ),
    )  # fmt: skip


UP = {"MainPID": "100", "SubState": "running"}


def finding_ids(*makers: str) -> set[str]:
    """Of what the checks find, as their source has it: of all that these functions make."""
    checks = TOP / "qgis_server_systemd/qgis_serverctl/checks"
    made = rf"(?:{'|'.join(makers)})\(\s*\"([a-z]+(?:-[a-z]+)*)\""
    return {id for file in checks.glob("*.py") for id in re.findall(made, file.read_text())}
