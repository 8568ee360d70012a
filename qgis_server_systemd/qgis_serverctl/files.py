# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are whole or not there: written beside, then renamed."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from .log import Failure


def read_or_none(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


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


def _write(file: Path, text: str, mode: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
