# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks: one for all who change the pool, and one for the roll that restarts workers."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ..system.output import note
from .host import Host

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
    folder = host.path(host.package.run)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "roll.lock").open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield None
                return
            note("waiting for another restart of workers to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield Turn(file)


def under_way(host: Host) -> bool:
    try:
        with host.path(f"{host.package.run}/roll.lock").open("r", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
