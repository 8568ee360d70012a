# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells NGINX which replies of its cache are still good. Knows nothing of QGIS.

    python3 -m PLUGIN.generations FOLDER WORKERS ORDERS

NGINX keeps a reply under the generation that its project had when the request came: the
name of the file that the link FOLDER/projects/<path> leads to. Once a second this looks at
all projects that workers have loaded since it began, as they note them in
WORKERS/N/projects.json. When a file changes, its link goes, and with it all that was kept of
it. The link comes back, to a new generation, once every worker serves the project anew at
its next request: then nothing of the old one can be kept any more, however long it was in
the making.

It runs beside the workers, as their user, and sees what they see. FOLDER goes when it ends,
however it ends: nothing is kept then, and nothing sent of what was.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .fresh import LISTED, LOOK_EVERY, MOST, SETTLED, Fresh, Signature, age, is_whole, note, of_file

EVERY = 1.0
"""Seconds between two looks."""

READ_FOR = 2.0
"""Seconds in a look after which no further file is read through: what has changed must be seen
soon, whatever is listed."""

LARGEST = 1 << 28
"""Bytes of a project's XML beyond which no reply of it is kept: reading it would take too long."""

LONGEST_NOTE = 1 << 22
"""Bytes of what a worker notes: MOST paths, as long as paths may be (PATH_MAX)."""

SURE = LOOK_EVERY + SETTLED + 1.0
"""A worker looks once in LOOK_EVERY seconds, and takes a file for written SETTLED seconds after
its last change: a file that has not changed for so long has been seen by a worker that has
looked within the last of them, and is seen by all others at their next request."""


@dataclass
class Project:
    """A project file as it was seen last. `since`: when that was first seen, by the clock of
    time.monotonic(). `whole`: None as long as nobody has looked. `turn`: the last order to
    reload it. `generation`: 0 while there is none."""

    signature: Signature
    since: float
    turn: int
    whole: bool | None = None
    generation: int = 0


def names(path: str) -> tuple[str, ...]:
    """The links of a project, as a request may name it."""
    return path.lstrip("/"), quote(path, safe="")


def noted(file: Path) -> list[str]:
    """The projects that a worker notes, which somebody may have taken over: whatever it is,
    nothing waits for it and nothing ends. What is no path of a project is left out."""
    try:
        found = json.loads(note(file, LONGEST_NOTE))
    except (OSError, ValueError, RecursionError):
        return []
    listed = found[:MOST] if isinstance(found, list) else []
    return [path for path in listed if isinstance(path, str) and is_path(path)]


def is_path(text: str) -> bool:
    """Is it written as a path is once it is resolved, and can it be a file's?"""
    # normpath leaves two slashes at the beginning as they are.
    resolved = text.startswith("/") and text == os.path.normpath(text) and text[1:2] != "/"
    return resolved and "\0" not in text and text == text.encode(errors="ignore").decode()


class Generations:
    """All that is kept from one look to the next."""

    def __init__(self, folder: Path, workers: Path, orders: Path) -> None:
        self.links = folder / "projects"
        self.files = folder / "generations"
        self.workers = workers
        self.orders = Fresh(orders)
        self.known: dict[str, Project] = {}
        self.links.mkdir(parents=True, exist_ok=True)
        self.files.mkdir(exist_ok=True)

    def loaded(self) -> set[str]:
        """The projects that workers have loaded."""
        return {path for file in self.workers.glob(f"*/{LISTED}") for path in noted(file)}

    def look(self) -> None:
        loaded = self.loaded()
        full = len(self.known.keys() | loaded) > MOST
        for path in self.known.keys() - loaded:
            # What was kept of it is good, whether or not a worker has it loaded now.
            if full or not self.known[path].signature:
                self.end(path, self.known.pop(path))
        since = time.monotonic()
        for path in self.known.keys() | loaded:
            self.look_at(path)
        for path, known in self.known.items():
            if not known.generation and self.is_sure(path, known, since):
                self.begin(path, known)

    def look_at(self, path: str) -> None:
        now, signature, turn = time.monotonic(), of_file(path), self.orders.turn(path)
        known = self.known.get(path)
        if known is None or known.signature != signature:
            if known:
                self.end(path, known)
            known = self.known[path] = Project(signature, now, turn)
        elif known.turn != turn:
            # Workers look for orders at each request.
            self.end(path, known)
            known.turn = turn

    def is_sure(self, path: str, known: Project, now: float) -> bool:
        """Do all workers serve the project as it is now, from their next request on? `now`: when
        the files were looked at."""
        if not known.signature or now - known.since < SURE or age(known.signature) < SURE:
            return False
        if known.whole is None:
            if time.monotonic() - now > READ_FOR:
                return False
            known.whole = is_whole(path, LARGEST)
        return known.whole

    def begin(self, path: str, known: Project) -> None:
        generation = time.time_ns()
        file = self.files / str(generation)
        file.touch()
        for name in names(path):
            # Such as a name that is too long, or a folder where a file was.
            with suppress(OSError):
                (self.links / name).parent.mkdir(parents=True, exist_ok=True)
                (self.links / name).symlink_to(file)
        known.generation = generation

    def end(self, path: str, known: Project) -> None:
        for name in names(path):
            with suppress(OSError):
                (self.links / name).unlink()
        if known.generation:
            (self.files / str(known.generation)).unlink(missing_ok=True)
        known.generation = 0


def notifier() -> Iterator[None]:
    """sd_notify(3): ready at first, and alive each time after that."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    text = "READY=1\nWATCHDOG=1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        while True:
            if address:
                to.sendto(text.encode(), address.replace("@", "\0", 1))
            text = "WATCHDOG=1"
            yield


def main(folder: str, workers: str, orders: str) -> None:
    """Ends only to be started anew after an upgrade."""
    program = os.stat(__file__).st_ino
    generations = Generations(Path(folder), Path(workers), Path(orders))
    alive = notifier()
    while os.path.exists(__file__) and os.stat(__file__).st_ino == program:
        generations.look()
        next(alive)
        time.sleep(EVERY)


if __name__ == "__main__":
    main(*sys.argv[1:])
