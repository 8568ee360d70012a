# SPDX-License-Identifier: GPL-2.0-or-later
"""``check``: shows what is wrong, and what to do."""

import argparse
from dataclasses import asdict

from ..checks.finding import blocks
from ..checks.run import Report, everything
from ..pool.host import Host, Snapshot
from ..system.output import counted, die, printable, tell, tell_json
from ..view.look import look


def quoted(report: Report, command: str) -> list[str]:
    """Lines of the log, with what to do about them if they are true: the same whatever they say."""
    if not report.log:
        return []
    return [
        "the sandbox may be the cause of these lines of the log, if no client wrote them:",
        *(f"  {line}" for line in report.log),
        f'  see: {command} logs --level warning, and "The sandbox of a worker" in docs/security.md',
    ]


def show(report: Report, command: str) -> str:
    """For people. `command`: the name of this one."""
    kinds = ("error", "warning")
    counts = [sum(f.severity == kind for f in report.findings) for kind in kinds]
    told = ", ".join(counted(n, kind) for n, kind in zip(counts, kinds, strict=True))
    ending = [told if report.findings else "nothing found"]
    ending += [f"not checked: {item.what}: {printable(item.why)}" for item in report.unchecked]
    ending += [f"note: {text}" for text in report.notes]
    parts = (blocks(report.findings), "\n".join(quoted(report, command)), "\n".join(ending))
    return "\n\n".join(filter(None, parts))


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    if not host.live:
        die("systemd does not run here", hint="a pool can be checked once it is booted")
    report = everything(host, look(Snapshot.of(host)))
    if args.json:
        tell_json(asdict(report), indent=2)
    else:
        tell(show(report, host.package.command))
    return 1 if any(found.severity == "error" for found in report.findings) else 0
