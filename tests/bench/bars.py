# SPDX-License-Identifier: GPL-2.0-or-later
"""What this package is to reach beside others, as ratios within one run. Pure functions.

A ratio is that of the same round of both, in which they had their turns close together; of all
rounds the geometric mean counts. Its interval is from how the rounds differ, by Student's t over
the logarithms. Requests are no independent samples: what disturbs the machine or fills a queue
is in hundreds of them at once, so an interval from resampled requests would be far too narrow.
And the rounds are too few to resample: of five, the percentile bootstrap holds in 83 of 100
cases instead of 95, of three it is no more than their range.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.workloads import OURS, RECIPE

Workloads = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By name, then by contestant: what report.summary tells, with `rounds`."""
Value = Callable[[Mapping[str, Any]], float | None]
"""What counts of a round."""

T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom."""
HEAVY_SHARE = 0.9
"""A rival with fewer heavy requests than this share of ours has won its light ones at their cost;
nor may we have fewer than this share of the best rival's."""
CLOSED, SINGLE, OPEN_ALONE, BESIDE, PRINTS = "light", "single", "open", "open+3N", "open+prints"
SMALL, SMALL_SINGLE = "small", "small, single"
AT_A_RATE = (OPEN_ALONE, "open+N", BESIDE, PRINTS)
REST = "rest"
"""The row of a pool with little to do, see rest.py."""
TIMES = {"bookworm": 1.0}
"""How many times the best rival's rate that of light requests alone is, by release;"""
OTHERS = 2.0
"""and in releases whose QGIS Server holds each reply back, which this package undoes."""
SHARED = "ours-shared"
MET, NOT_MET, OPEN = "met", "not met", "can't be told"


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, of so many rounds."""

    value: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class Bar:
    """`row`: a workload; `who` is compared with `against`. `limit` is the least that the ratio
    may be, or the most if `most`; None where it is only reported. `best`: the other one is the
    best rival of the row. `reaches`: the interval may reach beyond the limit, if its middle does
    not."""

    row: str
    who: str
    against: str
    what: str
    limit: float | None
    most: bool
    measured: Interval | None
    best: bool = False
    reaches: bool = False

    @property
    def verdict(self) -> str:
        """It is not met if all of the interval lies beyond the limit."""
        if self.limit is None:
            return ""
        if self.measured is None:
            return OPEN
        worst, best = self.measured.high, self.measured.low
        if not self.most:
            worst, best = -self.measured.low, -self.measured.high
        limit = self.limit if self.most else -self.limit
        if self.reaches:
            worst = self.measured.value if self.most else -self.measured.value
        if worst <= limit:
            return MET
        return NOT_MET if best > limit else OPEN


def t_quantile(degrees: int) -> float:
    """For more than the table has, near enough."""
    return T[degrees - 1] if degrees <= len(T) else 1.96 + 2.7 / degrees


def interval(values: Sequence[float]) -> Interval | None:
    """Of the arithmetic mean. One round tells nothing of how far others would differ."""
    if not values:
        return None
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = t_quantile(count - 1) * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def ratios(ours: Mapping[int, float | None], others: Mapping[int, float | None]) -> Interval | None:
    """Of values by round. None if a round of both lacks one: without replies there is no ratio,
    and to leave the round out would be to the advantage of who had none."""
    logarithms = []
    for number in sorted(ours.keys() & others.keys()):
        one, other = ours[number] or 0.0, others[number] or 0.0
        if not (one > 0 and other > 0):  # NaN, too
            return None
        logarithms.append(math.log(one / other))
    found = interval(logarithms)
    if found is None:
        return None
    high = math.inf if found.high > 700 else math.exp(found.high)
    return Interval(math.exp(found.value), math.exp(found.low), high, found.rounds)


def of(kind: str, name: str) -> Value:
    """A figure of the requests of a kind."""

    def value(one: Mapping[str, Any]) -> float | None:
        found: float | None = one["kinds"].get(kind, {}).get(name)
        return found

    return value


def idle(one: Mapping[str, Any]) -> float | None:
    found: float | None = one["idle_while_waiting"]
    return found


def pss(one: Mapping[str, Any]) -> float | None:
    found: float | None = one["pss"]
    return found


def failed(one: Mapping[str, Any]) -> float | None:
    """Requests of all kinds, those that were refused among them."""
    return float(sum(kind["failed"] for kind in one["kinds"].values()))


P50, P99, RATE = of("light", "p50"), of("light", "p99"), of("light", "rate")
HEAVY_RATE = of("heavy", "rate")


def by_round(workloads: Workloads, row: str, who: str, value: Value) -> dict[int, float | None]:
    rounds = workloads.get(row, {}).get(who, {}).get("rounds", ())
    return {one["number"]: value(one) for one in rounds}


def known(workloads: Workloads, row: str, who: str, value: Value) -> list[float]:
    found = by_round(workloads, row, who, value).values()
    return [one for one in found if one is not None and not math.isnan(one)]


def median(workloads: Workloads, row: str, who: str, value: Value) -> float:
    return statistics.median(known(workloads, row, who, value) or [math.nan])


def rivals(workloads: Workloads, row: str) -> list[str]:
    """Those that had good replies; the recipe is one of them."""
    there = (name for name in workloads.get(row, {}) if not name.startswith("ours-"))
    return [name for name in there if median(workloads, row, name, RATE) > 0]


def disqualified(workloads: Workloads, row: str, ours: str) -> dict[str, str]:
    """Rivals that don't count as the quickest with light requests beside heavy ones, and why."""
    found = {}
    own_rate = median(workloads, row, ours, HEAVY_RATE)
    for name in rivals(workloads, row):
        rate = median(workloads, row, name, HEAVY_RATE)
        lost = sum(known(workloads, row, name, of("light", "failed")))
        if lost > sum(known(workloads, row, name, of("light", "replies"))) / 99:
            # In truth no time is the one that 99 of 100 don't exceed.
            found[name] = f"{lost:.0f} of its light requests failed"
        elif math.isnan(rate) or rate < HEAVY_SHARE * own_rate:
            share = 0.0 if math.isnan(rate) else rate / own_rate
            found[name] = f"it had {share:.2f} of our heavy requests a second"
    return found


def best(
    workloads: Workloads, row: str, value: Value, names: Sequence[str], *, least: bool
) -> str | None:
    """The rival with the best median. It is chosen by the figures that it is then compared by,
    so luck counts for it, never for us."""
    medians = {name: median(workloads, row, name, value) for name in names}
    there = {name: one for name, one in medians.items() if not math.isnan(one)}
    if not there:
        return None
    return min(there, key=lambda name: there[name] if least else -there[name])


def ratio_bar(
    workloads: Workloads,
    row: str,
    who: str,
    against: str,
    what: str,
    value: Value,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    best: bool = False,
    reaches: bool = False,
) -> Bar:
    ours = by_round(workloads, row, who, value)
    measured = ratios(ours, by_round(workloads, row, against, value))
    limit = at_least if at_most is None else at_most
    return Bar(row, who, against, what, limit, at_most is not None, measured, best, reaches)


def alone(workloads: Workloads, who: str, suite: str) -> Iterator[Bar]:
    """Light requests with nothing else to do, in a closed loop."""
    times = TIMES.get(suite, OTHERS)
    rival = best(workloads, CLOSED, RATE, rivals(workloads, CLOSED), least=False)
    if rival is not None and who in workloads[CLOSED]:
        what = "light requests a second"
        pair = (workloads, CLOSED, who, rival)
        yield ratio_bar(*pair, what, RATE, at_least=times, best=True, reaches=suite in TIMES)
    if {who, RECIPE} <= workloads.get(SINGLE, {}).keys():
        most = None if suite in TIMES else 1 / OTHERS
        yield ratio_bar(workloads, SINGLE, who, RECIPE, "p50 of light requests", P50, at_most=most)
    # The sooner a tile is drawn, the more of its time QGIS Server's wait is.
    for row, what, value in (
        (SMALL, "light requests a second", RATE),
        (SMALL_SINGLE, "p50 of light requests", P50),
    ):
        if {who, RECIPE} <= workloads.get(row, {}).keys():
            yield ratio_bar(workloads, row, who, RECIPE, what, value)


def beside(workloads: Workloads, row: str, who: str) -> Iterator[Bar]:
    """Light requests at a rate, beside heavy ones."""
    if who not in workloads.get(row, {}):
        return
    what = "p99 of light requests"
    if who in workloads.get(OPEN_ALONE, {}):
        ours = by_round(workloads, row, who, P99)
        measured = ratios(ours, by_round(workloads, OPEN_ALONE, who, P99))
        yield Bar(row, who, "itself without heavy ones", what, 3, True, measured)
    if RECIPE in workloads[row]:
        yield ratio_bar(workloads, row, who, RECIPE, what, P99, at_most=0.05)
    out = disqualified(workloads, row, who)
    there = rivals(workloads, row)
    rival = best(workloads, row, P99, [name for name in there if name not in out], least=True)
    if rival is not None:
        yield ratio_bar(workloads, row, who, rival, what, P99, at_most=0.1, best=True)
    most = best(workloads, row, HEAVY_RATE, there, least=False)
    if most is not None:
        limit = HEAVY_SHARE if row == BESIDE else None
        what = "heavy requests a second"
        yield ratio_bar(workloads, row, who, most, what, HEAVY_RATE, at_least=limit, best=True)


def none_failed(workloads: Workloads, who: str) -> Iterator[Bar]:
    for row in AT_A_RATE:
        if numbers := known(workloads, row, who, failed):
            total = sum(numbers)
            measured = Interval(total, total, total, len(numbers))
            yield Bar(row, who, "", "requests that failed", 0, True, measured)


def conserved(workloads: Workloads) -> Iterator[Bar]:
    """The share of time in which a light request waited although a worker for it was idle."""
    if SHARED in workloads.get(BESIDE, {}):
        shares = known(workloads, BESIDE, SHARED, idle)
        what = "share of time: a request waits, a worker is idle"
        yield Bar(BESIDE, SHARED, "", what, 0.01, True, interval(shares))


def first_requests(workloads: Workloads) -> Iterator[Bar]:
    """Those of all workers beside the warm ones of the same start or restart: their means, in
    which a single cold worker shows."""
    for row in ("boot", "roll"):
        for who in OURS:
            if who in workloads.get(row, {}):
                first = by_round(workloads, row, who, of("first", "mean"))
                warm = by_round(workloads, row, who, of("warm", "mean"))
                yield Bar(row, who, "warm ones", "first requests", 1.5, True, ratios(first, warm))


def at_rest(workloads: Workloads) -> Iterator[Bar]:
    for who in OURS:
        if {who, RECIPE} <= workloads.get(REST, {}).keys():
            pair = (workloads, REST, who, RECIPE)
            yield ratio_bar(*pair, "time to the first tile", P50, at_most=1.1)
            yield ratio_bar(*pair, "memory at rest", pss, at_most=1.05)


def rows_of(found: Mapping[str, Any]) -> Workloads:
    """What bars look at, of all parts of a release."""
    there: dict[str, Any] = dict(found.get("compare", {}).get("workloads", {}))
    return there | ({REST: found["rest"]["rows"]} if "rest" in found else {})


def evaluate(workloads: Workloads, suite: str) -> list[Bar]:
    """All bars that can be looked at by what was measured in a release."""
    return [
        *(bar for who in OURS for bar in alone(workloads, who, suite)),
        *(bar for row in (BESIDE, PRINTS) for who in OURS for bar in beside(workloads, row, who)),
        *(bar for who in OURS for bar in none_failed(workloads, who)),
        *conserved(workloads),
        *at_rest(workloads),
        *first_requests(workloads),
    ]


def excluded(workloads: Workloads) -> dict[tuple[str, str], dict[str, str]]:
    """By row and contestant of ours: rivals that don't count as the best, and why."""
    found = {
        (row, who): disqualified(workloads, row, who)
        for row in (BESIDE, PRINTS)
        for who in OURS
        if who in workloads.get(row, {})
    }
    return {key: out for key, out in found.items() if out}
