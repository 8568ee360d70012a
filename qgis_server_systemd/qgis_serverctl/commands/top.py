# SPDX-License-Identifier: GPL-2.0-or-later
"""``top``: what the pool does, and for which projects, again and again."""

import argparse
import time
from math import inf

from ..metrics import reading, serve
from ..metrics.reading import Between, Moment
from ..pool.host import Host
from ..system.output import die, table, tell
from . import status

MOST = 15
"""Projects that are shown."""


def wait_text(seconds: float | None) -> str:
    """An upper bound as people read it."""
    if seconds is None:
        return "-"
    return "more than 300 s" if seconds == inf else f"up to {seconds:g} s"


def show(found: Between | None) -> str:
    """The traffic; None if it was not seen twice yet."""
    if found is None:
        return "traffic: seen for the first time, rates follow"
    total = found.total
    head = (
        f"last {found.seconds:.0f} s: {total.requests:.1f} requests a second, {total.failed:.1f}"
        f" failed, {total.refused:.1f} refused; half waited {wait_text(found.half)},"
        f" 95 % {wait_text(found.most)}"
    )
    busy = sorted(found.projects.items(), key=lambda item: item[1].workers, reverse=True)
    rows = [
        {
            "project": name,
            "requests/s": f"{one.requests:.1f}",
            "failed/s": f"{one.failed:.1f}",
            "workers": f"{one.workers:.2f}",
        }
        for name, one in busy[:MOST]
    ]
    return f"{head}\n\n{table(rows)}" if rows else head


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand. Ends with Ctrl-C; returns the exit status."""
    prefix = host.package.metrics_prefix
    former: Moment | None = None
    shown: Between | None = None
    try:
        while True:
            now = reading.load(host)
            if now is None:
                unit = host.package.metrics_unit
                die(f"{unit}: counts nothing", hint=f"systemctl restart {unit}")
            if former and now.written > former.written:
                shown = reading.between(former, now, prefix)
            former = now
            text = f"{status.show_pool(status.collect(host))}\n\n{show(shown)}\n"
            tell(text, flush=True, clear=True)
            time.sleep(serve.WRITE_EVERY)
    except KeyboardInterrupt:
        return 0
