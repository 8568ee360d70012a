# SPDX-License-Identifier: GPL-2.0-or-later
"""The build tool: what it makes, and that it makes it the same every time."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.paths import TOP

from qgis_server_systemd import __version__
from qgis_server_systemd.sources import SOURCES


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_everything_a_repository_wants(artifacts: list[Path]) -> None:
    version = re.escape(f"{__version__}-1")
    wanted = (
        rf"qgis-server-systemd_{version}_all\.deb",
        rf"qgis-server-systemd_{version}\.dsc",
        rf"qgis-server-systemd_{version}\.debian\.tar\.xz",
        rf"qgis-server-systemd_{re.escape(__version__)}\.orig\.tar\.gz",
        rf"qgis-server-systemd_{version}_\w+\.buildinfo",
        rf"qgis-server-systemd_{version}_\w+\.changes",
    )
    names = sorted(file.name for file in artifacts)
    assert len(names) == len(wanted)
    for pattern in wanted:
        assert sum(bool(re.fullmatch(pattern, name)) for name in names) == 1, pattern
    (changes,) = (file for file in artifacts if file.suffix == ".changes")
    listed = changes.read_text()
    for name in names:
        assert name == changes.name or name in listed


def test_the_documents_are_in_the_package(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    folder = tmp_path / "usr/share/doc/qgis-server-systemd"

    def read(name: str) -> bytes:
        """A file of the folder, compressed or not."""
        packed = folder / f"{name}.gz"
        return (
            gzip.decompress(packed.read_bytes())
            if packed.exists()
            else (folder / name).read_bytes()
        )

    documents = sorted((TOP / "docs").glob("*.md"))
    assert len(documents) > 7
    for file in documents:
        text = read(file.name)
        assert text == file.read_bytes(), file.name
        for link in re.findall(r"\]\(([^:)#]+)", text.decode()):
            assert read(link), f"{file.name}: {link}"
    for name in (listed := re.findall(r"[\w-]+\.md\b", read("README.Debian").decode())):
        assert read(name)
    assert len(listed) > 6


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on a tmpfs, which lists files by the order they were made in."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_setup_py_gives_the_same_bytes_on_another_day_in_another_folder(
    artifacts: list[Path], elsewhere: Path
) -> None:
    elsewhere = elsewhere / "a folder with spaces"
    found = [TOP / name for name in SOURCES]
    found += [file for name in SOURCES for file in (TOP / name).rglob("*")]
    for file in sorted(found, reverse=True):
        if file.is_file() and "__pycache__" not in file.parts:
            copy = elsewhere / file.relative_to(TOP)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    for file in elsewhere.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    done = subprocess.run(
        [sys.executable, "setup.py", "bdist_deb"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        umask=0o077,
        env={**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # The .changes and the .buildinfo tell of the machine and the day.
    for file in artifacts:
        if file.suffix not in (".buildinfo", ".changes"):
            assert digest(elsewhere / "deb_dist" / file.name) == digest(file), file.name
