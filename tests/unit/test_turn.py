# SPDX-License-Identifier: GPL-2.0-or-later
"""At boot no more workers start at a time than there are cores."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from shared.paths import TOP

PROGRAM = TOP / "debian/root/usr/share/qgis-server-systemd/turn"
CORES = len(os.sched_getaffinity(0))
TURN = runpy.run_path(str(PROGRAM))
LATER = str(CORES + 1)
"""The first worker that has another one to wait for."""


def begin(instance: str, folder: Path, env: Path = PROGRAM) -> subprocess.Popen[str]:
    command = [sys.executable, "-IS", *map(str, (PROGRAM, instance, folder, env))]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE)


def must_wait(instance: str, folder: Path, waited: float = 0) -> bool:
    """waited: seconds."""
    return bool(TURN["must_wait"](instance, str(folder), waited))


@pytest.mark.parametrize("instance", ["1", str(CORES), "heavy-9", LATER])
def test_who_has_nobody_to_wait_for_starts(tmp_path: Path, instance: str) -> None:
    """Soon, where the one before it does not begin to start."""
    assert must_wait(instance, tmp_path) == (instance == LATER)
    assert not must_wait(instance, tmp_path, TURN["GRACE"] + 0.1)


@pytest.mark.parametrize("note", ["1/ready", "1/failures", f"{LATER}/failures"])
def test_a_worker_waits_for_the_one_before_it(tmp_path: Path, note: str) -> None:
    """Until that is up, or has failed; and one that has failed itself waits for nobody."""
    for instance in ("1", LATER):
        (tmp_path / instance).mkdir()
    assert must_wait(LATER, tmp_path, TURN["LONGEST"] - 0.1)
    (tmp_path / note).touch()
    assert not must_wait(LATER, tmp_path)


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert must_wait(LATER, tmp_path, TURN["LONGEST"] - 0.1)
    assert not must_wait(LATER, tmp_path, TURN["LONGEST"])


def test_the_program_ends_once_it_need_not_wait(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    waiting = begin(LATER, tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.2)
    (tmp_path / "1/ready").touch()
    assert waiting.wait(60) == 0


def test_without_the_file_of_variables_no_worker_starts(tmp_path: Path) -> None:
    begun = begin("1", tmp_path, tmp_path / "env")
    _, said = begun.communicate(timeout=20)
    assert (begun.returncode, said) == (
        1, f"{tmp_path}/env is missing: touch {tmp_path}/env\n",
    )  # fmt: skip


BACKOFF = PROGRAM.parent / "backoff"


def test_a_worker_leaves_nothing_for_its_successor_to_wait_for(tmp_path: Path) -> None:
    """However deep its folders are, and whether they are closed or not."""
    top = tmp_path / "1"
    (top / ".0").mkdir(parents=True)
    below = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=below)
        above, below = below, os.open("deep", os.O_RDONLY, dir_fd=below)
        os.close(above)
    os.close(below)
    (top / "closed/in").mkdir(parents=True)
    (top / "closed").chmod(0)
    (top / "link").symlink_to(tmp_path)
    os.mkfifo(top / "projects.json")
    (top / "ready").touch()
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(top)}
    command = [sys.executable, "-IS", str(BACKOFF), "1", str(PROGRAM)]
    try:
        subprocess.run(command, env=environment, check=True, timeout=60)
        assert [*top.iterdir()] == []
    finally:
        # Python removes nothing that is so deep, so a later run of pytest would end in an error.
        subprocess.run(["rm", "-rf", top], check=True)
    assert tmp_path.is_dir()
