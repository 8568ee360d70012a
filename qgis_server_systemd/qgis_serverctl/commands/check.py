# SPDX-License-Identifier: GPL-2.0-or-later
"""``check``: shows what is wrong, and what to do."""

import argparse
import json
from typing import Any

from ..checks.run import collect
from ..pool.host import Host
from ..system.output import die, table


# ---- The command
def show(report: dict[str, Any]) -> str:
    findings, unchecked = report["findings"], report["unchecked"]
    parts = [table(findings)] if findings else []
    counts = [sum(f["severity"] == kind for f in findings) for kind in ("error", "warning")]
    parts.append(f"{counts[0]} errors, {counts[1]} warnings" if findings else "nothing found")
    parts += [f"not checked: {item['what']}: {item['why']}" for item in unchecked]
    return "\n".join([*parts[:1], *([""] if findings else []), *parts[1:]])


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    if not host.live:
        die("systemd does not run here", hint="a pool can be checked once it is booted")
    report = collect(host)
    print(json.dumps(report, indent=2, ensure_ascii=False) if args.json else show(report))
    return 1 if any(f["severity"] == "error" for f in report["findings"]) else 0
