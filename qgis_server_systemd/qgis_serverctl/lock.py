# SPDX-License-Identifier: GPL-2.0-or-later
"""One lock for all who change the pool."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .host import Host
from .log import note

_held = 0


@contextmanager
def locked(host: Host) -> Iterator[None]:
    """Hold the lock; waits for another caller and says for whom. May be nested."""
    global _held
    if _held:
        yield
        return
    folder = host.path(host.package.run)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            note(f"waiting for another {host.package.command} (process {file.read().strip()})")
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # a full disk: the number is a courtesy
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        _held += 1
        try:
            yield
        finally:
            _held -= 1
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)
