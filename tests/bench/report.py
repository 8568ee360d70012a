# SPDX-License-Identifier: GPL-2.0-or-later
"""From what was sent to figures, and from figures to tables. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.bars import AT_A_RATE, BESIDE, CLOSED, Bar, evaluate, excluded, rows_of
from bench.inside.drive import Result, Sent
from bench.weights import INSIDE, NONE, OUTSIDE
from bench.workloads import CACHE

Row = Sequence[str]


@dataclass(frozen=True)
class Figure:
    """The median of several rounds, with the least and the greatest."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class OfKind:
    """Of the requests of one kind, in one round: how many got their reply, and how many a second;
    how long it took, in milliseconds; how many failed."""

    replies: int
    rate: float
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    failed: int


@dataclass(frozen=True)
class Round:
    """One workload, once. `rate` and `kinds`: see OfKind. `megapixels` a second; `cpu`: seconds
    of processor time for each request; `pss`: of the workers, in MiB; `idle_while_waiting`: the
    share of time in which a request waited although a worker was idle, None where nobody can
    see it; `generator`: the share of one core that the load itself took; `command`: seconds of
    the restart, until the workers of before had gone; `stayed`: how many had not after 30 s.
    `others`: cores that everybody else on the machine had meanwhile. `number`: which round.
    `late`: the most seconds that the load generator has sent a request after it was due.
    `beside`: of `pss`, what is not of workers."""

    rate: float
    megapixels: float
    cpu: float
    pss: float
    workers: int
    idle_while_waiting: float | None
    generator: float
    others: float
    command: float
    stayed: int
    kinds: dict[str, OfKind]
    problems: dict[str, int]
    number: int = 0
    late: float = 0.0
    beside: float = 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many of a hundred don't exceed (nearest rank); NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def ends(sent: Iterable[Sent]) -> dict[int, float]:
    """When each client had its last reply, in seconds."""
    found: dict[int, float] = {}
    for one in sent:
        found[one.client] = max(found.get(one.client, 0.0), one.began + one.took)
    return found


def of_kind(sent: Sequence[Sent], end: Mapping[int, float]) -> OfKind:
    """The rate is the sum of the clients' rates, each until the client's own last reply: a
    request that began shortly before the end of the load counts with all of its time."""
    good = [one for one in sent if not one.problem]
    took = [1000 * one.took for one in good]
    return OfKind(
        len(good),
        sum(1 / end[one.client] for one in good),
        statistics.fmean(took) if took else math.nan,
        percentile(took, 50),
        percentile(took, 95),
        percentile(took, 99),
        max(took, default=math.nan),
        len(sent) - len(good),
    )


def of_round(result: Result) -> Round:
    kinds = sorted({one.kind for one in result.sent})
    good = [one for one in result.sent if not one.problem]
    problems: dict[str, int] = {}
    for one in result.sent:
        if one.problem:
            problems[one.problem] = problems.get(one.problem, 0) + 1
    end = ends(result.sent)
    samples = result.samples
    sampled = samples["sampled"]
    return Round(
        rate=of_kind(result.sent, end).rate,
        megapixels=sum(one.pixels / end[one.client] for one in good) / 1e6,
        cpu=result.cpu / max(1, len(good)),
        pss=samples["pss"] / 2**20,
        workers=int(samples["workers"]),
        idle_while_waiting=samples["wasted"] / sampled if sampled else None,
        generator=result.own_cpu / result.wall,
        others=result.others_cpu / result.wall,
        command=result.command,
        stayed=result.stayed,
        kinds={
            kind: of_kind([one for one in result.sent if one.kind == kind], end) for kind in kinds
        },
        problems=problems,
        late=result.late,
    )


def figure(values: Iterable[float]) -> Figure:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Figure(math.nan, math.nan, math.nan)
    return Figure(statistics.median(known), min(known), max(known))


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """All rounds of a workload and a contestant; failures are added up."""
    names = (
        "rate",
        "megapixels",
        "cpu",
        "pss",
        "workers",
        "generator",
        "others",
        "command",
        "stayed",
        "late",
        "beside",
    )
    found: dict[str, Any] = {
        name: asdict(figure(getattr(one, name) for one in rounds)) for name in names
    }
    shares = [one.idle_while_waiting for one in rounds if one.idle_while_waiting is not None]
    found["idle_while_waiting"] = asdict(figure(shares)) if shares else None
    found["kinds"] = {}
    for kind in sorted({kind for one in rounds for kind in one.kinds}):
        there = [one.kinds[kind] for one in rounds if kind in one.kinds]
        found["kinds"][kind] = {
            name: asdict(figure(getattr(one, name) for one in there))
            for name in ("replies", "rate", "mean", "p50", "p95", "p99", "max")
        } | {"failed": sum(one.failed for one in there)}
    found["problems"] = {}
    for one in rounds:
        for problem, times in one.problems.items():
            found["problems"][problem] = found["problems"].get(problem, 0) + times
    return found


def without_nan(value: Any) -> Any:
    """JSON has no NaN: None stands for it."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def short(value: float | None) -> str:
    """Three digits that count."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


BAR_HEAD = ("row", "who", "what", "against", "bar", "measured", "95 %", "rounds", "verdict")
BAR_TEXTS = 5
"""Columns that are texts."""


def bar_row(bar: Bar) -> Row:
    against = f"best rival: {bar.against}" if bar.best else bar.against
    if bar.limit is None:
        limit = "reported"
    else:
        limit = f"{'at most' if bar.most else 'at least'} {bar.limit:g}"
    found = bar.measured
    if found is None:
        measured = ("-", "-", "0")
    else:
        low = max(0.0, found.low)
        spread = "-" if found.rounds < 2 else f"{short(low)} to {short(found.high)}"
        measured = (short(found.value), spread, str(found.rounds))
    return (bar.row, bar.who, bar.what, against, limit, *measured, bar.verdict)


def table(rows: Sequence[Row], left: int = 1) -> str:
    """Columns of equal width, the first ones to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        both = list(zip(row, widths, strict=True))
        cells = [cell.ljust(width) for cell, width in both[:left]]
        cells += [cell.rjust(width) for cell, width in both[left:]]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


HEAD = (
    "contestant", "requests", "req/s", "(least to most)", "of (a)", "p50 ms", "p95", "p99", "max",
    "failed", "Mpx/s", "CPU ms", "PSS MiB", "idle %", "others",
)  # fmt: skip


def workload_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One workload: a row for each contestant and kind of request. The first contestant is
    what the others' rates are divided by."""
    rows: list[Row] = [HEAD]
    first: dict[str, float] = {}
    for name, values in found.items():
        for place, (kind, of) in enumerate(values["kinds"].items()):
            rate = of["rate"]["median"]
            base = first.setdefault(kind, rate)
            spread = f"({number(of['rate']['least'], 1)} to {number(of['rate']['most'], 1)})"
            times = (number(of[key]["median"]) for key in ("p50", "p95", "p99"))
            idle = values["idle_while_waiting"]
            whole = (
                number(values["megapixels"]["median"], 1),
                number(1000 * values["cpu"]["median"]),
                number(values["pss"]["median"]),
                number(None if idle is None else 100 * idle["median"], 1),
                number(values["others"]["median"], 1),
            )
            rows.append(
                (
                    name if place == 0 else "",
                    kind,
                    number(rate, 1),
                    spread,
                    number(rate / base if base else math.nan, 2),
                    *times,
                    number(of["max"]["most"]),
                    str(of["failed"]),
                    *(whole if place == 0 else ("",) * 5),
                )
            )
    return table(rows)


LEGEND = """\
req/s: median of the rounds; of (a): divided by that of the first contestant; p50, p95, p99: of
the replies, medians of the rounds; max: of all rounds; CPU ms: processor time of the whole
container for each request; PSS: of all workers; idle %: of the time, a request waited although
a worker was idle (- where it can't be seen); others: cores that others had meanwhile."""


DISTURBED = """\
Others were at work on this machine: rates are no longer what it can do, and small differences
mean nothing."""


def compared(found: Mapping[str, Any]) -> Iterator[str]:
    """The part `compare`."""
    yield f"{found['workers']} workers each, up to {found['rounds']} rounds"
    for name, by in found["workloads"].items():
        if by:
            yield f"\n{name}: {found['titles'][name]}\n{workload_table(by)}"
            yield from problems(by)
            yield from restarts(by)
    yield f"\n{LEGEND}"
    yield from generator(found)
    yield from at_rate(found)
    yield from weighted(found)
    if disturbed(found):
        yield DISTURBED
    for name, reason in found["missing"].items():
        yield f"not measured: {name}: {reason}"


def barred(suite: str, found: Mapping[str, Any]) -> Iterator[str]:
    """The bars, of all parts of a release."""
    rows = rows_of(found)
    if bars := evaluate(rows, suite):
        yield f"\n{table([BAR_HEAD, *map(bar_row, bars)], BAR_TEXTS)}"
        for (row, who), out in excluded(rows).items():
            lines = (f"  {row}, {who}: {name} can't be best: {why}" for name, why in out.items())
            yield from lines


def led(found: Mapping[str, Any]) -> Iterator[str]:
    """First of all: the ways side by side."""
    if rows := lead_rows({"": found}):
        yield table([("", "tiles a second", "p99 beside heavy work, ms"), *rows])


def lead_rows(releases: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """For each way to run QGIS Server its title, then for each release the tiles a second and the
    p99 of a tile beside heavy work."""
    titles = {
        name: one["title"]
        for found in releases.values()
        for name, one in found["contestants"].items()
        if any(name in found["workloads"].get(row, {}) for row in (CLOSED, BESIDE))
    }
    return [
        (title, *(cell for found in releases.values() for cell in lead_cells(found, name)))
        for name, title in titles.items()
    ]


def lead_cells(found: Mapping[str, Any], name: str) -> tuple[str, str]:
    alone, beside = (
        found["workloads"].get(row, {}).get(name, {}).get("kinds", {}).get("light")
        for row in (CLOSED, BESIDE)
    )
    rate = number(alone["rate"]["median"]) if alone else "-"
    p99 = number(beside["p99"]["median"]) if beside else "-"
    failed = f" ({beside['failed']} failed)" if beside and beside["failed"] else ""
    return rate, f"{p99}{failed}"


def at_rate(found: Mapping[str, Any]) -> Iterator[str]:
    """At which rate light requests came, and where that is from."""
    if not any(found["workloads"].get(row) for row in AT_A_RATE):
        return
    late = max(
        (one["late"]["most"] or 0.0 for by in found["workloads"].values() for one in by.values()),
        default=0.0,
    )
    origin = "a quarter of what the recipe drew alone" if found["light_rate_of"] else "a constant"
    yield (
        f"At a rate: {found['light_rate']:g} light requests a second, {origin}; the same ones for "
        f"all in a round. None was sent more than {1000 * late:.0f} ms after it was due."
    )


def weighted(found: Mapping[str, Any]) -> Iterator[str]:
    """Whose units set CPUWeight=, and whether that counted, where the container has no controller
    for it."""
    states: dict[str, list[str]] = {}
    for name, state in found.get("weights", {}).items():
        states.setdefault(state, []).append(name)
    for state, names in states.items():
        if state not in (NONE, INSIDE):
            how = "in force from outside the container" if state == OUTSIDE else state
            yield f"CPUWeight= of units: {how}: {', '.join(names)}."


def generator(found: Mapping[str, Any]) -> Iterator[str]:
    """How far the load generator was from being what was measured."""
    if found["generator_rate"] is None:
        return
    rates = [
        sum(of["rate"]["most"] or 0.0 for of in one["kinds"].values())
        for by in found["workloads"].values()
        for name, one in by.items()
        # Its replies are files that NGINX sends, too.
        if name != CACHE
    ]
    times = found["generator_rate"] / (max(rates, default=0.0) or math.nan)
    yield (
        f"The load generator gets {found['generator_rate']:.0f} files of a tile's size a second "
        f"from NGINX, {times:.0f} times the highest rate of any contestant whose workers draw."
    )


BUSY = 0.3
"""Cores that others have, from which on a report warns of it."""


def disturbed(found: Mapping[str, Any]) -> bool:
    """Were others at work on the machine meanwhile?"""
    shares = [one["others"]["median"] for by in found["workloads"].values() for one in by.values()]
    return bool(shares) and statistics.median(shares) > BUSY


def problems(by: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the failures were."""
    for name, one in by.items():
        for problem, times in one["problems"].items():
            yield f"  {name}: {times} x {problem}"


def restarts(by: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """How long the commands took, and what they have not done."""
    for name, one in by.items():
        if one["command"]["most"]:
            stayed = int(one["stayed"]["most"])
            left = f", and {stayed} workers of before were still there" if stayed else ""
            yield f"  {name}: {one['command']['median']:.1f} s{left}"


def scaled(found: Mapping[str, Any]) -> Iterator[str]:
    """The part `scaling`."""
    yield (
        f"\nmore workers than cores: {found['cores']} cores, tiles, "
        f"{found['clients']} clients (many) or 1 (single)"
    )
    yield workload_table(found["rows"])


def rest_rows(found: Mapping[str, Any]) -> list[Row]:
    """The part `rest`; the first row is the head."""
    rows: list[Row] = [
        ("contestant", "rounds", "first tile, s", "least to most", "PSS MiB", "not of workers")
    ]
    for name, one in found["rows"].items():
        took = next(iter(one["kinds"].values()))["p50"]
        least, most = (number((took[key] or math.nan) / 1000, 2) for key in ("least", "most"))
        median = number((took["median"] or math.nan) / 1000, 2)
        memory = (number(one[key]["median"]) for key in ("pss", "beside"))
        rows.append((name, str(len(one["rounds"])), median, f"{least} to {most}", *memory))
    return rows


def rested(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"\na start, and a pool at rest: {found['workers']} workers, as many as cores"
    yield table(rest_rows(found))


def remembered_rows(found: Mapping[str, Any]) -> list[Row]:
    """The part `memory`; the first row is the head."""
    rows: list[Row] = [("", "workers", "PSS", "PSS each", "RSS", "anonymous PSS", "merged")]
    for name, one in found.items():
        if isinstance(one, dict):
            whole = (one["Pss"], one["Pss"] / max(1, one["workers"]), one["Rss"], one["Pss_Anon"])
            merged = number(one.get("saved"), 1)
            rows.append((name, str(one["workers"]), *map(number, whole), merged))
    return rows


def remembered(found: Mapping[str, Any]) -> Iterator[str]:
    yield "\nmemory of all workers after the same requests, in MiB"
    yield table(remembered_rows(found))
    yield from (f"{name}: {one}" for name, one in found.items() if isinstance(one, str))


def cost_rows(found: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """The part `cost`; the first row is the head."""
    rows: list[Row] = [("a worker of", "median", "mean", "more than the recipe's", "95 %")]
    for name, one in found.items():
        low, high = one["more"] - one["error"], one["more"] + one["error"]
        cells = (f"{one['median']:.2f}", f"{one['mean']:.2f}", f"{one['more']:+.2f}")
        rows.append((name, *cells, f"{low:+.2f} to {high:+.2f}"))
    return rows


def priced(found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield "\nprocessor time of a worker for a tile, in ms; all workers in turns, tile by tile"
    yield table(cost_rows(found))


def watched_rows(found: Mapping[str, float]) -> list[Row]:
    """The part `watched`; the first row is the head."""
    titles = {
        "rate": "tiles a second",
        "p99": "99 % of tiles take",
        "cpu": "processor for a tile",
        "around": "of that, NGINX and what counts",
    }
    rows: list[Row] = [("with all on", "more", "95 %")]
    for name, title in titles.items():
        more, error = found[f"{name}_more_percent"], found[f"{name}_more_error"]
        rows.append((title, f"{more:+.2f} %", f"{more - error:+.2f} to {more + error:+.2f} %"))
    return rows


def overlooked(found: Mapping[str, float]) -> Iterator[str]:
    yield f"\nwhat it costs to be watched, in {found['pairs']} pairs of turns"
    yield table(watched_rows(found))


def owned(found: Mapping[str, float]) -> Iterator[str]:
    """The part `own`."""
    yield "\nwhat the package itself costs"
    yield from (f"  {name} {value}" for name, value in found.items())


def heading(found: Mapping[str, Any]) -> str:
    """What holds for all releases."""
    on = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    return f"{found['date']}, version {found['package']}, {on}\n"


def text(suite: str, found: Mapping[str, Any]) -> str:
    """All parts of a release."""
    known = [f"{name} {value}" for name, value in found.get("versions", {}).items()]
    known += [f"load at the {name} {value}" for name, value in found.get("load", {}).items()]
    lines = [f"{suite}  {', '.join(known)}".rstrip()]
    if "compare" in found:
        lines += led(found["compare"])
    parts = {
        "compare": compared,
        "rest": rested,
        "scaling": scaled,
        "memory": remembered,
        "cost": priced,
        "watched": overlooked,
        "own": owned,
    }
    for part, lines_of in parts.items():
        if part in found:
            lines += lines_of(found[part])
    lines += barred(suite, found)
    return "\n".join(lines) + "\n"
