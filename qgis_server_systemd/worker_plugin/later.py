# SPDX-License-Identifier: GPL-2.0-or-later
"""QGIS's Python loads qgis.gui and numpy at each start, a quarter of the time and a fifth of the
memory of a worker: the one for windows that a server never opens, the other for the annotations of
three functions. Here each is loaded when somebody asks for something of it, such as another plugin.

QGIS runs this file before its own Python, since the unit names it as PYQGIS_STARTUP (PyQGIS
Developer Cookbook, "Running Python code when QGIS starts"); the catalogue imports it.
"""

# No importlib.abc: it takes 20 ms of its own.
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType

PASSING = {"qgis.gui": ("__main__", "qgis", "qgis.utils"), "numpy": ("qgis.core",)}
"""What is loaded later, and modules of QGIS's start that use nothing of it while they are loaded
themselves. Their functions may, such as QgsRasterBlock.as_numpy."""


class Any(type):
    """Has whatever is asked for."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class Nothing(metaclass=Any):
    """What modules in PASSING get. Good enough for an annotation."""


def asking() -> FrameType:
    """Who asks for an attribute of the one that calls this."""
    frame = sys._getframe(2)
    while frame.f_back:
        name, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        # QGIS puts a function of its own in the place of __import__.
        if name != "importlib._bootstrap" and (name, function) != ("qgis.utils", "_import"):
            break
        frame = frame.f_back
    return frame


class Later(ModuleType):
    """A module until it is loaded."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is not self:
            # It is being made, and importlib looks what it has.
            raise AttributeError(name)
        frame = asking()
        passing = frame.f_globals.get("__name__") in PASSING[self.__name__]
        if passing and frame.f_code.co_name == "<module>":
            if name.startswith("__"):
                raise AttributeError(name)
            return Nothing
        load(self)
        return getattr(self, name)


def load(module: Later) -> None:
    """Make it what it is."""
    spec = module.__spec__
    assert spec and isinstance(spec.loader, Postponed)
    module.__class__ = ModuleType
    module.__loader__ = spec.loader = spec.loader.real
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # As where it was imported at once: nothing of it is left.
        sys.modules.pop(module.__name__, None)
        raise


class Postponed:
    """A loader that makes the module, and leaves the rest to who asks for something of it."""

    def __init__(self, real: object) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> Later:
        return Later(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class Loaded:
    """A loader of what is there already, with its own spec."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class Finder:
    """Finds what is loaded later, and what is in it: that is loaded with all of it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in PASSING and name not in sys.modules:
            spec = PathFinder.find_spec(name, path, target)
            if spec and spec.loader:
                spec.loader = Postponed(spec.loader)  # type: ignore[assignment]
            return spec
        parent = sys.modules.get(name.rpartition(".")[0])
        if isinstance(parent, Later):
            load(parent)
            # While it is there, importlib takes its own spec, and loads it a second time.
            if there := sys.modules.pop(name, None):
                return ModuleSpec(name, Loaded(there))  # type: ignore[arg-type]
        return None


def install() -> None:
    """To be called before QGIS's Python is imported."""
    sys.meta_path.insert(0, Finder())


if __name__ == "__main__":
    install()
