# SPDX-License-Identifier: GPL-2.0-or-later
"""What a package is made from, and where that is: beside this Python package in a checkout or
an unpacked sdist, inside it where the tool is installed (pyproject.toml puts it there)."""

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSIDE = "source"
OUTSIDE = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "debian",
    "docs",
    "pyproject.toml",
    "setup.py",
)
SOURCES = (*OUTSIDE, HERE.name)

TOP = HERE / INSIDE if (HERE / INSIDE).is_dir() else HERE.parent
TEMPLATES = TOP / "debian"


def copy(target: Path) -> None:
    """Copy all of it into a new folder, laid out like a checkout."""
    target.mkdir()
    leave = shutil.ignore_patterns("__pycache__", INSIDE)
    for name in SOURCES:
        source = HERE if name == HERE.name else TOP / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=leave)
        else:
            shutil.copy2(source, target / name)


def mode(beginning: bytes | str) -> int:
    """The mode of a file that begins so. Its mode on disk tells nothing: where the tool comes
    from a wheel, programs among its data may not be executable."""
    return 0o755 if beginning[:2] in (b"#!", "#!") else 0o644
