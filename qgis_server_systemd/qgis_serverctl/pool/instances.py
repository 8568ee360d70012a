# SPDX-License-Identifier: GPL-2.0-or-later
"""The instances as they are on this machine."""

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import names
from ..config.names import Package, is_heavy, label
from . import outdated
from .cores import CGROUPS, slice_chain
from .host import Host

WANTS = "sockets.target.wants"
"""Whose links start sockets at boot."""


ENDED = ("inactive", "failed")
"""States of a unit that nothing brings back by itself."""


UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")


PROPERTIES = (
    "ActiveState",
    "ActiveEnterTimestampMonotonic",
    "DropInPaths",
    "ExecMainCode",
    "ExecMainStartTimestampMonotonic",
    "ExecMainStatus",
    "ExecStartPre",
    "FragmentPath",
    "Listen",
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


WORKER_PROPERTIES = ("ActiveState", "ActiveEnterTimestampMonotonic", "MainPID", "NRestarts")
"""What the monitor asks of the workers, each second while one starts."""


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

    heavy: workers of the lane for heavy requests that run; nobody enables them, so they
    are in no other set but masked and stale. lane_enabled, lane_open, lane_old,
    lane_masked: as for an instance's socket, of theirs.
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
    heavy: frozenset[int] = frozenset()
    lane_enabled: bool = False
    lane_open: bool = False
    lane_old: bool = False
    lane_masked: bool = False

    def queue(self, package: Package, instance: int, *, shared: bool) -> str:
        """The socket that an instance takes its requests from; `shared`: where one
        that does not run would."""
        on_shared = instance in self.shared if instance in self.listening else shared
        return package.shared_socket if on_shared else package.socket(instance)


def number(unit: str, pool: str, kind: str) -> int | None:
    """The instance whose unit of this kind is called so; None for other names (also 0, 01, x)."""
    found = re.fullmatch(rf"{re.escape(pool)}@([^.]*)\.{kind}", unit)
    try:
        return names.number(found[1]) if found else None
    except ValueError:
        return None


def numbers(units: Iterable[str], pool: str, kind: str, *, heavy: bool = False) -> frozenset[int]:
    """The instances that have one of the units: those of the lane for heavy requests, or the
    others."""
    found = (number(unit, pool, kind) for unit in units)
    return frozenset(n for n in found if n is not None and is_heavy(n) == heavy)


def instances_of(units: Collection[str], pool: str) -> frozenset[int]:
    """All instances that one of the units belongs to."""
    kinds = ((kind, heavy) for kind in ("socket", "service") for heavy in (False, True))
    return frozenset().union(*(numbers(units, pool, kind, heavy=heavy) for kind, heavy in kinds))


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


def is_enabled(host: Host, socket: str) -> bool:
    """Has the shared socket, or that of heavy requests, its link?"""
    return socket in _links(host, WANTS)


FAILED_STARTS = 3
"""A worker that has ended so often right after its start won't come up."""


def is_mask(file: Path) -> bool:
    """A link to /dev/null or an empty file masks a unit (systemd.unit(5))."""
    if file.is_symlink():
        return os.readlink(file) == "/dev/null"
    return file.is_file() and file.stat().st_size == 0


def is_masked(host: Host, instance: int) -> bool:
    pool = host.package.pool
    own = {f"{pool}@{label(instance)}.service", f"{pool}@.service"}
    if not is_heavy(instance):
        own |= {f"{pool}@{instance}.socket", f"{pool}@.socket"}
    return any(is_unit_masked(host, unit) for unit in own)


def is_unit_masked(host: Host, unit: str) -> bool:
    return any(is_mask(host.path(f"{folder}/{unit}")) for folder in UNIT_FOLDERS)


def units(host: Host) -> dict[str, dict[str, str]]:
    """Properties of the pool's sockets and services that systemd has loaded, of the shared
    socket, and of what the lane for heavy requests has beside its workers."""
    if not host.live:
        return {}
    package = host.package
    pattern = f"{package.pool}@*"
    patterns = f"{pattern}.socket", f"{pattern}.service"
    return host.show_each((*patterns, *common_units(package)), *PROPERTIES)


def services(host: Host) -> dict[str, dict[str, str]]:
    """The same of the workers alone, which costs systemd half as much."""
    pattern = f"{host.package.pool}@*.service"
    return host.show_each((pattern,), *WORKER_PROPERTIES) if host.live else {}


def groups(host: Host) -> dict[str, int]:
    """The control groups of the workers that run, with their inodes: systemd makes a new one each
    time it starts one. Empty where they can't be seen."""
    found: dict[str, int] = {}
    for unit in (host.package.slice, host.package.heavy_slice):
        folder = Path(CGROUPS, slice_chain(unit)[-1])
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            found |= {one.name: one.inode() for one in entries if one.name.endswith(".service")}
    return found


def common_units(package: Package) -> tuple[str, ...]:
    """Those that are not an instance's, and that drop-ins may change."""
    return (
        package.shared_unit,
        package.heavy_unit,
        package.heavy_wake_unit,
        f"{package.pool}.target",
    )


def worker_pid(host: Host, instance: int) -> int:
    """The main process of a running worker, else 0."""
    return host.main_pid(host.package.service_unit(instance))


def is_replaced(pid: int) -> bool:
    """Was the running program replaced on disk, as by an upgrade of QGIS (proc(5))?"""
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    except OSError:
        return False


STEPS = {
    200: "CHDIR", 201: "NICE", 202: "FDS", 203: "EXEC", 204: "MEMORY", 205: "LIMITS",
    206: "OOM_ADJUST", 207: "SIGNAL_MASK", 208: "STDIN", 209: "STDOUT", 210: "CHROOT",
    211: "IOPRIO", 212: "TIMERSLACK", 213: "SECUREBITS", 214: "SETSCHEDULER",
    215: "CPUAFFINITY", 216: "GROUP", 217: "USER", 218: "CAPABILITIES", 219: "CGROUP",
    220: "SETSID", 221: "CONFIRM", 222: "STDERR", 224: "PAM", 225: "NETWORK", 226: "NAMESPACE",
    227: "NO_NEW_PRIVILEGES", 228: "SECCOMP", 229: "SELINUX_CONTEXT", 230: "PERSONALITY",
    231: "APPARMOR_PROFILE", 232: "ADDRESS_FAMILIES", 233: "RUNTIME_DIRECTORY", 235: "CHOWN",
    236: "SMACK_PROCESS_LABEL", 237: "KEYRING", 238: "STATE_DIRECTORY", 239: "CACHE_DIRECTORY",
    240: "LOGS_DIRECTORY", 241: "CONFIGURATION_DIRECTORY", 242: "NUMA_POLICY",
    243: "CREDENTIALS", 245: "BPF",
}  # fmt: skip
"""What systemd does before it runs the program of a service, by the status with which the process
ends if it can't be done (systemd.exec(5), "Process Exit Codes")."""

EXITED = 1
"""ExecMainCode of a process that was not killed (CLD_EXITED)."""


PREPARED = re.compile(r"ignore_errors=no ; .*code=exited ; status=(\d+)")
"""Of a command, in systemctl's words."""


def failed_step(unit: Mapping[str, str]) -> str:
    """The step at which systemd's last start of a service failed; empty if its program ran, which
    could end with such a status by itself: systemd calls it active first."""
    active, forked = (
        int(unit.get(f"{name}TimestampMonotonic") or 0) for name in ("ActiveEnter", "ExecMainStart")
    )
    exited = int(unit.get("ExecMainCode") or 0) == EXITED
    if int(unit.get("MainPID") or 0):
        return ""
    if exited and active < forked and (step := STEPS.get(int(unit.get("ExecMainStatus") or 0))):
        return step
    # What the package runs before it, as root and outside of the worker's root folder.
    before = PREPARED.findall(unit.get("ExecStartPre", ""))
    return next((STEPS[int(status)] for status in before if int(status) in STEPS), "")


def definition_files(host: Host, unit: Mapping[str, str]) -> list[str]:
    """The files that define a unit. Our own drop-in for the sockets' user is left
    out, since apply hands over a socket without opening it again."""
    found = [unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()]
    if unit["Id"].endswith(".service"):
        found.append(f"{host.package.etc}/env")
    return [file for file in found if file and file not in host.package.socket_dropins]


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
    package = host.package
    shared_unit, lane_unit = package.shared_unit, package.heavy_unit
    kept = [name for name, unit in shown.items() if unit.get("ActiveState") not in ENDED]
    shared = numbers(kept, pool, "service") - own if shared_unit in up else frozenset()
    listening = own | shared
    heavy = numbers(kept, pool, "service", heavy=True)
    known_heavy = numbers(shown, pool, "service", heavy=True)
    masked = frozenset(n for n in on | listening | known_heavy | candidates if is_masked(host, n))
    unread = {name for name, unit in shown.items() if unit.get("NeedDaemonReload") == "yes"}
    return Instances(
        enabled=on,
        masked=masked,
        listening=listening,
        stale=numbers(old | replaced, pool, "service")
        | numbers(old | replaced, pool, "service", heavy=True),
        old_sockets=numbers(old, pool, "socket"),
        definitions=definitions,
        # A masked unit stays unread for ever.
        need_reload=bool(unread & {*common_units(package)} or instances_of(unread, pool) - masked),
        shared=shared,
        by_worker=by_worker(host),
        by_socket=by_socket(host),
        shared_enabled=is_enabled(host, shared_unit),
        shared_open=shared_unit in up,
        shared_old=shared_unit in old,
        heavy=heavy,
        lane_enabled=is_enabled(host, lane_unit),
        lane_open=lane_unit in up,
        lane_old=lane_unit in old,
        lane_masked=is_unit_masked(host, lane_unit),
    )


def record(host: Host) -> None:
    """Note by which definitions the units run."""
    outdated.save(host, gather(host).definitions)


def listed(instances: Iterable[int]) -> str:
    return ", ".join(map(label, sorted(instances)))
