# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are whole or not there: written beside, then renamed."""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from .output import Failure

MOST = 64 << 20
"""Bytes of a text, as many as systemd reads of one."""

PIECE = 1 << 20


def read_or_none(file: Path) -> str | None:
    """The text of a file that others may have written; None if there is none. Bytes that are not
    UTF-8 become surrogates, and `write` makes the same bytes of these. Waits for no pipe. Raises
    OSError, also for more than MOST bytes, and for what is no file: /dev/null alone is empty."""
    try:
        content = _content(file)
    except FileNotFoundError:
        return None
    text = content.decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _content(file: Path) -> bytes:
    with open(file, "rb", opener=_open_at_once) as stream:
        found = os.fstat(stream.fileno())
        if os.path.samestat(found, os.stat(os.devnull)):
            return b""
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no file", str(file))
        content = _up_to(stream, MOST + 1)
    if len(content) > MOST:
        raise OSError(errno.EFBIG, f"has more than {MOST >> 20} MB", str(file))
    return content


def _up_to(stream: BinaryIO, most: int) -> bytes:
    """In pieces: the kernel refuses to fill 4 MB at once with one of its own settings, in
    /proc/sys."""
    parts = []
    while most and (part := stream.read(min(most, PIECE))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_strangers(file: Path, most: int) -> bytes:
    """At most so many bytes of a file that workers may have written: follows no link, and waits for
    no pipe. Raises OSError, FileNotFoundError if there is none."""
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no file")
        return _up_to(stream, most)


def inode(file: Path) -> int:
    """Differs once the file has been replaced, such as a program by an upgrade; 0 if there is
    none."""
    try:
        return file.stat().st_ino
    except OSError:
        return 0


def write(file: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace `file` in one step and bring it to the disk.

    Raises Failure; the old file is then untouched.
    """
    try:
        _write(file, text, mode)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error


def sweep(root: Path, patterns: Iterable[str]) -> None:
    """Remove what a `write` that was cut off has left. On a read-only disk it stays."""
    for pattern in patterns:
        for file in root.glob(pattern.lstrip("/")):
            with contextlib.suppress(OSError):
                file.unlink()


def copy(source: Path, to: Path) -> None:
    """Replace `to` in one step by a copy, links as links and owners kept, and bring it
    to the disk. Raises OSError; the old file is then untouched."""
    with _put(to) as beside:
        shutil.copy2(source, beside, follow_symlinks=False)
        owner = source.lstat()
        os.chown(beside, owner.st_uid, owner.st_gid, follow_symlinks=False)
        if not beside.is_symlink():
            _sync(beside)


def link(file: Path, target: str) -> None:
    """Replace `file` in one step by a link, and bring it to the disk. Raises OSError."""
    with _put(file) as beside:
        beside.symlink_to(target)


def _write(file: Path, text: str, mode: int) -> None:
    with _put(file) as beside, beside.open("wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text.encode("utf-8", "surrogateescape"))
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _put(file: Path) -> Iterator[Path]:
    """Where to make what is to come in the place of `file`."""
    _make_folder(file.parent)
    beside = file.with_name(f".{file.name}.new")
    try:
        beside.unlink(missing_ok=True)
        yield beside
        beside.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    _sync(file.parent)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o755, exist_ok=True)
        # Else a power loss takes it away with the file that was brought to the disk.
        _sync(folder.parent)


def _sync(path: Path) -> None:
    """Bring a file or the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
