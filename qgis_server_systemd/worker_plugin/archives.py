# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archives of projects QGIS may unpack. Knows nothing of QGIS.

QGIS 3.22 writes each member where its name leads, also out of the folder that it unpacks to,
and as much as the archive says. So an archive is looked at before it is opened; the answer is
good for as long as the file stays the same.
"""

import os
import stat
import struct
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from xml.parsers import expat

from .addresses import is_project
from .fresh import MOST, Signature, of_file

LOOK_EVERY = 1.0
"""Seconds for which an answer is good without a look at the file."""

MOST_MEMBERS = 10_000
MOST_BYTES = 1 << 30
"""Of all members together, unpacked: several times what the largest projects have."""

END = b"PK\x05\x06"
"""Of an archive: 22 bytes from here to the end of the file, without a comment."""
END_LENGTH, LONGEST_COMMENT = 22, 0xFFFF
LOCATOR = b"PK\x06\x07"
"""Of another end, for archives of more than 4 GiB: 20 bytes before the end."""
OTHER_NAME = 0x7075
"""An extra field with another name of the member (APPNOTE.TXT 4.6.9)."""


def archive_of(project: str) -> str:
    """What QGIS unpacks when it opens the project: itself, or an archive beside it. Empty if it
    is no file."""
    if not project.startswith("/"):
        return ""
    whole, dot, kind = project.rpartition(".")
    if kind.lower() == "qgz":
        return project
    return f"{whole}_attachments.zip" if dot and "/" not in kind else ""


def strayed(path: str) -> str:
    """Why the archive must not be unpacked; empty if it may, or if there is none (yet)."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END_LENGTH - LONGEST_COMMENT))
            tail = file.read()
            if END not in tail:
                return ""
            # Programs differ in which of several directories of an archive they take.
            if tail.count(END) > 1 or LOCATOR in tail or not is_end(tail[-END_LENGTH:], size):
                return "is an archive with a comment, or with two directories"
            with zipfile.ZipFile(file) as archive:
                return next(_reasons(archive), "")
    except OSError:
        return ""
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        return f"is no whole archive ({error})"


def is_end(end: bytes, size: int) -> bool:
    """Does the archive end with it, and does the one directory come right before?"""
    if not end.startswith(END):
        return False
    length, begin = struct.unpack_from("<II", end, 12)
    return int(begin) + int(length) == size - END_LENGTH


def _extras(extra: bytes) -> Iterator[int]:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        yield kind
        extra = extra[4 + length :]


def _reasons(archive: zipfile.ZipFile) -> Iterator[str]:
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        yield "has too many members in its archive"
    if sum(member.file_size for member in members) > MOST_BYTES:
        yield "has members in its archive that are too large"
    for member in members:
        name = member.orig_filename
        parts = name.replace("\\", "/").split("/")
        mode = member.external_attr >> 16
        if name.startswith(("/", "\\")) or ".." in parts or any(c < " " for c in name):
            yield "has a member in its archive that leads out of it"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield "has a link in its archive"
        if OTHER_NAME in _extras(member.extra) or member.flag_bits & 1:
            yield "has a member in its archive that has two names or is encrypted"


MOST_PROJECTS = 100
"""That one opens for layers and groups which it takes from them, and they for theirs."""


def _embedded(project: str) -> set[str]:
    """The projects that a project file takes layers from. Raises OSError, and what expat and
    zipfile raise."""
    found: set[str] = set()

    def start(_: str, attributes: dict[str, str]) -> None:
        if path := attributes.get("project"):
            found.add(os.path.join(os.path.dirname(project), path))

    def parse(stream: IO[bytes]) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = start
        parser.ParseFile(stream)

    if project.lower().endswith(".qgz"):
        with zipfile.ZipFile(project) as archive:
            for name in archive.namelist():
                if name.lower().endswith(".qgs"):
                    with archive.open(name) as stream:
                        parse(stream)
    elif project.lower().endswith(".qgs"):
        with open(project, "rb") as file:
            parse(file)
    return found


def look(project: str) -> tuple[dict[str, Signature], str]:
    """The files that QGIS opens with the project, as they were before they were looked at, and why
    it must not open one of them."""
    files: dict[str, Signature] = {}
    projects, coming = {project}, [project]
    while coming:
        path = coming.pop()
        archive = archive_of(path)
        for file in filter(None, (path, archive)):
            files.setdefault(file, of_file(file))
        if archive and files[archive] and (reason := strayed(archive)):
            other = "" if path == project else "takes a layer from a project that "
            return files, f"{other}{reason}"
        if not files[path]:
            continue
        try:
            further = _embedded(path) - projects
        except Exception:  # of expat and zipfile: QGIS can't read it either
            continue
        projects |= further
        if len(projects) > MOST_PROJECTS:
            return files, "takes layers from too many projects"
        coming += further
    return files, ""


@dataclass
class Known:
    """What was found of a project, and the files that it depends on."""

    asked: float
    files: dict[str, Signature]
    reason: str


class Archives:
    """What is known of the archives of projects."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def refusal(self, project: str) -> str:
        """Why QGIS must not open the project; empty if it may."""
        now = time.monotonic()
        known = self._known.get(project)
        if known and now - known.asked < LOOK_EVERY:
            return known.reason
        if known and all(of_file(file) == was for file, was in known.files.items()):
            known.asked = now
            return known.reason
        if len(self._known) >= MOST:
            self._known.clear()
        files, reason = look(project) if project.startswith("/") else ({}, "")
        self._known[project] = Known(now, files, reason)
        return reason

    def look_again(self, project: str) -> None:
        """QGIS is about to open it: what was known is not good for any time."""
        if project in self._known:
            self._known[project].asked = -LOOK_EVERY

    def strays(self, folder: str) -> Iterator[tuple[str, str]]:
        """Projects of a folder that QGIS must not open, and why."""
        try:
            with os.scandir(folder) as entries:
                projects = [e.path for e in entries if is_project(e.name)]
        except OSError:
            return
        for project in sorted(projects):
            if reason := self.refusal(project):
                yield project, reason
