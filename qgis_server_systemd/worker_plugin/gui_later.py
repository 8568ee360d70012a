# SPDX-License-Identifier: GPL-2.0-or-later
"""QGIS's Python loads qgis.gui at each start, a fifth of the time and a tenth of the memory of a
worker, for windows that a server never opens. Here it is loaded when somebody asks for something
of it, such as another plugin.

QGIS runs this file before its own Python, since the unit names it as PYQGIS_STARTUP (PyQGIS
Developer Cookbook, "Running Python code when QGIS starts"); the catalogue imports it.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

NAME = "qgis.gui"

PASSING = ("__main__", "qgis", "qgis.utils")
"""Modules of QGIS's start that import it and use nothing of it."""


def asking() -> str:
    """Name of the module that asks for an attribute of the one that calls this."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__") == "importlib._bootstrap":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


class Gui(ModuleType):
    """qgis.gui until it is loaded."""

    def __getattr__(self, name: str) -> object:
        if asking() in PASSING:
            if name.startswith("__"):
                raise AttributeError(name)
            return None
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec = self.__spec__
        assert spec and isinstance(spec.loader, Later)
        spec.loader = spec.loader.real
        spec.loader.exec_module(self)
        return getattr(self, name)


class Later(Loader):
    """Makes the module, and leaves the rest to who asks for something of it."""

    def __init__(self, real: Loader) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> Gui:
        return Gui(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class Finder(MetaPathFinder):
    """Finds qgis.gui, once."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = Later(spec.loader)
        return spec


def install() -> None:
    """To be called before QGIS's Python is imported."""
    sys.meta_path.insert(0, Finder())


if __name__ == "__main__":
    install()
