# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests run on which release of Debian."""

from __future__ import annotations

import json
import subprocess
import sys

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


# One interpreter for all, since it takes longer to start than what it does.
COLLECT = """
import json, sys, pytest
for options in json.loads(sys.argv[2]):
    pytest.main(["-p", "conftest", "--collect-only", "-q", *options, sys.argv[1]])
    print("+ + +")
"""
NONE: tuple[str, ...] = ()
ALL = ("--all",)
EACH = tuple(f"--suite={name}" for name in SUITES)
ONE = (f"--suite={RELEASED[0]}",)

Chosen = dict[tuple[str, ...], dict[str, set[str]]]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Chosen:
    """The releases that each of these tests runs on, by the options."""
    folder = tmp_path_factory.mktemp("chosen")
    (folder / "test_them.py").write_text(TESTED)
    options = (NONE, ALL, EACH, ONE)
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, folder, json.dumps(options)],
        cwd=TESTS, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(options, map(releases, done.stdout.split("+ + +")), strict=False))


def releases(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        name, bracket, parameters = line.rpartition("::")[2].partition("[")
        if bracket:
            found.setdefault(name, set()).add(parameters.rstrip("]").partition("-")[0])
    return found


def test_what_is_chosen_runs_on_debian_testing_each_time(chosen: Chosen) -> None:
    early = set(SUITES) - set(RELEASED)
    found = chosen[NONE]
    assert found["test_all"] == set(RELEASED)
    assert found["test_early"] == set(SUITES)
    assert found["test_both"] >= early
    assert len(found["test_both"] - early) == 1


@pytest.mark.parametrize("options", [ALL, EACH])
def test_all_run_on_all_releases_when_asked_for(chosen: Chosen, options: tuple[str, ...]) -> None:
    found = chosen[options]
    assert found["test_all"] == found["test_early"] == set(SUITES)


def test_the_others_are_left_alone_when_one_is_named(chosen: Chosen) -> None:
    found = chosen[ONE]
    assert set().union(*found.values()) == {RELEASED[0]}
