# SPDX-License-Identifier: GPL-2.0-or-later
"""When has a project changed, and is what lies there whole? Knows nothing of QGIS.

QGIS Server keeps a loaded project. What it does by itself about changes differs
from release to release, misses network file systems and databases, and reads files
that are still being written. So it is kept from noticing changes (the unit denies
inotify, and sets the cache's strategy to off), and this decides at each request.
"""

import contextlib
import json
import os
import stat
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.parsers import expat

LOOK_EVERY = 1.0
"""Seconds between two looks at a file: no more than one a second, however many requests."""

ASK_EVERY = 5.0
"""Seconds between two questions to a database."""

SETTLED = 1.0
"""Seconds without a change after which a file counts as written."""

GONE = 5.0
"""Seconds after which a missing file counts as deleted, not as being replaced."""

PATIENCE = 10.0
"""Seconds that a first request waits for a project that is still being written."""

MOST = 1000
"""Projects on record at most."""

TICK = 50_000_000
"""Nanoseconds within which a second change may leave a folder with the same time: the kernel
notes it by its ticks, of at most 10 ms."""

LISTED = "projects.json"
"""In a worker's runtime folder: the project files that it has loaded."""

Signature = tuple[int, ...]
"""Whatever differs when the project has changed, a file's time in ns first; empty if
there is none."""


def _open(path: str) -> int:
    """A descriptor; nothing waits for whoever writes to a pipe. Raises OSError, and ValueError for
    what can be no path."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def note(file: Path, most: int) -> bytes:
    """What a worker has noted, `most` bytes of it. Somebody may have taken it over, and have left
    something else there: nothing waits for a pipe, or follows a link. Raises OSError or
    ValueError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{file}: no ordinary file")
        return stream.read(most)


def of_file(path: str) -> Signature:
    """Opened, since an NFS client asks the server anew at an open alone (nfs(5),
    close-to-open cache consistency)."""
    try:
        descriptor = _open(path)
    except (OSError, ValueError):  # such as a NUL in the path
        return ()
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def age(signature: Signature) -> float:
    """Seconds since a file was changed, by its own clock."""
    return time.time() - signature[0] / 1e9


class Folder:
    """Has anything been put into a folder, since it was last asked? It is held open: to look at a
    file along a path takes several times as long."""

    def __init__(self, path: str) -> None:
        self._held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._seen = -1

    def has_changed(self) -> bool:
        changed = os.fstat(self._held).st_mtime_ns
        if changed == self._seen:
            return False
        if time.time_ns() - changed > TICK:
            self._seen = changed
        return True


class Beginning:
    """What expat reads of a file; beyond `most` bytes it is no whole one."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.stream = stream
        self.left = most

    def read(self, size: int = 2048, /) -> bytes:
        self.left -= size
        return self.stream.read(size) if self.left >= 0 else b""


def is_whole(path: str, most: int = sys.maxsize) -> bool:
    """Can the file be a complete project? It is read through, but for more than `most` bytes."""
    kind = path.lower()[-4:]
    if kind not in (".qgs", ".qgz"):
        return True
    try:
        with open(_open(path), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return False
            if kind == ".qgs":
                expat.ParserCreate().ParseFile(Beginning(file, most))
                return True
            with zipfile.ZipFile(file) as archive:
                inner = [name for name in archive.namelist() if name.lower().endswith(".qgs")]
                for name in inner:
                    with archive.open(name) as stream:
                        expat.ParserCreate().ParseFile(Beginning(stream, most))
                return bool(inner)
    except Exception:  # of expat, of zipfile, and of all kinds of compression that it knows
        return False


@dataclass
class Known:
    """A project that QGIS has loaded. `whole`: it was fit to be loaded. `other`:
    the signature of what lies there now instead, noticed at `noticed`, and found
    broken if `broken`. `turn`: the last order to reload it that was followed."""

    signature: Signature
    whole: bool
    looked: float
    turn: int
    other: Signature | None = None
    noticed: float = 0.0
    broken: bool = False


class Fresh:
    """`sign` gives the signature of a project that is no file, such as one in a
    database, or None if there is no telling. `listed`: where to note the project files that
    are known, if anywhere."""

    def __init__(
        self,
        orders: Path,
        sign: Callable[[str], Signature | None] = lambda project: None,
        listed: Path | None = None,
    ) -> None:
        # A text, as a Path would be made one at each request.
        self.orders = str(orders)
        self.sign = sign
        self.listed = listed
        self.known: dict[str, Known] = {}
        # False as long as whoever asks knows that there are no new orders.
        self.look = True
        self._turns: dict[str, int] = {}
        self._orders_time = -1

    def is_stale(self, project: str) -> bool:
        """Shall QGIS forget what it has of the project, since it is about to be
        served? May wait for one that is loaded for the first time."""
        new = project not in self.known
        stale = self._is_stale(project)
        if new and self.listed and project in self.known:
            self._list(self.listed)
        return stale

    def _list(self, file: Path) -> None:
        beside = file.with_suffix(".new")
        files = [project for project in self.known if project.startswith("/")]
        # Where it fails, no reply of the project is kept.
        with contextlib.suppress(OSError):
            # A former worker may have left something else there.
            beside.unlink(missing_ok=True)
            beside.write_text(json.dumps(files), encoding="utf-8")
            beside.replace(file)

    def _is_stale(self, project: str) -> bool:
        now = time.monotonic()
        turn = self.turn(project)
        known = self.known.get(project)
        is_file = project.startswith("/")
        if known is None or (is_file and not known.whole):
            self._first(project, turn, known)
            # Whatever QGIS may have of it, it is not on record here.
            return True
        ordered = turn > known.turn
        if not ordered and now - known.looked < (LOOK_EVERY if is_file else ASK_EVERY):
            return False
        known.looked = now
        if is_file:
            return self._is_file_stale(project, known, turn, ordered)
        found = self.sign(project)
        if not ordered and (found is None or found == known.signature):
            return False
        self.known[project] = Known(found or known.signature, True, now, turn)
        return True

    def _first(self, project: str, turn: int, known: Known | None) -> None:
        """QGIS is about to load it: wait while it is half written, but not again and
        again for one that is simply broken."""
        if len(self.known) >= MOST:
            # A path has many spellings, and clients may choose them.
            self.known.clear()
        if not project.startswith("/"):
            if found := self.sign(project):
                self.known[project] = Known(found, True, time.monotonic(), turn)
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            signature = of_file(project)
            if not signature or (known and signature == known.signature):
                return
            whole = is_whole(project)
            # Long untouched: nobody is writing it.
            idle = abs(age(signature)) > PATIENCE
            if whole or idle or time.monotonic() > deadline:
                self.known[project] = Known(signature, whole, time.monotonic(), turn)
                return
            time.sleep(0.1)  # for the writer; there is no event to wait for on NFS

    def _is_file_stale(self, project: str, known: Known, turn: int, ordered: bool) -> bool:
        now = time.monotonic()
        found = of_file(project)
        if found == known.signature and not ordered:
            known.other = None
            return False
        if found != known.other:
            known.other, known.noticed, known.broken = found, now, False
        if not found:
            stale = ordered or now - known.noticed >= GONE
        else:
            written = ordered or self._is_settled(project, known, found)
            stale = written and not known.broken and is_whole(project)
            known.broken = written and not stale
        if stale:
            self.known[project] = Known(found, bool(found), now, turn)
        return stale

    def _is_settled(self, project: str, known: Known, found: Signature) -> bool:
        if time.monotonic() - known.noticed >= SETTLED:
            return True
        seconds = age(found)
        if seconds < 0:
            # The clock of a file server is ahead of ours: look again.
            time.sleep(SETTLED / 2)
            return of_file(project) == found
        return seconds >= SETTLED

    def turn(self, project: str) -> int:
        """The number of the last order to reload the project."""
        if self.look and not self._read_orders():
            return 0
        if not self._turns:
            return 0
        turn = self._turns.get(project, 0)
        if not turn and project.startswith("/"):
            turn = self._turns.get(os.path.realpath(project), 0)
        return turn

    def _read_orders(self) -> bool:
        """What is in force now; False if there is none."""
        try:
            changed = os.stat(self.orders).st_mtime_ns
            if changed != self._orders_time:
                self._turns = json.loads(Path(self.orders).read_text(encoding="utf-8"))
                self._orders_time = changed
        except (OSError, ValueError):
            # Until it can be read, also for who does not look.
            self._turns, self._orders_time = {}, -1
            return False
        return True
