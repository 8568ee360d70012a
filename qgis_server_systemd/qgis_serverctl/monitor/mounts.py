# SPDX-License-Identifier: GPL-2.0-or-later
"""Do workers still see the folders that they were given?

A worker sees the folders that were there when it started. One that is mounted later, mounted
again, or is a link that leads elsewhere by now, is another one for it (systemd.exec(5),
BindReadOnlyPaths=).
"""

import contextlib
import os
import threading
from collections.abc import Collection, Mapping

from ..config.names import label
from ..system.output import note

FileId = tuple[int, int]


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


class Mounts:
    """`ask` never waits: where a file server does not answer, stat(2) takes as long as that
    lasts."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        # By instance: its process at that look, and the folder.
        self._found: dict[int, tuple[int, str]] = {}
        # For which folders workers were restarted already: what can't be helped is not tried
        # again and again.
        self._tried: dict[tuple[int, str], FileId] = {}

    def ask(self, folders: Collection[str], workers: Mapping[int, int]) -> dict[int, str]:
        """Instances whose workers see another folder than there is now, and which, by the last
        look that has ended; then begins another one. `workers`: their processes."""
        if self._thread and self._thread.is_alive():
            return {}
        found, self._found = self._found, {}
        args = (tuple(folders), dict(workers))
        self._thread = threading.Thread(target=self._look, args=args, daemon=True)
        self._thread.start()
        # One that has been restarted since is another one.
        return {
            n: folder
            for n, (pid, folder) in found.items()
            if workers.get(n) == pid and folder in folders
        }

    def _look(self, folders: tuple[str, ...], workers: dict[int, int]) -> None:
        found = {}
        for folder in folders:
            # As the machine has it: the monitor itself does not see /home, for instance.
            now = identity(f"/proc/1/root{folder}")
            if now is None:
                continue
            for instance, pid in workers.items():
                if seen(pid, folder) == now:
                    self._tried.pop((instance, folder), None)
                elif self._tried.get((instance, folder)) != now and identity(f"/proc/{pid}"):
                    self._tried[instance, folder] = now
                    found[instance] = pid, folder
        self._found = found


def told(found: Mapping[int, str]) -> None:
    """Why workers are restarted."""
    for instance, folder in found.items():
        note(
            f"instance {label(instance)}: {folder} has been mounted or replaced since its worker"
            " started: to be restarted between two requests"
        )
