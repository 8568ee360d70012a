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


class Archives:
    """What is known of the archives of projects."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Signature, str]] = {}

    def refusal(self, project: str) -> str:
        """Why QGIS must not open the project; empty if it may."""
        now = time.monotonic()
        asked, signature, reason = self._known.get(project, (-LOOK_EVERY, (), ""))
        if now - asked < LOOK_EVERY:
            return reason
        if len(self._known) >= MOST:
            self._known.clear()
        if path := archive_of(project):
            found = of_file(path)
            if found != signature:
                signature, reason = found, strayed(path) if found else ""
        self._known[project] = now, signature, reason
        return reason

    def look_again(self, project: str) -> None:
        """QGIS is about to open it: what was known is not good for any time."""
        if project in self._known:
            _, signature, reason = self._known[project]
            self._known[project] = -LOOK_EVERY, signature, reason

    def strays(self, folder: str) -> Iterator[tuple[str, str]]:
        """Projects of a folder that QGIS must not open, and why."""
        try:
            with os.scandir(folder) as entries:
                projects = [e.path for e in entries if e.name.lower().endswith((".qgs", ".qgz"))]
        except OSError:
            return
        for project in sorted(projects):
            if reason := self.refusal(project):
                yield project, reason
