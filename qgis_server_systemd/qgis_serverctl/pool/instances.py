# SPDX-License-Identifier: GPL-2.0-or-later
"""The instances as they are on this machine."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config.names import Package
from . import outdated
from .host import Host, properties

WANTS = "sockets.target.wants"
"""Whose links start sockets at boot."""


ENDED = ("inactive", "failed")
"""States of a unit that nothing brings back by itself."""


UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")


PROPERTIES = (
    "Id",
    "ActiveState",
    "ActiveEnterTimestampMonotonic",
    "DropInPaths",
    "ExecMainStartTimestampMonotonic",
    "FragmentPath",
    "MainPID",
    "NRestarts",
    "NeedDaemonReload",
    "Requires",
    "Restart",
    "Result",
    "StartLimitIntervalUSec",
    "SubState",
    "TriggerLimitIntervalUSec",
)
"""All that anybody asks of the pool's units: one question, so one answer for all."""


@dataclass(frozen=True)
class Instances:
    """Sets of instance numbers.

    enabled: their socket has its link or, for the shared queue, their worker. masked:
    socket or worker is masked. listening: their socket is active, or their worker is
    kept running on the shared one. stale: their worker runs a program that was
    replaced on disk, or by a definition that has changed since. old_sockets: their
    socket's definition has changed. definitions: those that units run by, or will be
    started by, by name. need_reload: systemd has not read all unit files yet.

    shared: those of `listening` that are on the shared socket. by_worker, by_socket:
    enabled by that unit's link. shared_enabled, shared_open, shared_old: as for an
    instance's socket, of the shared one.
    """

    enabled: frozenset[int] = frozenset()
    masked: frozenset[int] = frozenset()
    listening: frozenset[int] = frozenset()
    stale: frozenset[int] = frozenset()
    old_sockets: frozenset[int] = frozenset()
    definitions: Mapping[str, str] = field(default_factory=dict)
    need_reload: bool = False
    shared: frozenset[int] = frozenset()
    by_worker: frozenset[int] = frozenset()
    by_socket: frozenset[int] = frozenset()
    shared_enabled: bool = False
    shared_open: bool = False
    shared_old: bool = False

    def queue(self, package: Package, instance: int, *, shared: bool) -> str:
        """The socket that an instance takes its requests from; `shared`: where one
        that does not run would."""
        on_shared = instance in self.shared if instance in self.listening else shared
        return package.shared_socket if on_shared else package.socket(instance)


def number(unit: str, pool: str, kind: str) -> int | None:
    """The N of pool@N.kind; None for other names (also 0, 01, x)."""
    found = re.fullmatch(rf"{re.escape(pool)}@([1-9][0-9]*)\.{kind}", unit)
    return int(found[1]) if found else None


def numbers(units: Iterable[str], pool: str, kind: str) -> frozenset[int]:
    found = (number(unit, pool, kind) for unit in units)
    return frozenset(n for n in found if n is not None)


def _links(host: Host, wants: str) -> list[str]:
    folder = host.path(f"/etc/systemd/system/{wants}")
    return [link.name for link in folder.iterdir() if link.is_symlink()] if folder.is_dir() else []


def by_socket(host: Host) -> frozenset[int]:
    return numbers(_links(host, WANTS), host.package.pool, "socket")


def by_worker(host: Host) -> frozenset[int]:
    pool = host.package.pool
    return numbers(_links(host, f"{pool}.target.wants"), pool, "service")


def enabled(host: Host) -> frozenset[int]:
    return by_socket(host) | by_worker(host)


def is_shared_enabled(host: Host) -> bool:
    return host.package.shared_unit in _links(host, WANTS)


FAILED_STARTS = 3
"""A worker that has ended so often right after its start won't come up."""


def is_mask(file: Path) -> bool:
    """A link to /dev/null or an empty file masks a unit (systemd.unit(5))."""
    if file.is_symlink():
        return os.readlink(file) == "/dev/null"
    return file.is_file() and file.stat().st_size == 0


def is_masked(host: Host, instance: int) -> bool:
    pool = host.package.pool
    for folder in UNIT_FOLDERS:
        for stem in (f"{pool}@{instance}", f"{pool}@"):
            for kind in ("socket", "service"):
                if is_mask(host.path(f"{folder}/{stem}.{kind}")):
                    return True
    return False


def units(host: Host) -> dict[str, dict[str, str]]:
    """Properties of the pool's sockets and services that systemd has loaded, and of the
    shared socket."""
    if not host.live:
        return {}
    pattern = f"{host.package.pool}@*"
    said = host.ask(
        "show", f"--property={','.join(PROPERTIES)}", "--all",
        f"{pattern}.socket", f"{pattern}.service", host.package.shared_unit,
    )  # fmt: skip
    blocks = map(properties, said.split("\n\n"))
    return {block["Id"]: block for block in blocks if block.get("Id")}


def worker_pid(host: Host, instance: int) -> int:
    """The main process of a running worker, else 0."""
    return host.main_pid(host.package.service_unit(instance))


def is_replaced(pid: int) -> bool:
    """Was the running program replaced on disk, as by an upgrade of QGIS (proc(5))?"""
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    except OSError:
        return False


def definition_files(host: Host, unit: Mapping[str, str]) -> list[str]:
    """The files that define a unit. Our own drop-in for the sockets' user is left
    out, since apply hands over a socket without opening it again."""
    found = [unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()]
    if unit["Id"].endswith(".service"):
        found.append(f"{host.package.etc}/env")
    package = host.package
    handed_over = (package.socket_dropin, package.shared_socket_dropin)
    return [file for file in found if file and file not in handed_over]


def started(unit: Mapping[str, str]) -> float:
    """When it took its definition, on the clock of time.monotonic(): a service, when its process
    was forked, which may be well before systemd calls it active."""
    forked = int(unit.get("ExecMainStartTimestampMonotonic") or 0)
    return (forked or int(unit.get("ActiveEnterTimestampMonotonic") or 0)) / 1e6


def definition_folders(host: Host) -> list[str]:
    """Where a drop-in that is no longer there has left its trace."""
    folders = (host.path(file).parent for file in host.package.dropins)
    return sorted({str(each if each.exists() else each.parent) for each in folders})


def gather(host: Host, candidates: frozenset[int] = frozenset()) -> Instances:
    """Look at all enabled or loaded instances and at `candidates`."""
    pool = host.package.pool
    on = enabled(host)
    shown = units(host)
    up = {name: unit for name, unit in shown.items() if unit.get("ActiveState") == "active"}
    known = outdated.load(host) if up else {}
    definitions, old = {}, set()
    folders = definition_folders(host)
    for name, unit in shown.items():
        files = definition_files(host, unit)
        now = outdated.digest(files)
        since = started(unit)
        # One that systemd or the administrator started is not on record, but its
        # definition is unchanged if a sibling was started by the same.
        by = known.get(name, now if now in known.values() else None)
        changed = outdated.newest_change([*files, *folders])
        # What does not run yet will start by the definition as it is now.
        runs = name in up or int(unit.get("MainPID") or 0) > 0
        if runs and outdated.is_outdated(since, changed, now, by):
            old.add(name)
            # Else its siblings that are up to date would vouch for it.
            definitions[name] = by or ""
        else:
            definitions[name] = now
    replaced = {name for name, unit in up.items() if is_replaced(int(unit.get("MainPID") or 0))}
    own = numbers(up, pool, "socket")
    shared_unit = host.package.shared_unit
    kept = (name for name, unit in shown.items() if unit.get("ActiveState") not in ENDED)
    shared = numbers(kept, pool, "service") - own if shared_unit in up else frozenset()
    listening = own | shared
    masked = frozenset(n for n in on | listening | candidates if is_masked(host, n))
    unread = {name for name, unit in shown.items() if unit.get("NeedDaemonReload") == "yes"}
    return Instances(
        enabled=on,
        masked=masked,
        listening=listening,
        stale=numbers(old | replaced, pool, "service"),
        old_sockets=numbers(old, pool, "socket"),
        definitions=definitions,
        # A masked unit stays unread for ever.
        need_reload=bool(
            (numbers(unread, pool, "socket") | numbers(unread, pool, "service")) - masked
        )
        or shared_unit in unread,
        shared=shared,
        by_worker=by_worker(host),
        by_socket=by_socket(host),
        shared_enabled=is_shared_enabled(host),
        shared_open=shared_unit in up,
        shared_old=shared_unit in old,
    )


def record(host: Host) -> None:
    """Note by which definitions the units run."""
    outdated.save(host, gather(host).definitions)


def listed(instances: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(instances)))
