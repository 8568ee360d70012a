# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archives of projects QGIS may unpack. Knows nothing of QGIS.

QGIS 3.22 writes each member where its name leads, also out of the folder that it unpacks to,
and as much as the archive says. So an archive is looked at before it is opened; the answer is
good for as long as the file stays the same.
"""

import contextlib
import io
import os
import re
import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
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
    folder, _, name = project.rpartition("/")
    whole, dot, kind = name.rpartition(".")
    if dot and kind.lower() == "qgz":
        return project
    return f"{folder}/{whole if dot else name}_attachments.zip"


def strayed(path: str) -> str:
    """Why the archive must not be unpacked; empty if it may, or if there is none (yet)."""
    try:
        with open(path, "rb") as file:
            return _strayed(file)
    except OSError:
        return ""


def _strayed(file: IO[bytes]) -> str:
    """The same for its content. Raises OSError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END_LENGTH - LONGEST_COMMENT))
    tail = file.read()
    if END not in tail:
        return ""
    # Programs differ in which of several directories of an archive they take.
    if tail.count(END) > 1 or LOCATOR in tail or not is_end(tail[-END_LENGTH:], size):
        return "is an archive with a comment, or with two directories"
    try:
        with zipfile.ZipFile(file) as archive:
            return next(_reasons(archive), "")
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

OTHERWISE = ("inbuilt:", "localized:", "attachment:")
"""What a path begins with that QGIS finds in its own ways."""

UNSURE = re.compile(rb"embedded(?:\s*=|_project)|&#|<!ENTITY|<!DOCTYPE[^>]*\[|\0")
"""In what is no XML to expat, but may be to QGIS: layers of other projects, or what hides them."""

ENCODINGS = ("utf-8", "us-ascii", "iso-8859-1")
"""That mean the same to expat and to Qt, which knows more of them."""

PROJECTS = (".qgs", ".qgz")
"""Ends of what is read as a project or unpacked."""

PIECE, LONGEST_SIGN = 1 << 20, 1 << 10


class Unsure(Exception):
    """Of an XML file it can't be told what QGIS finds in it."""


def _parse(stream: IO[bytes]) -> set[str]:
    """The projects that XML names as QGIS writes them, wherever in it. Raises Unsure."""
    found: set[str] = set()

    def start(_: str, attributes: dict[str, str]) -> None:
        # Large projects have a million of them.
        for text in attributes.values():
            if text[-4:].lower() in PROJECTS:
                found.add(text)

    def declare(_: str, encoding: str | None, standalone: int) -> None:
        if encoding and encoding.lower() not in ENCODINGS:
            raise Unsure

    def open_types(name: str, system: str | None, public: str | None, inner: int) -> None:
        # They may have entities, which Qt expands in more places.
        if inner:
            raise Unsure

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.XmlDeclHandler = declare
    parser.StartDoctypeDeclHandler = open_types
    try:
        parser.ParseFile(stream)
    except expat.ExpatError as error:
        # Qt takes much for XML that is none.
        stream.seek(0)
        before = b""
        while piece := stream.read(PIECE):
            if UNSURE.search(before + piece):
                raise Unsure from error
            before = piece[-LONGEST_SIGN:]
    return found


def _named(project: str, content: IO[bytes] | None) -> set[str]:
    """What a project names others by; `content`: of one that is no file. Raises OSError and Unsure,
    and what zipfile raises for what is still being written."""
    if content is None and project.lower().endswith(".qgs"):
        with open(project, "rb") as file:
            return _parse(file)
    if content is None and not project.lower().endswith(".qgz"):
        return set()
    found: set[str] = set()
    with zipfile.ZipFile(content or project) as archive:
        for name in archive.namelist():
            if name.lower().endswith(".qgs"):
                try:
                    with archive.open(name) as stream:
                        found |= _parse(stream)
                except Unsure:
                    raise
                except Exception as error:  # of zipfile, and of all kinds of compression
                    raise Unsure from error
    return found


def _places(project: str, path: str) -> Iterator[str]:
    """Where QGIS may look for a path that a project names: from the project's folder, with each
    ".." taken from the text, or as the system does it; or from where the process is."""
    here = os.getcwd()
    folders = [os.path.dirname(os.path.join(here, project))]
    if not project.startswith("/"):
        folders.append(os.path.dirname(project.partition(":")[2].partition("?")[0]))
    for folder in folders:
        parts = [part for part in f"{folder}/{path}".split("/") if part not in ("", ".")]
        while ".." in parts[1:] and (at := parts.index("..")) > 0:
            del parts[at - 1 : at + 1]
        yield "/" + "/".join(parts)
        yield os.path.join(folder, path)
    yield os.path.join(here, path)


def _spelled(path: str) -> Iterator[str]:
    """The path, and all that is there and differs from it in kinds of white space: in an attribute
    they are one to expat, and not to Qt."""
    found = [""]
    for part in path.split("/"):
        names = {part}
        further = []
        for folder in found:
            if " " in part:
                pattern = re.compile(re.escape(part).replace(r"\ ", r"(?:[ \t\n\r]|\r\n)"))
                with contextlib.suppress(OSError):
                    names = {part, *filter(pattern.fullmatch, os.listdir(folder or "/"))}
            further += [f"{folder}/{name}" for name in names]
        found = further
    yield from (one.removeprefix("/") for one in found)


def _embedded(project: str, content: IO[bytes] | None) -> set[str]:
    """The files that QGIS may take for the projects of which it takes layers. Raises as `_named`,
    and Unsure."""
    found: set[str] = set()
    for path in _named(project, content):
        if path.startswith(OTHERWISE) and path.lower().endswith(".qgz"):
            raise Unsure
        for place in _places(project, path):
            found.update(_spelled(place))
    return found


def signature(path: str) -> Signature:
    """With the time of its last change of whatever kind, which nobody can choose."""
    found = of_file(path)
    try:
        return (*found, os.stat(path).st_ctime_ns) if found else ()
    except OSError:
        return ()


Stored = Callable[[str], bytes | None]
"""The archive in which a project is that is no file; None if it can't be had."""


def look(project: str, stored: Stored = lambda project: None) -> tuple[dict[str, Signature], str]:
    """The files that QGIS opens with the project, as they were before they were looked at, and why
    it must not open one of them."""
    files: dict[str, Signature] = {}
    projects, coming = {project}, [project]
    while coming:
        path = coming.pop()
        other = "" if path == project else "takes a layer from a project that "
        content = None
        if path == project and not path.startswith("/"):
            if (there := stored(path)) is None:
                return files, ""
            content = io.BytesIO(there)
            if reason := _strayed(content):
                return files, reason
        else:
            archive = archive_of(path)
            for file in filter(None, (path, archive)):
                files.setdefault(file, signature(file))
            if archive and files[archive] and (reason := strayed(archive)):
                return files, f"{other}{reason}"
            if not files[path]:
                continue
        try:
            further = _embedded(path, content) - projects
        except Unsure:
            return files, f"{other}may take layers from a project, and can't be looked through"
        except Exception:  # of zipfile: it is still being written
            continue
        projects |= further
        if sum(bool(of_file(one)) for one in projects) > MOST_PROJECTS:
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

    def __init__(self, stored: Stored = lambda project: None) -> None:
        self._stored = stored
        self._known: dict[str, Known] = {}

    def refusal(self, project: str) -> str:
        """Why QGIS must not open the project; empty if it may."""
        now = time.monotonic()
        known = self._known.get(project)
        if known and now - known.asked < LOOK_EVERY:
            return known.reason
        if known and all(signature(file) == was for file, was in known.files.items()):
            known.asked = now
            return known.reason
        if len(self._known) >= MOST:
            self._known.clear()
        files, reason = look(project, self._stored)
        self._known[project] = Known(now, files, reason)
        return reason

    def look_again(self, project: str) -> None:
        """QGIS is about to open it: what was known is not good for any time."""
        self._known.pop(project, None)

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
