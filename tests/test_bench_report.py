# SPDX-License-Identifier: GPL-2.0-or-later
"""The logic of the benchmark: figures from what was sent, and what counts as a wait."""

import json
import math
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bench import contestants, report, workloads
from bench.inside.drive import Result, Sent, verdict
from bench.inside.sample import Sample, Times, count, look, not_accepted
from hypothesis import given
from hypothesis import strategies as st

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/xml; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
)


def sent(client: int, kind: str, began: float, took: float, problem: str = "") -> Sent:
    return Sent(client, kind, began, took, 10, 0 if problem else 1_000_000, problem)


def result(*all_sent: Sent, sampled: float = 10.0, wasted: float = 1.0) -> Result:
    samples = {"sampled": sampled, "waited": 2.0, "wasted": wasted, "pss": 2**20, "workers": 4}
    return Result(list(all_sent), 4.0, 5.0, 6.0, 0.5, 0.1, 0.0, 0, samples)


# ---- Figures


@given(st.lists(st.floats(0, 1000), min_size=1), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(
    values: list[float], percent: int
) -> None:
    found = report.percentile(values, percent)
    assert sum(value <= found for value in values) >= percent / 100 * len(values)
    assert sum(value < found for value in values) < percent / 100 * len(values)


def test_percentiles_of_few_and_none() -> None:
    assert report.percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert report.percentile([5.0], 99) == 5.0
    assert math.isnan(report.percentile([], 50))


def test_the_rate_is_that_of_each_client_until_its_last_reply() -> None:
    # One client has four replies in 2 s, the other one reply in 8 s, after the end.
    quick = [sent(0, "light", at / 2, 0.5) for at in range(4)]
    one = report.of_round(result(*quick, sent(1, "heavy", 0, 8)))
    assert one.kinds["light"].rate == pytest.approx(2)
    assert one.kinds["heavy"].rate == pytest.approx(1 / 8)
    assert one.rate == pytest.approx(2 + 1 / 8)
    assert one.megapixels == pytest.approx(2 + 1 / 8)


def test_failures_are_counted_and_have_no_part_in_the_latency() -> None:
    failed = sent(0, "light", 1, 60, "status 502")
    one = report.of_round(result(sent(0, "light", 0, 1), failed))
    light = one.kinds["light"]
    assert (light.failed, light.p50, light.max) == (1, 1000, 1000)
    assert light.rate == pytest.approx(1 / 61)
    assert one.problems == {"status 502": 1}
    assert one.cpu == 6.0


def test_where_no_queue_can_be_seen_no_share_is_told() -> None:
    assert report.of_round(result(sampled=0.0, wasted=0.0)).idle_while_waiting is None
    assert report.of_round(result()).idle_while_waiting == pytest.approx(0.1)


def test_rounds_are_summed_up() -> None:
    rounds = [
        report.of_round(result(sent(0, "light", 0, took), sent(0, "x", 0, 0.1, "cut off")))
        for took in (1.0, 4.0, 2.0)
    ]
    found = report.summary(rounds)
    assert found["kinds"]["light"]["p50"] == {"median": 2000, "least": 1000, "most": 4000}
    assert found["kinds"]["x"]["failed"] == 3
    assert found["kinds"]["x"]["p50"]["median"] is not None
    assert found["problems"] == {"cut off": 3}
    text = json.dumps(report.without_nan(found), allow_nan=False)
    assert json.loads(text)["kinds"]["x"]["p50"]["median"] is None


def test_rates_are_divided_by_those_of_the_first_contestant() -> None:
    slow = report.summary([report.of_round(result(sent(0, "light", 0, 1)))])
    quick = report.summary([report.of_round(result(sent(0, "light", 0, 0.25), sampled=0))])
    lines = report.workload_table({"recipe": slow, "other": quick}).splitlines()
    assert [line.split()[0] for line in lines] == ["contestant", "recipe", "other"]
    column = report.HEAD.index("of (a)") + 2  # the spread has three words
    assert [line.split()[column] for line in lines[1:]] == ["1.00", "4.00"]
    assert lines[2].split()[-2] == "-"


# ---- What counts as a good reply


@pytest.mark.parametrize(
    ("reply", "content", "problem"),
    [
        (GOOD, "image/png", ""),
        (CHUNKED, "text/xml", ""),
        (GOOD[:-1], "image/png", "cut off"),
        (CHUNKED[:-5], "text/xml", "cut off"),
        (GOOD[:20], "image/png", "cut off in the header"),
        (b"", "image/png", "no reply"),
        # QGIS Server sends an exception with status 200.
        (CHUNKED, "image/png", "Content-Type text/xml; charset=utf-8"),
        (GOOD.replace(b"200 OK", b"503 Service Unavailable"), "image/png", "status 503"),
    ],
)
def test_replies(reply: bytes, content: str, problem: str) -> None:
    assert verdict(reply, content) == problem


# ---- Waits


def sample(at: float, waiting: str, *idle: int) -> Sample:
    return Sample(at, frozenset(waiting), frozenset(idle))


@pytest.mark.parametrize(
    ("before", "now", "waited", "wasted"),
    [
        (sample(0, "a", 1), sample(1, "a", 1), 1, 1),
        # Another connection, or another worker: both were on their way.
        (sample(0, "a", 1), sample(1, "b", 1), 0, 0),
        (sample(0, "a", 1), sample(1, "a", 2), 1, 0),
        (sample(0, "a"), sample(1, "a"), 1, 0),
        (sample(0, "", 1), sample(1, "", 1), 0, 0),
        (sample(0, "ab", 1, 2), sample(1, "bc", 2, 3), 1, 1),
    ],
)
def test_a_wait_counts_if_it_lasts_from_one_sample_to_the_next(
    before: Sample, now: Sample, waited: float, wasted: float
) -> None:
    start = Times(sampled=5, waited=3, wasted=2, pss=7)
    wanted = replace(start, sampled=6, waited=3 + waited, wasted=2 + wasted)
    assert count(start, before, now) == wanted


def test_connections_that_wait_are_seen_and_told_apart(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")

    def waiting() -> set[str]:
        return set(not_accepted(Path("/proc/net/unix").read_text(), {path}))

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(8)
        assert not waiting()
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(path)
            one = waiting()
            second.connect(path)
            both = waiting()
            assert (len(one), len(both)) == (1, 2)
            assert one < both
            with server.accept()[0]:
                assert waiting() == both - one


def test_a_process_that_does_something_else_is_not_idle() -> None:
    found = look([os.getpid()], ())
    assert (found.waiting, found.idle) == (frozenset(), frozenset())
    assert found.at <= time.monotonic()


# ---- Who takes part, and in what


def test_all_contestants_are_asked_for_the_same() -> None:
    for workload in workloads.WORKLOADS:
        asked = [
            [
                (group.clients, [request.path[len(one.path) :] for request in group.requests])
                for group in workload.groups(one.path)
            ]
            for one in contestants.contestants(4)
        ]
        assert all(requests == asked[0] for requests in asked)


def test_contestants_do_not_get_into_each_others_way() -> None:
    there = contestants.contestants(4)
    assert there[0].name == "recipe", "what the others are compared with"
    rivals = [one for one in there if not one.ours]
    assert len({one.port for one in rivals} | {80}) == len(rivals) + 1
    paths = [path for one in rivals for path in one.sockets]
    assert len(set(paths)) == len(paths)
