# SPDX-License-Identifier: GPL-2.0-or-later
"""The Unix sockets of this network namespace, as the kernel tells them by sock_diag(7).

The text of /proc/net/unix can be forged: it has the name of each socket as it is, and any
user may bind one whose name has the end of a line in it. Here each field has a length. Any
user may ask.

Numbers and structs are those of the kernel's include/uapi/linux/netlink.h, sock_diag.h and
unix_diag.h: of the same size on all architectures, in the byte order of the machine.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x10, 0x300
NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 2, 3, 4
UNIX_DIAG_NAME, UNIX_DIAG_VFS, UNIX_DIAG_ICONS, UNIX_DIAG_RQLEN, UNIX_DIAG_UID = 0, 1, 3, 4, 7
UDIAG_SHOW_NAME, UDIAG_SHOW_VFS, UDIAG_SHOW_ICONS = 0x1, 0x2, 0x8
UDIAG_SHOW_RQLEN, UDIAG_SHOW_UID = 0x10, 0x40
ESTABLISHED, LISTEN = 1, 10
"""States of a socket (include/net/tcp_states.h)."""

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
REQUEST = struct.Struct("=BBHIIIII")
"""struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie."""
SOCKET = struct.Struct("=BBBBIII")
"""struct unix_diag_msg: family, type, state, padding, inode, cookie."""
ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr: length with this header, type."""
PAIR = struct.Struct("=II")
"""struct unix_diag_vfs: inode, device; and unix_diag_rqlen: of a socket that listens, how many
wait and how many may."""
NUMBER = struct.Struct("=I")
ERROR = struct.Struct("=i")

SIZES = {UNIX_DIAG_VFS: PAIR.size, UNIX_DIAG_RQLEN: PAIR.size, UNIX_DIAG_UID: NUMBER.size}
"""What an attribute has at least, in bytes: later kernels may send more."""

MAX_ERRNO = 4095
"""include/linux/err.h."""

LEAST = HEADER.size + SOCKET.size + ATTRIBUTE.size + PAIR.size
"""Bytes of the shortest message that tells a file."""

BUFFER = 1 << 16
"""Bytes; the kernel sends 32 KiB at once at most (net/netlink/af_netlink.c)."""

TIMEOUT = 5.0
"""Seconds; the kernel has its answer ready at once."""

TRIES = 3
"""So often it is asked again where sockets have changed while it told them."""


@dataclass(frozen=True)
class FileId:
    """A file, as the kernel tells it of a socket that is bound to it. `device`: in the
    kernel's own form; `inode`: the lower 32 bits."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileId | None":
        """The file at a path, None if there is none. Raises OSError."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        # MKDEV of include/linux/kdev_t.h.
        device = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
        return cls(device, found.st_ino & 0xFFFFFFFF)


@dataclass(frozen=True)
class UnixSocket:
    """One that listens or was accepted, at a path.

    `name`: the path as it was given to bind(2). `file`: what was made there, also when it has
    been deleted since. `user`: who made the socket, None where the kernel does not tell
    (before Linux 5.3). `waiting`: how many connections nobody has accepted yet. `clients`:
    inodes of their other ends, if asked for.
    """

    inode: int
    listening: bool
    name: bytes
    file: FileId
    user: int | None = None
    waiting: int = 0
    clients: tuple[int, ...] = ()


class Answer:
    """What the kernel replies to one request, piece by piece. `interrupted`: sockets have
    changed meanwhile, so that some may be missing."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.found: dict[int, UnixSocket] = {}
        self.interrupted = False
        self.complete = False

    def add(self, data: bytes) -> None:
        """Take a datagram. Raises OSError where the kernel reports one, and for what is no
        such answer."""
        at = 0
        while at < len(data):
            if len(data) - at < HEADER.size:
                raise _broken()
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
            start, end = at + HEADER.size, at + length
            if start > end or end > len(data):
                raise _broken()
            at += length + 3 & ~3
            if sequence != self.sequence:
                continue
            if flags & NLM_F_DUMP_INTR:
                self.interrupted = True
            if kind == SOCK_DIAG_BY_FAMILY:
                # Most connections have no file.
                if length >= LEAST and (one := _socket(data, start, end)):
                    self.found[one.inode] = one
            elif kind == NLMSG_OVERRUN:
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
            elif kind in (NLMSG_ERROR, NLMSG_DONE):
                code = ERROR.unpack_from(data, start)[0] if end - start >= ERROR.size else 0
                if -MAX_ERRNO <= code < 0:
                    raise OSError(-code, os.strerror(-code))
                self.complete = True


def _socket(data: bytes, at: int, end: int) -> UnixSocket | None:
    """From the content of a message, which begins and ends there; None if it has no file."""
    if end - at < SOCKET.size:
        raise _broken()
    family, _, state, _, inode, _, _ = SOCKET.unpack_from(data, at)
    if family != socket.AF_UNIX:
        raise _broken()
    listening = state == LISTEN
    name, waiting = b"", 0
    file: FileId | None = None
    user: int | None = None
    clients: tuple[int, ...] = ()
    at += SOCKET.size
    while at < end:
        if end - at < ATTRIBUTE.size:
            raise _broken()
        length, kind = ATTRIBUTE.unpack_from(data, at)
        start, size = at + ATTRIBUTE.size, length - ATTRIBUTE.size
        if size < SIZES.get(kind, 0) or at + length > end:
            raise _broken()
        if kind == UNIX_DIAG_NAME:
            # A path comes with the NUL at its end.
            raw = data[start : start + size]
            name = raw if raw.startswith(b"\0") else raw.removesuffix(b"\0")
        elif kind == UNIX_DIAG_VFS:
            number, device = PAIR.unpack_from(data, start)
            file = FileId(device, number)
        elif kind == UNIX_DIAG_RQLEN and listening:
            waiting, _ = PAIR.unpack_from(data, start)
        elif kind == UNIX_DIAG_ICONS:
            clients = struct.unpack_from(f"={size // NUMBER.size}I", data, start)
        elif kind == UNIX_DIAG_UID:
            (user,) = NUMBER.unpack_from(data, start)
        at += length + 3 & ~3
    if file is None:
        return None
    return UnixSocket(inode, listening, name, file, user, waiting, clients)


def _broken() -> OSError:
    return OSError(errno.EBADMSG, "the kernel's answer can't be read")


def request(sequence: int, *, clients: bool = False) -> bytes:
    """Asks for all sockets that listen or are connected."""
    show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID
    if clients:
        show |= UDIAG_SHOW_ICONS
    states = 1 << ESTABLISHED | 1 << LISTEN
    asked = REQUEST.pack(socket.AF_UNIX, 0, 0, states, 0, show, 0xFFFFFFFF, 0xFFFFFFFF)
    length, flags = HEADER.size + len(asked), NLM_F_REQUEST | NLM_F_DUMP
    return HEADER.pack(length, SOCK_DIAG_BY_FAMILY, flags, sequence, 0) + asked


def collect(ask: Callable[[int], Iterable[bytes]]) -> tuple[UnixSocket, ...]:
    """What the datagrams tell with which the kernel answers the request of a sequence number.
    Raises OSError. Where sockets change all the time, some may be missing."""
    for sequence in range(1, TRIES + 1):
        answer = Answer(sequence)
        for data in ask(sequence):
            answer.add(data)
            if answer.complete:
                break
        if not answer.interrupted:
            break
    return tuple(answer.found.values())


def dump(*, clients: bool = False) -> tuple[UnixSocket, ...]:
    """All sockets that listen at a path or were accepted there. `clients`: with those that
    wait. Raises OSError: ENOENT where the kernel has no module unix_diag, EAFNOSUPPORT in a
    sandbox without AF_NETLINK."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(TIMEOUT)

        def ask(sequence: int) -> Iterator[bytes]:
            kernel.sendto(request(sequence, clients=clients), (0, 0))
            while True:
                data, _, flags, sender = kernel.recvmsg(BUFFER)
                if flags & socket.MSG_TRUNC:
                    raise _broken()
                if sender[0] == 0:  # the kernel, not a process
                    yield data

        return collect(ask)
