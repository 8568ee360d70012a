# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as Markdown, from results as store.py keeps them. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.bars import evaluate, excluded, rows_of
from bench.report import (
    BAR_HEAD,
    BAR_TEXTS,
    DISTURBED,
    at_rate,
    bar_row,
    cost_rows,
    disturbed,
    generator,
    lead_rows,
    number,
    remembered_rows,
    rest_rows,
    short,
    watched_rows,
    weighted,
)
from bench.workloads import ENOUGH
from qgis_server_systemd.suites import SUITES

RELEASES = {name: f"Debian {suite.number} ({name})" for name, suite in SUITES.items()}
LABELS = {
    "cores": "Cores",
    "processor": "Processor",
    "virtual": "Virtual machine",
    "memory": "Memory",
    "kernel": "Linux",
}
AUTOGROUP = {
    "on": """\
The kernel shared cores out by session (autogroup, sched(7)), and it could not be turned off: a
contestant whose workers are a service each, as the recipe and this package, gets more of them than
one that starts all workers from one process. That is no merit of either. Compare rates only among
the like.""",
    "off": """\
The kernel's autogroup (sched(7)), which shares cores out by session, was off meanwhile. With it,
a pool whose workers are a service each, as those of the recipe and of this package, gets more
shares than one that starts all workers from one process. That would be no merit of either.""",
    "none": "The kernel does not share cores out by session (autogroup, sched(7)).",
}
BARS = """\
Each bar is a ratio within this run: that of the same round of both, whose turns were close
together; of all rounds the geometric mean. The interval (95 %) is by how the rounds differ,
with Student's t over the logarithms. A bar is not met if all of the interval lies beyond it, met
if none of it does; else the run can't tell. Where QGIS Server does not hold replies back (Debian
12), light requests alone meet theirs if the ratio itself does. The best rival of a row, the recipe
included, is the one that is best at what is compared."""
EXCLUDED = "Not counted as the quickest with light requests:"
LEAD = """\
*Tiles a second*: four clients ask for tiles of 256 pixels, each for the next one when it has one.
*Beside heavy work*: large maps are drawn all the time, for three clients for each worker; tiles are
asked for at random times, a quarter as many as the recipe can draw alone, whatever becomes of them;
99 of 100 came within so many milliseconds. Medians of the rounds, all in one run on one machine."""
COLUMNS = """\
*n*: good replies in a round; a second: median of the rounds, with the least and the most; p50, p95
and p99: of each round, their medians, in ms; *idle*: of the time in which a request waited for a
worker while one was idle, in %, - where requests wait within the front end and nobody can look;
*CPU*: processor time of the whole container for each request, in ms; *PSS*: of all workers, in
MiB, looked at after 1.5 s; *others*: cores that everybody else on the machine had meanwhile."""
FIRST = """\
*first*: the first request of each worker, once all waited for requests; *warm*: the same request
afterwards. Means of a round in ms, of all rounds the median; the slowest of all in brackets."""

COST = """\
All workers run beside each other, and each tile is asked of all of them before the next one, so
that whatever else the machine does falls on all alike. *95 %*: the interval of the mean of what a
worker took more than the recipe's for the same tile."""
WATCHED = """\
Four clients ask for tiles, in turns: while NGINX tells of each request, to the metrics and to
`request_log`, and somebody asks for the metrics each 5 s; and without all of it. Processor time is
that of the workers, NGINX, the monitor and the unit that counts. *95 %*: the interval of the mean
of all pairs of turns."""


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table, whose first columns are aligned to the left."""
    marks = ["---" if place < left else "---:" for place in range(len(head))]
    lines = [head, marks, *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)


def lead(found: Mapping[str, Any], picture: str | None) -> Iterator[str]:
    """What a visitor wants to know: all ways side by side."""
    releases = {
        RELEASES.get(suite, suite): one["compare"]
        for suite, one in found["suites"].items()
        if "compare" in one
    }
    rows = lead_rows(releases)
    if not rows:
        return
    heads = [
        f"{what}, {name.partition(' (')[0]}"
        for name in releases
        for what in ("tiles a second", "p99 of a tile beside heavy work, ms")
    ]
    yield grid(("", *heads), ([plain(cell) for cell in row] for row in rows))
    if picture is not None:
        yield f"![{picture}]({picture})"
    yield LEAD


def bars(suite: str, found: Mapping[str, Any]) -> Iterator[str]:
    rows = rows_of(found)
    there = evaluate(rows, suite)
    if not there:
        return
    yield grid(BAR_HEAD, map(bar_row, there), left=BAR_TEXTS)
    for (row, who), out in excluded(rows).items():
        names = "; ".join(f"{name} ({reason})" for name, reason in out.items())
        yield f"{EXCLUDED} {row}, {who}: {names}."


def workload_grid(by: Mapping[str, Mapping[str, Any]]) -> str:
    head = (
        "contestant", "", "rounds", "n", "a second", "least to most", "p50", "p95", "p99", "max",
        "failed", "idle", "CPU", "PSS", "others",
    )  # fmt: skip
    rows = []
    for name, one in by.items():
        idle = one["idle_while_waiting"]
        whole = (
            short(None if idle is None else 100 * idle["median"]),
            number(1000 * one["cpu"]["median"]),
            number(one["pss"]["median"] or None),
            number(one["others"]["median"], 1),
        )
        for place, (kind, of) in enumerate(one["kinds"].items()):
            rate = of["rate"]
            rows.append(
                (
                    name if place == 0 else "",
                    kind,
                    str(len(one["rounds"])) if place == 0 else "",
                    number(of["replies"]["median"]),
                    short(rate["median"]),
                    f"{short(rate['least'])} to {short(rate['most'])}",
                    *(number(of[key]["median"]) for key in ("p50", "p95", "p99")),
                    number(of["max"]["most"]),
                    str(of["failed"]),
                    *(whole if place == 0 else ("",) * 4),
                )
            )
    return grid(head, rows, left=2)


def first_grid(by: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, one in by.items():
        cells = []
        for kind in ("first", "warm"):
            of = one["kinds"].get(kind)
            cells.append(
                f"{number(of['mean']['median'])} ({number(of['max']['most'])})" if of else "-"
            )
        failed = sum(of["failed"] for of in one["kinds"].values())
        rows.append((name, str(len(one["rounds"])), *cells, str(failed)))
    return grid(("contestant", "rounds", "first", "warm", "failed"), rows)


def start_grid(by: Mapping[str, Mapping[str, Any]]) -> str:
    """From the start of the services to the first good reply."""
    rows = []
    for name, one in by.items():
        of = next(iter(one["kinds"].values()))
        took = (number(of["p50"][key] / 1000, 1) for key in ("median", "least", "most"))
        rows.append((name, str(len(one["rounds"])), *took, str(of["failed"])))
    return grid(("contestant", "rounds", "s (median)", "least", "most", "refused before"), rows)


def restarts(by: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """How long it took to exchange all workers."""
    rows = []
    for name, one in by.items():
        if one["command"]["most"]:
            stayed = int(one["stayed"]["most"])
            rows.append((name, number(one["command"]["median"], 1), str(stayed)))
    if rows:
        yield grid(("contestant", "restart takes, s", "old workers left after 30 s"), rows)


def slow(compare: Mapping[str, Any]) -> Iterator[str]:
    """Who had fewer light requests in a round than were wanted."""
    few = [
        f"{name} {number(of['replies']['median'])}"
        for name, one in compare["workloads"].get("light", {}).items()
        if (of := one["kinds"].get("light")) and (of["replies"]["median"] or 0) < ENOUGH
    ]
    if few:
        yield (
            f"Of {ENOUGH} light requests that a round should have, time left room for fewer in "
            f"*light*: {', '.join(few)}. With less than 100 p99 is the slowest of all."
        )


def compared(compare: Mapping[str, Any], suite: str, plots: Sequence[str]) -> Iterator[str]:
    yield from (f"![{name}]({name})" for name in plots)
    for name, by in compare["workloads"].items():
        if not by:
            continue
        yield f"### {name}: {compare['titles'][name]}"
        if name in ("boot", "roll"):
            yield first_grid(by)
            yield FIRST
        elif name == "first":
            yield start_grid(by)
        else:
            yield workload_grid(by)
            yield from restarts(by)
        problems = [
            f"* {who}: {times} x {problem}"
            for who, one in by.items()
            for problem, times in one["problems"].items()
        ]
        if problems:
            yield "\n".join(problems)
    yield from generator(compare)
    yield from at_rate(compare)
    yield from map(plain, weighted(compare))
    if disturbed(compare):
        yield DISTURBED
    if compare["missing"]:
        yield "\n".join(
            f"* Not measured to the end: {name}: {plain(reason)}"
            for name, reason in compare["missing"].items()
        )


def plain(text: str) -> str:
    """One line, which is no markup."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")


def scaled(found: Mapping[str, Any]) -> Iterator[str]:
    yield "### More workers than cores"
    yield (
        f"This package, {found['cores']} cores, tiles; *many*: {found['clients']} clients, "
        "*single*: one."
    )
    yield workload_grid(found["rows"])


def rested(found: Mapping[str, Any]) -> Iterator[str]:
    yield "### A start, and a pool at rest"
    yield (
        f"{found['workers']} workers, as many as cores. *First tile*: from the start of the "
        "services; *PSS*: of the whole pool, once it has drawn some tiles, with what watches over "
        "it: *not of workers*."
    )
    head, *rows = rest_rows(found)
    yield grid(head, rows)


def remembered(found: Mapping[str, Any]) -> Iterator[str]:
    yield "### Memory of all workers after the same requests, in MiB"
    head, *rows = remembered_rows(found)
    yield grid(head, rows)
    texts = [f"* {name}: {one}" for name, one in found.items() if isinstance(one, str)]
    if texts:
        yield "\n".join(texts)


def priced(found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield "### Processor time of a worker for a tile, in ms"
    yield COST
    head, *rows = cost_rows(found)
    yield grid(head, rows)


def overlooked(found: Mapping[str, float]) -> Iterator[str]:
    yield "### What it costs to be watched"
    yield WATCHED
    head, *rows = watched_rows(found)
    yield grid(head, rows)


def owned(found: Mapping[str, float]) -> Iterator[str]:
    yield "### What the package itself costs"
    yield grid(
        ("what", ""), [(name.replace("_", " "), f"{value:g}") for name, value in found.items()]
    )


def release(suite: str, found: Mapping[str, Any], plots: Sequence[str]) -> Iterator[str]:
    yield f"## {RELEASES.get(suite, suite)}"
    failed = found.get("failed", {}).items()
    yield from (f"**The part {part} failed:** {plain(reason)}" for part, reason in failed)
    if "compare" in found:
        yield from slow(found["compare"])
        yield from compared(found["compare"], suite, plots)
    parts = {
        "rest": rested,
        "scaling": scaled,
        "memory": remembered,
        "cost": priced,
        "watched": overlooked,
        "own": owned,
    }
    for part, lines_of in parts.items():
        if part in found:
            yield from lines_of(found[part])


def measured_on(found: Mapping[str, Any]) -> Iterator[str]:
    suites = found["suites"]
    machine = [(label, found["machine"].get(key, "-")) for key, label in LABELS.items()]
    yield grid(
        ("", ""),
        [
            ("Date", found["date"]),
            ("This package", found["package"]),
            *machine,
            *(
                (
                    f"Load of the machine, {suite}",
                    f"{one['load']['begin']} at the beginning, {one['load']['end']} at the end",
                )
                for suite, one in suites.items()
            ),
        ],
        left=2,
    )
    names = dict.fromkeys(name for one in suites.values() for name in one["versions"])
    rows = [(name, *(one["versions"].get(name, "-") for one in suites.values())) for name in names]
    yield grid(("version of", *suites), rows, left=1 + len(suites))
    yield AUTOGROUP[found["autogroup"]]


def contestants(found: Mapping[str, Any]) -> Iterator[str]:
    there = {
        name: plain(one["title"])
        for suite in found["suites"].values()
        for name, one in suite.get("compare", {}).get("contestants", {}).items()
    }
    if there:
        yield grid(("contestant", ""), there.items(), left=2)
    compares = [one["compare"] for one in found["suites"].values() if "compare" in one]
    if compares:
        workers, rounds = compares[0]["workers"], compares[0]["rounds"]
        yield f"{workers} workers each; up to {rounds} rounds, in each of which all have a turn."


def document(
    found: Mapping[str, Any], plots: Mapping[str, Sequence[str]], picture: str | None = None
) -> str:
    """The whole report. `plots`: paths of the pictures of each release, from the report's
    folder; `picture`: the one of all of them."""
    paragraphs = [
        "# Benchmarks",
        "Ways to run QGIS Server, side by side. Written by `make bench`. What is compared, how, "
        "and what the figures mean: see [performance.md](performance.md).",
        *lead(found, picture),
    ]
    verdicts = []
    for suite, one in found["suites"].items():
        if lines := list(bars(suite, one)):
            verdicts += [f"### {RELEASES.get(suite, suite)}", *lines]
    if verdicts:
        paragraphs += ["## Bars", BARS, *verdicts]
    paragraphs += [
        "## What was measured, and on what",
        *measured_on(found),
        *contestants(found),
        COLUMNS,
    ]
    for suite, one in found["suites"].items():
        paragraphs += release(suite, one, plots.get(suite, ()))
    return "\n\n".join(paragraphs) + "\n"
