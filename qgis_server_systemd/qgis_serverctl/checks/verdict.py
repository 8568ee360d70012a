# SPDX-License-Identifier: GPL-2.0-or-later
"""From a look at the pool and what is wrong with it to one line. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..system.output import counted, span
from ..view.look import Lane, Line, Queue
from .finding import Finding


@dataclass(frozen=True)
class Verdict:
    """`level`: ok, or the worst severity among the `problems`, which come worst first."""

    level: str
    summary: str
    problems: tuple[Finding, ...]


def queued(lines: Sequence[Line], queue: Queue | None) -> int:
    """How many requests wait, but for heavy ones."""
    return sum(line.queued for line in lines) + (queue.queued if queue else 0)


def _heavy(lane: Lane | None) -> str:
    """What the lane for heavy requests does, if it does something."""
    busy = sum(line.work == "busy" for line in lane.workers) if lane else 0
    if lane is None or not (busy or lane.queued):
        return ""
    return f"heavy: {busy} in hand, {lane.queued} wait"


def _waiting(lines: Sequence[Line], queue: Queue | None) -> str:
    count = queued(lines, queue)
    if not count:
        return "nothing waits"
    waits = [line.queued_seconds for line in lines]
    if queue:
        waits.append(queue.queued_seconds)
    longest = max((seconds or 0 for seconds in waits), default=0)
    since = f", for up to {span(longest)}" if longest else ""
    return f"{counted(count, 'request')} {'waits' if count == 1 else 'wait'}{since}"


def summary(lines: Sequence[Line], queue: Queue | None, lane: Lane | None = None) -> str:
    """How many instances serve, are busy or drained, and what waits."""
    wanted = [line for line in lines if line.wanted]
    verb = "serves" if len(wanted) == 1 else "serve"
    parts = [
        f"{sum(line.serves for line in wanted)} of {counted(len(wanted), 'instance')} {verb}",
        f"{sum(line.work == 'busy' for line in lines)} busy",
    ]
    if drained := sum(line.drained != "no" for line in wanted):
        parts.append(f"{drained} drained")
    return ", ".join(filter(None, [*parts, _waiting(lines, queue), _heavy(lane)]))


def judge(
    lines: Sequence[Line],
    queue: Queue | None,
    findings: Sequence[Finding],
    *,
    lane: Lane | None = None,
    live: bool,
) -> Verdict:
    """`live`: systemd runs here."""
    if not live:
        return Verdict("error", "systemd does not run here", ())
    level = findings[0].severity if findings else "ok"
    return Verdict(level, summary(lines, queue, lane), tuple(findings))
