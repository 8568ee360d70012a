# SPDX-License-Identifier: GPL-2.0-or-later
"""Which projects were asked for lately."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qgis_server_systemd.worker_plugin.wanted import HALF, MOST, SAVE_EVERY, Wanted


class Clock:
    now = 1e9

    def wanted(self, folder: Path) -> Wanted:
        return Wanted(folder / "wanted.json", lambda: self.now)


def test_the_most_wanted_come_first_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    wanted = clock.wanted(tmp_path)
    for project in ("/a", "/b", "/b", "/c", "/b", "/c"):
        wanted.note(project)
    clock.now += SAVE_EVERY + 1
    wanted.note("/c")
    wanted.note("/c")
    assert clock.wanted(tmp_path).listed() == ["/b", "/c", "/a"]


def test_what_was_wanted_long_ago_counts_less(tmp_path: Path) -> None:
    clock = Clock()
    wanted = clock.wanted(tmp_path)
    for _ in range(8):
        wanted.note("/old")
    wanted.save()
    clock.now += 2 * HALF
    wanted = clock.wanted(tmp_path)
    assert wanted.counts["/old"] == pytest.approx(2)
    for _ in range(3):
        wanted.note("/new")
    assert wanted.listed() == ["/new", "/old"]


def test_what_is_on_record_has_a_bound_and_what_is_new_a_place(tmp_path: Path) -> None:
    wanted = Clock().wanted(tmp_path)
    for number in range(2 * MOST):
        wanted.note(f"/{number}")
        wanted.note(f"/{number}")
    wanted.note("/newest")
    assert len(wanted.counts) <= MOST + 1
    assert "/newest" in wanted.counts


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"time": "x"}', '{"time": 1, "projects": [1]}', "\0", '{"time": null}']
)
def test_a_broken_record_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "wanted.json").write_text(text)
    assert Clock().wanted(tmp_path).listed() == []


def test_where_nothing_can_be_written_it_goes_on(tmp_path: Path) -> None:
    wanted = Clock().wanted(tmp_path / "none")
    wanted.note("/a")
    assert wanted.listed() == ["/a"]


def test_what_a_worker_that_was_taken_over_leaves_is_passed_over(tmp_path: Path) -> None:
    record, beside = tmp_path / "wanted.json", tmp_path / "wanted.new"
    for file in (record, beside):
        os.mkfifo(file)
    wanted = Clock().wanted(tmp_path)
    assert wanted.listed() == []
    wanted.note("/a")
    assert Clock().wanted(tmp_path).listed() == ["/a"]
    record.unlink()
    record.symlink_to("/dev/zero")
    assert Clock().wanted(tmp_path).listed() == []
    record.unlink()
    record.write_text("[" * 100_000)
    assert Clock().wanted(tmp_path).listed() == []
