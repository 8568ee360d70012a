# SPDX-License-Identifier: GPL-2.0-or-later
"""Who listens on TCP ports of this machine, as the kernel tells it (proc_net(5))."""

import os
import re
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from .files import read_or_none
from .output import printable

LISTEN = "0A"
"""In the column st (include/net/tcp_states.h)."""


@dataclass(frozen=True)
class Endpoint:
    """An address and port of TCP; `address` is 0.0.0.0 or :: for all addresses."""

    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"

    def excludes(self, other: "Endpoint") -> bool:
        """Can nobody else listen at `other` while somebody listens here? All addresses of IPv6
        may stand for those of IPv4 as well, or not: that is not told, so it is taken to."""
        if self.port != other.port:
            return False
        if self.address.version != other.address.version:
            return self.address.version == 6 and self.address.is_unspecified
        return (
            self.address == other.address
            or self.address.is_unspecified
            or other.address.is_unspecified
        )


def address(digits: str) -> IPv4Address | IPv6Address:
    """From hexadecimal digits: words of 32 bits, in the order of the machine."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    family = socket.AF_INET6 if len(words) == 4 else socket.AF_INET
    return ip_address(socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)))


def listening(folder: Path = Path("/proc/net")) -> dict[int, Endpoint]:
    """What listens, by the inode of its socket. `folder`: that of another process for its
    network."""
    found = {}
    for name in ("tcp", "tcp6"):
        text = read_or_none(folder / name) or ""  # none: no IPv6
        for line in text.splitlines()[1:]:
            row = line.split()
            if row[3] == LISTEN:
                host, _, port = row[1].partition(":")
                found[int(row[9])] = Endpoint(address(host), int(port, 16))
    return found


@dataclass(frozen=True)
class Holder:
    """A process. `unit`: the service that it belongs to, empty if none is known."""

    pid: int
    name: str
    unit: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid}{f' of {self.unit}' if self.unit else ''})"


def holder(inode: int, proc: Path = Path("/proc")) -> Holder | None:
    """The first process that has a socket open; None if this user can't tell."""
    pids = sorted(int(each.name) for each in proc.iterdir() if each.name.isdigit())
    for pid in pids:
        folder = proc / str(pid)
        try:
            held = (os.readlink(file) for file in (folder / "fd").iterdir())
            if f"socket:[{inode}]" not in held:
                continue
            name = (folder / "comm").read_text(errors="replace").strip()
            group = (folder / "cgroup").read_text(errors="replace")
        except OSError:
            continue
        unit = re.search(r"/([\w@.:-]+\.service)$", group, re.MULTILINE)
        return Holder(pid, printable(name), unit[1] if unit else "")
    return None
