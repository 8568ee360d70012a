# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of sockets, workers and their units."""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..config.names import Package, label
from ..pool import connections, roll_state, service
from ..pool.host import Host
from ..pool.instances import failed_step, listed
from ..pool.lock import under_way
from ..pool.overrides import FOLDERS
from ..pool.roll_state import Rolling
from ..system import processes, unit_file
from ..system.files import read_or_none
from ..system.output import Failure, counted
from ..view.look import Look
from .finding import Finding, error, quoting, warning
from .verdict import queued

QUEUE = "10-queue.conf"


FAST = 10.0
"""Seconds: a worker that was restarted and is younger may be in a crash loop."""


# ---- Sockets


def check_enabled(host: Host, look: Look) -> Iterator[Finding]:
    if look.serving:
        return
    package, now, once = host.package, look.server.instances, look.server.state.enabled
    remedy = f"{package.command} apply"
    # What somebody has taken out by hand stays so.
    name = package.service_unit if look.is_shared else package.socket_unit
    if out := sorted(once - now.enabled - now.masked):
        remedy = f"systemctl enable {' '.join(map(name, out))} && {remedy}"
    if masked := sorted(now.masked & (once | now.enabled)):
        units = " ".join(map(name, masked))
        remedy = f"systemctl unmask {units} && systemctl enable {units} && {remedy}"
    yield error("instance-missing", "no instance is enabled", f"{package.pool}.target", remedy)


def check_sockets(host: Host, look: Look) -> Iterator[Finding]:
    package, now = host.package, look.server.instances
    if len(look.serving) > 1 and not now.listening & look.serving and not now.shared_open:
        what, unit = "the pool is stopped: none of its sockets is open", f"{package.pool}.target"
        yield error("pool-stopped", what, unit, f"systemctl start {unit}")
        return
    if look.is_shared:
        down = {} if now.shared_open else {package.shared_unit: "the shared socket"}
    else:
        numbers = sorted(look.serving - now.listening)
        down = {package.socket_unit(n): f"the socket of instance {n}" for n in numbers}
    if look.wanted and look.wanted.heavy and not now.lane_open:
        down[package.heavy_unit] = "the socket of heavy requests"
    reopened = _reopened(package, look.server.rolling)
    for unit, name in down.items():
        if unit in reopened:
            continue
        shown = look.units.get(unit, {})
        result = shown.get("Result", "success")
        state = shown.get("SubState", "dead")
        why = f" ({result})" if result != "success" else ""
        yield error("socket-down", f"{name} is {state}{why}", unit, f"systemctl start {unit}")


def _reopened(package: Package, rolling: Rolling) -> frozenset[str]:
    """The sockets that a roll may be opening again."""
    if not rolling.alive:
        return frozenset()
    lane = {package.heavy_unit} if rolling.lane else set()
    return frozenset({package.shared_unit, *map(package.socket_unit, rolling.drained), *lane})


def listens_at(package: Package, look: Look, instance: int) -> str:
    """The path of an instance's socket, which has a name of its own in a pool made by hand."""
    told = look.units.get(package.socket_unit(instance), {}).get("Listen", "")
    return told.partition(" (Stream)")[0] if told.startswith("/") else package.socket(instance)


def check_orphans(host: Host, look: Look) -> Iterator[Finding]:
    """A socket stays open when its file is deleted, and nobody can connect to it. A
    second one on the same path has taken its file."""
    package, now = host.package, look.server.instances
    if look.blind:
        raise Failure(look.blind)
    found = [
        (f"instance {n}", listens_at(package, look, n), package.socket_unit(n))
        for n in sorted(now.listening - now.shared)
    ]
    if now.shared_open:
        found.append(("the shared socket", package.shared_socket, package.shared_unit))
    if now.lane_open:
        found.append(("the socket of heavy requests", package.heavy_socket, package.heavy_unit))
    reopened = _reopened(package, look.server.rolling)
    for name, path, unit in found:
        if unit in reopened:
            continue
        try:
            is_socket = stat.S_ISSOCK(host.path(path).stat().st_mode)
        except FileNotFoundError:
            is_socket = False
        if is_socket and connections.is_reachable(look.table, path):
            continue
        if unit in _reopened(package, roll_state.load(host)):
            # It has come to this one since.
            continue
        what = (
            f"{name} listens, but another program has bound its path"
            if is_socket
            else f"{name} listens, but its file is gone"
        )
        yield error("socket-orphaned", what, path, f"systemctl restart {unit}")


# ---- Workers


def missing(package: Package, look: Look) -> frozenset[int]:
    """Instances whose worker is not there, though it should be."""
    return frozenset(n for n in _up(look) if not pid(package, look, n))


def pid(package: Package, look: Look, instance: int) -> int:
    """The main process of an instance's worker, 0 if there is none."""
    return int(look.units.get(package.service_unit(instance), {}).get("MainPID") or 0)


def pids(package: Package, look: Look) -> dict[int, int]:
    """Workers that run, by instance."""
    known = look.serving | look.server.instances.heavy
    found = {n: pid(package, look, n) for n in known}
    return {n: one for n, one in found.items() if one}


def _up(look: Look) -> frozenset[int]:
    """Without its own socket, a worker can't be there. Of those for heavy requests, whoever
    systemd does not keep is not asked for; nor is one that a roll restarts."""
    now = look.server.instances
    heavy = now.heavy if now.lane_open else frozenset()
    if look.is_shared:
        return ((look.serving if now.shared_open else frozenset()) | heavy) - look.server.rolling.at
    return (look.serving & now.listening | heavy) - look.server.rolling.at


def suspects(package: Package, look: Look) -> frozenset[int]:
    """Instances whose worker is not there, or was restarted just now."""
    found = set(missing(package, look))
    for n in _up(look):
        shown = look.units.get(package.service_unit(n), {})
        started = int(shown.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        if int(shown.get("NRestarts") or 0) > 0 and look.now - started < FAST:
            found.add(n)
    return frozenset(found)


def check_workers(
    package: Package,
    suspected: frozenset[int],
    before: Mapping[str, Mapping[str, str]],
    after: Mapping[str, Mapping[str, str]],
    last_words: Mapping[int, str],
) -> Iterator[Finding]:
    """Workers that do not come up, from two looks at them some seconds apart, or from one
    look given twice."""
    for n in sorted(suspected):
        unit = package.service_unit(n)
        first, second = before.get(unit, {}), after.get(unit, {})
        if failed_step(first) or failed_step(second):
            continue  # told by checks/refused.py
        again = int(second.get("NRestarts") or 0) - int(first.get("NRestarts") or 0)
        state = second.get("SubState", "dead")
        gone = not int(second.get("MainPID") or 0)
        # One that is gone, but neither dead nor failed, is kept waiting before its next start.
        if again > 0 or (gone and state not in ("dead", "failed")):
            how = "ends again and again" if again > 0 else "has ended and is being restarted"
            restarts = counted(int(second.get("NRestarts") or 0), "restart")
            yield error(
                "worker-crash-loop",
                quoting(
                    f"the worker of instance {label(n)} {how} ({restarts})", last_words.get(n, "")
                ),
                unit,
                f"{package.command} logs --instance {label(n)}",
            )
        elif gone:
            yield error(
                "worker-down",
                f"the worker of instance {label(n)} is {state}",
                unit,
                f"systemctl start {unit}",
            )


def check_versions(host: Host, look: Look) -> Iterator[Finding]:
    """Workers that run files which are on disk no more; those of the same files together."""
    package, stale = host.package, look.server.instances.stale
    found: dict[tuple[tuple[str, ...], bool], list[int]] = {}
    for n, process in pids(package, look).items():
        if files := processes.replaced_files(process, package.mapserv):
            found.setdefault((files, n in stale), []).append(n)
    for (files, is_stale), numbers in sorted(found.items()):
        one = f" --instance {label(numbers[0])}" if len(numbers) == 1 else ""
        yield warning(
            "worker-old",
            f"{owner('worker', numbers)} files that were replaced: {', '.join(files)}",
            ", ".join(map(package.service_unit, numbers)),
            f"{package.command} apply" if is_stale else f"{package.command} restart{one}",
        )


def owner(noun: str, numbers: Sequence[int]) -> str:
    """Such as "the workers of instances 1, 2 run"."""
    if len(numbers) == 1:
        return f"the {noun} of instance {label(numbers[0])} runs"
    return f"the {noun}s of instances {listed(numbers)} run"


def check_drained(host: Host, look: Look) -> Iterator[Finding]:
    package = host.package
    for n in sorted(look.server.state.drained & look.serving):
        yield warning(
            "drained",
            f"instance {n} was drained by hand and gets no requests",
            package.socket_unit(n),
            f"{package.command} undrain {n}",
        )


def check_service(host: Host, look: Look) -> Iterator[Finding]:
    """What an administrator has taken out of service, and may have forgotten."""
    package, out = host.package, service.load(host)
    if out.maintenance:
        yield warning(
            "maintenance",
            "the pool is in maintenance: clients get status 503",
            package.maintenance,
            f"{package.command} maintenance off",
        )
    for name in out.projects:
        yield warning(
            "maintenance",
            f"project {name} is in maintenance: its clients get status 503",
            f"{package.maintenance_projects}/{name}",
            f"{package.command} maintenance off --project {name}",
        )
    if out.drained:
        yield warning(
            "out-of-balance",
            "this server was drained by hand: load balancers are told to send it nothing",
            package.out,
            f"{package.command} undrain",
        )
    if out.leaving and not under_way(host):
        yield warning(
            "out-of-balance",
            "a restart or a shutdown has taken this server out, and has not ended: load balancers"
            " are told to send it nothing",
            package.leaving,
            f"{package.command} undrain",
        )


def check_monitor(host: Host, look: Look) -> Iterator[Finding]:
    """A pool that is stopped has none."""
    package = host.package
    if look.watch is None and pids(package, look):
        yield warning(
            "monitor-down",
            "the monitor does not run: workers that hang are not killed, and load balancers"
            " are not told if the pool can't serve",
            package.monitor_unit,
            f"systemctl restart {package.monitor_unit}",
        )


def check_sight(host: Host, look: Look) -> Iterator[Finding]:
    """The kernel of a container's host may lack what it takes."""
    if look.blind:
        yield warning(
            "sockets-unseen",
            f"{look.blind}: workers that hang are not killed, and nobody knows which are busy",
            "sock_diag(7)",
            "modprobe unix_diag",
        )


def check_cache(host: Host, look: Look) -> Iterator[Finding]:
    package = host.package
    if look.settings and look.settings.caches and not look.server.caching:
        yield warning(
            "cache-down",
            "the watch over the reply cache does not run: no reply is kept or taken from it",
            package.cache_unit,
            f"systemctl restart {package.cache_unit}",
        )


def check_metrics(host: Host, look: Look) -> Iterator[Finding]:
    package = host.package
    state = host.show(package.metrics_unit, "ActiveState").get("ActiveState")
    if pids(package, look) and state != "active":
        yield warning(
            "metrics-down",
            "what counts requests does not run: metrics are not told",
            package.metrics_unit,
            f"systemctl restart {package.metrics_socket_unit} {package.metrics_unit}",
        )


def check_front(host: Host, look: Look) -> Iterator[Finding]:
    """A pool that is stopped needs none: its page stays as it is."""
    package = host.package
    lists = look.settings and look.settings.lists
    if lists and not look.server.lists and pids(package, look):
        yield warning(
            "front-down",
            "the list of the front page is not kept: it shows no new project",
            package.front_unit,
            f"systemctl restart {package.front_unit}",
        )


def check_load(host: Host, look: Look) -> Iterator[Finding]:
    """Whether it stays so, only who looks again can tell."""
    serving = [line for line in look.lines if line.serves]
    if not serving or not all(line.work == "busy" for line in serving):
        return
    if waiting := queued(look.lines, look.queue):
        command = f"{host.package.command} scale {len(serving) + 1}"
        yield warning(
            "pool-busy",
            f"all {counted(len(serving), 'worker')} are busy, and {counted(waiting, 'request')} "
            f"{'waits' if waiting == 1 else 'wait'}",
            f"{host.package.pool}.target",
            f"if it stays so, and cores and memory allow: {command}",
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


def check_overrides(host: Host, look: Look) -> Iterator[Finding]:
    """Drop-ins that take from a pool what keeps it alive."""
    package = host.package
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
        (
            lambda n: package.heavy_unit,
            "TriggerLimitIntervalUSec",
            "TriggerLimitIntervalSec",
            ("0",),
            "a crash loop takes the socket of heavy requests down",
        ),
    )
    for unit_of, name, key, good, effect in rules:
        wrong: dict[tuple[str, bool], list[int]] = {}
        for n in sorted(look.serving):
            shown = look.units.get(unit_of(n), {})
            value = shown.get(name)
            if value is not None and value not in good:
                unit = shown.get("FragmentPath", "")
                files = settings_in(f"{unit} {shown.get('DropInPaths', '')}", key)
                wrong.setdefault((files[-1] if files else unit, bool(files)), []).append(n)
        for (place, sets), instances in wrong.items():
            # A unit that takes the place of the package's may lack what that one sets.
            yield warning(
                "unit-override",
                f"{'sets' if sets else 'does not set'} {key}= for instance {listed(instances)}: "
                f"{effect}",
                place,
                f"sed -i '/^{key}/d' {place} && systemctl daemon-reload"
                if sets and os.path.dirname(place) not in FOLDERS
                else f"{package.command} adopt",
            )


def check_queue(host: Host, look: Look) -> Iterator[Finding]:
    package, loose = host.package, []
    if look.server.shadows.foreign:
        return
    for n in sorted(look.serving):
        shown = look.units.get(package.service_unit(n), {})
        required = package.shared_unit if look.is_shared else package.socket_unit(n)
        if shown and required not in shown.get("Requires", "").split():
            loose.append(n)
    if not loose or look.is_shared:
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
