# SPDX-License-Identifier: GPL-2.0-or-later
"""Do workers still have what they were given when they started?

A worker sees the folders that were there then. One that is mounted later, mounted again, or is a
link that leads elsewhere by now, is another one for it (systemd.exec(5), BindReadOnlyPaths=). And
of some files it reads no more than what was in them.
"""

import contextlib
import os
import threading
import time
from collections.abc import Collection, Mapping

from ..config.names import label
from ..system.output import note

FileId = tuple[int, int]


PATIENCE = 0.5
"""Seconds that a look may take; what it finds later counts at the next one."""


SETTLED = 2.0
"""Seconds since the last change after which files count as replaced. Several may be, one after the
other: a worker that has a new authentication database and the former master password is of little
use."""


def identity(path: str) -> FileId | None:
    """Device and inode of a folder; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def seen(pid: int, folder: str) -> FileId | None:
    """The same, as a process has it. Nothing of the path is for the worker to choose: its root
    folder has but what systemd has mounted there."""
    return identity(f"/proc/{pid}/root{folder}")


def changed(path: str) -> float | None:
    """When a file, or a folder or something in it, was last put in place or changed, in seconds
    since the epoch; None if there is none."""
    with contextlib.suppress(OSError):
        times = [os.stat(path).st_ctime]
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                times += [entry.stat(follow_symlinks=False).st_ctime for entry in entries]
        return max(times)
    return None


class Mounts:
    """`ask` does not wait: where a file server does not answer, stat(2) takes as long as that
    lasts."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        # By instance: its process at that look, and the path.
        self._found: dict[int, tuple[int, str]] = {}
        # For what workers were restarted already: what can't be helped is not tried again and
        # again.
        self._tried: dict[tuple[int, str], FileId | float] = {}

    def ask(
        self,
        folders: Collection[str],
        read: Collection[str],
        workers: Mapping[int, tuple[int, float]],
    ) -> dict[int, str]:
        """Instances whose workers see another folder than there is now, or have read a file that
        has changed since, and which. `read`: files, and folders of files, of which they have what
        was there when they started. `workers`: their processes, and when these started, on the
        clock of time.monotonic()."""
        if self._thread and self._thread.is_alive():
            return {}
        args = (tuple(folders), tuple(read), dict(workers))
        self._thread = threading.Thread(target=self._look, args=args, daemon=True)
        self._thread.start()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            return {}
        found, self._found = self._found, {}
        # One that has been restarted since is another one.
        return {
            n: path
            for n, (pid, path) in found.items()
            if n in workers and workers[n][0] == pid and path in (*folders, *read)
        }

    def _look(
        self,
        folders: tuple[str, ...],
        read: tuple[str, ...],
        workers: dict[int, tuple[int, float]],
    ) -> None:
        found = {}
        times = {path: last for path in read if (last := changed(f"/proc/1/root{path}"))}
        if any(0 <= time.time() - last < SETTLED for last in times.values()):
            times.clear()
        # As the machine has it: the monitor itself does not see /home, for instance.
        there = {folder: now for folder in folders if (now := identity(f"/proc/1/root{folder}"))}
        epoch = time.time() - time.monotonic()
        for instance, (pid, started) in workers.items():
            for folder, now in there.items():
                if self._is_due(instance, folder, now, seen(pid, folder) == now, pid):
                    found[instance] = pid, folder
            for path, last in times.items():
                if self._is_due(instance, path, last, last <= epoch + started, pid):
                    found[instance] = pid, path
        # Nobody has asked for what a look found that took long.
        self._found = self._found | found

    def _is_due(
        self, instance: int, path: str, now: FileId | float, current: bool, pid: int
    ) -> bool:
        """Is a worker to be restarted for what it has of a path, which is `now` so?"""
        if current:
            self._tried.pop((instance, path), None)
            return False
        if self._tried.get((instance, path)) == now or not identity(f"/proc/{pid}"):
            return False
        self._tried[instance, path] = now
        return True


def told(found: Mapping[int, str]) -> None:
    """Why workers are restarted."""
    for instance, path in found.items():
        note(
            f"instance {label(instance)}: {path} has been mounted, replaced or changed since its"
            " worker started: to be restarted between two requests"
        )
