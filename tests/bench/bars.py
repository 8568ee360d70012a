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

Workloads = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By name, then by contestant: what report.summary tells, with `rounds`."""
Value = Callable[[Mapping[str, Any]], float | None]
"""What counts of a round."""

T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom."""
SOLO_TIMES = 5.0
"""A rival whose heavy requests take longer than so many times what one takes alone has won
its light ones at their cost,"""
HEAVY_SHARE = 0.9
"""and so has one with fewer of them than this share of ours."""
LIGHT_ALONE, MIX = "light", "3+1"
MIXES = ("3+1", "6+3")
DEFAULT, SHARED = "ours-per-worker", "ours-shared"
RECIPE = "recipe"
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
    best rival of the row."""

    row: str
    who: str
    against: str
    what: str
    limit: float | None
    most: bool
    measured: Interval | None
    best: bool = False

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


P95, P99, RATE = of("light", "p95"), of("light", "p99"), of("light", "rate")
HEAVY_P95, HEAVY_RATE, HEAVY_MAX = of("heavy", "p95"), of("heavy", "rate"), of("heavy", "max")


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
    """Rivals that don't count as the best of a row with heavy requests, and why."""
    found = {}
    own_rate = median(workloads, row, ours, HEAVY_RATE)
    for name in rivals(workloads, row):
        solo = median(workloads, "heavy", name, of("heavy", "p50"))
        longest = max(known(workloads, row, name, HEAVY_MAX), default=math.nan)
        rate = median(workloads, row, name, HEAVY_RATE)
        if longest > SOLO_TIMES * solo:
            found[name] = f"a heavy request took {longest / solo:.1f} times as long as one alone"
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
) -> Bar:
    ours = by_round(workloads, row, who, value)
    measured = ratios(ours, by_round(workloads, row, against, value))
    limit = at_least if at_most is None else at_most
    return Bar(row, who, against, what, limit, at_most is not None, measured, best)


def against_recipe(workloads: Workloads) -> Iterator[Bar]:
    there = workloads.get(MIX, {})
    if RECIPE not in there:
        return
    if SHARED in there:
        pair = (workloads, MIX, SHARED, RECIPE)
        yield ratio_bar(*pair, "p99 of light requests", P99, at_most=0.2)
        yield ratio_bar(*pair, "light requests a second", RATE, at_least=5)
    if DEFAULT in there:
        pair = (workloads, MIX, DEFAULT, RECIPE)
        yield ratio_bar(*pair, "light requests a second", RATE, at_least=4.5)
        yield ratio_bar(*pair, "p95 of light requests", P95, at_most=0.1)
        yield ratio_bar(*pair, "p99 of light requests", P99)


def conserved(workloads: Workloads) -> Iterator[Bar]:
    """The share of time in which a request waited although a worker was idle."""
    if SHARED in workloads.get(MIX, {}):
        shares = known(workloads, MIX, SHARED, idle)
        what = "share of time: a request waits, a worker is idle"
        yield Bar(MIX, SHARED, "", what, 0.01, True, interval(shares))


def against_best(workloads: Workloads) -> Iterator[Bar]:
    for row in MIXES:
        if SHARED not in workloads.get(row, {}):
            continue
        out = disqualified(workloads, row, SHARED)
        names = [name for name in rivals(workloads, row) if name not in out]
        quickest = best(workloads, row, P99, names, least=True)
        most = best(workloads, row, RATE, names, least=False)
        if quickest is None or most is None:
            continue
        pair, rate = (workloads, row, SHARED, quickest), (workloads, row, SHARED, most)
        yield ratio_bar(*pair, "p99 of light requests", P99, at_most=1.05, best=True)
        yield ratio_bar(*rate, "light requests a second", RATE, at_least=0.98, best=True)
        # Beside the same one: who starves light requests has the quickest heavy ones.
        yield ratio_bar(*pair, "p95 of heavy requests", HEAVY_P95, at_most=1.25, best=True)
    for who in (DEFAULT, SHARED):
        names = rivals(workloads, LIGHT_ALONE)
        rival = best(workloads, LIGHT_ALONE, RATE, names, least=False)
        if rival is not None and who in workloads[LIGHT_ALONE]:
            pair = (workloads, LIGHT_ALONE, who, rival)
            yield ratio_bar(*pair, "light requests a second", RATE, at_least=0.98, best=True)


def first_requests(workloads: Workloads) -> Iterator[Bar]:
    """Those of all workers beside the warm ones of the same start or restart: their means, in
    which a single cold worker shows."""
    for row in ("boot", "roll"):
        for who in (DEFAULT, SHARED):
            if who in workloads.get(row, {}):
                first = by_round(workloads, row, who, of("first", "mean"))
                warm = by_round(workloads, row, who, of("warm", "mean"))
                yield Bar(row, who, "warm ones", "first requests", 1.5, True, ratios(first, warm))


def evaluate(workloads: Workloads) -> list[Bar]:
    """All bars that can be looked at by what was measured."""
    return [
        *against_recipe(workloads),
        *conserved(workloads),
        *against_best(workloads),
        *first_requests(workloads),
    ]


def excluded(workloads: Workloads) -> dict[str, dict[str, str]]:
    """By row: rivals that don't count as the best, and why."""
    found = {
        row: disqualified(workloads, row, SHARED)
        for row in MIXES
        if SHARED in workloads.get(row, {})
    }
    return {row: out for row, out in found.items() if out}
