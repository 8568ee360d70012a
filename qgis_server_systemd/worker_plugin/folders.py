# SPDX-License-Identifier: GPL-2.0-or-later
"""Which projects a client may open. Knows nothing of QGIS."""

import os
import time
from collections.abc import Iterable

LOOK_EVERY = 1.0
"""Seconds for which the answer for a path is good: resolving its links takes a system call for
each of its parts."""

MOST = 1000
"""Answers that are kept at most."""


class Folders:
    """Projects that are files in `folders`, links resolved, and the listed `projects`."""

    def __init__(self, folders: Iterable[str], projects: Iterable[str]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self.projects = frozenset(projects)
        self._known: dict[str, tuple[float, bool]] = {}

    def has(self, project: str) -> bool:
        now = time.monotonic()
        asked, answer = self._known.get(project, (-LOOK_EVERY, False))
        if now - asked >= LOOK_EVERY:
            if len(self._known) >= MOST:
                self._known.clear()
            answer = project in self.projects or self.is_inside(project)
            self._known[project] = now, answer
        return answer

    def is_inside(self, path: str) -> bool:
        if not path.startswith("/") or "\0" in path:
            return False
        real = os.path.realpath(path)
        tops = (os.path.realpath(folder).rstrip("/") for folder in self.folders)
        return any(real.startswith(f"{top}/") for top in tops)

    def strays(self, folder: str) -> list[str]:
        """Files of a folder that lead out of all of them."""
        try:
            with os.scandir(folder) as entries:
                links = [entry.path for entry in entries if entry.is_symlink()]
        except OSError:
            return []
        return sorted(link for link in links if not self.has(link))
