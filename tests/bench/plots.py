# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of the report. The same results make the same files, byte for byte."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.bars import BESIDE, CLOSED, OPEN_ALONE, PRINTS
from qgis_server_systemd.suites import SUITES

LATENCY_ROWS = (OPEN_ALONE, BESIDE, PRINTS)
IDLE_ROWS = (CLOSED, BESIDE)
RELEASES = {name: f"Debian {suite.number}" for name, suite in SUITES.items()}
SHADES = {"p50": "#9ecae1", "p95": "#4292c6", "p99": "#08306b"}
OURS, OTHERS = "#d95f0e", "#4292c6"
STYLE: dict[Any, Any] = {
    # No random identifiers, and text that stays text.
    "svg.hashsalt": "qgis-server-systemd",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "grid.alpha": 0.4,
}

Row = Mapping[str, Mapping[str, Any]]
"""A workload: by contestant, what report.summary tells."""
Draw = Callable[[Axes, Row, list[str]], None]
"""A panel, with a line for each name; some may have no part in this workload."""


def figure_of(row: Row, name: str, key: str) -> float:
    """A median of the light requests; NaN where there is none."""
    value = row.get(name, {}).get("kinds", {}).get("light", {}).get(key, {}).get("median")
    return math.nan if value is None else float(value)


def draw_latency(axes: Axes, row: Row, names: list[str]) -> None:
    values = {key: [figure_of(row, name, key) for name in names] for key in SHADES}
    axes.hlines(range(len(names)), values["p50"], values["p99"], color="#bbbbbb", linewidth=2)
    for key, shade in SHADES.items():
        axes.plot(values[key], range(len(names)), "o", color=shade, label=key)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("ms")


def label_values(axes: Axes, row: Row, names: list[str], values: list[float]) -> None:
    for at, (name, value) in enumerate(zip(names, values, strict=True)):
        if name in row:
            text = "not seen" if math.isnan(value) else f"{value:.1f}"
            where = 0.0 if math.isnan(value) else value
            axes.text(where, at, f" {text}", va="center", in_layout=False)


def colours(names: list[str]) -> list[str]:
    return [OURS if name.startswith("ours-") else OTHERS for name in names]


def draw_idle(axes: Axes, row: Row, names: list[str]) -> None:
    shares = [row.get(name, {}).get("idle_while_waiting") for name in names]
    values = [math.nan if share is None else 100 * share["median"] for share in shares]
    axes.barh(range(len(names)), values, 0.7, color=colours(names))
    label_values(axes, row, names, values)
    axes.set_xlim(0, 120)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("% of the time")


def same_decades(panels: Sequence[Axes]) -> None:
    """Where the scale is logarithmic, it is the same in all panels."""
    lows, highs = zip(*(axes.dataLim.intervalx for axes in panels), strict=True)
    if panels[0].get_xscale() == "log" and 0 < min(lows) <= max(highs) < math.inf:
        low, high = math.floor(math.log10(min(lows))), math.ceil(math.log10(max(highs)))
        for axes in panels:
            axes.set_xlim(10**low, 10 ** max(high, low + 1))


def draw_overview(panels: Sequence[Axes], compare: Mapping[str, Any], names: list[str]) -> None:
    """Tiles a second, and beside that how long one takes beside heavy work."""
    most = []
    for axes, row, key in zip(panels, (CLOSED, BESIDE), ("rate", "p99"), strict=True):
        by = compare["workloads"].get(row, {})
        values = [figure_of(by, name, key) for name in names]
        axes.barh(range(len(names)), values, 0.7, color=colours(names))
        for at, value in enumerate(values):
            if not math.isnan(value):
                axes.text(value, at, f" {value:.0f}", va="center", in_layout=False)
        most.append(max([value for value in values if not math.isnan(value)], default=100))
    rate, latency = panels
    rate.set_xlim(0, 1.2 * most[0])
    latency.set_xscale("log")
    latency.set_xlim(1, 5 * max(most[1], 10))
    latency.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    latency.xaxis.set_minor_locator(NullLocator())


def overview(suites: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The one picture of all releases."""
    there = {suite: one["compare"] for suite, one in suites.items() if "compare" in one}
    names = list(
        dict.fromkeys(
            name
            for one in there.values()
            for row in (CLOSED, BESIDE)
            for name in one["workloads"].get(row, {})
        )
    )
    if not names:
        return None
    titles = {
        name: one["title"] for by in there.values() for name, one in by["contestants"].items()
    }
    with mpl.rc_context(STYLE):
        size = (10, len(there) * (0.3 * len(names) + 0.8) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(there), 2, squeeze=False, sharey=True)
        for pair, (suite, compare) in zip(panels, there.items(), strict=True):
            draw_overview(pair, compare, names)
            pair[0].set_title(f"tiles a second, {RELEASES.get(suite, suite)}", fontsize=9)
            pair[1].set_title("p99 of a tile beside heavy work, ms", fontsize=9)
        panels[0][0].set_yticks(range(len(names)), [titles.get(name, name) for name in names])
        panels[0][0].set_ylim(len(names) - 0.5, -0.5)
        return svg_of(figure)


def svg_of(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def picture(rows: Mapping[str, Row], titles: Mapping[str, str], title: str, draw: Draw) -> str:
    """One panel for each workload."""
    names = list(dict.fromkeys(name for row in rows for name in rows[row]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3 * len(rows) + 1.5, 0.3 * len(names) + 1.6), layout="constrained")
        figure.suptitle(title)
        panels = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
        for axes, name in zip(panels, rows, strict=True):
            draw(axes, rows[name], names)
            axes.set_title(f"{name}\n{titles[name]}", fontsize=8)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        same_decades(panels)
        lines, labels = panels[0].get_legend_handles_labels()
        if labels:
            figure.legend(lines, labels, loc="outside lower center", ncols=len(labels))
        return svg_of(figure)


PICTURES: tuple[tuple[str, str, Draw, tuple[str, ...]], ...] = (
    ("latency", "How long light requests take", draw_latency, LATENCY_ROWS),
    ("idle", "A request waits while a worker is idle", draw_idle, IDLE_ROWS),
)


def pictures(suite: str, compare: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """File names and contents for a release."""
    for name, title, draw, wanted in PICTURES:
        rows = {row: by for row in wanted if (by := compare["workloads"].get(row))}
        if rows:
            text = picture(rows, compare["titles"], f"{title} ({suite})", draw)
            yield f"{suite}-{name}.svg", text
