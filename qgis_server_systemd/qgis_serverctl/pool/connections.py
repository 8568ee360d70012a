# SPDX-License-Identifier: GPL-2.0-or-later
"""What the workers do right now, seen from outside: no request is sent to them
and no connection held."""

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..config.names import Package

# States of /proc/net/unix (include/uapi/linux/net.h, net/unix/af_unix.c):
# a connection that nobody has accepted yet has no inode.
CONNECTED = "03"


@dataclass(frozen=True)
class Connections:
    """Connections to one socket path: inodes of those accepted, and how many wait."""

    accepted: frozenset[int]
    queued: int


def _ends(table: str, path: str) -> Iterator[tuple[bool, str, int]]:
    """The server's ends of a path in the text of /proc/net/unix (proc(5)): is it the
    listening socket itself (flag __SO_ACCEPTCON), its state and its inode."""
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == path:
            yield int(fields[3], 16) & 0x10000 > 0, fields[5], int(fields[6])


def listeners(table: str, path: str) -> int:
    """How many sockets listen on a path."""
    return sum(listens for listens, _, _ in _ends(table, path))


def connections(table: str, path: str) -> Connections:
    """Those that are accepted, and how many wait."""
    accepted: set[int] = set()
    queued = 0
    for listens, state, inode in _ends(table, path):
        if listens:
            continue
        if inode == 0:
            queued += 1
        elif state == CONNECTED:
            accepted.add(inode)
    return Connections(frozenset(accepted), queued)


def queue_of(package: Package, instance: int, table: str) -> str:
    """The socket that an instance takes its requests from: its own if there is one,
    else the shared one."""
    own = package.socket(instance)
    return own if listeners(table, own) else package.shared_socket


def table() -> str:
    """The sockets of this machine, for `connections`."""
    return Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")


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
