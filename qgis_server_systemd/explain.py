# SPDX-License-Identifier: GPL-2.0-or-later
"""``explain``: what a setting of site.toml means."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .qgis_serverctl.config.declaration import as_toml, nearest
from .qgis_serverctl.system.output import die
from .qgis_variables import VARIABLES
from .site import TABLES


@dataclass(frozen=True)
class Entry:
    """`default` and `example` as they stand in the file."""

    key: str
    help: str
    allowed: str
    default: str
    example: str


def entries() -> Iterator[Entry]:
    """Every setting and variable."""
    for table in TABLES:
        for one in table.known:
            key = f"{table.name}.{one.key}"
            yield Entry(key, one.help, one.allowed, as_toml(one.default), one.example)
    for variable in VARIABLES:
        allowed = f"a text ({variable.kind})"
        default = variable.default or "unset"
        key = f"environment.{variable.name}"
        yield Entry(key, variable.help, allowed, default, as_toml(variable.example))
    free = TABLES[-1]
    yield Entry(free.name, free.help, "a path here for each path on the server", "none", "")


def names() -> tuple[str, ...]:
    """What `find` finds, without the names of tables."""
    return tuple(entry.key.partition(".")[2] or entry.key for entry in entries())


def find(key: str) -> Entry:
    """The setting of that name, with or without its table's. Raises Failure."""
    found = {entry.key: entry for entry in entries()}
    named = [entry for name, entry in found.items() if key in (name, name.partition(".")[2])]
    if not named:
        hint = nearest(key, (*found, *names())) if len(key) < 60 else ""
        die(f"unknown key {key}", hint=hint if hint.startswith("did") else "see: explain")
    return named[0]


def page(entry: Entry) -> str:
    """All of one setting, to be read."""
    lines = [entry.key, "", entry.help, "", f"Allowed: {entry.allowed}."]
    lines.append(f"Default: {entry.default}")
    if entry.example:
        lines.append(f"Example: {entry.key.rpartition('.')[2]} = {entry.example}")
    return "\n".join(lines)


def as_json(entry: Entry) -> dict[str, Any]:
    return {key: getattr(entry, key) for key in ("key", "help", "allowed", "default", "example")}


def command(args: argparse.Namespace) -> int:
    """The subcommand: one setting, or a table of all."""
    if args.key:
        entry = find(args.key)
        print(json.dumps(as_json(entry), ensure_ascii=False) if args.json else page(entry))
        return 0
    everything = list(entries())
    if args.json:
        print(json.dumps([as_json(entry) for entry in everything], ensure_ascii=False, indent=2))
        return 0
    width = max(len(entry.key) for entry in everything)
    for entry in everything:
        print(f"{entry.key:{width}}  {entry.help.splitlines()[0]}")
    return 0
