# SPDX-License-Identifier: GPL-2.0-or-later
"""The instances as they are on this machine."""

import os
import re
from dataclasses import dataclass

from .host import Host

WANTS = ("sockets.target.wants", "{pool}.target.wants")
UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")


@dataclass(frozen=True)
class Instances:
    """Sets of instance numbers.

    enabled: their socket has its link. masked: socket or worker is masked.
    listening: their socket is active. stale: their worker runs a program that
    was replaced on disk since.
    """

    enabled: frozenset[int] = frozenset()
    masked: frozenset[int] = frozenset()
    listening: frozenset[int] = frozenset()
    stale: frozenset[int] = frozenset()


def number(unit: str, pool: str, kind: str) -> int | None:
    """The N of pool@N.kind; None for other names (also 0, 01, x)."""
    found = re.fullmatch(rf"{re.escape(pool)}@([1-9][0-9]*)\.{kind}", unit)
    return int(found[1]) if found else None


def enabled(host: Host) -> frozenset[int]:
    folder = host.path(f"/etc/systemd/system/{WANTS[0]}")
    names = (link.name for link in folder.iterdir() if link.is_symlink()) if folder.is_dir() else ()
    found = (number(name, host.package.pool, "socket") for name in names)
    return frozenset(n for n in found if n is not None)


def is_masked(host: Host, instance: int) -> bool:
    """A unit is masked by a link to /dev/null or an empty file (systemd.unit(5))."""
    pool = host.package.pool
    for folder in UNIT_FOLDERS:
        for stem in (f"{pool}@{instance}", f"{pool}@"):
            for kind in ("socket", "service"):
                unit = host.path(f"{folder}/{stem}.{kind}")
                if unit.is_symlink() and os.readlink(unit) == "/dev/null":
                    return True
    return False


def listening(host: Host) -> frozenset[int]:
    if not host.live:
        return frozenset()
    units = host.command(
        "systemctl", "list-units", "--plain", "--no-legend", "--state=active",
        f"{host.package.pool}@*.socket",
    ).stdout  # fmt: skip
    found = (number(line.split()[0], host.package.pool, "socket") for line in units.splitlines())
    return frozenset(n for n in found if n is not None)


def worker_pid(host: Host, instance: int) -> int:
    """The main process of a running worker, else 0."""
    shown = host.show(host.package.service_unit(instance), "MainPID")
    return int(shown.get("MainPID") or 0)


def is_stale(pid: int) -> bool:
    """Was the running program replaced on disk, as by an upgrade of QGIS (proc(5))?"""
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    except OSError:
        return False


def gather(host: Host, candidates: frozenset[int]) -> Instances:
    """Look at all enabled or listening instances and at `candidates`."""
    on = enabled(host)
    active = listening(host)
    known = on | active | candidates
    return Instances(
        enabled=on,
        masked=frozenset(n for n in known if is_masked(host, n)),
        listening=active,
        stale=frozenset(n for n in active if is_stale(worker_pid(host, n))),
    )
