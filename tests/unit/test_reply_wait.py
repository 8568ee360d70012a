# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the entry by which a library calls a function: in libraries of this machine."""

import ctypes
import platform
import subprocess
from pathlib import Path

import pytest

from qgis_server_systemd.worker_plugin import reply_wait
from qgis_server_systemd.worker_plugin.reply_wait import JUMP_SLOT, Library, Unknown, library

PROGRAM = Path("/bin/sh").resolve()
KIND = JUMP_SLOT[platform.machine()]
MAPS = """\
7f01-7f02 r--p 00000000 fe:00 1 /usr/lib/libqgis_core.so.3.40.6
7f10-7f20 r-xp 00001000 fe:00 2 /usr/lib/libqgis_server.so.3.40.6
7f00-7f10 r--p 00000000 fe:00 2 /usr/lib/libqgis_server.so.3.40.6
7fa0-7fb0 rw-p 00000000 00:00 0
"""


def test_qgis_servers_library_in_the_map_of_a_process() -> None:
    file = Path("/usr/lib/libqgis_server.so.3.40.6")
    assert library(MAPS) == Library(file, "3.40", 0x7F00)
    assert library(MAPS.replace("3.40.6", "3.40.6 (deleted)")) is None
    assert library("") is None


def test_entries_are_those_that_readelf_lists() -> None:
    """Of functions that a shell calls by such an entry."""
    listed = subprocess.run(
        ["readelf", "--wide", "--relocs", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    calls: dict[str, list[int]] = {}
    for line in listed.splitlines():
        words = line.split()
        if len(words) > 4 and "JUMP_SLO" in words[2]:
            calls.setdefault(words[4].partition("@")[0], []).append(int(words[0], 16))
    content = PROGRAM.read_bytes()
    for name in [*list(calls)[:20], "no_such_function"]:
        assert list(reply_wait.slots(content, KIND, name.encode())) == calls.get(name, [])


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x01\x01", b"#!/bin/sh\n", b"\x7fELF\x02\x01"])
def test_what_is_no_such_library_is_left(content: bytes) -> None:
    with pytest.raises(Unknown):
        list(reply_wait.slots(content, KIND, b"select"))


def test_a_library_that_is_cut_off_is_left() -> None:
    content = PROGRAM.read_bytes()
    with pytest.raises(Unknown):
        list(reply_wait.slots(content[:3000], KIND, b"select"))


def test_another_release_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_wait, "here", lambda: Library(Path("/x"), "3.99", 0))
    reply_wait.remove(("3.40", "3.44"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"25QgsSocketMonitoringThread", "no 64-bit"), (b"", "no such wait")],
)
def test_one_built_otherwise_is_left(
    content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lib"
    file.write_bytes(content)
    monkeypatch.setattr(reply_wait, "here", lambda: Library(file, "3.40", 0))
    with pytest.raises(Unknown, match=reason):
        reply_wait.remove(("3.40",))


def test_what_takes_its_place_returns_0() -> None:
    function = ctypes.CDLL(None).sched_yield
    assert [function(8, 0, 0, 0, 0) for _ in range(3)] == [0, 0, 0]
