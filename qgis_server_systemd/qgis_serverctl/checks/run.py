# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks for every known way in which a pool is broken. Nothing is changed, and nothing is
sent to a worker."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config.settings import Settings
from ..pool import cores, instances, roll_state
from ..pool.host import Host
from ..system import processes
from ..system.output import Failure, counted, printable
from ..units.sandbox import watched
from ..view.look import Look
from . import files, front, lane, projects, refused, sandbox, secrets, units
from .finding import Finding, warning

PATIENCE = 3.0
"""Seconds between two looks at a worker that may be in a crash loop."""

LAST_WORDS = 200
"""Characters of a line that are quoted."""

MEMORY_SHARE = 0.9
"""Of the machine's memory: the rest is for the system and for caches."""


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
    """The last line that a worker wrote itself, else what systemd warns of: to be quoted, and
    never to be judged by."""
    package = host.package
    unit = package.service_unit(instance)
    ask = ("journalctl", f"--unit={unit}", "--lines=30", "--output=cat", "--no-pager", "--quiet")
    own = host.command(*ask, f"--identifier={package.pool}").stdout.splitlines()
    # How long the next start waits is not why one is needed.
    lines = [line for line in own if line.strip() and not line.startswith("worker ")]
    if not lines:
        lines = host.command(*ask, "--priority=warning", "_PID=1").stdout.splitlines()
    return printable(lines[-1].strip(), LAST_WORDS) if lines else ""


# ---- The checks that look at the machine twice, or at several parts of it


def workers(host: Host, look: Look) -> Iterator[Finding]:
    """What a second look tells: is it a crash loop?"""
    package = host.package
    suspected = units.suspects(package, look)
    if not suspected:
        return
    time.sleep(PATIENCE)
    rolled = roll_state.load(host).at
    after = instances.units(host)
    suspected -= rolled | roll_state.load(host).at
    words = {n: last_words(host, n) for n in suspected}
    yield from units.check_workers(package, suspected, look.units, after, words)


def workers_now(host: Host, look: Look) -> Iterator[Finding]:
    """What one look tells."""
    package = host.package
    gone = units.missing(package, look)
    return units.check_workers(package, gone, look.units, look.units, {})


def memory(host: Host, look: Look) -> Iterator[Finding]:
    sizes = [processes.memory(pid) for pid in units.pids(host.package, look).values()]
    known = [size for size in sizes if size is not None]
    return units.check_memory(host.package, known, memory_limit(host))


def pending(host: Host, look: Look) -> Iterator[Finding]:
    if look.pending:
        count = len(look.pending)
        yield warning(
            "pending",
            f"{counted(count, 'change')} {'waits' if count == 1 else 'wait'} to be applied: "
            f"{'; '.join(look.pending)}",
            f"{host.package.etc}/server.toml",
            f"{host.package.command} apply",
        )


Run = Callable[[Host, Look], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """`root`: needs root. `at_once`: what `status` runs, which shows what is grave and
    waits for nothing; None: not for it. `reads`: folders of projects and data."""

    name: str
    run: Run
    at_once: Run | None = None
    root: bool = False
    reads: bool = False


def grave(name: str, run: Run, *, root: bool = False) -> Check:
    """One that `status` runs, too."""
    return Check(name, run, run, root)


CHECKS: tuple[Check, ...] = (
    grave("settings", files.check_settings),
    Check("unit files", files.check_shadows),
    Check("drop-ins", units.check_overrides),
    Check("queues", units.check_queue),
    grave("instances", units.check_enabled),
    grave("sockets", units.check_sockets),
    grave("the kernel's table of sockets", units.check_sight),
    grave("files of the sockets", units.check_orphans),
    Check("access to sockets", front.check_socket_access, root=True),
    Check("environment", files.check_environment),
    Check("starts of workers", refused.check, refused.check_now, root=True),
    Check("workers", workers, workers_now),
    grave("versions", units.check_versions, root=True),
    Check("memory", memory, root=True),
    grave("load", units.check_load, root=True),
    grave("monitor", units.check_monitor),
    grave("reply cache", units.check_cache),
    Check("metrics", units.check_metrics),
    grave("front page", units.check_front),
    Check("drained instances", units.check_drained),
    grave("what is out of service", units.check_service),
    Check("folders", files.check_access, root=True, reads=True),
    Check("projects", projects.check, root=True, reads=True),
    Check("secrets", lambda host, _: secrets.check(host), root=True),
    Check("sandbox", sandbox.check, root=True, reads=True),
    Check("disks", lambda host, _: files.check_disks(files.disks(host))),
    Check("fonts", lambda host, _: files.check_fonts(host)),
    grave("NGINX", front.check_service),
    grave("NGINX's way to the pool", front.check_use),
    Check("ports of NGINX", front.check_ports_of_running, root=True),
    Check("NGINX's configuration", front.check_configuration, root=True),
    Check("certificates of NGINX", front.check_certificates, root=True),
    grave("upstream", front.check_upstream),
    grave("pending changes", pending),
)
"""Causes before what follows from them."""


@dataclass(frozen=True)
class Unchecked:
    """`what`: name of a check. `why`: it was not made."""

    what: str
    why: str


@dataclass(frozen=True)
class Report:
    """`findings`: errors first, else in the order of the checks. `log`: lines of workers that the
    sandbox may be the cause of. Clients may have written them, so they are no finding. `notes`:
    what is not as it could be, and nothing that fails."""

    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]
    log: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _all(
    host: Host, look: Look, checks: Sequence[tuple[Check, Run]], silent: Sequence[str] = ()
) -> Report:
    """`silent`: folders that nobody must look at."""
    found = [*files.check_silent(silent)]
    unchecked = []
    for check, run in checks:
        if check.root and not look.root:
            unchecked.append(Unchecked(check.name, "needs root"))
            continue
        if check.reads and silent:
            unchecked.append(Unchecked(check.name, f"{silent[0]} does not answer"))
            continue
        try:
            found += run(host, look)
        except (Failure, OSError, KeyError) as problem:
            unchecked.append(Unchecked(check.name, str(problem)))
    if look.wanted is None:
        why = "they are invalid" if look.root else look.obstacle
        unchecked.append(Unchecked("what the settings ask for", why))
    found.sort(key=lambda finding: finding.severity)  # error before warning
    return Report(tuple(found), tuple(unchecked))


def everything(host: Host, look: Look) -> Report:
    """All checks; takes some seconds where a worker may be in a crash loop, or a file system does
    not answer."""
    folders = watched(host.package, look.settings or Settings())
    checks = [(check, check.run) for check in CHECKS]
    report = _all(host, look, checks, files.silent(folders))
    return replace(report, log=sandbox.said(host, look), notes=lane.notes(host.package, look))


def at_once(host: Host, look: Look) -> Report:
    """Those that tell what is grave and wait for nothing."""
    return _all(host, look, [(check, check.at_once) for check in CHECKS if check.at_once])
