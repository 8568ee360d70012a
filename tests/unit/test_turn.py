# SPDX-License-Identifier: GPL-2.0-or-later
"""At boot no more workers start at a time than there are cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shared.paths import TOP

PROGRAM = TOP / "debian/root/usr/share/qgis-server-systemd/turn"
CORES = len(os.sched_getaffinity(0))


def begin(instance: str, folder: Path, env: Path = PROGRAM) -> subprocess.Popen[str]:
    command = [sys.executable, "-IS", *map(str, (PROGRAM, instance, folder, env))]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE)


@pytest.mark.parametrize("instance", ["1", str(CORES), "heavy-9", str(CORES + 1)])
def test_who_has_nobody_to_wait_for_starts(tmp_path: Path, instance: str) -> None:
    assert begin(instance, tmp_path).wait(20) == 0


@pytest.mark.parametrize("note", ["1/ready", "1/failures", f"{CORES + 1}/failures"])
def test_a_worker_waits_for_the_one_before_it(tmp_path: Path, note: str) -> None:
    """Until that is up, or has failed; and one that has failed itself waits for nobody."""
    for instance in ("1", str(CORES + 1)):
        (tmp_path / instance).mkdir()
    waiting = begin(str(CORES + 1), tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.6)
    (tmp_path / note).touch()
    assert waiting.wait(20) == 0


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert begin(str(CORES + 1), tmp_path).wait(20) == 0


def test_without_the_file_of_variables_no_worker_starts(tmp_path: Path) -> None:
    begun = begin("1", tmp_path, tmp_path / "env")
    _, said = begun.communicate(timeout=20)
    assert (begun.returncode, said) == (
        1, f"{tmp_path}/env is missing: touch {tmp_path}/env\n",
    )  # fmt: skip
