# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened between two moments, by the metrics at both. Pure functions, but for `load`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Self

from ..pool.host import Host
from ..system.files import read_or_none
from . import serve

Key = tuple[str, frozenset[tuple[str, str]]]
"""Name of a sample, and its labels with their values."""


@dataclass(frozen=True)
class Moment:
    """All samples, as they were at `written` (seconds since 1970)."""

    written: float
    samples: Mapping[Key, float] = field(default_factory=dict)

    @classmethod
    def of(cls, written: float, text: str) -> Self:
        """`text`: in Prometheus's text format."""
        # Takes a tenth of a second, and few commands need it.
        from prometheus_client.parser import text_string_to_metric_families as families

        found = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families(text)
            for sample in family.samples
        }
        return cls(written, found)


def load(host: Host) -> Moment | None:
    """The newest one; None if nobody writes any."""
    _, file, _ = serve.files(host)
    text = read_or_none(file)
    return None if text is None else Moment.of(file.stat().st_mtime, text)


@dataclass
class Traffic:
    """What came in a second, of a project or of all. `failed`: by the server (5xx), those that
    were `refused` included. `workers`: how many it kept busy."""

    requests: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    workers: float = 0.0


@dataclass(frozen=True)
class Between:
    """`half` and `most`: seconds within which half of all requests and 95 % got their worker;
    None if there were none."""

    seconds: float
    total: Traffic
    projects: Mapping[str, Traffic]
    half: float | None
    most: float | None


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The upper bound of the bucket that it falls in; `buckets`: counts up to each bound."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    return next((one for one in bounds if total and buckets[one] >= share * total), None)


def between(before: Moment, after: Moment, prefix: str) -> Between:
    """Counters begin anew when what counts does."""
    seconds = max(1e-9, after.written - before.written)
    total, projects = Traffic(), dict[str, Traffic]()
    waits: dict[float, float] = {}
    for (name, labels), value in after.samples.items():
        former = before.samples.get((name, labels), 0.0)
        more = value - former if value >= former else value
        told = dict(labels)
        rate = more / seconds
        if name == f"{prefix}_wait_seconds_bucket":
            bound = inf if told["le"] == "+Inf" else float(told["le"])
            waits[bound] = waits.get(bound, 0.0) + more
        elif name == f"{prefix}_refused_requests_total":
            total.refused += rate
        elif name in (f"{prefix}_requests_total", f"{prefix}_project_seconds_total") and more:
            for one in (total, projects.setdefault(told["project"], Traffic())):
                if name == f"{prefix}_project_seconds_total":
                    one.workers += rate
                else:
                    one.requests += rate
                    one.failed += rate if told["code"].startswith("5") else 0.0
    return Between(seconds, total, projects, quantile(waits, 0.5), quantile(waits, 0.95))
