# SPDX-License-Identifier: GPL-2.0-or-later
"""Unit files that hide the package's own: of a pool that was made by hand, as the
recipe of 2018 has it, or of an administrator who copied a unit to change it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from . import instances
from .host import Host
from .state import State

FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system")
"""Where a unit file wins over one in /usr/lib/systemd/system (systemd.unit(5))."""


PACKAGED = "/usr/lib/systemd/system"


OURS = (PACKAGED, "/lib/systemd/system")
"""Where links of the package's units lead: systemctl also writes the second one."""


@dataclass(frozen=True)
class Shadows:
    """`files`: the unit files. `links`: those in folders .wants and .requires that
    lead to such files, or led there. `foreign`: the pool is not the package's to
    change, only to look at. `advice`: one line for the administrator."""

    files: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    foreign: bool = False
    advice: str = ""


def journal(host: Host) -> Path:
    """There while an adoption is under way, or was cut off."""
    return host.path(f"{host.package.state}/adopting.json")


def _is_ours_by_name(host: Host, name: str) -> bool:
    return bool(re.fullmatch(rf"{re.escape(host.package.pool)}@[^./]*\.(socket|service)", name))


def files(host: Host) -> tuple[str, ...]:
    found = []
    for folder in FOLDERS:
        here = host.path(folder)
        for file in sorted(here.iterdir()) if here.is_dir() else ():
            if (
                _is_ours_by_name(host, file.name)
                and not file.is_dir()
                and not instances.is_mask(file)
            ):
                found.append(f"{folder}/{file.name}")
    return tuple(found)


def target(host: Host, link: str) -> str:
    """Where a link leads, by its text alone: it may lead nowhere by now."""
    text = os.readlink(host.path(link))
    return os.path.normpath(os.path.join(os.path.dirname(link), text))


def all_links(host: Host) -> tuple[str, ...]:
    """Every link that has systemd start a unit of the pool."""
    found = []
    for folder in FOLDERS[:2]:
        for kind in ("wants", "requires"):
            for link in sorted(host.path(folder).glob(f"*.{kind}/{host.package.pool}@*")):
                if link.is_symlink() and _is_ours_by_name(host, link.name):
                    found.append(f"{folder}/{link.parent.name}/{link.name}")
    return tuple(found)


def is_own(host: Host, link: str) -> bool:
    return os.path.dirname(target(host, link)) in OURS


def find(host: Host, state: State) -> Shadows:
    """A pool counts as made by hand where its units are, and none of its instances
    was enabled by the package."""
    hidden_by = files(host)
    there = all_links(host)
    own = {unit for n in state.enabled for unit in host.package.units(n)}
    has_own = any(os.path.basename(link) in own and is_own(host, link) for link in there)
    cut_off = journal(host).exists()
    foreign = cut_off or (bool(hidden_by) and not has_own)
    command = host.package.command
    if cut_off:
        advice = f"a move to the package's units was cut off: {command} adopt finishes it"
    elif foreign:
        advice = (
            f"{', '.join(hidden_by)} shadow the package's own units: the pool is left as it "
            f"is; {command} adopt moves it over"
        )
    else:
        advice = f"{', '.join(hidden_by)} shadow the package's own units" if hidden_by else ""
    links = tuple(link for link in there if not is_own(host, link))
    return Shadows(hidden_by, links, foreign, advice)
