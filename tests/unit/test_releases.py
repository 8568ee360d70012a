# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests run on which release of Debian."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from shared.paths import TESTS
from testbed import RELEASED, SUITES

TESTED = """
import pytest
def test_all(suite): pass
@pytest.mark.testing
def test_early(suite): pass
@pytest.mark.either
@pytest.mark.testing
@pytest.mark.parametrize("count", [1, 2])
def test_both(suite, count): pass
"""


def chosen(folder: Path, *options: str) -> dict[str, set[str]]:
    """The releases that each of these tests runs on."""
    (folder / "test_them.py").write_text(TESTED)
    collect = ("-m", "pytest", "-p", "conftest", "--collect-only", "-q")
    done = subprocess.run(
        [sys.executable, *collect, *options, folder],
        cwd=TESTS, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        name, bracket, parameters = line.rpartition("::")[2].partition("[")
        if bracket:
            found.setdefault(name, set()).add(parameters.rstrip("]").partition("-")[0])
    return found


def test_what_is_chosen_runs_on_debian_testing_each_time(tmp_path: Path) -> None:
    early = set(SUITES) - set(RELEASED)
    found = chosen(tmp_path)
    assert found["test_all"] == set(RELEASED)
    assert found["test_early"] == set(SUITES)
    assert found["test_both"] >= early
    assert len(found["test_both"] - early) == 1


@pytest.mark.parametrize("options", [("--all",), tuple(f"--suite={name}" for name in SUITES)])
def test_all_run_on_all_releases_when_asked_for(tmp_path: Path, options: tuple[str, ...]) -> None:
    found = chosen(tmp_path, *options)
    assert found["test_all"] == found["test_early"] == set(SUITES)


def test_the_others_are_left_alone_when_one_is_named(tmp_path: Path) -> None:
    found = chosen(tmp_path, f"--suite={RELEASED[0]}")
    assert set().union(*found.values()) == {RELEASED[0]}
