# SPDX-License-Identifier: GPL-2.0-or-later
"""``check``: shows what is wrong, and what to do."""

import argparse
import json
from dataclasses import asdict

from ..checks.finding import blocks
from ..checks.run import Report, everything
from ..pool.host import Host, Snapshot
from ..system.output import counted, die
from ..view.look import look


def show(report: Report) -> str:
    """For people."""
    kinds = ("error", "warning")
    counts = [sum(f.severity == kind for f in report.findings) for kind in kinds]
    told = ", ".join(counted(n, kind) for n, kind in zip(counts, kinds, strict=True))
    ending = [told if report.findings else "nothing found"]
    ending += [f"not checked: {item.what}: {item.why}" for item in report.unchecked]
    parts = [blocks(report.findings)] if report.findings else []
    return "\n\n".join([*parts, "\n".join(ending)])


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    if not host.live:
        die("systemd does not run here", hint="a pool can be checked once it is booted")
    report = everything(host, look(Snapshot.of(host)))
    print(json.dumps(asdict(report), indent=2, ensure_ascii=False) if args.json else show(report))
    return 1 if any(found.severity == "error" for found in report.findings) else 0
