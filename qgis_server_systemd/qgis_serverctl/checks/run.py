# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks for every known way in which a pool is broken. Nothing is changed, and nothing is
sent to a worker."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..front import nginx
from ..monitor import record
from ..pool import connections, cores, instances
from ..pool.host import Host, Snapshot
from ..pool.settings import load_settings
from ..reconcile import inputs, plan
from ..system import processes
from ..system.files import read_or_none
from ..system.output import Failure
from . import files, front, sandbox, secrets, units
from .finding import Facts, Finding, warning

PROPERTIES = (
    "Requires", "Restart", "Result", "StartLimitIntervalUSec", "TriggerLimitIntervalUSec",
)  # fmt: skip
"""That the checks look at, beside those of instances.py."""


PATIENCE = 3.0
"""Seconds between two looks at a worker that may be in a crash loop."""


MEMORY_SHARE = 0.9
"""Of the machine's memory: the rest is for the system and for caches."""


NEEDS_ROOT = "needs root"


# ---- Facts
def gather(host: Host) -> Facts:
    server = inputs.gather(host)
    shown = instances.units(host, PROPERTIES)
    root = os.geteuid() == 0
    try:
        settings = load_settings(host).settings
        wanted = inputs.want(host, settings, server, explicit=False)
    except Failure:
        return Facts(root, None, server, None, None, shown)
    pending = tuple(map(str, plan.make(wanted, server).actions))
    return Facts(root, settings, server, wanted, pending, shown)


def memory_limit(host: Host) -> float | None:
    """MB that all workers may take together: a share of the machine's memory, or
    what the cgroup of the pool's slice or of one above it allows."""
    limits = []
    if total := processes.memory_total():
        limits.append(MEMORY_SHARE * total)
    for folder in cores.slice_chain(host.package.slice):
        try:
            text = (Path(cores.CGROUPS) / folder / "memory.max").read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text) / 2**20)
    return min(limits, default=None)


def last_words(host: Host, instance: int) -> str:
    """The last line that a worker wrote itself, else what systemd warns of."""
    package = host.package
    unit = package.service_unit(instance)
    ask = ("journalctl", f"--unit={unit}", "--lines=30", "--output=cat", "--no-pager")
    own = host.command(*ask, f"--identifier={package.pool}").stdout.splitlines()
    # How long the next start waits is not why one is needed.
    lines = [line for line in own if line.strip() and not line.startswith("worker ")]
    if not lines:
        lines = host.command(*ask, "--priority=warning").stdout.splitlines()
    return lines[-1].strip() if lines else ""


# ---- The checks that have to look at the machine
def pids(host: Host, facts: Facts) -> dict[int, int]:
    """Workers that run, by instance."""
    found = {
        n: int(facts.units.get(host.package.service_unit(n), {}).get("MainPID") or 0)
        for n in facts.serving
    }
    return {n: pid for n, pid in found.items() if pid}


def crash_loops(host: Host, facts: Facts) -> Iterator[Finding]:
    package = host.package
    suspected = units.suspects(facts, package, time.monotonic())
    if not suspected:
        return
    time.sleep(PATIENCE)
    after = instances.units(host, PROPERTIES)
    words = {n: last_words(host, n) for n in suspected}
    yield from units.check_workers(package, suspected, facts.units, after, words)


def versions(host: Host, facts: Facts) -> Iterator[Finding]:
    program = host.package.mapserv
    there = pids(host, facts).items()
    replaced = {n: processes.replaced_files(pid, program) or () for n, pid in there}
    return units.check_versions(host.package, replaced, facts.server.instances.stale)


def memory(host: Host, facts: Facts) -> Iterator[Finding]:
    sizes = [processes.memory(pid) for pid in pids(host, facts).values()]
    known = [size for size in sizes if size is not None]
    return units.check_memory(host.package, known, memory_limit(host))


def environment(host: Host, facts: Facts) -> Iterator[Finding]:
    text = read_or_none(host.path(f"{host.package.etc}/env"))
    return files.check_environment(host.package, text)


def nginx_configuration(host: Host, facts: Facts) -> Iterator[Finding]:
    problem = nginx.test(host) if facts.server.nginx.installed else ""
    return front.check_configuration(host.package, facts, problem)


def monitor(host: Host, facts: Facts) -> Iterator[Finding]:
    fresh = record.load_fresh(host) is not None
    return units.check_monitor(host.package, fresh=fresh)


def pending(host: Host, facts: Facts) -> Iterator[Finding]:
    if facts.pending:
        yield warning(
            "pending",
            f"what apply would do: {'; '.join(facts.pending)}",
            f"{host.package.etc}/server.toml",
            f"{host.package.command} apply",
        )


Check = Callable[[Host, Facts], Iterator[Finding]]


CHECKS: tuple[tuple[str, bool, Check], ...] = (
    ("settings", False, lambda host, _: files.check_settings(host)),
    ("unit files", False, lambda host, facts: files.check_shadows(host.package, facts)),
    ("drop-ins", False, lambda host, facts: units.check_overrides(host.package, facts)),
    ("queues", False, lambda host, facts: units.check_queue(host.package, facts)),
    ("sockets", False, lambda host, facts: units.check_sockets(host.package, facts)),
    (
        "files of the sockets",
        False,
        lambda host, facts: units.check_orphans(host, facts, connections.table()),
    ),
    ("access to sockets", True, front.check_socket_access),
    ("environment", False, environment),
    ("workers", False, crash_loops),
    ("versions", True, versions),
    ("memory", True, memory),
    ("monitor", False, monitor),
    ("reply cache", False, lambda host, facts: units.check_cache(host.package, facts)),
    ("drained instances", False, lambda host, f: units.check_drained(host.package, f)),
    ("projects and folders", True, files.check_access),
    ("secrets", True, lambda host, _: secrets.check(host)),
    ("sandbox", True, sandbox.check),
    ("disks", False, lambda host, _: files.check_disks(files.disks(host))),
    ("fonts", False, lambda host, _: files.check_fonts(host)),
    ("NGINX", False, lambda host, facts: front.check_service(host.package, facts)),
    ("NGINX's configuration", True, nginx_configuration),
    ("upstream", False, lambda host, facts: front.check_upstream(host.package, facts)),
    ("pending changes", False, pending),
)
"""Name, whether it needs root, and the check: causes before what follows from them."""


def collect(machine: Host) -> dict[str, Any]:
    """Everything that `check --json` prints."""
    facts = gather(Snapshot.of(machine))
    found: list[Finding] = []
    unchecked = []
    for name, needs_root, check in CHECKS:
        if needs_root and not facts.root:
            unchecked.append({"what": name, "why": NEEDS_ROOT})
            continue
        try:
            found += check(machine, facts)
        except (Failure, OSError, KeyError) as problem:
            unchecked.append({"what": name, "why": str(problem)})
    if facts.settings is None:
        unchecked.append({"what": "what the settings ask for", "why": "they are invalid"})
    found.sort(key=lambda finding: finding.severity)  # error before warning, else as found
    return {"findings": [asdict(finding) for finding in found], "unchecked": unchecked}
