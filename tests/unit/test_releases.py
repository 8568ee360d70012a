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
@pytest.fixture(scope="module")
def shared(suite): pass
@pytest.mark.parametrize("count", range(40))
def test_alone(suite, count): pass
@pytest.mark.parametrize("count", range(40))
def test_together(shared, count): pass
@pytest.mark.each
def test_each(suite): pass
@pytest.mark.testing
def test_early(suite): pass
@pytest.mark.only("trixie")
@pytest.mark.parametrize("count", range(40))
def test_able(suite, count): pass
"""
COUNT = 40


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

Chosen = dict[tuple[str, ...], dict[str, list[set[str]]]]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Chosen:
    """The releases that each of these tests runs on with each of its parameters, by the options."""
    folder = tmp_path_factory.mktemp("chosen")
    (folder / "test_them.py").write_text(TESTED)
    options = (NONE, ALL, EACH, ONE)
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, folder, json.dumps(options)],
        cwd=TESTS, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(options, map(releases, done.stdout.split("+ + +")), strict=False))


def releases(text: str) -> dict[str, list[set[str]]]:
    found: dict[str, dict[str, set[str]]] = {}
    for line in text.splitlines():
        name, bracket, parameters = line.rpartition("::")[2].partition("[")
        if bracket:
            suite, _, count = parameters.rstrip("]").partition("-")
            found.setdefault(name, {}).setdefault(count, set()).add(suite)
    return {name: list(of.values()) for name, of in found.items()}


def test_what_no_mark_puts_on_each_runs_on_one_release(chosen: Chosen) -> None:
    alone = chosen[NONE]["test_alone"]
    assert len(alone) == COUNT
    assert all(len(suites) == 1 for suites in alone)
    assert set().union(*alone) == set(RELEASED)


def test_what_shares_a_server_runs_on_the_same_release(chosen: Chosen) -> None:
    together = chosen[NONE]["test_together"]
    assert len(together) == COUNT
    assert all(suites == together[0] for suites in together)
    assert len(together[0]) == 1


def test_what_is_chosen_runs_on_each_and_on_debian_testing(chosen: Chosen) -> None:
    assert chosen[NONE]["test_each"] == [set(RELEASED)]
    assert chosen[NONE]["test_early"] == [set(SUITES)]


@pytest.mark.parametrize("options", [NONE, ALL])
def test_what_one_release_alone_is_able_to_runs_there(
    chosen: Chosen, options: tuple[str, ...]
) -> None:
    assert chosen[options]["test_able"] == [{"trixie"}] * COUNT


def test_all_run_on_all_releases_when_asked_for(chosen: Chosen) -> None:
    for name in ("test_alone", "test_together", "test_each", "test_early"):
        assert set(map(frozenset, chosen[ALL][name])) == {frozenset(SUITES)}


def test_releases_that_are_named_share_them(chosen: Chosen) -> None:
    assert chosen[EACH]["test_each"] == chosen[EACH]["test_early"] == [set(SUITES)]
    assert set().union(*chosen[EACH]["test_alone"]) == set(SUITES)


def test_the_others_are_left_alone_when_one_is_named(chosen: Chosen) -> None:
    found = chosen[ONE]
    assert found["test_alone"] == [{RELEASED[0]}] * COUNT
    assert set().union(*(suites for all_ in found.values() for suites in all_)) == {RELEASED[0]}
