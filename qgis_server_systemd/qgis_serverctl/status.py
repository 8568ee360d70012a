# SPDX-License-Identifier: GPL-2.0-or-later
"""``status``: what the pool is and does, as a table or as JSON."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import cores, instances, site, workers
from .host import Host
from .plan import make
from .survey import gather, load_settings, want


@dataclass(frozen=True)
class Line:
    """One instance. `work`: idle, busy, or a dash where it can't be told."""

    instance: int
    enabled: str
    socket: str
    service: str
    pid: int
    work: str
    queued: int
    restarts: int


def look(host: Host, instance: int, known: instances.Instances, table: str) -> Line:
    package = host.package
    socket, service = {}, {}
    if host.live:
        socket = host.show(package.socket_unit(instance), "ActiveState", "SubState")
        service = host.show(
            package.service_unit(instance), "ActiveState", "SubState", "MainPID", "NRestarts"
        )
    pid = int(service.get("MainPID") or 0)
    there = workers.connections(table, package.socket(instance))
    work = "-"
    if pid:
        try:
            work = "busy" if workers.is_busy(pid, there) else "idle"
        except OSError:
            work = "-"
    return Line(
        instance=instance,
        enabled="masked" if instance in known.masked else _yes(instance in known.enabled),
        socket=socket.get("SubState", "-"),
        service=service.get("SubState", "-"),
        pid=pid,
        work=work,
        queued=there.queued,
        restarts=int(service.get("NRestarts") or 0),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def collect(host: Host) -> dict[str, Any]:
    """Everything that `status --json` prints."""
    facts = gather(host)
    resolved = load_settings(host)
    found = cores.detect(host)
    known = facts.instances
    table = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    shown = sorted(known.enabled | known.listening | facts.state.enabled)
    link = site.enabled_link(host)
    steps = make(want(host, resolved.settings, facts, explicit=False), facts)
    return {
        "instances": [asdict(look(host, n, known, table)) for n in shown],
        "settings": {
            key: {"value": value, "from": resolved.source[key]}
            for key, value in asdict(resolved.settings).items()
        },
        "cores": {**asdict(found), "count": found.count},
        "nginx": {
            "installed": facts.nginx.installed,
            "running": facts.nginx.running,
            "site": str(link) if link else None,
            "loaded": facts.loaded,
        },
        "pending": [str(action) for action in steps.actions],
        "notes": list(steps.notes),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Columns of equal width, headed by the keys."""
    heads = list(rows[0])
    cells = [
        [head.upper() for head in heads],
        *([str(row[head]) for head in heads] for row in rows),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _limit(value: object) -> object:
    return "none" if value is None else value


def show(status: dict[str, Any]) -> str:
    parts = []
    lines = status["instances"]
    parts.append(table(lines) if lines else "no instance")
    settings = status["settings"]
    parts.append(
        table(
            [
                {"setting": k, "value": json.dumps(v["value"]), "from": v["from"]}
                for k, v in settings.items()
            ]
        )
    )
    limits = status["cores"]
    parts.append(
        f"cores: {limits['count']} (affinity {limits['affinity']}, "
        f"cpuset {_limit(limits['cpuset'])}, quota {_limit(limits['quota'])})"
    )
    web = status["nginx"]
    state = "running" if web["running"] else "not running" if web["installed"] else "not installed"
    parts.append(f"NGINX: {state}, site {web['site'] or 'not enabled'}")
    parts += [f"note: {text}" for text in status["notes"]]
    parts += [f"to be applied: {text}" for text in status["pending"]]
    return "\n\n".join(parts[:2]) + "\n\n" + "\n".join(parts[2:])


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns 0 if every enabled instance serves, else 1."""
    status = collect(host)
    print(json.dumps(status, indent=2, ensure_ascii=False) if args.json else show(status))
    return 0
