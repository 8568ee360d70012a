# SPDX-License-Identifier: GPL-2.0-or-later
"""The workers' plugin with PyQt 5 and PyQt 6, as far as stand-ins for QGIS can tell."""

import subprocess
import sys

import pytest
from shared.paths import TOP

# Of what is not named here, a class of which nothing is known: an enumeration has no members
# unless it has them in this PyQt.
STAND_INS = """
import enum, importlib, pkgutil, sys, types

class Module(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {}))
        return getattr(self, name)

for name in ("qgis", "qgis.core", "qgis.server", "qgis.utils"):
    sys.modules[name] = Module(name)
core = sys.modules["qgis.core"]
class Factor:
    @staticmethod
    def fromUnitToUnitFactor(unit, known):
        assert type(unit) is type(known)
        return 0.5
core.QgsUnitTypes = Factor
if sys.argv[1] == "5":
    Factor.DistanceMeters, Factor.DistanceUnknownUnit = unit, unknown = 0, 7
    core.QgsProject.FlagDontResolveLayers = 1
    core.QgsProject.ReadFlags = int
else:
    class Qgis:
        DistanceUnit = enum.Enum("DistanceUnit", "Meters Feet Unknown")
        ProjectReadFlag = enum.Flag("ProjectReadFlag", "DontResolveLayers")
        ProjectReadFlags = ProjectReadFlag
    core.Qgis = Qgis
    unit, unknown = Qgis.DistanceUnit.Feet, Qgis.DistanceUnit.Unknown
core.Qgis.QGIS_VERSION_INT = 34000

from qgis_server_systemd import worker_plugin
for found in pkgutil.walk_packages(worker_plugin.__path__, "qgis_server_systemd.worker_plugin."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)

from qgis_server_systemd.worker_plugin.catalogue import reading
assert reading.without_layers()
class Project:
    def crs(self):
        return self
    def mapUnits(self):
        return self.units
Project.units = unit
assert reading.metres(Project()) == 0.5
Project.units = unknown
assert reading.metres(Project()) == 0
assert not {"PyQt5", "PyQt6", "sip"} & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.mark.parametrize("qt", ["5", "6"])
def test_enumerations_of_both(qt: str) -> None:
    """PyQt 6 has their members in the enumeration alone, and they are no numbers."""
    subprocess.run([sys.executable, "-c", STAND_INS, qt], check=True, cwd=TOP)
