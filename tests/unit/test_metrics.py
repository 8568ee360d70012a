# SPDX-License-Identifier: GPL-2.0-or-later
"""From what NGINX tells of requests, and what the monitor has seen, to metrics."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections import Counter, deque
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older_format
from prometheus_client.samples import Sample
from shared.paths import TOP

from qgis_server_systemd.qgis_serverctl.commands import top
from qgis_server_systemd.qgis_serverctl.config.names import HEAVY, Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.front import nginx_config
from qgis_server_systemd.qgis_serverctl.metrics import page, serve
from qgis_server_systemd.qgis_serverctl.metrics.counts import PROJECTS, WINDOW, Metrics
from qgis_server_systemd.qgis_serverctl.metrics.fact import Fact
from qgis_server_systemd.qgis_serverctl.metrics.reading import Moment, between, quantile
from qgis_server_systemd.qgis_serverctl.metrics.recent import FAILED, SLOTS, SLOW, STEP, Recent
from qgis_server_systemd.qgis_serverctl.monitor.ends import CAUSES, Ends, Run
from qgis_server_systemd.qgis_serverctl.monitor.record import Watch, Watched
from qgis_server_systemd.qgis_serverctl.pool.host import Host

PACKAGE = Package()
SOCKETS = (PACKAGE.socket(1), PACKAGE.socket(2))
TOLD: dict[str, object] = {
    "time": "2026-11-27T02:44:31+00:00", "id": "1063c144", "status": 200, "bytes": 15,
    "project": "city", "service": "WMS", "request": "GetMap", "protocol": "HTTP/1.1",
    "seconds": 0.3, "worker": "1", "waited": "0.010", "drawn": "0.250", "reply": "0.262",
    "upstream": "unix:/run/qgis-server-1.sock", "statuses": "200", "cache": "",
}  # fmt: skip
UNTOUCHED: dict[str, object] = {"worker": "", "waited": "", "drawn": "", "upstream": ""}


def datagram(**other: object) -> bytes:
    return b"<190>Nov 27 02:44:31 facts: " + json.dumps(TOLD | other).encode()


def count(metrics: Metrics, sent: bytes) -> None:
    metrics.requests.count(sent, time.monotonic())


def key(sample: Sample) -> tuple[str, ...]:
    """Its name and the values of its labels, in the order of their names."""
    return sample.name, *(value for _, value in sorted(sample.labels.items()))


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """By name and values of labels, as Prometheus reads them; the other format says the same."""
    found = {
        key(sample): sample.value
        for family in text_string_to_metric_families(metrics.openmetrics())
        for sample in family.samples
    }
    older = {key(sample) for family in older_format(metrics.text()) for sample in family.samples}
    # Those that tell when something was counted first are switched off in the unit.
    assert {one for one in found if "_created" not in one[0]} <= older
    return found


# ---- One request


def test_a_fact() -> None:
    assert Fact.of(datagram()) == Fact(
        status=200, sent=15, project="city", service="WMS", request="GetMap", lane="light",
        waited=0.01, drawn=0.25, seconds=0.3, id="1063c144", worker="1",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["Meine Karte", "Straße (alt), 2", "map.v2", ""])
def test_the_name_of_a_project(name: str) -> None:
    found = Fact.of(datagram(project=name))
    assert found
    assert found.project == name


@pytest.mark.parametrize(
    ("other", "lane"),
    [
        ({"worker": "heavy-2"}, "heavy"),
        (UNTOUCHED, "nginx"),
        # With the shared queue only the worker tells.
        ({"upstream": "unix:/run/qgis-server.sock"}, "light"),
        ({"worker": "", "upstream": "unix:/run/a-1.sock : unix:/run/a-heavy.sock"}, "heavy"),
        ({"worker": "", "upstream": "unix:/run/a-1.sock, unix:/run/a-2.sock"}, "light"),
    ],
)
def test_the_lane(other: dict[str, object], lane: str) -> None:
    found = Fact.of(datagram(**other))
    assert found
    assert found.lane == lane


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        ({"status": 503, "worker": ""}, True),
        # By QGIS Server; of maintenance; of a worker that has ended.
        ({"status": 503}, False),
        ({**UNTOUCHED, "status": 503}, False),
        ({"status": 502, "worker": ""}, False),
    ],
)
def test_what_was_refused(other: dict[str, object], refused: bool) -> None:
    found = Fact.of(datagram(**other))
    assert found
    assert found.refused == refused


@pytest.mark.parametrize(
    ("reply", "drawn"), [("9.000", 8.0), ("0.010 : 2.000, 3.000", 4.0), ("-", 0.0), ("0.5", 0.0)]
)
def test_how_long_a_reply_in_pieces_took_is_what_nginx_saw_without_the_wait(
    reply: str, drawn: float
) -> None:
    found = Fact.of(datagram(waited="1.000", drawn="", reply=reply))
    assert found
    assert (found.waited, found.drawn) == (1.0, drawn)


@pytest.mark.parametrize("cache", ["HIT", "STALE", "UPDATING"])
def test_a_reply_from_the_cache_took_no_worker(cache: str) -> None:
    """Its headers are of the time when it was made."""
    found = Fact.of(datagram(cache=cache, upstream=""))
    assert found
    assert (found.waited, found.drawn, found.cache, found.lane) == (
        None,
        None,
        cache.lower(),
        "nginx",
    )


def test_words_that_nobody_knows_are_no_labels() -> None:
    found = Fact.of(
        datagram(
            project="a/b", service="X", request="<b>", cache="x", drawn="1e9", waited="nan",
            reply="x",
            status=99999, bytes=-3, seconds=float("nan"), id="<b>", worker="x" * 99,
        )
    )  # fmt: skip
    assert found == Fact(
        status=0, sent=0, project="other", service="other", request="other", lane="light"
    )


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"hello",
        b"{",
        b"[]",
        b"{}",
        b'{"status": 200}',
        b"\xff{\xff}",
        datagram(worker=1),
        datagram(status="x"),
        datagram(bytes=None),
        datagram()[:200],
    ],
)
def test_what_is_no_fact(sent: bytes) -> None:
    assert Fact.of(sent) is None


def test_nginx_says_all_that_is_read() -> None:
    text = nginx_config.http_text(PACKAGE, Settings(), SOCKETS)
    for name in TOLD:
        assert f'"{name}":' in text


# ---- Counted


def test_counts_are_exact() -> None:
    metrics = Metrics("qgis_server")
    for _ in range(3):
        count(metrics, datagram())
    count(metrics, datagram(status=500, drawn="3.000"))
    count(metrics, datagram(worker="heavy-1", request="GetPrint", drawn="20.5"))
    count(metrics, datagram(status=503, worker="", waited="", drawn="", project=""))
    count(metrics, datagram(cache="HIT", upstream=""))
    count(metrics, b"hello")
    found = samples(metrics)
    total = "qgis_server_requests_total"
    assert found[total, "200", "light", "city", "GetMap", "WMS"] == 3
    assert found[total, "500", "light", "city", "GetMap", "WMS"] == 1
    assert found[total, "200", "heavy", "city", "GetPrint", "WMS"] == 1
    assert found[total, "503", "light", "(default)", "GetMap", "WMS"] == 1
    assert found["qgis_server_refused_requests_total", "light"] == 1
    assert found["qgis_server_cache_requests_total", "hit"] == 1
    assert found["qgis_server_sent_bytes_total", "city"] == 6 * 15
    assert found["qgis_server_project_seconds_total", "city"] == 3 * 0.25 + 3 + 20.5
    assert found["qgis_server_wait_seconds_count", "light"] == 4
    assert found["qgis_server_wait_seconds_bucket", "light", "0.01"] == 4
    assert found["qgis_server_draw_seconds_bucket", "light", "0.25", "GetMap", "WMS"] == 3
    assert found["qgis_server_draw_seconds_count", "heavy", "GetPrint", "WMS"] == 1
    assert found[("qgis_server_strange_datagrams_total",)] == 1


def test_names_of_projects_are_bounded_and_none_that_clients_make_up() -> None:
    metrics = Metrics("qgis_server")
    count(metrics, datagram(project="made-up", status=404))
    for number in range(PROJECTS + 5):
        count(metrics, datagram(project=f"p{number}"))
    count(metrics, datagram(project="p0", status=500))
    found: Counter[str] = Counter()
    for (name, *labels), value in samples(metrics).items():
        if name == "qgis_server_requests_total":
            found[labels[2]] += int(value)
    assert len(found) == PROJECTS + 1
    assert found["other"] == 6
    assert found["p0"] == 2


# ---- The pool


def test_what_the_monitor_has_seen() -> None:
    metrics = Metrics("qgis_server")
    watch = Watch(
        written=100.0,
        instances={
            1: Watched(pid=11, accepting=True, started=40.0, memory=100),
            2: Watched(pid=12, request=5, since=97.0, started=90.0),
            3: Watched(pid=13),
            4: Watched(pid=0),
            HEAVY + 1: Watched(pid=14, accepting=True),
        },
        queues={"1": 0, "2": 3},
        ended={"crash": 2, "hang": 1},
    )
    metrics.pool.versions = {"qgis": "3.40.6"}
    metrics.pool.broken, metrics.pool.changed = 2, 1795759471.5
    metrics.pool.look(watch, 100.5, able=True, maintenance=False)
    found = samples(metrics)
    for state in ("idle", "busy", "starting", "gone"):
        assert found["qgis_server_workers", "light", state] == 1
    assert found["qgis_server_workers", "heavy", "idle"] == 1
    assert found["qgis_server_worker_memory_bytes", "1"] == 100 * 2**20
    assert found["qgis_server_worker_age_seconds", "1"] == 60
    assert found["qgis_server_worker_request_seconds", "2"] == 3
    assert found["qgis_server_queue_length", "2"] == 3
    assert found["qgis_server_worker_ends_total", "crash"] == 2
    assert found["qgis_server_info", "3.40.6"] == 1
    assert found[("qgis_server_broken_projects",)] == 2
    assert found[("qgis_server_changed_timestamp_seconds",)] == 1795759471.5
    assert (found[("qgis_server_up",)], found[("qgis_server_able",)]) == (1, 1)


def test_without_the_monitor_nothing_is_said_of_workers() -> None:
    metrics = Metrics("qgis_server")
    metrics.pool.look(None, 100.0, able=False, maintenance=True)
    found = samples(metrics)
    assert found[("qgis_server_up",)] == 0
    assert found[("qgis_server_maintenance",)] == 1
    assert not any(name.startswith("qgis_server_worker") for name, *_ in found)


def test_how_many_projects_are_broken_is_a_strangers_word(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    file = host.path(f"{PACKAGE.listed}/broken")
    file.parent.mkdir(parents=True)
    assert serve.broken(host) is None
    for text, number in (("12\n", 12), ("0\n", 0), ("-1\n", None), ("9" * 40, None), ("", None)):
        file.write_text(text)
        assert serve.broken(host) == number
    file.unlink()
    os.mkfifo(file)
    assert serve.broken(host) is None
    file.unlink()
    file.symlink_to("/etc/hostname")
    assert serve.broken(host) is None


def test_when_settings_last_changed_a_file(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    assert serve.changed(host) is None
    for name, when in ((PACKAGE.nginx_http, 100), (PACKAGE.worker_file, 300)):
        file = host.path(name)
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (when, when))
    assert serve.changed(host) == 300


def test_the_longest_queue_is_told_for_a_while() -> None:
    metrics = Metrics("qgis_server")

    def peak(now: float, queued: int) -> float:
        watch = Watch(written=now, queues={"1": queued})
        metrics.pool.look(watch, now, able=True, maintenance=False)
        return samples(metrics)["qgis_server_queue_length_peak", "1"]

    assert [peak(0.0, 2), peak(1.0, 7), peak(2.0, 0), peak(3.0, 4)] == [2, 7, 7, 7]
    assert peak(1.0 + WINDOW, 1) == 7
    assert peak(2.0 + WINDOW, 1) == 4
    assert peak(4.0 + WINDOW, 1) == 1


def test_a_text_takes_little_time_with_as_many_labels_as_there_can_be() -> None:
    """Its unit writes one every five seconds; 0.05 s would be a hundredth of a core."""
    metrics = Metrics("qgis_server")
    for number in range(PROJECTS):
        for request in ("GetMap", "GetFeatureInfo", "GetCapabilities"):
            count(metrics, datagram(project=f"p{number}", request=request))
    began = time.process_time()
    metrics.openmetrics()
    metrics.text()
    assert time.process_time() - began < 0.25


def test_datagrams_come_as_they_were_sent(tmp_path: Path) -> None:
    """Each with when it did, whenever it is counted."""
    path = str(tmp_path / "facts.sock")
    unread: serve.Unread = deque()
    sent = [datagram(status=200 + number) for number in range(3)]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx,
    ):
        listener.bind(path)
        began = time.monotonic()
        for one in (*sent, b""):
            nginx.sendto(one, path)
        # An empty one, which NGINX never sends, ends it.
        serve.receive(listener, unread)
        ended = time.monotonic()
    found = []
    serve.count(unread, lambda datagram, when: found.append((when, datagram)))
    assert [datagram for _, datagram in found] == sent
    assert began <= found[0][0] <= found[-1][0] <= ended
    assert not unread


def test_what_waits_to_be_counted_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of it is lost."""
    monkeypatch.setattr(serve, "UNREAD", 2)
    monkeypatch.setattr(serve, "LOOK_EVERY", 0.001)
    path = str(tmp_path / "facts.sock")
    unread: serve.Unread = deque()
    found: list[bytes] = []
    sent = [datagram(status=200 + number) for number in range(9)]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx,
    ):
        listener.bind(path)
        receiver = Thread(target=serve.receive, args=(listener, unread), daemon=True)
        receiver.start()
        for one in sent:
            # Waits where the kernel keeps fewer.
            nginx.sendto(one, path)
            if len(unread) == 2:
                serve.count(unread, lambda datagram, _: found.append(datagram))
        while len(found) < len(sent):
            assert len(unread) <= 2
            serve.count(unread, lambda datagram, _: found.append(datagram))
        nginx.sendto(b"", path)
        receiver.join()
    assert found == sent


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_alarms_and_plots_are_of_metrics_that_there_are(file: str) -> None:
    metrics = Metrics("qgis_server")
    watch = Watch(
        written=1.0, instances={1: Watched(pid=1, memory=9)}, queues={"1": 0}, ended={"hang": 1}
    )
    metrics.pool.look(watch, 1.0, able=True, maintenance=False)
    count(metrics, datagram(status=503, worker=""))
    count(metrics, datagram(cache="MISS"))
    known = {name for name, *_ in samples(metrics)}
    rules = (TOP / "docs/monitoring" / file).read_text()
    # Else debhelper compresses it where the package is built.
    assert len(rules.encode()) <= 4096
    assert set(re.findall(r"\bqgis_server_\w+", rules)) <= known
    for cause in re.findall(r'cause="(\w+)"', rules):
        assert cause in CAUSES


# ---- Between two moments


def moment(metrics: Metrics, now: float) -> Moment:
    return Moment.of(now, metrics.text())


def test_what_happened_between_two_moments() -> None:
    metrics = Metrics("qgis_server")
    for _ in range(5):
        count(metrics, datagram())
    before = moment(metrics, 100.0)
    for _ in range(19):
        count(metrics, datagram())
    count(metrics, datagram(project="plan", waited="2.000", status=500, drawn="10.0"))
    count(metrics, datagram(status=503, worker="", waited="", drawn=""))
    found = between(before, moment(metrics, 110.0), "qgis_server")
    assert found.seconds == 10
    assert found.total.requests == pytest.approx(2.1)
    assert found.total.failed == pytest.approx(0.2)
    assert found.total.refused == pytest.approx(0.1)
    assert found.projects["other"].workers == pytest.approx(1.0)
    assert found.projects["city"].workers == pytest.approx(19 * 0.25 / 10)
    assert (found.half, found.most) == (0.01, 0.01)
    text = top.show(found)
    assert text.startswith(
        "last 10 s: 2.1 requests a second, 0.2 failed, 0.1 refused; half waited up to 0.01 s"
    )
    # What keeps workers busy comes first.
    assert text.index("\nother ") < text.index("\ncity ")


def test_counts_that_begin_anew_are_no_rates_below_zero() -> None:
    before, after = Metrics("qgis_server"), Metrics("qgis_server")
    for _ in range(5):
        count(before, datagram())
    count(after, datagram())
    found = between(moment(before, 100.0), moment(after, 101.0), "qgis_server")
    assert found.total.requests == 1


def test_a_pool_at_rest() -> None:
    metrics = Metrics("qgis_server")
    found = between(moment(metrics, 100.0), moment(metrics, 105.0), "qgis_server")
    assert (found.total.requests, found.projects, found.half) == (0, {}, None)
    assert top.show(found).endswith("half waited -, 95 % -")
    assert "follow" in top.show(None)


def test_waits_beyond_all_bounds() -> None:
    assert quantile({1.0: 1, float("inf"): 4}, 0.5) == float("inf")
    assert top.wait_text(float("inf")) == "more than 300 s"


# ---- The status page


def fact(**other: object) -> Fact:
    found = Fact.of(datagram(**other))
    assert found
    return found


def test_the_last_ten_minutes() -> None:
    recent = Recent(95.0)
    recent.count(fact(), "city", 96.0)
    for _ in range(198):
        recent.count(fact(), "city", 105.0)
    recent.count(fact(drawn="9.0", status=500, id="bad"), "city", 106.0)
    recent.count(fact(status=404, worker="", drawn="", waited=""), "other", 107.0)
    recent.wait(3, 108.0)
    recent.wait(1, 109.0)
    told = recent.told(125.0)
    # Not of the first seconds, of which nobody saw the begin, and not of those that go on.
    assert {name: values[-4:] for name, values in told["series"].items()} == {
        "requests": [None, None, 200, 0], "failed": [None, None, 1, 0],
        "wrong": [None, None, 1, 0], "queue": [None, None, 3, 0],
        "waited_half": [None, None, pytest.approx(0.01, rel=0.1), None],
        "waited_most": [None, None, pytest.approx(0.01, rel=0.1), None],
        "drawn_half": [None, None, pytest.approx(0.25, rel=0.1), None],
        "drawn_most": [None, None, pytest.approx(0.25, rel=0.1), None],
    }  # fmt: skip
    assert all(len(values) == SLOTS for values in told["series"].values())
    assert told["seconds"] == 30
    city = {"name": "city", "requests": 200, "failed": 1, "seconds": 199 * 0.25 + 9}
    assert told["projects"][0] == city
    assert [one["name"] for one in told["projects"]] == ["city", "other"]
    (failed,) = told["failed"]
    assert failed == {
        "ago": 19.0, "project": "city", "service": "WMS", "request": "GetMap", "status": 500,
        "waited": 0.01, "drawn": 9.0, "seconds": 0.3, "id": "bad",
    }  # fmt: skip
    assert told["slow"][0] == failed
    assert len(told["slow"]) == SLOW
    # Later all of it is of the past, but for what failed last.
    told = recent.told(106.0 + STEP * (SLOTS + 2))
    assert (told["projects"], told["slow"], told["failed"][0]["id"]) == ([], [], "bad")
    assert {*told["series"]["requests"]} == {0}


def status(metrics: Metrics, host: Host, now: float, *, since: page.Since | None = None) -> Any:
    text = page.text(metrics, since or page.Since(), host, now)

    def refuse(word: str) -> None:
        raise AssertionError(f"no browser reads {word}")

    return json.loads(text, parse_constant=refuse)


def test_since_when_workers_do_what_they_do(tmp_path: Path) -> None:
    metrics, host, since = Metrics("qgis_server"), Host(PACKAGE, tmp_path), page.Since()

    def look(now: float, **workers: Watched) -> dict[str, tuple[str, float | None]]:
        found = {int(name[1:]): one for name, one in workers.items()}
        watch = Watch(written=now, instances=found, queues={"1": 2, "shared": 5})
        since.look(found, now)
        metrics.pool.look(watch, now, able=True, maintenance=False)
        shown = status(metrics, host, now, since=since)
        return {one["name"]: (one["state"], one["for"]) for one in shown["workers"]}

    idle, busy = Watched(pid=1, accepting=True), Watched(pid=2, request=7, since=90.0)
    # What it was at before somebody looked has no begin.
    assert look(100.0, w1=idle, w2=busy) == {"1": ("idle", None), "2": ("busy", 10.0)}
    idle2 = Watched(pid=2, accepting=True)
    assert look(101.0, w1=idle, w2=idle2) == {"1": ("idle", None), "2": ("idle", 0.0)}
    # A request that nobody saw ends between two looks.
    metrics.requests.recent.count(fact(worker="2"), "city", 104.5)
    gone = Watched(pid=0)
    assert look(105.0, w1=gone, w2=idle2) == {"1": ("gone", 0.0), "2": ("idle", 0.5)}
    shown = status(metrics, host, 105.0)
    assert (shown["queue"], shown["queues"]) == (7, {"shared": 5})
    assert [one["queued"] for one in shown["workers"]] == [2, None]


def test_a_status_without_anything(tmp_path: Path) -> None:
    shown = status(Metrics("qgis_server"), Host(PACKAGE, tmp_path), time.monotonic())
    assert not shown["watched"]
    assert shown["workers"] == shown["recent"]["failed"] == []
    assert shown["recent"]["seconds"] == 1
    assert shown["findings"] is None
    assert abs(shown["written"] - time.time()) < 60


def test_what_notify_has_found(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    for name in (PACKAGE.notify_mark, PACKAGE.notified):
        host.path(name).parent.mkdir(parents=True, exist_ok=True)
    file = host.path(PACKAGE.notified)
    # The name of a file may be no text.
    file.write_text(json.dumps([["error", "site", "w" * 999, "\udcff", "\x1b"]] * 99))
    assert page.findings(host) is None
    host.path(PACKAGE.notify_mark).touch()
    found = page.findings(host)
    assert found
    assert (found["count"], len(found["all"])) == (99, page.FINDINGS)
    assert found["all"][0] == [
        "error", "site", "w" * page.LONGEST + "…", r"\udcff", r"\x1b", "",
    ]  # fmt: skip
    json.dumps(found, ensure_ascii=False).encode()
    for text in ("", "{", "[1]"):
        file.write_text(text)
        found = page.findings(host)
        assert found
        assert found["all"] == []
    file.unlink()
    assert page.findings(host) == {"looked": None, "count": 0, "all": []}


def test_a_status_is_small_whatever_clients_send(tmp_path: Path) -> None:
    """Nor does it have a name that a client has made up."""
    metrics = Metrics("qgis_server")
    for number in range(5000):
        name = f"{number}{'ü' * 120}" if number < 2 * PROJECTS else f"made-up-{number}"
        code = 200 if number < 2 * PROJECTS else 503
        count(metrics, datagram(project=name, status=code, id=f"{number:032x}"))
        count(metrics, datagram(worker=f"{'heavy-' * (number % 2)}{number % 999}"))
    workers = {
        number: Watched(pid=1, accepting=True, started=1.0, memory=999)
        for number in (*range(1, 65), *range(HEAVY + 1, HEAVY + 65))
    }
    watch = Watch(written=100.0, instances=workers, queues={str(n): 1 for n in range(1, 65)})
    metrics.pool.look(watch, 100.0, able=True, maintenance=False)
    now = time.monotonic()
    text = page.text(metrics, page.Since(), Host(PACKAGE, tmp_path), now)
    assert len(text.encode()) < 60_000
    assert "made-up" not in text
    recent = metrics.requests.recent
    assert len(recent.failed) == FAILED
    assert len(recent.ended) < 2000
    for late in range(0, STEP * SLOTS * 3, STEP):
        recent.count(fact(), "city", now + late)
    assert len(recent.slots) == SLOTS + 1


# ---- Why workers have ended


def test_causes_of_ends() -> None:
    ends = Ends({"crash": 5}, {})
    ends.see({1: Run(10, 0), 2: Run(20, 0), 3: Run(30, 0), 4: Run(40, 2), HEAVY + 1: Run(50, 0)})
    ends.kill(2, 20)
    ends.wish(frozenset({3}), "memory")
    # Between two runs nothing is known yet.
    ends.see({1: Run(0, 0), 2: Run(0, 0), 3: Run(0, 0), 4: Run(40, 2)})
    assert sum(ends.counts.values()) == 5
    ends.see({1: Run(11, 1), 2: Run(21, 1), 3: Run(31, 0), 4: Run(41, 0)})
    wanted = {"crash": 6, "hang": 1, "memory": 1, "planned": 1, "age": 0, "folders": 0}
    assert ends.counts == wanted
    # One of heavy requests that comes back after a rest has not ended for any of these.
    ends.see({1: Run(11, 1), HEAVY + 1: Run(51, 0)})
    assert ends.counts == wanted
    # A kill and a wish count once.
    ends.see({1: Run(12, 2), 2: Run(21, 1), 3: Run(31, 0)})
    ends.see({2: Run(22, 2), 3: Run(32, 0)})
    assert ends.counts == wanted | {"crash": 8, "planned": 2}
    # Those that end while one monitor takes the place of another.
    after = Ends(ends.counts, ends.runs)
    after.see({2: Run(23, 3), 3: Run(33, 0)})
    assert after.counts == wanted | {"crash": 9, "planned": 3}


# ---- NGINX


def test_who_may_read_them() -> None:
    text = nginx_config.metrics_text(PACKAGE, Settings())
    assert "allow 127.0.0.0/8;\nallow ::1/128;\ndeny all;\n" in text
    # NGINX takes two variables in one condition for the name of a third one.
    headers = re.findall(r'^if \(\$http_(\w+) != ""\) \{$', text, re.M)
    assert headers == ["x_forwarded_for", "forwarded", "x_real_ip", "via"]
    nobody = nginx_config.metrics_text(PACKAGE, Settings(monitoring_clients=()))
    assert "allow" not in nobody
    assert nobody.endswith("deny all;\n")


def test_what_alarms_count_is_there_before_it_happens() -> None:
    """Of a counter that begins with the first refusals Prometheus sees no increase."""
    found = samples(Metrics("qgis_server"))
    for lane in ("light", "heavy"):
        assert found["qgis_server_refused_requests_total", lane] == 0
