# SPDX-License-Identifier: GPL-2.0-or-later
"""``status``: shows the pool, as a table or as JSON."""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..checks.finding import Finding, blocks
from ..checks.run import at_once
from ..checks.verdict import judge
from ..front import site
from ..pool import cores
from ..pool.host import Host, Snapshot
from ..system import processes
from ..system.output import counted, printable, span, table, tell, tell_json
from ..view import reply_wait
from ..view.look import look


def collect(machine: Host) -> dict[str, Any]:
    """Everything that `status --json` prints; see status.schema.json. Raises Failure or
    OSError."""
    host = Snapshot.of(machine)
    seen = look(host)
    findings = at_once(host, seen).findings if host.live else ()
    limits, web = cores.detect(host), seen.server.nginx
    link = site.enabled_link(host)
    settings = asdict(seen.settings) if seen.settings else {}
    source = seen.resolved.source if seen.resolved else {}
    return {
        "verdict": asdict(judge(seen.lines, seen.queue, findings, lane=seen.lane, live=host.live)),
        "qgis": processes.qgis_version(host.path(host.package.mapserv)),
        "reply_wait": reply_wait.state(host, seen.settings, cancels=seen.server.cancels),
        "monitor": seen.watch is not None,
        "instances": [asdict(line) for line in seen.lines],
        "shared_queue": asdict(seen.queue) if seen.queue else None,
        "heavy": asdict(seen.lane) if seen.lane else None,
        "settings": {key: {"value": value, "from": source[key]} for key, value in settings.items()},
        "cores": {**asdict(limits), "count": limits.count},
        "nginx": {
            "installed": web.installed,
            "running": web.running,
            "site": str(link) if link else None,
            "loaded": seen.server.loaded,
        },
        "pending": None if seen.pending is None else list(seen.pending),
        "notes": list(seen.notes),
    }


# ---- For people


def row(line: Mapping[str, Any]) -> dict[str, Any]:
    """An instance as the table shows it: durations as people write them, and dashes."""
    cells = dict(line)
    for name in ("busy", "queued", "age"):
        seconds = cells.pop(f"{name}_seconds")
        shown = None if seconds is None else span(seconds)
        if name == "age":
            cells["age"] = shown
        elif name == "busy" and shown:
            cells["work"] = f"busy {shown}"
        elif shown:
            cells["queued"] = f"{cells['queued']} ({shown})"
    memory = cells.pop("memory_mb")
    cells["memory"] = None if memory is None else f"{memory:.0f} MB"
    cells["version"] = cells.pop("version")
    cells["pid"] = cells["pid"] or None
    return {key: "-" if value is None else value for key, value in cells.items()}


def _limit(value: object) -> object:
    return "none" if value is None else value


def show_verdict(verdict: Mapping[str, Any]) -> str:
    head = f"{verdict['level']}: {verdict['summary']}"
    problems = blocks(Finding(**problem) for problem in verdict["problems"])
    return "\n\n".join(filter(None, (head, problems)))


def shown_queue(queue: Mapping[str, Any], name: str = "shared queue") -> str:
    seconds = queue["queued_seconds"]
    since = "" if seconds is None else f" ({span(seconds)})"
    return f"{name}: socket {queue['socket']}, {queue['queued']} wait{since}"


def shown_lane(lane: Mapping[str, Any]) -> str:
    """Its workers that run are in the table."""
    run = f"{len(lane['workers'])} of {counted(lane['wanted'], 'worker')} run"
    return f"{shown_queue(lane, 'heavy requests')}, {run}"


def show_qgis(status: Mapping[str, Any]) -> str:
    name = f"QGIS Server {status['qgis'] or 'of an unknown release'}"
    waits = reply_wait.SAID.get(status["reply_wait"])
    return f"{name}; {waits}" if waits else name


def show_pool(status: Mapping[str, Any]) -> str:
    """The instances and the verdict: what changes from one look to the next."""
    queue, lane = status["shared_queue"], status["heavy"]
    lines = [*status["instances"], *(lane["workers"] if lane else ())]
    shown = [shown_queue(queue)] if queue else []
    shown += [shown_lane(lane)] if lane else []
    return "\n\n".join(
        [
            show_qgis(status),
            table([row(line) for line in lines]) if lines else "no instance",
            *filter(None, ["\n".join(shown)]),
            show_verdict(status["verdict"]),
        ]
    )


def show_settings(settings: Mapping[str, Any], *, every: bool) -> str:
    """Those that are not as by default, or all of them."""
    rows = [
        {"setting": key, "value": json.dumps(found["value"]), "from": found["from"]}
        for key, found in settings.items()
        if every or found["from"] != "default"
    ]
    return table(rows) if rows else "settings: all as by default"


def show(status: Mapping[str, Any], *, every: bool) -> str:
    """`every`: also the settings that are as by default."""
    parts = [show_pool(status)]
    if settings := status["settings"]:
        parts.append(show_settings(settings, every=every))
    limits = status["cores"]
    rest = [
        f"cores: {limits['count']} (affinity {limits['affinity']}, "
        f"cpuset {_limit(limits['cpuset'])}, quota {_limit(limits['quota'])})"
    ]
    web = status["nginx"]
    state = "running" if web["running"] else "not running" if web["installed"] else "not installed"
    rest.append(f"NGINX: {state}, site {web['site'] or 'not enabled'}")
    rest += [f"note: {printable(text)}" for text in status["notes"]]
    return "\n\n".join([*parts, "\n".join(rest)])


# ---- The command


def watch_pool(host: Host, every: float, *, as_json: bool) -> int:
    """Show the pool again and again: on a terminal in place, else one after the
    other, as JSON one line each. Ends with Ctrl-C."""
    try:
        while True:
            status = collect(host)
            if as_json:
                tell_json(status, flush=True)
            else:
                tell(f"{show_pool(status)}\n", flush=True, clear=True)
            time.sleep(every)
    except KeyboardInterrupt:
        return 0


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    if args.watch is not None:
        return watch_pool(host, args.watch, as_json=args.json)
    status = collect(host)
    if args.json:
        tell_json(status, indent=2)
    else:
        tell(show(status, every=args.all))
    return 0
