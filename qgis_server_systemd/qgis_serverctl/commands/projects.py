# SPDX-License-Identifier: GPL-2.0-or-later
"""``projects``: shows each project that has an address and what is wrong with it, and those that
have none."""

import argparse
import sys
import time
from dataclasses import asdict
from typing import Any

from ..checks.finding import Finding, blocks
from ..checks.projects import Told, ignores_bad_layers, told, unserved
from ..config.settings import Settings
from ..front import site
from ..pool import catalogue, overrides
from ..pool.catalogue import Catalogue, Project
from ..pool.host import Host
from ..pool.settings import load_settings
from ..pool.state import State
from ..system.output import counted, die, note, printable, table, tell, tell_json

EVERY = 2.0
"""Seconds between two lines that tell how far it is."""

LONGEST = 60
"""Characters of a problem in the table."""


class Progress:
    """Tells from time to time how far a look is that takes long."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.start = self.last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.last < EVERY:
            return
        self.last = now
        found = catalogue.load(self.host)
        if found and found.ended is None and found.total:
            note(f"looking at projects: {found.done} of {found.total}")
        else:
            note("looking at projects")


def state(project: Project, problems: list[Told]) -> str:
    if not project.looked:
        return "unknown"
    severities = {one.finding.severity for one in problems}
    return "error" if "error" in severities else "warning" if severities else "ok"


def collect(
    host: Host, settings: Settings, found: Catalogue, only: str | None = None
) -> dict[str, Any]:
    """What `projects --json` prints; see projects.schema.json. `only`: the name of one."""
    package = host.package
    server = site.address(host)
    ignores = ignores_bad_layers(host)
    projects = []
    for one in catalogue.of_settings(found, settings):
        if only is not None and one.name != only:
            continue
        problems = told(package, settings, one, ignores=ignores)
        projects.append(
            {
                "name": one.name or None,
                "url": None if one.name is None else f"{server}{site.path_of(package, one.name)}",
                "path": one.path,
                "state": state(one, problems),
                "size": one.size,
                "changed": one.changed,
                "looked": one.looked or None,
                "title": one.title,
                "abstract": one.abstract,
                "services": list(one.services),
                "layers": one.layers,
                "problems": [
                    {"layer": each.layer or None, "short": each.short, **asdict(each.finding)}
                    for each in problems
                ],
            }
        )
    rest = unserved(package, settings, found) if only is None else []
    return {
        "looked": found.ended,
        "projects": projects,
        "without": [{"path": one.path, **asdict(finding)} for one, finding in rest],
    }


# ---- For people


def bytes_of(size: int | None) -> str:
    """A size as people write it."""
    if size is None:
        return "-"
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def moment(seconds: float | None) -> str:
    try:
        return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "-"


def row(project: dict[str, Any]) -> dict[str, str]:
    problems = project["problems"]
    short = ""
    if problems:
        first = problems[0]
        layer = f"{printable(first['layer'])}: " if first["layer"] else ""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        short = printable(layer + first["short"], LONGEST) + more
    return {
        "state": project["state"],
        "name": project["name"] or "-",
        "url": project["url"] or "- (only loaded in advance)",
        "size": bytes_of(project["size"]),
        "changed": moment(project["changed"]),
        "problem": short or "-",
    }


def show(found: dict[str, Any]) -> str:
    def finding(one: dict[str, Any]) -> Finding:
        return Finding(*(one[key] for key in ("id", "severity", "what", "where", "remedy")))

    projects, without = found["projects"], found["without"]
    wrong = [finding(one) for project in projects for one in project["problems"]]
    parts = [table([row(one) for one in projects]) if projects else "no project has an address"]
    parts.append(blocks(wrong))
    if without:
        parts.append(f"without an address: {counted(len(without), 'file')}")
        parts.append(blocks(map(finding, without)))
    return "\n\n".join(filter(None, parts))


# ---- The command


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    host.need_root("look at all projects", "projects")
    if not host.live:
        die("systemd does not run here", hint="projects can be looked at once it is booted")
    if overrides.find(host, State.load(host)).foreign:
        die("the pool was made by hand", hint=f"{host.package.command} adopt")
    settings = load_settings(host).settings
    names = [args.project] if args.project is not None else []
    catalogue.refresh(host, names=names, tell=Progress(host))
    found = catalogue.load(host)
    if found is None:
        die(f"{host.package.catalogue}: was not written", hint="is the disk full?")
    shown = collect(host, settings, found, args.project)
    if args.project is not None and not shown["projects"]:
        die(
            f"no project is served by the name {args.project}",
            hint=f"{host.package.command} projects shows all, and those that can't be served",
        )
    if args.json:
        tell_json(shown, indent=2)
    else:
        tell(show(shown))
    sys.stdout.flush()
    return 1 if any(one["problems"] for one in shown["projects"]) else 0
