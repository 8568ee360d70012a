# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that a request does outlasts it: the same replies before and after, from the same
process. `make fuzz` sends more requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzz.making import comparable
from shared.invariants.attempts import hand_made, known, of_clients
from shared.invariants.replies import CASES
from shared.invariants.watch import Sent, Watch, complaints, shuffled, watched
from shared.pool import ctl, wait_for
from shared.serving import PROJECTS
from testbed import Snapshot, Testbed

SEED = 1
PART = 400
"""So many of the requests that are made by hand, unless all are asked for."""
A_SECOND = 40
MOST = 20_000
"""Generated requests for each of --fuzz-seconds."""
MORE = 40
"""Open files that a worker may have more of, after many requests."""
FEW = tuple(case for case in CASES if "countries" in case.name or "places" in case.name)
KNOWN = tuple(known())


@pytest.fixture(scope="module")
def watch(installed: Snapshot) -> Iterator[Watch]:
    with Testbed(installed.suite, like=installed) as bed:
        bed.boot()
        with watched(bed) as found:
            yield found


@pytest.fixture(scope="module")
def replies(watch: Watch) -> dict[str, bytes]:
    """As a new process sends them."""
    return watch.take()


@pytest.fixture(scope="module")
def attempts(pytestconfig: pytest.Config) -> list[Sent]:
    mixed = shuffled([*hand_made()], SEED)
    return mixed if pytestconfig.getoption("all") else mixed[:PART]


def test_the_replies_are_what_was_asked_for(watch: Watch, replies: dict[str, bytes]) -> None:
    assert complaints(replies) == []
    assert watch.differences(replies) == []


@pytest.mark.parametrize("request_", KNOWN, ids=[request.name for request in KNOWN])
def test_what_qgis_server_leaves_is_put_back(
    watch: Watch, replies: dict[str, bytes], request_: Sent
) -> None:
    watch.send([request_])
    assert Watch(watch.bed, FEW).differences(replies) == []


def test_requests_that_change_much_leave_nothing(
    watch: Watch, replies: dict[str, bytes], attempts: list[Sent]
) -> None:
    before, state = watch.pid(), watch.state()
    assert watch.send_and_look(attempts, replies) == []
    assert watch.pid() == before, "the worker has ended"
    after = watch.state()
    opened, descriptors = set(after.pop("files")), after.pop("descriptors")
    # Qt and PROJ open some of the system's when they are needed first; QGIS opens a file again
    # for each of some layers.
    new = opened - set(state.pop("files"))
    assert [name for name in new if not name.startswith("/usr/share/")] == []
    assert descriptors <= state.pop("descriptors") + MORE
    assert after == state


def test_the_first_requests_of_a_project_leave_nothing(
    watch: Watch, replies: dict[str, bytes], attempts: list[Sent]
) -> None:
    """Much of a project is worked out when it is asked for first."""
    for number in range(2):
        watch.forget()
        first = shuffled(attempts, number)[:15]
        watch.send(first)
        assert watch.differences(replies) == [], [one.name for one in first]


def test_generated_requests_leave_nothing(
    watch: Watch, replies: dict[str, bytes], pytestconfig: pytest.Config
) -> None:
    count = min(MOST, round(pytestconfig.getoption("fuzz_seconds") * A_SECOND))
    assert watch.send_and_look(comparable(SEED, range(count)), replies) == []


def is_kept(bed: Testbed, project: str) -> bool:
    link = f"/run/qgis-server-cache/projects{PROJECTS}/{project}"
    return bed.run("test", "-L", link, check=False).returncode == 0


def test_replies_that_nginx_keeps_are_those_of_the_worker(
    watch: Watch, replies: dict[str, bytes]
) -> None:
    """The first to ask for one is a client that asks in another way."""
    bed, file = watch.bed, "/etc/qgis-server/server.toml"
    before = bed.out("cat", file)
    bed.run("tee", file, input=f'{before}\nreply_cache = "50M"\n')
    try:
        ctl(bed, "apply")
        watch.take()
        wait_for(lambda: is_kept(bed, "rich.qgs"), "replies are kept")
        ctl(bed, "purge")
        watch.send(shuffled([*of_clients()], SEED)[:PART])
        assert [watch.differences(replies) for _ in range(2)] == [[], []]
    finally:
        bed.run("tee", file, input=before)
        ctl(bed, "apply")
