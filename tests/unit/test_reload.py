# SPDX-License-Identifier: GPL-2.0-or-later
"""How the command reload is told which project is meant."""

from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.commands import reload
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.system.output import Failure

PACKAGE = Package()


def test_a_project_is_meant_by_its_name_or_path(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    folder = host.path(PACKAGE.projects)
    folder.mkdir(parents=True)
    for name in ("city.qgz", "city.qgs", "plan.qgs"):
        (folder / name).touch()
    assert reload._named(host, "city") == f"{PACKAGE.projects}/city.qgz"
    assert reload._named(host, "plan") == f"{PACKAGE.projects}/plan.qgs"
    assert reload._named(host, "/srv/other.qgs") == "/srv/other.qgs"
    with pytest.raises(Failure, match=r"by the name town \(names that are served: city, plan\)"):
        reload._named(host, "town")
