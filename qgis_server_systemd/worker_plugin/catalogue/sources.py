# SPDX-License-Identifier: GPL-2.0-or-later
"""Can the data of a layer be had at all? Found out by looking, not by what a library says: its
words are chosen by authors and servers. Knows nothing of QGIS."""

import os
import socket
import stat
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

SQLITE = b"SQLite format 3\0"
"""How its files begin; two bytes later there are versions (sqlite.org/fileformat.html)."""

CONNECT = 3.0
"""Seconds within which a server accepts a connection."""


@dataclass(frozen=True)
class Reason:
    """Why a layer, or a project, can't be read. `kind`: see `qgis_serverctl/checks/projects.py`,
    which has the words. `place`: a path, a server, a service, as the kind has it. `part`: of a
    path, what is in the way. `detail`: what a library says."""

    kind: str
    place: str = ""
    part: str = ""
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def of_path(path: str) -> Reason | None:
    """What keeps this process from reading a file or folder, if anything."""
    whole = PurePath(os.path.normpath(path))
    for step in (*reversed(whole.parents), whole):
        try:
            found = os.stat(step)
        except PermissionError:
            # A link to a place that can't be reached; its own folder can.
            real = os.path.realpath(step)
            if real != str(step) and (reason := of_path(real)):
                return Reason(reason.kind, path, reason.part)
            return Reason("denied", path, str(step))
        except (FileNotFoundError, NotADirectoryError):
            link = os.path.islink(step)
            return Reason("broken-link" if link else "missing", path, str(step))
        except (OSError, ValueError) as error:
            return Reason("unreadable", path, str(step), type(error).__name__)
        is_folder = stat.S_ISDIR(found.st_mode)
        if is_folder and not os.access(step, os.X_OK):
            return Reason("denied", path, str(step))
    if not is_folder and not stat.S_ISREG(found.st_mode):
        return Reason("special", path, path)
    if not os.access(path, os.R_OK):
        return Reason("denied", path, os.path.realpath(path))
    return None


def in_wal(path: str) -> bool:
    """Is a file of SQLite's left in its mode WAL, in a folder that this process can't write to?
    SQLite opens none such unless the files beside it are there, which it would make."""
    try:
        with open(path, "rb") as file:
            head = file.read(len(SQLITE) + 4)
    except OSError:
        return False
    # The versions of its format for who writes and who reads.
    wal = head.startswith(SQLITE) and head[-2:] == b"\x02\x02"
    beside = all(os.path.exists(f"{path}{end}") for end in ("-wal", "-shm"))
    return wal and not beside and not os.access(os.path.dirname(path), os.W_OK)


def misses_edits(path: str) -> bool:
    """Is such a file read as it was before the edits that lie beside it? GDAL does so."""
    try:
        return os.stat(f"{path}-wal").st_size > 0 and in_wal(path)
    except OSError:
        return False


def of_server(host: str, port: int) -> Reason | None:
    """What keeps this process from connecting to a server, if anything."""
    place = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), CONNECT):
            return None
    except (socket.gaierror, UnicodeError):
        return Reason("host-unknown", host)
    except ConnectionRefusedError:
        return Reason("refused", place)
    except TimeoutError:
        return Reason("silent", place)
    except (OSError, OverflowError):
        return Reason("unreachable", place)


def signature(path: str) -> list[int]:
    """Whatever differs when what is there has changed; empty if it can't be seen."""
    try:
        found = os.stat(path)
        return [found.st_mtime_ns, found.st_size, found.st_ino, int(os.access(path, os.R_OK))]
    except (OSError, ValueError):
        return []
