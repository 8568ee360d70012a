# SPDX-License-Identifier: GPL-2.0-or-later
"""What the workers do right now, seen from outside: no request is sent to them
and no connection held."""

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config.names import Package, is_heavy
from ..system import unix_sockets
from ..system.output import Failure
from ..system.unix_sockets import FileId, UnixSocket


class Table:
    """The sockets of this machine at one moment. `root`: the folder in which paths begin."""

    def __init__(self, sockets: Iterable[UnixSocket] = (), root: Path = Path("/")) -> None:
        self._root = root
        self._listening: list[UnixSocket] = []
        self._accepted: dict[FileId, set[int]] = {}
        for one in sockets:
            if one.listening:
                self._listening.append(one)
            else:
                self._accepted.setdefault(one.file, set()).add(one.inode)

    def file(self, path: str) -> FileId | None:
        """What is at a path now."""
        return FileId.of(self._root / path.lstrip("/"))

    def listeners(self, path: str) -> list[UnixSocket]:
        """The sockets that listen at a path: what is bound to the file there, and what root
        has bound to a former one of the same file system, which nobody can connect to any
        more. What others have bound elsewhere by the same name is none: in the abstract
        namespace, in a folder that they see in its place, or in another container."""
        here = self.file(path)
        folder = FileId.of((self._root / path.lstrip("/")).parent)
        name = os.fsencode(path)
        return [
            one
            for one in self._listening
            if (one.file == here and one.user in (0, None))
            or (one.user == 0 and one.name == name and folder and one.file.device == folder.device)
        ]

    def accepted(self, file: FileId) -> frozenset[int]:
        """Inodes of the connections that were accepted from a socket bound to a file."""
        return frozenset(self._accepted.get(file, ()))


@dataclass(frozen=True)
class Connections:
    """Connections to one socket path: inodes of those accepted, and how many wait."""

    accepted: frozenset[int]
    queued: int


def connections(table: Table, path: str) -> Connections:
    """Those that are accepted, and how many wait."""
    there = table.listeners(path)
    accepted = (table.accepted(one.file) for one in there)
    return Connections(frozenset().union(*accepted), sum(one.waiting for one in there))


def is_reachable(table: Table, path: str) -> bool:
    """Does one socket listen at the path, and is the file there its own?"""
    there = table.listeners(path)
    return len(there) == 1 and there[0].file == table.file(path)


def queue_of(package: Package, instance: int, table: Table) -> str:
    """The socket that an instance takes its requests from: its own if there is one,
    else the shared one; in the lane for heavy requests its own is that of the lane."""
    own = package.socket(instance)
    return own if is_heavy(instance) or table.listeners(own) else package.shared_socket


def table(root: Path = Path("/")) -> Table:
    """The sockets of this machine. Raises Failure where the kernel does not tell them."""
    try:
        return Table(unix_sockets.dump(), root)
    except OSError as error:
        message = f"the kernel does not tell which sockets there are: {error.strerror or error}"
        raise Failure(message, "sock_diag(7), module unix_diag") from error


def socket_inodes(pid: int) -> frozenset[int]:
    """Inodes of the sockets that a process holds; needs root."""
    found = set()
    folder = Path(f"/proc/{pid}/fd")
    for fd in os.listdir(folder):
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(folder / fd))
        except FileNotFoundError:
            continue
        if match:
            found.add(int(match[1]))
    return frozenset(found)


def is_busy(pid: int, there: Connections) -> bool:
    """Has the worker a request in hand? It has as long as it holds a connection:
    keep-alive to workers is off. This holds on every architecture."""
    return bool(socket_inodes(pid) & there.accepted)


def holds(pid: int, there: Connections) -> bool:
    """As is_busy, but a worker that is gone holds nothing."""
    try:
        return is_busy(pid, there)
    except OSError:
        return False


# Numbers of accept and accept4 (arch/*/include/uapi/asm/unistd.h of Linux).
ACCEPT = {"x86_64": ("43", "288"), "aarch64": ("202", "242")}


def sees_accept() -> bool:
    """Can `is_accepting` tell, on this architecture?"""
    return platform.machine() in ACCEPT


def is_accepting(pid: int) -> bool:
    """Has the worker come up, so that it waits for a request on standard input?

    Reads /proc/PID/syscall (proc(5)); needs root. On an architecture whose
    numbers are not listed, a worker that runs counts as up.
    """
    calls = ACCEPT.get(platform.machine())
    try:
        words = Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()
    except OSError:
        return False
    return calls is None or (words[:1] != ["running"] and words[0] in calls and words[1] == "0x0")
