# SPDX-License-Identifier: GPL-2.0-or-later
"""The metrics themselves, kept and written by prometheus_client.

The name of a project is the only label that is free, and it counts for itself only once a
request for it has succeeded, and if it is among the first so many: a client can ask for names
without end.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.registry import Collector

from ..config.names import is_heavy, label
from ..monitor.record import Watch, Watched
from .fact import OTHER, Fact
from .recent import Recent

PROJECTS = 200
"""Names of projects that count for themselves at most; all others are "other"."""

DEFAULT = "(default)"
"""What the project of requests that name none is called, and what a project of this name
counts as."""

WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper bounds of the histograms, in seconds."""

WINDOW = 300.0
"""Seconds of which the longest queue is told: a scrape each minute misses no peak of any."""


Kind = TypeVar("Kind", Counter, Histogram)


class ByLabels(dict[tuple[object, ...], Kind]):
    """A metric by the values of its labels. To ask prometheus_client for them takes longer than to
    count."""

    def __init__(self, metric: Kind) -> None:
        self.metric: Kind = metric

    def __missing__(self, words: tuple[object, ...]) -> Kind:
        one: Kind = self.metric.labels(*words)
        self[words] = one
        return one


class Requests:
    """What NGINX has told."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        def counter(name: str, help: str, *labels: str) -> ByLabels[Counter]:
            return ByLabels(Counter(f"{prefix}_{name}", help, labels, registry=registry))

        def histogram(name: str, help: str, *labels: str) -> ByLabels[Histogram]:
            name = f"{prefix}_{name}"
            return ByLabels(Histogram(name, help, labels, registry=registry, buckets=WAITS))

        self.known: set[str] = set()
        self.requests = counter(
            "requests", "Requests that have ended, by their status.",
            "project", "service", "request", "lane", "code",
        )  # fmt: skip
        self.sent = counter("sent_bytes", "Bytes of bodies of replies.", "project")
        self.refused = counter("refused_requests", "Refused, since the queues were full.", "lane")
        for lane in ("light", "heavy"):
            # Else the first ones would be no increase to Prometheus.
            self.refused[lane,]
        self.cache = counter("cache_requests", "What the reply cache had for a request.", "result")
        self.busy = counter("project_seconds", "Seconds of workers that a project took.", "project")
        self.waited = histogram("wait_seconds", "How long requests waited for a worker.", "lane")
        self.drawn = histogram(
            "draw_seconds", "How long workers took.", "service", "request", "lane"
        )
        help = "What was received and is no fact."
        self.strange = Counter(f"{prefix}_strange_datagrams", help, registry=registry)
        self.recent = Recent(time.monotonic())

    def name(self, fact: Fact) -> str:
        """The label for its project."""
        if not fact.project:
            return DEFAULT
        if fact.project not in self.known:
            if fact.status >= 400 or len(self.known) >= PROJECTS:
                return OTHER
            self.known.add(fact.project)
        return fact.project

    def count(self, datagram: bytes, when: float) -> None:
        """`when` it came, by time.monotonic()."""
        fact = Fact.of(datagram)
        if fact is None:
            self.strange.inc()
            return
        project = self.name(fact)
        self.requests[project, fact.service, fact.request, fact.lane, fact.status].inc()
        self.sent[project,].inc(fact.sent)
        if fact.refused:
            self.refused[fact.lane,].inc()
        if fact.cache:
            self.cache[fact.cache,].inc()
        if fact.waited is not None:
            self.waited[fact.lane,].observe(fact.waited)
        if fact.drawn is not None:
            self.drawn[fact.service, fact.request, fact.lane].observe(fact.drawn)
            self.busy[project,].inc(fact.drawn)
        self.recent.count(fact, project, when)


def state(worker: Watched) -> str:
    """What a worker does: its name in a label."""
    if not worker.pid:
        return "gone"
    if worker.request is not None:
        return "busy"
    return "idle" if worker.accepting else "starting"


class Pool(Collector):
    """What the monitor has seen. `versions`: of the package, QGIS and NGINX. `broken`: projects
    that are not served, None if nobody looks at them. `changed`: when settings last changed
    anything, in seconds since 1970."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self.prefix = prefix
        self.watch: Watch | None = None
        self.able = self.maintenance = False
        self.versions: dict[str, str] = {}
        self.broken: int | None = None
        self.changed: float | None = None
        self.peaks: dict[str, deque[tuple[float, int]]] = {}
        registry.register(self)

    def look(self, watch: Watch | None, now: float, *, able: bool, maintenance: bool) -> None:
        """`watch`: None if nobody watches. `now`: of time.monotonic()."""
        self.watch, self.able, self.maintenance = watch, able, maintenance
        for name, queued in (watch.queues if watch else {}).items():
            seen = self.peaks.setdefault(name, deque())
            # Ever smaller: the first one is the peak.
            while seen and seen[-1][1] <= queued:
                seen.pop()
            seen.append((now, queued))
            while seen[0][0] < now - WINDOW:
                seen.popleft()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""

        def gauge(name: str, help: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"{self.prefix}_{name}", help, labels=labels)

        def single(name: str, help: str, value: float) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"{self.prefix}_{name}", help, value=value)

        watch = self.watch
        yield single("up", "Whether the monitor runs, which sees the workers.", watch is not None)
        yield single("able", "Whether load balancers are told that the pool can serve.", self.able)
        yield single("maintenance", "Whether clients get the page of it.", self.maintenance)
        info = InfoMetricFamily(self.prefix, "Versions.")
        info.add_metric((), self.versions)
        yield info
        if self.broken is not None:
            yield single("broken_projects", "Projects that are not served.", self.broken)
        if self.changed is not None:
            help = "When settings last changed a file, in seconds since 1970."
            yield single("changed_timestamp_seconds", help, self.changed)
        if watch is None:
            return
        workers = gauge("workers", "Workers by what they do.", "lane", "state")
        counts: dict[tuple[str, str], int] = {
            ("light", what): 0 for what in ("idle", "busy", "starting", "gone")
        }
        memory = gauge("worker_memory_bytes", "Memory that is a worker's own.", "worker")
        age = gauge("worker_age_seconds", "How long ago a worker began.", "worker")
        longest = gauge("worker_request_seconds", "How long its request is in hand.", "worker")
        for instance, worker in sorted(watch.instances.items()):
            lane = "heavy" if is_heavy(instance) else "light"
            counts[lane, state(worker)] = counts.get((lane, state(worker)), 0) + 1
            name = (label(instance),)
            if worker.memory is not None:
                memory.add_metric(name, worker.memory * 2**20)
            if worker.started is not None:
                age.add_metric(name, max(0.0, watch.written - worker.started))
            if worker.since is not None:
                longest.add_metric(name, max(0.0, watch.written - worker.since))
        for words, count in counts.items():
            workers.add_metric(words, count)
        queue = gauge("queue_length", "Requests that wait.", "queue")
        peak = gauge("queue_length_peak", "The most that waited in the last 5 minutes.", "queue")
        for called, queued in sorted(watch.queues.items()):
            queue.add_metric((called,), queued)
            peak.add_metric((called,), self.peaks[called][0][1])
        ended = CounterMetricFamily(
            f"{self.prefix}_worker_ends", "Workers that have ended, by cause.", labels=("cause",)
        )
        for cause, count in watch.ended.items():
            ended.add_metric((cause,), count)
        yield from (workers, memory, age, longest, queue, peak, ended)


class Metrics:
    """Both. `prefix`: what all names begin with."""

    def __init__(self, prefix: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Requests(self.registry, prefix)
        self.pool = Pool(self.registry, prefix)

    def openmetrics(self) -> str:
        return str(exposition.generate_latest(self.registry), "utf-8")

    def text(self) -> str:
        """For node_exporter's textfile collector, which knows the older format alone."""
        return generate_latest(self.registry).decode()
