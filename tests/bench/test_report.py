# SPDX-License-Identifier: GPL-2.0-or-later
"""The logic of the benchmark: figures from what was sent, and what counts as a wait."""

import itertools
import json
import math
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.paths import TESTS, TOP
from testbed import folders

import bench.__main__
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
    watched,
    weights,
    workloads,
)
from bench.clock import Clock
from bench.inside import drive
from bench.inside.drive import Group, Load, Request, Result, Sent, Spec, poisson, verdict, written
from bench.inside.sample import Sample, Times, count, look, not_accepted, takers

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


def test_a_form_is_sent_by_post() -> None:
    head, _, body = written(80, Request("print", "/x", "", form="a=b%20c")).partition(b"\r\n\r\n")
    assert body == b"a=b%20c"
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"Content-Length: 7\r\n" in head + b"\r\n"
    head, _, body = written(80, Request("light", "/x?y", "")).partition(b"\r\n\r\n")
    assert (head[:16], body) == (b"GET /x?y HTTP/1.", b"")
    assert b"Content-" not in head


# ---- Requests at a rate


def test_requests_come_at_random_but_the_same_for_all() -> None:
    found = poisson(50, 200, 1)
    assert found == poisson(50, 200, 1) != poisson(50, 200, 2)
    assert found == sorted(found) and found[0] > 0 and found[-1] < 200
    gaps = [after - before for before, after in itertools.pairwise(found)]
    # As many as wanted, and as far from each other as by chance: the deviation is the mean.
    assert len(found) == pytest.approx(10_000, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)


def test_requests_at_a_rate_wait_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """None has its reply before the last one has been sent."""
    group = Group(0, [Request("light", f"/{number}", "") for number in range(3)], rate=50, seed=3)
    due = poisson(50, 0.5, 3)
    all_there = threading.Barrier(len(due))

    def ask(_port: int, request: Request) -> tuple[int, str]:
        all_there.wait(60)
        return 7, "" if request.path == "/0" else "status 503"

    monkeypatch.setattr(drive, "ask", ask)
    load = Load(Spec(80, [group], 0.5))
    load.run()
    assert sorted(one.began for one in load.sent) == pytest.approx(due)
    assert all(one.began + one.took >= due[-1] for one in load.sent), (
        "it counts from when it is due"
    )
    assert sum(not one.problem for one in load.sent) == math.ceil(len(due) / 3)
    assert load.late >= 0
    light = report.of_round(replace(result(*load.sent), late=load.late)).kinds["light"]
    last = max(one.began + one.took for one in load.sent)
    assert light.rate == pytest.approx(light.replies / last)


def test_a_client_sends_one_request_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "ask", lambda _port, _request: (7, ""))
    load = Load(Spec(80, [Group(5, [Request("light", "/", "")])], 0))
    load.stop.set()
    load.run()
    assert sorted(one.client for one in load.sent) == [0, 1, 2, 3, 4]


# ---- Weights from outside


def unit(tree: Path, path: str, *pids: int) -> None:
    (tree / path).mkdir(parents=True, exist_ok=True)
    for folder in (tree / path, *(tree / path).parents):
        if folder.is_relative_to(tree) and not (folder / "cgroup.procs").exists():
            (folder / "cgroup.procs").write_text("")
    (tree / path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


WEIGHTED = {"pool.slice/heavy.slice": 10, "pool.slice/light@1.service": 200}


class Pool:
    """A tree of units, and the groups that are made for it."""

    def __init__(self, folder: Path, weighted: dict[str, int]) -> None:
        self.tree, self.group, self.home = folder / "tree", folder / "group", folder / "home"
        for one in (self.tree, self.home):
            one.mkdir()
        unit(self.tree, "system.slice/nginx.service", 1)
        unit(self.tree, "system.slice/idle.socket")
        unit(self.tree, "pool.slice/light@1.service/child", 2)
        unit(self.tree, "pool.slice/light@2.service", 3)
        self.names = {Path(path).name: weight for path, weight in weighted.items()}
        self.asked: list[str] = []
        self.mirror = weights.Mirror(self.tree, self.group, self.home, self.ask)

    def ask(self, names: list[str]) -> list[int | None]:
        self.asked += names
        return [self.names.get(name) for name in names]

    def found(self) -> dict[str, tuple[int, str]]:
        """Shares by group, and who was put there last."""
        return {
            str(file.parent.relative_to(self.group)): (
                int(file.read_text()),
                there.read_text() if (there := file.with_name("cgroup.procs")).exists() else "",
            )
            for file in self.group.rglob("cpu.shares")
        }


def test_each_unit_has_its_share_where_one_sets_a_weight(tmp_path: Path) -> None:
    pool = Pool(tmp_path, WEIGHTED)
    pool.mirror.look()
    whole = 1024 * len(os.sched_getaffinity(0))
    light = {
        ".": (whole, ""),
        "system.slice": (1024, "1"),
        "pool.slice": (1024, ""),
        "pool.slice/light@1.service": (2048, "2"),
        "pool.slice/light@2.service": (1024, "3"),
    }
    assert pool.found() == light
    assert pool.mirror.state == weights.OUTSIDE
    # Its workers start later; below their slice nobody sets a weight.
    unit(pool.tree, "pool.slice/heavy.slice/heavy@1.service", 4)
    asked = len(pool.asked)
    pool.mirror.look()
    pool.mirror.look()
    assert pool.found() == light | {"pool.slice/heavy.slice": (102, "4")}
    assert pool.asked[asked:] == ["heavy.slice", "heavy@1.service"], "each once"


def test_without_weights_there_are_no_groups(tmp_path: Path) -> None:
    pool = Pool(tmp_path, {})
    pool.mirror.look()
    assert not pool.group.exists()
    assert pool.mirror.state == weights.NONE


def test_why_weights_could_not_be_put_into_force_is_told(tmp_path: Path) -> None:
    pool = Pool(tmp_path, WEIGHTED)
    pool.group.write_text("no folder")
    pool.mirror.run()
    assert pool.mirror.state.startswith("not in force: ")
    assert "\n" not in pool.mirror.state


def test_weights_as_systemctl_shows_them() -> None:
    text = (
        "CPUWeight=10\n\nCPUWeight=[not set]\n\nCPUWeight=18446744073709551615\n\nCPUWeight=100\n"
    )
    assert weights.shown(text) == [10, None, None, 100]


def test_a_crashed_run_leaves_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed, group = tmp_path / "bed-1", tmp_path / "cpu/bed-1"
    (bed / "root").mkdir(parents=True)
    (group / "pool.slice").mkdir(parents=True)
    monkeypatch.setattr(folders, "cgroups_of", lambda _name: [])
    monkeypatch.setattr(folders, "cpu_group_of", lambda name: tmp_path / "cpu" / name)
    folders.remove_bed(bed)
    assert not group.exists() and not bed.exists()


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


def test_who_accepts_other_connections_is_not_looked_at() -> None:
    (own,) = Path("/proc/self/cgroup").read_text().splitlines()[-1:]
    cat, pipe = ["cat", "-", "bench-test"], subprocess.PIPE
    with subprocess.Popen(cat, stdin=pipe, stdout=pipe, bufsize=0) as process:
        assert process.stdin
        assert process.stdout
        # The kernel tells the command of a process only some time after it has begun.
        process.stdin.write(b"up\n")
        assert process.stdout.readline() == b"up\n"
        assert process.pid in takers(r"cat - bench-test", "")
        assert process.pid in takers(r"cat - bench-test", "/of-others.slice/")
        assert process.pid not in takers(r"cat - bench-test", own)
        process.communicate()


# ---- Who takes part, and in what


def test_all_contestants_are_asked_for_the_same() -> None:
    for workload in workloads.WORKLOADS:
        asked = [
            [
                (
                    group.clients,
                    group.rate,
                    [(request.path[len(one.path) :], request.form) for request in group.requests],
                )
                for group in workload.groups(workloads.Given(one.path))
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


def mix(
    light: float, heavy: float = 0.0, *, number: int, wasted: float = 0.0, lost: int = 0
) -> dict[str, Any]:
    """A round in which each light request took so many seconds, and so each heavy one."""
    all_sent = [sent(0, "light", at * light, light) for at in range(20)]
    all_sent += [sent(1, "heavy", at * heavy, heavy) for at in range(2 if heavy else 0)]
    all_sent += [sent(0, "light", 0, light, "status 503") for _ in range(lost)]
    found = report.of_round(result(*all_sent, wasted=wasted))
    return asdict(replace(found, number=number))


def warmed(first: float, number: int) -> dict[str, Any]:
    times = [(kind, took) for kind, took in (("first", first), ("warm", 0.02)) for _ in range(4)]
    all_sent = [sent(0, kind, at, took) for at, (kind, took) in enumerate(times)]
    return asdict(replace(report.of_round(result(*all_sent)), number=number))


def begun(first: float, pss: float, number: int) -> dict[str, Any]:
    found = report.of_round(result(sent(0, "light", 0, first)))
    return asdict(replace(found, number=number, pss=pss, beside=10.0))


JITTER = (1.0, 1.02, 0.98, 1.01, 0.99)


def several(
    light: float, heavy: float = 0.0, *, wasted: float = 0.0, lost: int = 0
) -> dict[str, Any]:
    rounds = [
        mix(light * factor, heavy, number=number, wasted=wasted, lost=lost)
        for number, factor in enumerate(JITTER, 1)
    ]
    return {"rounds": rounds}


def results() -> dict[str, Any]:
    """As benchmarks.json has them: the rounds alone."""
    beside = {
        "recipe": several(1.0, 2, wasted=9.8),
        "ours-per-worker": several(0.03, 2.5),
        "ours-shared": several(0.02, 2.5, wasted=0.001),
        # Fine for light requests, but it starves the heavy ones, or loses light ones.
        "multiwatch": several(0.01, 3.0),
        "mod_fcgid": several(0.01, 2.5, lost=1),
        "uwsgi": several(0.5, 2.6),
    }
    workloads_ = {
        "light": {
            "recipe": several(0.04),
            "ours-per-worker": several(0.019),
            "ours-shared": several(0.03),
            "multiwatch": several(0.041),
        },
        "single": {"recipe": several(0.02), "ours-shared": several(0.008)},
        "small": {"recipe": several(0.02), "ours-shared": several(0.008)},
        "small, single": {"recipe": several(0.02), "ours-shared": several(0.008)},
        "open": {"ours-per-worker": several(0.008), "ours-shared": several(0.01)},
        "open+3N": beside,
        "open+prints": {
            "recipe": beside["recipe"],
            "ours-shared": several(0.04, 2.5, lost=1),
            "uwsgi": beside["uwsgi"],
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
        "light_rate": 41.5,
        "light_rate_of": "recipe",
        "weights": {"recipe": weights.NONE, "ours-shared": weights.OUTSIDE},
        "titles": {name: f"title of {name}" for name in workloads_},
        "contestants": {
            "recipe": {"title": "the recipe", "restart": "x"},
            "ours-shared": {"title": "this | package", "restart": "x"},
            "mod_fcgid": {"title": "Apache", "restart": "x"},
            "ours-cache": {"title": "has no part in it", "restart": "x"},
        },
        "workloads": workloads_,
    }
    rest = {
        "recipe": {"rounds": [begun(1.0, 200, number) for number in range(1, 6)]},
        "ours-shared": {"rounds": [begun(1.2, 204, number) for number in range(1, 6)]},
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
                "rest": {"workers": 2, "rows": rest},
                "own": own,
                "memory": memory,
                "cost": cost.rows(COSTS),
                "watched": {"pairs": 2, **watched.compared(PAIRS)},
            }
        },
    }


COSTS = {
    cost.BASE: [10.0, 20.0, 30.0],
    "this package": [11.0, 21.0, 31.5],
    "... without its plugin": [10.0, 19.0, 31.0],
}


PAIRS = [
    (
        {"rate": 101.0, "p99": 50.0, "cpu": 10.1, "around": 0.55},
        {"rate": 100.0, "p99": 50.0, "cpu": 10.0, "around": 0.5},
    ),
    (
        {"rate": 99.0, "p99": 51.0, "cpu": 20.2, "around": 0.6},
        {"rate": 100.0, "p99": 50.0, "cpu": 20.0, "around": 0.5},
    ),
]


def test_what_it_costs_to_be_watched_is_compared_pair_by_pair() -> None:
    found = watched.compared(PAIRS)
    assert (found["rate_more_percent"], found["rate_more_error"]) == (0.0, 1.96)
    assert (found["cpu_more_percent"], found["cpu_more_error"]) == (1.0, 0.0)
    rows = report.watched_rows({"pairs": 2, **found})
    assert rows[1:] == [
        ("tiles a second", "+0.00 %", "-1.96 to +1.96 %"),
        ("99 % of tiles take", "+1.00 %", "-0.96 to +2.96 %"),
        ("processor for a tile", "+1.00 %", "+1.00 to +1.00 %"),
        ("of that, NGINX and what counts", "+0.50 %", "+0.50 to +0.50 %"),
    ]


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


def evaluated(
    found: dict[str, Any], suite: str = "trixie"
) -> dict[tuple[str, str, str, str], bars.Bar]:
    rows = bars.rows_of(store.whole(found)["suites"]["trixie"])
    return {(one.row, one.who, one.against, one.what): one for one in bars.evaluate(rows, suite)}


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
    p50, p99 = "p50 of light requests", "p99 of light requests"
    rate, heavy = "light requests a second", "heavy requests a second"
    first, failed = "first requests", "requests that failed"
    idle = "share of time: a request waits, a worker is idle"
    alone, row, post = "itself without heavy ones", "open+3N", "open+prints"
    wanted = {
        ("light", "ours-per-worker", "recipe", rate): (40 / 19, "met"),
        ("light", "ours-shared", "recipe", rate): (4 / 3, "not met"),
        ("single", "ours-shared", "recipe", p50): (0.4, "met"),
        ("small", "ours-shared", "recipe", rate): (2.5, ""),
        ("small, single", "ours-shared", "recipe", p50): (0.4, ""),
        (row, "ours-per-worker", alone, p99): (3.75, "not met"),
        (row, "ours-shared", alone, p99): (2, "met"),
        (row, "ours-per-worker", "recipe", p99): (0.03, "met"),
        (row, "ours-shared", "recipe", p99): (0.02, "met"),
        # Neither multiwatch nor mod_fcgid, which are the quickest with light ones.
        (row, "ours-per-worker", "uwsgi", p99): (0.06, "met"),
        (row, "ours-shared", "uwsgi", p99): (0.04, "met"),
        (row, "ours-per-worker", "recipe", heavy): (0.8, "not met"),
        (row, "ours-shared", "recipe", heavy): (0.8, "not met"),
        (row, "ours-shared", "", idle): (0.0001, "met"),
        (post, "ours-shared", alone, p99): (4, "not met"),
        (post, "ours-shared", "recipe", p99): (0.04, "met"),
        (post, "ours-shared", "uwsgi", p99): (0.08, "met"),
        (post, "ours-shared", "recipe", heavy): (0.8, ""),
        ("open", "ours-per-worker", "", failed): (0, "met"),
        ("open", "ours-shared", "", failed): (0, "met"),
        (row, "ours-per-worker", "", failed): (0, "met"),
        (row, "ours-shared", "", failed): (0, "met"),
        (post, "ours-shared", "", failed): (5, "not met"),
        ("rest", "ours-shared", "recipe", "time to the first tile"): (1.2, "not met"),
        ("rest", "ours-shared", "recipe", "memory at rest"): (1.02, "met"),
        ("boot", "ours-shared", "warm ones", first): (1.05, "met"),
        ("roll", "ours-shared", "warm ones", first): (45, "not met"),
    }
    assert found.keys() == wanted.keys()
    for key, (value, said) in wanted.items():
        measured = found[key].measured
        assert measured is not None, key
        assert measured.value == pytest.approx(value, rel=0.01), key
        assert found[key].verdict == said, key


@pytest.mark.parametrize(
    ("light", "jitter", "verdict"),
    [
        (0.039, JITTER, "met"),
        (0.0395, (1.0, 1.1, 0.9, 1.05, 0.95), "met"),
        (0.0405, (1.0, 1.1, 0.9, 1.05, 0.95), "can't be told"),
        (0.05, JITTER, "not met"),
    ],
)
def test_where_replies_are_not_held_back_the_interval_may_reach_below(
    light: float, jitter: tuple[float, ...], verdict: str
) -> None:
    found = results()
    rows = found["suites"]["trixie"]["compare"]["workloads"]
    rows["light"]["ours-shared"]["rounds"] = [
        mix(light * factor * noise, number=number)
        for number, (factor, noise) in enumerate(zip(JITTER, jitter, strict=True), 1)
    ]
    there = evaluated(found, "bookworm")
    bar = there["light", "ours-shared", "recipe", "light requests a second"]
    assert (bar.limit, bar.verdict) == (1.0, verdict)
    assert there["single", "ours-shared", "recipe", "p50 of light requests"].limit is None


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
    ("heavy", "lost", "reason"),
    [
        (2.6, 0, ""),
        (10.0, 0, "it had 0.25 of our heavy requests a second"),
        (2.9, 0, "it had 0.86 of our heavy requests a second"),
        (2.6, 1, "5 of its light requests failed"),
    ],
)
def test_rivals_that_starve_heavy_requests_or_lose_light_ones_do_not_count(
    heavy: float, lost: int, reason: str
) -> None:
    rows = {
        "open+3N": {
            "ours-shared": several(0.05, 2.5),
            "uwsgi": several(0.01, heavy, lost=lost),
        },
    }
    out = bars.disqualified(rows, "open+3N", "ours-shared")
    assert out == ({"uwsgi": reason} if reason else {})


def test_without_any_rival_that_counts_there_is_no_bar() -> None:
    rows = {"open+3N": {"ours-shared": several(0.05, 2.5), "uwsgi": several(0.01, 50)}}
    there = bars.evaluate(rows, "trixie")
    assert "uwsgi" not in {one.against for one in there if one.what == "p99 of light requests"}


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
    assert text.index("overview.svg") < text.index("## Bars") < text.index("## What was measured")
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, block
    for said in (
        "| Date | 2030-01-02 |",
        "| Load of the machine, trixie | 0.1 at the beginning, 2.2 at the end |",
        "| qgis-server | 3.40 |",
        "autogroup (sched(7)), which shares cores out by session, was off",
        "|   | tiles a second, Debian 13 | p99 of a tile beside heavy work, ms, Debian 13 |",
        "| the recipe | 25 | 1000 |",
        "| this \\| package | 33 | 20 |",
        "| Apache | - | 10 (5 failed) |",
        "| open+3N | ours-shared | p99 of light requests | recipe | at most 0.05 | 0.0200 |",
        "| best rival: uwsgi |",
        "| light | ours-shared | light requests a second | best rival: recipe | at least 2 |",
        "open+3N, ours-shared: multiwatch (it had 0.83 of our heavy requests a second)",
        "mod_fcgid (5 of its light requests failed).",
        "time left room for fewer in *light*: recipe 20,",
        "At a rate: 41.5 light requests a second, a quarter of what the recipe drew alone;",
        "CPUWeight= of units: in force from outside the container: ours-shared.",
        "| ours-shared | 5 | 1.20 | 1.20 to 1.20 | 204 | 10 |",
        "fcgiwrap: round 1: no \\| reply after &lt;start>",
        "| status cpu s | 0.2 |",
        "4 workers each; up to 5 rounds,",
        "The load generator gets 5000 files of a tile's size a second from NGINX, 39 times",
        "**The part scaling failed:** exit status 1",
    ):
        assert said in text, said
    assert "nan" not in text


def test_results_of_a_run_before_there_were_requests_at_a_rate_are_still_reported() -> None:
    found = results()
    del found["suites"]["trixie"]["rest"]
    compare_ = found["suites"]["trixie"]["compare"]
    for name in ("light_rate", "light_rate_of", "weights"):
        del compare_[name]
    compare_["workloads"] = {"3+1": compare_["workloads"]["open+3N"]}
    compare_["titles"] = {"3+1": "what it was"}
    for one in compare_["workloads"]["3+1"].values():
        one["rounds"] = [
            {key: value for key, value in of.items() if key not in ("late", "beside")}
            for of in one["rounds"]
        ]
    text = files.contents(found)["benchmarks.md"]
    assert "### 3+1: what it was" in text
    assert "At a rate" not in text


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
    for row in ("light", "single", "open", "open+3N", "open+prints"):
        rounds = [
            one.number
            for one in turns
            if one.contestant.name == "ours-shared" and row in [task.name for task in one.tasks]
        ]
        assert rounds == [1, 2, 3, 4, 5]
    # Of others what no bar is about.
    for row, numbers in (("open", [1]), ("single", [1]), ("open+3N", [1, 2, 3, 4, 5])):
        rounds = [
            one.number
            for one in turns
            if one.contestant.name == "uwsgi" and row in [task.name for task in one.tasks]
        ]
        assert rounds == numbers
    assert [one.number for one in turns if one.contestant.name == "fcgiwrap"] == [1]
    assert [one.tasks[0].name for one in turns if one.contestant.name == "ours-cache"] == ["repeat"]
    # What is asked for by name is in all rounds.
    there, tasks = compare.chosen(compare.Options(workloads=("open+N",)))
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
