# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of the report. The same results make the same files, byte for byte."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LIGHT_ROWS = ("light", "3+1", "6+3")
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


def figure_of(one: Mapping[str, Any], name: str) -> float:
    """A median of the light requests; NaN where there is none."""
    value = one["kinds"].get("light", {}).get(name, {}).get("median")
    return math.nan if value is None else float(value)


def draw_latency(axes: Axes, row: Row, names: list[str]) -> None:
    for place, (key, shade) in enumerate(SHADES.items()):
        height = 0.8 / len(SHADES)
        where = [at + (place - 1) * height for at in range(len(names))]
        values = [figure_of(row[name], key) for name in names]
        axes.barh(where, values, height, color=shade, label=key)
    axes.set_xscale("log")
    axes.set_xlabel("ms")


def label_values(axes: Axes, values: list[float], digits: int) -> None:
    for at, value in enumerate(values):
        text = "not seen" if math.isnan(value) else f"{value:.{digits}f}"
        axes.text(0.0 if math.isnan(value) else value, at, f" {text}", va="center")
    axes.margins(x=0.2)


def colours(names: list[str]) -> list[str]:
    return [OURS if name.startswith("ours-") else OTHERS for name in names]


def draw_rate(axes: Axes, row: Row, names: list[str]) -> None:
    values = [figure_of(row[name], "rate") for name in names]
    axes.barh(range(len(names)), values, 0.7, color=colours(names))
    label_values(axes, values, 1)
    axes.set_xlabel("light requests a second")


def draw_idle(axes: Axes, row: Row, names: list[str]) -> None:
    shares = [row[name]["idle_while_waiting"] for name in names]
    values = [math.nan if share is None else 100 * share["median"] for share in shares]
    axes.barh(range(len(names)), values, 0.7, color=colours(names))
    label_values(axes, values, 1)
    axes.set_xlim(0, 115)
    axes.set_xlabel("% of the time")


def picture(workloads: Mapping[str, Row], titles: Mapping[str, str], title: str, draw: Draw) -> str:
    """One panel for each workload with light requests."""
    rows = [name for name in LIGHT_ROWS if workloads.get(name)]
    most = max(len(workloads[name]) for name in rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(rows) + 1, 0.42 * most + 1.5), layout="constrained")
        figure.suptitle(title)
        panels = figure.subplots(1, len(rows), squeeze=False)[0]
        for axes, name in zip(panels, rows, strict=True):
            names = list(workloads[name])
            draw(axes, workloads[name], names)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_title(f"{name}: {titles[name]}", fontsize=9)
        if panels[0].get_legend_handles_labels()[1]:
            figure.legend(
                *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3
            )
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


PICTURES: tuple[tuple[str, str, Draw], ...] = (
    ("latency", "How long light requests take", draw_latency),
    ("rate", "Light requests a second", draw_rate),
    ("idle", "A request waits while a worker is idle", draw_idle),
)


def pictures(suite: str, compare: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """File names and contents for a release."""
    workloads = compare["workloads"]
    if not any(workloads.get(name) for name in LIGHT_ROWS):
        return
    for name, title, draw in PICTURES:
        text = picture(workloads, compare["titles"], f"{title} ({suite})", draw)
        yield f"{suite}-{name}.svg", text
