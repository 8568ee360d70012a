# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that a request does outlasts it: the same replies before and after, from the same
process. `make fuzz` sends more requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzz.making import make
from shared.invariants.attempts import hand_made
from shared.invariants.watch import Sent, Watch, complaints, shuffled, watched
from testbed import Snapshot, Testbed

SEED = 1
PART = 700
"""So many of the requests that are made by hand, unless all are asked for."""
A_SECOND = 40
"""Generated requests for each of --fuzz-seconds."""


@pytest.fixture(scope="module")
def watch(installed: Snapshot) -> Iterator[Watch]:
    with Testbed(installed.suite, like=installed) as bed:
        bed.boot()
        with watched(bed) as found:
            yield found


@pytest.fixture(scope="module")
def replies(watch: Watch) -> dict[str, bytes]:
    """As a new process sends them, a second time."""
    watch.take()
    return watch.take()


@pytest.fixture(scope="module")
def attempts(pytestconfig: pytest.Config) -> list[Sent]:
    mixed = shuffled([*hand_made()], SEED)
    return mixed if pytestconfig.getoption("all") else mixed[:PART]


def test_the_replies_are_what_was_asked_for(replies: dict[str, bytes]) -> None:
    assert complaints(replies) == []


def test_requests_that_change_much_leave_nothing(
    watch: Watch, replies: dict[str, bytes], attempts: list[Sent]
) -> None:
    before, state = watch.pid(), watch.state()
    assert watch.send_and_look(attempts, replies) == []
    assert watch.pid() == before, "the worker has ended"
    assert watch.state() == state


def test_the_first_request_of_a_project_leaves_nothing(
    watch: Watch, replies: dict[str, bytes], attempts: list[Sent]
) -> None:
    """Much of a project is worked out when it is asked for first."""
    for number in range(5):
        watch.forget()
        watch.send(shuffled(attempts, number)[:20])
        assert watch.differences(replies) == [], [one.name for one in attempts[:20]]


def test_generated_requests_leave_nothing(
    watch: Watch, replies: dict[str, bytes], pytestconfig: pytest.Config
) -> None:
    count = round(pytestconfig.getoption("fuzz_seconds") * A_SECOND)
    made = [make(SEED, number) for number in range(count)]
    assert watch.send_and_look(made, replies) == []
