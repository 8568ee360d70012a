# SPDX-License-Identifier: GPL-2.0-or-later
"""The rooms of the part that runs on a server, and who may import from whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.paths import TOP

CONTROL = TOP / "qgis_server_systemd/qgis_serverctl"
ORDER = (
    ("system",),
    ("config",),
    ("pool",),
    ("front", "units"),
    ("reconcile",),
    ("adopt", "monitor"),
    ("metrics", "view"),
    ("checks",),
    ("commands",),
    ("cli",),
)
"""A room imports from rooms before its own, and not from one beside it."""
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}


def room_of(file: Path) -> str:
    """A folder of the package, or a file that stands beside the folders."""
    return file.parts[0].removesuffix(".py")


def imported(file: Path, source: str) -> Iterator[str]:
    """The rooms that a file imports from. It names them by dots, since the package has another
    name on a server."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = file.parts[: len(file.parts) - node.level]
            path = (*folder, *(node.module or "").split("."))
            if found := next((part for part in path if part), ""):
                yield found
            else:
                yield from (name.name for name in node.names)


def complaints(sources: dict[Path, str]) -> list[str]:
    found = []
    for file, source in sources.items():
        if (room := room_of(file)) not in FLOOR:
            found.append(f"{file} is in no room of the order")
            continue
        for other in imported(file, source):
            if other not in FLOOR:
                found.append(f"{file} imports from {other}, which is no room of the order")
            elif other != room and FLOOR[other] >= FLOOR[room]:
                found.append(f"{file} imports from {other}/, against the order of rooms")
    return found


def test_nobody_imports_against_the_order_of_rooms() -> None:
    sources = {
        file.relative_to(CONTROL): file.read_text()
        for file in sorted(CONTROL.rglob("*.py"))
        if file.relative_to(CONTROL) != Path("__init__.py")
    }
    assert {room_of(file) for file in sources} == set(FLOOR)
    assert complaints(sources) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("pool/a.py", "from ..front import b", "pool/a.py imports from front/"),
        ("pool/a.py", "from .. import front", "pool/a.py imports from front/"),
        ("pool/a.py", "def f():\n    from ..cli import main", "pool/a.py imports from cli/"),
        ("front/a.py", "from ..units.b import c", "front/a.py imports from units/"),
        ("cli.py", "from .attic.b import c", "cli.py imports from attic, which is no room"),
        ("attic/a.py", "", "attic/a.py is in no room"),
    ],
)
def test_it_would_be_noticed(file: str, source: str, complaint: str) -> None:
    (found,) = complaints({Path(file): source})
    assert found.startswith(complaint)


def test_what_is_in_order() -> None:
    sources = {
        "pool/a.py": "import os\nfrom . import b\nfrom .c import d\nfrom ..system import e",
        "cli.py": "from .commands import f",
    }
    assert complaints({Path(file): source for file, source in sources.items()}) == []


PLUGIN = TOP / "qgis_server_systemd/worker_plugin"


@pytest.mark.parametrize("file", sorted(PLUGIN.rglob("*.py")), ids=lambda file: file.name)
def test_the_plugin_works_with_qt_5_and_6(file: Path) -> None:
    """Qt comes by qgis.PyQt, which is that of the QGIS that runs."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert [name for name in names if name.startswith(("PyQt", "PySide", "sip"))] == []


@pytest.mark.parametrize("room", [room for room in FLOOR if room != "cli"])
def test_each_room_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(ast.parse((CONTROL / room / "__init__.py").read_text()))


def test_the_design_has_the_rooms_in_their_order() -> None:
    text = (TOP / "docs/design.md").read_text()
    table = text[text.index("| Room | What is in it |") :].partition("\n\n")[0]
    lines = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [tuple(re.findall(r"`(\w+)(?:\.py)?`", line)) for line in lines]
    assert tuple(named) == ORDER
