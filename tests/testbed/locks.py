# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks of files, by which processes agree."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def lock(path: Path, *, shared: bool = False, wait: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None if it is taken and wait is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, kind)
            # Whoever held it may have removed the file: then this lock guards nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a file's lock."""
    descriptor = lock(path)
    assert descriptor is not None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock_of(layer: Path) -> Path:
    """The lock file of a cached layer; whoever uses the layer holds it shared."""
    return layer.with_name(layer.name + ".lock")
