# SPDX-License-Identifier: GPL-2.0-or-later
"""Which projects have an address, and which can't have one. Knows nothing of QGIS."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..addresses import ENDS, is_name, is_project

MOST = 2000
"""Entries of a folder that are looked at, and projects."""


@dataclass(frozen=True)
class Address:
    """`name`: in the URL; empty for the project that answers requests without one. `origin`:
    "folder", "named" (the setting named_projects), "project" or "warm" (the settings)."""

    name: str
    path: str
    origin: str


@dataclass(frozen=True)
class Without:
    """A file that has no address. `kind`: name, ending, hidden, folder, special, broken, denied,
    below, folder-missing, folder-denied, folder-hangs, many. `by`: what hides it, if anything."""

    path: str
    kind: str
    by: str = ""


@dataclass(frozen=True)
class Entry:
    """A file of a folder. `kind`: file, folder, special, broken (a link), denied."""

    path: str
    kind: str


def kind_of(path: str) -> str:
    """What a path is, links followed."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        return "denied"
    except OSError:
        return "broken"
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "special"


def entries(folder: str, *, below: bool = True) -> list[Entry]:
    """What could be a project, in a folder and in those in it. Raises OSError."""
    found: list[Entry] = []
    with os.scandir(folder) as there:
        for count, entry in enumerate(there):
            if count >= MOST:
                break
            if is_project(entry.name):
                found.append(Entry(entry.path, kind_of(entry.path)))
            elif below and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                try:
                    found += entries(entry.path, below=False)
                except OSError:
                    continue
    return sorted(found[:MOST], key=lambda one: one.path)


def in_folder(
    folder: str, found: Iterable[Entry], pattern: str, taken: Mapping[str, str]
) -> tuple[dict[str, str], list[Without]]:
    """The projects that a folder gives names to, and those that get none: as NGINX finds them.
    `taken`: names that others have already, with their projects."""
    names: dict[str, str] = {}
    without: list[Without] = []
    # .qgz wins over .qgs.
    for entry in sorted(found, key=lambda one: ENDS.index(one.path.lower()[-3:])):
        stem, _, end = os.path.basename(entry.path).rpartition(".")
        if os.path.dirname(entry.path) != folder.rstrip("/"):
            if entry.kind == "file":
                without.append(Without(entry.path, "below"))
        elif entry.kind != "file":
            without.append(Without(entry.path, entry.kind))
        elif end not in ENDS:
            without.append(Without(entry.path, "ending"))
        elif not is_name(pattern, stem):
            without.append(Without(entry.path, "name"))
        elif by := names.get(stem) or taken.get(stem):
            without.append(Without(entry.path, "hidden", by))
        else:
            names[stem] = entry.path
    return names, without


def addresses(
    named: Mapping[str, str],
    project: str,
    warm: Sequence[str],
    folders: Sequence[tuple[str, Sequence[Entry]]],
    pattern: str,
) -> tuple[list[Address], list[Without]]:
    """All of them, by name. The first folder wins, and entries of named_projects over all."""
    found = [Address(name, path, "named") for name, path in named.items()]
    taken = dict(named)
    without: list[Without] = []
    for folder, there in folders:
        names, rest = in_folder(folder, there, pattern, taken)
        found += [Address(name, path, "folder") for name, path in names.items()]
        taken |= names
        without += rest
    found.sort(key=lambda one: one.name)
    if project:
        found.insert(0, Address("", project, "project"))
    served = {one.path for one in found}
    found += [Address("", path, "warm") for path in warm if path not in served]
    return found[:MOST], without[:MOST]
