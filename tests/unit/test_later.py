# SPDX-License-Identifier: GPL-2.0-or-later
"""What a worker loads when somebody asks for it, with small modules in the place of large ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from shared.paths import TOP

PLUGIN = TOP / "qgis_server_systemd/worker_plugin"

FILES = {
    "qgis/core.py": (
        "import numpy as _numpy, typing\n"
        "def made(a: int = 1) -> typing.Union[_numpy.ndarray, typing.List[_numpy.ma.Array]]:\n"
        "    return _numpy.ndarray()\n"
    ),
    "qgis/__init__.py": "from qgis.gui import *\nfrom qgis.gui import Bar\n",
    "qgis/gui.py": "class Bar: pass\nprint('gui is loaded')\n",
    "numpy/__init__.py": "print('numpy is loaded')\nfrom . import ma\nclass ndarray: pass\n",
    "numpy/ma.py": "import numpy\nprint('ma is loaded')\nclass Array: pass\n",
    "broken/numpy/__init__.py": "import no_such_module\n",
    # As in Debian 12.
    "old/qgis/core.py": "",
    "old/qgis/__init__.py": "",
}
BEFORE = "import later; later.install(); import qgis.core, plugin\n"


def output(folder: Path, code: str, first: str = "") -> list[str]:
    """What a program says in which a worker's modules are loaded later."""
    for name, text in {**FILES, "plugin.py": f"import qgis.core, sys\n{code}\n"}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    path = f"{folder / first}:{folder}:{PLUGIN}"
    done = subprocess.run(
        [sys.executable, "-Sc", BEFORE],
        env={"PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


NUMPY = ["numpy is loaded", "ma is loaded"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", []),
        ("import numpy, qgis.gui", []),
        ("import numpy; numpy.ndarray", NUMPY),
        ("from numpy import ndarray; import numpy; numpy.ndarray", NUMPY),
        ("from numpy import *; ndarray", NUMPY),
        ("import numpy; assert type(qgis.core.made()) is numpy.ndarray", NUMPY),
        # What is in it, first: there are no two of it.
        ("import numpy.ma; assert numpy.ma is sys.modules['numpy.ma']; numpy.ma.Array", NUMPY),
        ("from numpy.ma import Array; import numpy; assert Array is numpy.ma.Array", NUMPY),
        ("import numpy.ma; assert numpy.ma.__spec__.loader is numpy.ma.__loader__", NUMPY),
        ("from qgis.gui import Bar; Bar()", ["gui is loaded"]),
        ("import numpy, importlib; numpy.ma; importlib.reload(numpy)", [*NUMPY, NUMPY[0]]),
    ],
)
def test_it_is_loaded_when_something_of_it_is_used(
    tmp_path: Path, code: str, said: list[str]
) -> None:
    assert output(tmp_path, code) == said


@pytest.mark.parametrize(
    "code", ["import numpy; numpy.ndarray", "import numpy.ma", "from numpy.ma import Array"]
)
def test_it_is_loaded_where_nobody_has_asked_for_it_before(tmp_path: Path, code: str) -> None:
    hook = (
        "import builtins; own = builtins.__import__\n"
        "def _import(*arguments): return own(*arguments)\n"
        "builtins.__import__ = _import\n"
    )
    assert output(tmp_path, hook + code, "old") == NUMPY


def test_one_that_is_broken_is_as_broken_as_elsewhere(tmp_path: Path) -> None:
    code = (
        "import numpy\n"
        "try: numpy.ndarray\n"
        "except ModuleNotFoundError as error: print(error)\n"
        "print('numpy' in sys.modules)\n"
    )
    assert output(tmp_path, code, "broken") == ["No module named 'no_such_module'", "False"]
