# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks: one for all who change the pool, and one for the roll that restarts workers."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..system.lock import acquire, open_lock
from ..system.output import note
from .host import Host

_held: set[Path] = set()
"""The locks that this process has."""


def _roll_file(host: Host) -> Path:
    return host.path(f"{host.package.run}/roll.lock")


@contextlib.contextmanager
def locked(host: Host) -> Iterator[None]:
    """Hold the pool's lock; waits for another caller and says for whom. May be nested."""
    path = host.path(f"{host.package.run}/lock")
    if path in _held:
        yield
        return
    with open_lock(path) as file:
        acquire(
            file,
            lambda: note(
                f"waiting for another {host.package.command} (process {file.read().strip()})"
            ),
        )
        with contextlib.suppress(OSError):  # a full disk: the number is a courtesy
            os.ftruncate(file.fileno(), 0)
            os.pwrite(file.fileno(), str(os.getpid()).encode(), 0)
        _held.add(path)
        try:
            yield
        finally:
            _held.remove(path)
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)


class Turn:
    """The right to roll, which one process at a time has."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def give_up(self) -> None:
        """Before the block of only_roll ends, such as while something else is locked."""
        self._file.close()


@contextlib.contextmanager
def only_roll(host: Host, *, wait: bool = True) -> Iterator[Turn | None]:
    """One roll at a time; ends when the process does. Yields the turn, or without
    `wait` None if another roll is under way."""
    with open_lock(_roll_file(host)) as file:
        waiting = (lambda: note("waiting for another restart of workers to end")) if wait else None
        yield Turn(file) if acquire(file, waiting) else None


def under_way(host: Host) -> bool:
    """Does a process roll? Only root can tell; for others none does."""
    if not _roll_file(host).exists():
        return False
    try:
        with open_lock(_roll_file(host)) as file:
            return not acquire(file)
    except PermissionError:
        return False
