# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps this worker from the other ones. Knows nothing of QGIS.

All workers are one user, so that an administrator gives permissions once, and the kernel lets
processes of one user signal each other. Their user namespaces keep them out of each other's
memory and /proc alone, and filters of system calls in a unit know no arguments. So a worker
gives up, before it has opened any project, whatever reaches another process: for good, and for
all that it will ever start.
"""

import ctypes
import os
from collections.abc import Collection, Iterator
from errno import EPERM

F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
FIOSETOWN, SIOCSPGRP = 0x8901, 0x8902
"""Who gets a signal when something is to be read, and which one (fcntl(2), ioctl_tty(2))."""

# seccomp.h of libseccomp.
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NOT_EQUAL, MASKED_EQUAL = 1, 7
ALL_THREADS = 4
WORD = 0xFFFFFFFF
"""What the kernel takes of an argument that is an int."""


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def refused(process: int) -> Iterator[tuple[str, Comparison | None]]:
    """System calls, and for which arguments: whatever the kernel allows to processes of the same
    user that may not trace each other."""
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        yield name, Comparison(0, NOT_EQUAL, process, 0)
    yield "tkill", None
    yield "pidfd_send_signal", None
    # Zero is the caller.
    yield "prlimit64", Comparison(0, NOT_EQUAL, 0, 0)
    for command in (F_SETOWN, F_SETSIG, F_SETOWN_EX):
        yield "fcntl", Comparison(1, MASKED_EQUAL, WORD, command)
    for command in (FIOSETOWN, SIOCSPGRP):
        yield "ioctl", Comparison(1, MASKED_EQUAL, WORD, command)


def _done(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


def keep(allowed: Collection[str] = ()) -> None:
    """In all threads. `allowed`: system calls that settings allow. Raises OSError."""
    # systemd itself needs the library.
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    if not (context := library.seccomp_init(ctypes.c_uint32(ALLOW))):
        raise OSError("seccomp_init failed")
    filter_ = ctypes.c_void_p(context)
    try:
        _done(library.seccomp_attr_set(filter_, ALL_THREADS, 1), "all threads")
        for name, comparison in refused(os.getpid()):
            if name in allowed:
                continue
            number = library.seccomp_syscall_resolve_name(name.encode())
            compared = (comparison,) if comparison else ()
            given = (Comparison * len(compared))(*compared)
            action = ctypes.c_uint32(ERRNO | EPERM)
            rule = library.seccomp_rule_add_array
            _done(rule(filter_, action, number, len(compared), given), name)
        _done(library.seccomp_load(filter_), "seccomp(2)")
    finally:
        library.seccomp_release(filter_)
