# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks that end with the process that holds them (flock(2))."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def open_lock(file: Path) -> IO[str]:
    """Open a lock's file, made if missing; nobody else may open it, since whoever can read
    it can hold the lock. Raises OSError."""
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")


def acquire(stream: IO[str], waiting: Callable[[], None] | None = None) -> bool:
    """Take the lock. If another process has it, call `waiting` and wait for it; without
    `waiting` return False."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is None:
            return False
        waiting()
        fcntl.flock(stream, fcntl.LOCK_EX)
    return True
