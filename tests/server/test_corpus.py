# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that QGIS Server does breaks in the pool: it answers as an unconfined process does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.corpus.beside import Sides, corpus_bed, tables
from shared.corpus.cases import SAME, SIDES, Request, read
from testbed import Reply

REQUESTS = {request.name: request for request in read()}


@pytest.fixture(scope="session")
def sides(suite: str, package: Path) -> Iterator[Sides]:
    with corpus_bed(suite, package) as found:
        yield found


@pytest.fixture(scope="session")
def replies(sides: Sides) -> dict[str, dict[str, Reply]]:
    """What has been answered so far, by request and side."""
    return {}


def ask(sides: Sides, replies: dict[str, dict[str, Reply]], request: Request) -> dict[str, Reply]:
    if request.name not in replies:
        replies[request.name] = {side: sides.ask(side, request) for side in SIDES}
    return replies[request.name]


def compare(sides: Sides, replies: dict[str, dict[str, Reply]], request: Request) -> None:
    """Both sides answer what was asked for, and the same."""
    answers = ask(sides, replies, request)
    for reply in answers.values():
        request.judge(reply)
    pool, plain = (SAME[request.compare](answers[side].body) for side in SIDES)
    # Not "assert pool == plain": pytest would print megabytes of difference.
    same = pool == plain
    assert same, f"{len(pool)} bytes differ from the {len(plain)} of an unconfined process"
    if request.unlike:
        other = ask(sides, replies, REQUESTS[request.unlike])
        differs = other["a"].body != answers["a"].body
        assert differs, f"it is the same as {request.unlike}"


# In the order of the file: some requests see what others have changed.
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(request, id=name, marks=pytest.mark.only(*request.suites))
        for name, request in REQUESTS.items()
    ],
)
def test_the_pool_answers_as_an_unconfined_process_does(
    sides: Sides, replies: dict[str, dict[str, Reply]], request_: Request
) -> None:
    compare(sides, replies, request_)


def test_what_both_have_changed_is_the_same(sides: Sides) -> None:
    """After the requests above."""
    assert tables(sides.bed, "a") == tables(sides.bed, "b")


TIGHT = """[Service]
InaccessiblePaths=+/usr/local/share/fonts +/usr/share/proj +/srv/corpus/data/house.svg
InaccessiblePaths=+/srv/corpus/edit-a
RestrictAddressFamilies=
RestrictAddressFamilies=AF_UNIX
"""
NOTICED = (
    "labels: fonts_own",
    "crs: features moved by a grid",
    "symbols: svg_own",
    "postgis-tcp: countries",
    "cascade: a WMS that the client names",
    "edit: insert into places",
)


@pytest.fixture
def tight(sides: Sides) -> Iterator[None]:
    """A pool whose workers lack what projects use."""
    folder = "/run/systemd/system/qgis-server@.service.d"
    # Not the target: it is up again before they have ended.
    again = "systemctl daemon-reload && systemctl restart 'qgis-server@*.service'"
    sides.bed.run("mkdir", "--parents", folder)
    sides.bed.run("tee", f"{folder}/tight.conf", input=TIGHT)
    sides.bed.run("sh", "-c", again)
    yield
    sides.bed.run("rm", f"{folder}/tight.conf")
    sides.bed.run("sh", "-c", again)


@pytest.mark.usefixtures("tight")
def test_what_a_sandbox_breaks_is_noticed(sides: Sides) -> None:
    missed = []
    for name in NOTICED:
        try:
            compare(sides, {}, REQUESTS[name])
        except AssertionError:
            continue
        missed.append(name)
    assert missed == []
