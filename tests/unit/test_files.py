# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that a power loss can't leave half: on the disk before they are in their place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.system import files


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is brought to the disk and what is renamed, in turn."""
    told: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        told.append(f"sync {path.relative_to(tmp_path)}")
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        told.append(f"rename {path.relative_to(tmp_path)}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    return told


def test_a_file_is_on_the_disk_before_it_is_in_its_place(order: list[str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("text")
    source.chmod(0o640)
    files.copy(source, tmp_path / "to")
    assert (tmp_path / "to").read_text() == "text"
    assert (tmp_path / "to").stat().st_mode & 0o777 == 0o640
    copied = ["sync .to.new", "rename .to.new", "sync ."]
    assert order == copied
    files.write(tmp_path / "to", "other")
    assert order == copied * 2


def test_links_stay_links(order: list[str], tmp_path: Path) -> None:
    files.link(tmp_path / "link", "/nowhere")
    files.copy(tmp_path / "link", tmp_path / "copy")
    files.link(tmp_path / "link", "/elsewhere")
    assert os.readlink(tmp_path / "copy") == "/nowhere"
    assert os.readlink(tmp_path / "link") == "/elsewhere"
    assert order == [
        line
        for name in ("link", "copy", "link")
        for line in (f"rename .{name}.new", "sync .")
    ]  # fmt: skip


def test_folders_that_are_made_for_it_are_on_the_disk_too(order: list[str], tmp_path: Path) -> None:
    files.write(tmp_path / "a/b/file", "text")
    assert order == ["sync .", "sync a", "sync a/b/.file.new", "rename a/b/.file.new", "sync a/b"]


@pytest.mark.parametrize(
    "change",
    [
        lambda file: files.write(file, "\ud800"),
        lambda file: files.copy(file.with_name("none"), file),
        lambda file: files.link(file, ""),
    ],
    ids=["write", "copy", "link"],
)
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises((OSError, UnicodeError)):
        change(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_cut_off_copy_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".link.new").symlink_to("/nowhere")
    files.link(tmp_path / "link", "/elsewhere")
    (tmp_path / ".file.new").symlink_to("/nowhere")
    files.write(tmp_path / "file", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"link", "file"}


def test_bytes_that_are_not_utf_8_stay_what_they_are(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"# M\xfcller\n")
    text = files.read_or_none(file)
    assert text is not None
    assert json.loads(json.dumps(text)) == text
    files.write(tmp_path / "other", text)
    assert (tmp_path / "other").read_bytes() == b"# M\xfcller\n"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match=r"is no file|Is a directory"):
            files.read_or_none(path)
    assert files.read_or_none(Path("/dev/null")) == ""
    assert files.read_or_none(tmp_path / "none") is None
    # Of which the kernel gives less at a time than of other files.
    assert files.read_or_none(Path("/proc/sys/kernel/ostype")) == "Linux\n"
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(files.MOST + 1)
    with pytest.raises(OSError, match="has more than 64 MB"):
        files.read_or_none(tmp_path / "huge")
