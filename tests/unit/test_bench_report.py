# SPDX-License-Identifier: GPL-2.0-or-later
"""The logic of the benchmark: figures from what was sent, and what counts as a wait."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import bench.__main__
import pytest
from bench import (
    autogroup,
    bars,
    compare,
    contestants,
    cost,
    files,
    machine,
    report,
    store,
    workloads,
)
from bench.clock import Clock
from bench.inside.drive import Load, Result, Sent, verdict
from bench.inside.sample import Sample, Times, count, look, not_accepted
from hypothesis import given
from hypothesis import strategies as st
from shared.paths import TESTS, TOP

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
    return Sample(at, frozenset(map(ord, waiting)), frozenset(idle))


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

    def waiting() -> set[int]:
        return set(not_accepted({path}))

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


# ---- Rounds, bars and the report


def mix(light: float, heavy: float, *, number: int, wasted: float = 0.0) -> dict[str, Any]:
    """A round in which each light request took so many seconds, and so each heavy one."""
    all_sent = [sent(0, "light", at * light, light) for at in range(20)]
    all_sent += [sent(1, "heavy", at * heavy, heavy) for at in range(2)]
    found = report.of_round(result(*all_sent, wasted=wasted))
    return asdict(replace(found, number=number))


def alone(heavy: float) -> dict[str, Any]:
    return asdict(replace(report.of_round(result(sent(0, "heavy", 0, heavy))), number=1))


def warmed(first: float, number: int) -> dict[str, Any]:
    times = [(kind, took) for kind, took in (("first", first), ("warm", 0.02)) for _ in range(4)]
    all_sent = [sent(0, kind, at, took) for at, (kind, took) in enumerate(times)]
    return asdict(replace(report.of_round(result(*all_sent)), number=number))


JITTER = (1.0, 1.02, 0.98, 1.01, 0.99)


def several(light: float, heavy: float, wasted: float = 0.0) -> dict[str, Any]:
    rounds = [
        mix(light * factor, heavy, number=number, wasted=wasted)
        for number, factor in enumerate(JITTER, 1)
    ]
    return {"rounds": rounds}


def results() -> dict[str, Any]:
    """As benchmarks.json has them: the rounds alone."""
    workloads_ = {
        "light": {
            "recipe": several(0.04, 1),
            "ours-per-worker": several(0.04, 1),
            "ours-shared": several(0.05, 1),
            "multiwatch": several(0.041, 1),
        },
        "heavy": {name: {"rounds": [alone(2)]} for name in ("recipe", "multiwatch", "uwsgi")},
        "3+1": {
            "recipe": several(1.0, 2, wasted=9.8),
            "ours-per-worker": several(0.05, 2.5),
            "ours-shared": several(0.05, 2.5, wasted=0.001),
            # Fine for light requests, but it starves the heavy ones: long, or few.
            "multiwatch": several(0.01, 10.5),
            "uwsgi": several(0.06, 2.6),
        },
        "boot": {"ours-shared": {"rounds": [warmed(0.021, number) for number in (1, 3, 5)]}},
        "roll": {"ours-shared": {"rounds": [warmed(0.9, number) for number in (1, 3, 5)]}},
    }
    compare = {
        "workers": 4,
        "rounds": 5,
        "seconds": None,
        "missing": {"fcgiwrap": "round 1: no | reply\nafter <start>"},
        "generator_rate": 5000.0,
        "titles": {name: f"title of {name}" for name in workloads_},
        "contestants": {"recipe": {"title": "the recipe", "restart": "x"}},
        "workloads": workloads_,
    }
    own = {"status_cpu_s": 0.2}
    memory = {"1 worker": {"workers": 1, "Pss": 90.0, "Rss": 100.0, "Pss_Anon": 80.0}, "KSM": "no"}
    return {
        "date": "2030-01-02",
        "package": "1.2.3",
        "machine": {"cores": "2", "processor": "P", "virtual": "yes", "memory": "4 GiB"},
        "autogroup": "off",
        "suites": {
            "trixie": {
                "load": {"begin": "0.1", "end": "2.2"},
                "versions": {"qgis-server": "3.40"},
                "failed": {"scaling": "exit status 1"},
                "compare": compare,
                "own": own,
                "memory": memory,
                "cost": cost.rows(COSTS),
            }
        },
    }


COSTS = {
    cost.BASE: [10.0, 20.0, 30.0],
    "this package": [11.0, 21.0, 31.5],
    "... without its plugin": [10.0, 19.0, 31.0],
}


def test_costs_are_compared_tile_by_tile() -> None:
    """Tiles differ by far more than workers do."""
    found = cost.rows(COSTS)
    assert found["this package"] == {"median": 21.0, "mean": 21.17, "more": 1.17, "error": 0.33}
    assert found["... without its plugin"]["more"] == 0.0
    assert found["... without its plugin"]["error"] == pytest.approx(1.13, abs=0.01)
    assert [row[3:] for row in report.cost_rows(found)[1:3]] == [
        ("+0.00", "+0.00 to +0.00"),
        ("+1.17", "+0.84 to +1.50"),
    ]


def evaluated(found: dict[str, Any]) -> dict[tuple[str, str, str, str], bars.Bar]:
    workloads_ = store.whole(found)["suites"]["trixie"]["compare"]["workloads"]
    return {(one.row, one.who, one.against, one.what): one for one in bars.evaluate(workloads_)}


def test_an_interval_has_its_width_from_the_rounds() -> None:
    found = bars.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found is not None
    # 2.776 * sqrt(2.5 / 5)
    assert (found.value, found.rounds) == (3.0, 5)
    assert found.high - 3 == 3 - found.low == pytest.approx(1.963, abs=0.001)
    assert bars.interval([]) is None
    assert bars.interval([7.0]) == bars.Interval(7.0, -math.inf, math.inf, 1)
    assert bars.interval([7.0, 7.0]) == bars.Interval(7.0, 7.0, 7.0, 2)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.floats(0.1, 10))
def test_a_ratio_is_that_of_the_same_round(logarithms: list[float], times: float) -> None:
    # The machine gets slower and faster from round to round, for both.
    others: dict[int, float | None] = {at: math.exp(one) for at, one in enumerate(logarithms)}
    ours = {at: times * (one or 0) for at, one in others.items()} | {99: 5.0}
    found = bars.ratios(ours, others)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((times, times, times))
    assert found.rounds == len(logarithms)


@pytest.mark.parametrize("none", [None, 0.0, math.nan])
def test_there_is_no_ratio_of_a_round_without_replies(none: float | None) -> None:
    assert bars.ratios({1: 1.0, 2: none}, {1: 1.0, 2: 1.0}) is None
    assert bars.ratios({1: 1.0, 2: 1.0}, {1: none, 2: 1.0}) is None
    assert bars.ratios({1: 1.0}, {2: 1.0}) is None


@pytest.mark.parametrize(
    ("low", "high", "most", "verdict"),
    [
        (0.1, 0.2, True, "met"),
        (0.1, 0.3, True, "can't be told"),
        (0.21, 0.3, True, "not met"),
        (0.2, 0.3, False, "met"),
        (0.1, 0.3, False, "can't be told"),
        (0.1, 0.19, False, "not met"),
        (-math.inf, math.inf, False, "can't be told"),
    ],
)
def test_a_bar_fails_if_all_of_the_interval_lies_beyond(
    low: float, high: float, most: bool, verdict: str
) -> None:
    measured = bars.Interval((low + high) / 2, low, high, 5)
    assert bars.Bar("", "", "", "", 0.2, most, measured).verdict == verdict


def test_what_can_not_be_measured_can_not_be_told() -> None:
    assert bars.Bar("", "", "", "", 0.2, True, None).verdict == "can't be told"
    assert bars.Bar("", "", "", "", None, True, None).verdict == ""


def test_bars_and_their_verdicts() -> None:
    found = evaluated(results())
    p99, rate = "p99 of light requests", "light requests a second"
    heavy, first = "p95 of heavy requests", "first requests"
    idle = "share of time: a request waits, a worker is idle"
    wanted = {
        ("3+1", "ours-shared", "recipe", p99): (1 / 20, "met"),
        ("3+1", "ours-shared", "recipe", rate): (20, "met"),
        ("3+1", "ours-per-worker", "recipe", rate): (20, "met"),
        ("3+1", "ours-per-worker", "recipe", "p95 of light requests"): (1 / 20, "met"),
        ("3+1", "ours-per-worker", "recipe", p99): (1 / 20, ""),
        ("3+1", "ours-shared", "", idle): (0.0001, "met"),
        # Not multiwatch, which is the quickest with light ones.
        ("3+1", "ours-shared", "uwsgi", p99): (5 / 6, "met"),
        ("3+1", "ours-shared", "uwsgi", rate): (6 / 5, "met"),
        # Not the recipe, which is the quickest with heavy ones.
        ("3+1", "ours-shared", "uwsgi", heavy): (2.5 / 2.6, "met"),
        ("light", "ours-per-worker", "recipe", rate): (1, "met"),
        ("light", "ours-shared", "recipe", rate): (0.8, "not met"),
        ("boot", "ours-shared", "warm ones", first): (1.05, "met"),
        ("roll", "ours-shared", "warm ones", first): (45, "not met"),
    }
    assert found.keys() == wanted.keys()
    for key, (value, said) in wanted.items():
        measured = found[key].measured
        assert measured is not None, key
        assert measured.value == pytest.approx(value, rel=0.01), key
        assert found[key].verdict == said, key


def test_one_cold_worker_shows_in_the_first_requests() -> None:
    found = results()
    rounds = found["suites"]["trixie"]["compare"]["workloads"]["boot"]["ours-shared"]["rounds"]
    for one in rounds:
        times = [("first", took) for took in (0.02, 0.02, 0.4, 0.02)] + [("warm", 0.02)] * 4
        all_sent = [sent(0, kind, at, took) for at, (kind, took) in enumerate(times)]
        one["kinds"] = asdict(report.of_round(result(*all_sent)))["kinds"]
    bar = evaluated(found)["boot", "ours-shared", "warm ones", "first requests"]
    assert bar.verdict == "not met"


@pytest.mark.parametrize(
    ("heavy", "solo", "reason"),
    [
        (2.6, 2.0, ""),
        (10.1, 2.1, "it had 0.25 of our heavy requests a second"),
        (10.1, 2.0, "a heavy request took 5.0 times as long as one alone"),
        (2.9, 2.0, "it had 0.86 of our heavy requests a second"),
    ],
)
def test_rivals_that_starve_heavy_requests_do_not_count(
    heavy: float, solo: float, reason: str
) -> None:
    rows = {
        "heavy": {"uwsgi": {"rounds": [alone(solo)]}},
        "3+1": {"ours-shared": several(0.05, 2.5), "uwsgi": several(0.01, heavy)},
    }
    out = bars.disqualified(rows, "3+1", "ours-shared")
    assert out == ({"uwsgi": reason} if reason else {})


def test_without_any_rival_that_counts_there_is_no_bar() -> None:
    rows = {"3+1": {"ours-shared": several(0.05, 2.5), "uwsgi": several(0.01, 50)}}
    against = {one.against for one in bars.evaluate(rows)}
    assert against == {""}


def test_the_report_is_made_again_from_the_json_byte_for_byte(tmp_path: Path) -> None:
    written = files.write(results(), tmp_path)
    texts = {file: file.read_bytes() for file in written}
    (tmp_path / "benchmarks/old.svg").write_text("of a release that was measured before")
    for file in (tmp_path / "benchmarks").glob("*.svg"):
        file.write_text("")
    command = [sys.executable, "-m", "bench", "--report", str(tmp_path / "benchmarks.json")]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TESTS)}, check=True)
    assert {file: file.read_bytes() for file in written} == texts
    assert not (tmp_path / "benchmarks/old.svg").exists()


def test_the_report_says_it_all() -> None:
    found = files.contents(results())
    text = found["benchmarks.md"]
    # Pictures are there, and nothing that is not valid as a table.
    for path in re.findall(r"!\[.*?\]\((.*?)\)", text):
        ElementTree.fromstring(found[path])
        assert "<dc:date>" not in found[path]
    assert len(found) == 5
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, block
    for said in (
        "| Date | 2030-01-02 |",
        "| Load of the machine, trixie | 0.1 at the beginning, 2.2 at the end |",
        "| qgis-server | 3.40 |",
        "autogroup (sched(7)), which shares cores out by session, was off",
        "| 3+1 | ours-shared | p99 of light requests | recipe | at most 0.2 | 0.0500 |",
        "| best rival: uwsgi |",
        "| light | ours-shared | light requests a second | best rival: recipe |",
        "3+1: multiwatch (a heavy request took 5.2 times as long as one alone).",
        "time left room for fewer in *3+1*: recipe 20,",
        "fcgiwrap: round 1: no \\| reply after &lt;start>",
        "| status cpu s | 0.2 |",
        "4 workers each; up to 5 rounds,",
        "The load generator gets 5000 files of a tile's size a second from NGINX, 49 times",
        "**The part scaling failed:** exit status 1",
    ):
        assert said in text, said
    assert "nan" not in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rounds": [{"kinds": {"x": {}}}]}'])
def test_a_file_that_has_no_results_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(store.Unreadable) as error:
        store.load(file)
    assert "\n" not in str(error.value)
    with pytest.raises(store.Unreadable):
        store.load(tmp_path / "missing.json")


# ---- What a run does, and for how long


def test_each_contestant_has_its_turn_in_each_round() -> None:
    there, tasks = compare.chosen(compare.Options())
    turns = list(compare.schedule(there, tasks, 5))
    first = [one for one in turns if one.number == 1]
    assert {one.contestant.name for one in first} == {one.name for one in there}
    assert {task.name for one in first for task in one.tasks} == {task.name for task in tasks}
    for row in ("light", "3+1"):
        rounds = [
            one.number
            for one in turns
            if one.contestant.name == "ours-shared" and row in [task.name for task in one.tasks]
        ]
        assert rounds == [1, 2, 3, 4, 5]
    assert [one.number for one in turns if one.contestant.name == "fcgiwrap"] == [1]
    assert [one.tasks[0].name for one in turns if one.contestant.name == "ours-cache"] == ["repeat"]
    # What is asked for by name is in all rounds.
    there, tasks = compare.chosen(compare.Options(workloads=("6+3",)))
    turns = [one for one in compare.schedule(there, tasks, 5) if one.contestant.name == "recipe"]
    assert [one.number for one in turns] == [1, 2, 3, 4, 5]


def test_a_load_ends_by_time_or_by_number() -> None:
    one = contestants.contestants(4)[0]
    light = next(task for task in workloads.WORKLOADS if task.name == "light")
    spec = compare.spec_of(one, light, compare.Options())
    assert (spec.seconds, spec.enough) == (light.seconds, 1000)
    spec = compare.spec_of(one, light, compare.Options(seconds=20))
    assert (spec.seconds, spec.enough) == (20, 0)
    load = Load(replace(spec, enough=3))
    load.sent += [sent(0, "heavy", 0, 1), *[sent(0, "light", 0, 1)] * 3]
    began = time.monotonic()
    load.wait(1000)
    assert time.monotonic() - began < 500


def test_what_is_left_goes_by_what_it_took_so_far() -> None:
    now = iter([0.0, 20.0, 110.0])
    clock = Clock(100, lambda: next(now))
    assert clock.left() == "2 min"
    clock.done(10)
    assert clock.left() == "3 min"
    clock.done(90)
    assert clock.left() == "0 s"


def test_a_part_of_the_benchmark_does_not_replace_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of(*argv: str) -> Path | None:
        monkeypatch.setattr(sys, "argv", ["bench", *argv])
        return bench.__main__.target(bench.__main__.arguments())

    docs = TOP / "docs"
    assert of() == of("--json") == of("--thorough") == docs
    for partial in ("--quick", "--suite=trixie", "--rounds=1", "--workload=light", "--part=own"):
        assert of(partial) is None
        assert of(partial, "--output=/x") == Path("/x")
    assert of("--report=/y/benchmarks.json") == Path("/y")


def test_autogroup_comes_back_whatever_happens(tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    with autogroup.off(switch) as state:
        assert state == "none"
    switch.write_text("0\n")
    with autogroup.off(switch) as state:
        assert state == "off"
    assert switch.read_text() == "0\n"
    switch.write_text("1\n")
    with autogroup.off(switch) as state:
        assert (state, switch.read_text()) == ("off", "0")
    assert switch.read_text() == "1\n"
    script = (
        "import os, pathlib, signal, sys; from bench import autogroup\n"
        "with autogroup.off(pathlib.Path(sys.argv[1])):\n"
        "    assert pathlib.Path(sys.argv[1]).read_text() == '0'\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(switch)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TESTS)})
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while switch.read_text() != "1\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert switch.read_text() == "1\n"


def test_the_machine_is_described_without_names() -> None:
    cpu = "model name\t: Some CPU\nflags\t\t: fpu hypervisor sse\n"
    found = machine.described(cpu, "MemTotal:  4194304 kB\n", "6.1.2-3-of-somebody")
    assert found.pop("cores") == str(len(os.sched_getaffinity(0)))
    assert found == {
        "processor": "Some CPU",
        "virtual": "yes",
        "memory": "4 GiB",
        "kernel": "6.1.2",
    }
    assert machine.described("", "", "")["virtual"] == "not known"
    here = json.dumps(machine.described())
    assert socket.gethostname() not in here and "/" not in here
