# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of sockets, workers and their units."""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..config.names import Package
from ..pool import connections
from ..pool.host import Host
from ..pool.instances import listed
from ..system import unit_file
from ..system.files import read_or_none
from .finding import Facts, Finding, error, warning

QUEUE = "10-queue.conf"


FAST = 10.0
"""Seconds: a worker that was restarted and is younger may be in a crash loop."""


# ---- Sockets
def check_sockets(package: Package, facts: Facts) -> Iterator[Finding]:
    now = facts.server.instances
    if facts.is_shared:
        down = {} if now.shared_open else {package.shared_unit: "the shared socket"}
    else:
        numbers = sorted(facts.serving - now.listening)
        down = {package.socket_unit(n): f"the socket of instance {n}" for n in numbers}
    for unit, name in down.items():
        shown = facts.units.get(unit, {})
        result = shown.get("Result", "success")
        state = shown.get("SubState", "dead")
        why = f" ({result})" if result != "success" else ""
        yield error("socket-down", f"{name} is {state}{why}", unit, f"systemctl start {unit}")


def check_orphans(host: Host, facts: Facts, table: str) -> Iterator[Finding]:
    """A socket stays open when its file is deleted, and nobody can connect to it. A
    second one on the same path has taken its file."""
    package, now = host.package, facts.server.instances
    found = [
        (f"instance {n}", package.socket(n), package.socket_unit(n))
        for n in sorted(now.listening - now.shared)
    ]
    if now.shared_open:
        found.append(("the shared socket", package.shared_socket, package.shared_unit))
    for name, path, unit in found:
        try:
            is_socket = stat.S_ISSOCK(host.path(path).stat().st_mode)
        except FileNotFoundError:
            is_socket = False
        if is_socket and connections.listeners(table, path) == 1:
            continue
        what = (
            f"{name} listens, but another program has bound its path"
            if is_socket
            else f"{name} listens, but its file is gone"
        )
        yield error("socket-orphaned", what, path, f"systemctl restart {unit}")


# ---- Workers
def suspects(facts: Facts, package: Package, now: float) -> frozenset[int]:
    """Instances whose worker is not there, or was restarted just now. `now`: on the
    monotonic clock."""
    found = set()
    up = facts.serving if facts.is_shared else facts.serving & facts.server.instances.listening
    for n in up:
        shown = facts.units.get(package.service_unit(n), {})
        started = int(shown.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        young = int(shown.get("NRestarts") or 0) > 0 and now - started < FAST
        if not int(shown.get("MainPID") or 0) or young:
            found.add(n)
    return frozenset(found)


def check_workers(
    package: Package,
    suspected: frozenset[int],
    before: Mapping[str, Mapping[str, str]],
    after: Mapping[str, Mapping[str, str]],
    last_words: Mapping[int, str],
) -> Iterator[Finding]:
    """Workers that do not come up, from two looks at them some seconds apart."""
    for n in sorted(suspected):
        unit = package.service_unit(n)
        first, second = before.get(unit, {}), after.get(unit, {})
        again = int(second.get("NRestarts") or 0) - int(first.get("NRestarts") or 0)
        state = second.get("SubState", "dead")
        gone = not int(second.get("MainPID") or 0)
        said = f"; it said last: {last_words[n]}" if last_words.get(n) else ""
        # One that is gone, but neither dead nor failed, is kept waiting before its next start.
        if again > 0 or (gone and state not in ("dead", "failed")):
            yield error(
                "worker-crash-loop",
                f"the worker of instance {n} ends again and again "
                f"({second.get('NRestarts', '0')} restarts){said}",
                unit,
                f"{package.command} logs --instance {n}",
            )
        elif gone:
            yield error(
                "worker-down",
                f"the worker of instance {n} is {state}",
                unit,
                f"systemctl start {unit}",
            )


def check_versions(
    package: Package, replaced: Mapping[int, tuple[str, ...]], stale: frozenset[int]
) -> Iterator[Finding]:
    """`replaced`: files by instance that its worker runs, but that are on disk no more."""
    for n, files in sorted(replaced.items()):
        if files:
            yield warning(
                "worker-old",
                f"the worker of instance {n} runs files that were replaced: {', '.join(files)}",
                package.service_unit(n),
                f"{package.command} apply"
                if n in stale
                else f"{package.command} restart --instance {n}",
            )


def check_drained(package: Package, facts: Facts) -> Iterator[Finding]:
    for n in sorted(facts.server.state.drained & facts.serving):
        yield warning(
            "drained",
            f"instance {n} was drained by hand and gets no requests",
            package.socket_unit(n),
            f"{package.command} undrain {n}",
        )


def check_monitor(package: Package, *, fresh: bool) -> Iterator[Finding]:
    if not fresh:
        yield warning(
            "monitor-down",
            "the monitor does not run: workers that hang are not killed",
            package.monitor_unit,
            f"systemctl restart {package.monitor_unit}",
        )


def check_cache(package: Package, facts: Facts) -> Iterator[Finding]:
    if facts.settings and facts.settings.caches and not facts.server.caching:
        yield warning(
            "cache-down",
            "the watch over the reply cache does not run: no reply is kept or taken from it",
            package.cache_unit,
            f"systemctl restart {package.cache_unit}",
        )


# ---- Memory
def check_memory(
    package: Package, sizes: Sequence[float], limit: float | None
) -> Iterator[Finding]:
    """A worker grows with the projects that it has open, and any may be asked for
    those of the largest one: so all of them may become as large. `sizes` (PSS) and
    `limit`: MB."""
    if not sizes or limit is None:
        return
    largest, count = max(sizes), len(sizes)
    if largest * count > limit:
        fit = max(1, int(limit / largest))
        if fit < count:
            yield warning(
                "memory-short",
                f"{count} workers may need {largest * count:.0f} MB if all become as large as "
                f"the largest one, {largest:.0f} MB; they may take {limit:.0f} MB",
                package.slice,
                f"{package.command} scale {fit}",
            )


# ---- Units
def settings_in(files: str, key: str) -> list[str]:
    """Those of a unit's files, as systemd lists them, that set `key`."""
    found = []
    for file in files.split():
        with contextlib.suppress(OSError):
            text = read_or_none(Path(file)) or ""
            if any(name == key for _, name, _ in unit_file.lines(text)):
                found.append(file)
    return found


def check_overrides(package: Package, facts: Facts) -> Iterator[Finding]:
    """Drop-ins that take from a pool what keeps it alive."""
    rules = (
        (package.service_unit, "Restart", "Restart", ("always",), "a worker that ends stays away"),
        (
            package.service_unit,
            "StartLimitIntervalUSec",
            "StartLimitIntervalSec",
            ("0",),
            "a crash loop ends with a worker that stays away",
        ),
        (
            package.socket_unit,
            "TriggerLimitIntervalUSec",
            "TriggerLimitIntervalSec",
            ("0",),
            "a crash loop takes the socket down",
        ),
        (
            lambda n: package.shared_unit,
            "TriggerLimitIntervalUSec",
            "TriggerLimitIntervalSec",
            ("0",),
            "a crash loop takes the shared socket down",
        ),
    )
    for unit_of, name, key, good, effect in rules:
        wrong: dict[str, list[int]] = {}
        for n in sorted(facts.serving):
            shown = facts.units.get(unit_of(n), {})
            value = shown.get(name)
            if value is not None and value not in good:
                files = settings_in(shown.get("DropInPaths", ""), key)
                place = files[-1] if files else shown.get("FragmentPath", unit_of(n))
                wrong.setdefault(place, []).append(n)
        for place, instances in wrong.items():
            yield warning(
                "unit-override",
                f"sets {key}= for instance {listed(instances)}: {effect}",
                place,
                f"sed -i '/^{key}/d' {place} && systemctl daemon-reload",
            )


def check_queue(package: Package, facts: Facts) -> Iterator[Finding]:
    loose = []
    for n in sorted(facts.serving):
        shown = facts.units.get(package.service_unit(n), {})
        required = package.shared_unit if facts.is_shared else package.socket_unit(n)
        if shown and required not in shown.get("Requires", "").split():
            loose.append(n)
    if not loose or facts.is_shared:
        # The drop-in for the shared queue is written by apply: see pending changes.
        return
    # A file of that name there, or a link to /dev/null, replaces the package's.
    own = f"/etc/systemd/system/{package.pool}@.service.d/{QUEUE}"
    yield warning(
        "queue-dropin",
        f"the worker of instance {listed(loose)} does not require its socket: "
        f"the package's drop-in {QUEUE} is not in force",
        own if os.path.lexists(own) else package.service_unit(loose[0]),
        f"rm {own} && systemctl daemon-reload"
        if os.path.lexists(own)
        else f"apt install --reinstall {package.name}",
    )
