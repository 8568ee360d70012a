# SPDX-License-Identifier: GPL-2.0-or-later
"""Check of workers that systemd can't start at all: the kernel, or the container that this is,
refuses a part of the sandbox. Which part is found out by trying each, with a program that does
nothing. What systemd says in the journal is quoted only."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..config.names import Package, label
from ..pool import instances
from ..pool.host import Host
from ..pool.instances import failed_step, listed
from ..system.files import read_or_none
from ..system.output import printable
from ..view.look import Look
from .finding import Finding, error, quoting

PARTS = {
    "PrivateUsers": ("yes", "no"),
    "PrivateDevices": ("yes", "no"),
    "PrivateIPC": ("yes", "no"),
    "PrivateTmp": ("yes", "no"),
    "ProtectClock": ("yes", "no"),
    "ProtectControlGroups": ("yes", "no"),
    "ProtectHostname": ("yes", "no"),
    "ProtectKernelLogs": ("yes", "no"),
    "ProtectKernelModules": ("yes", "no"),
    "ProtectKernelTunables": ("yes", "no"),
    "ProtectProc": ("invisible", "default"),
    "KeyringMode": ("private", "inherit"),
    "LockPersonality": ("yes", "no"),
    "NoNewPrivileges": ("yes", "no"),
    "RestrictNamespaces": ("yes", "no"),
    "RestrictRealtime": ("yes", "no"),
    "RestrictSUIDSGID": ("yes", "no"),
    "RestrictAddressFamilies": ("AF_UNIX AF_INET AF_INET6 AF_NETLINK", ""),
    "SystemCallFilter": ("@system-service", ""),
}
"""Parts of the sandbox that a worker can do without, as its unit has them (but for exceptions)
and as they are without effect."""

LIMITS = {"PrivateUsers": "user", "PrivateIPC": "ipc", "ProtectHostname": "uts"}
"""The namespace that a part needs: user.max_NAME_namespaces says how many there may be
(namespaces(7))."""

DROPIN = "50-refused.conf"

SHORT = 0.3
"""Seconds that a start which fails takes at most."""

WORDS = 200
"""Characters of what systemd said."""


def refused(host: Host) -> tuple[str, ...]:
    """The parts that can't be had here. None where nothing can be told: a program without any
    does not start either."""
    user = f"--property=User={host.package.user}"
    run = ("systemd-run", "--quiet", "--collect", "--property=Type=oneshot", user)

    def works(*parts: str) -> bool:
        return host.command(*run, *parts, "--", "/usr/bin/true").returncode == 0

    if not works():
        return ()
    return tuple(
        name for name, (value, _) in PARTS.items() if not works(f"--property={name}={value}")
    )


def limit(part: str, proc: Path = Path("/proc/sys/user")) -> str:
    """The limit of the kernel that allows for no such namespace, if it is that."""
    name = f"max_{LIMITS.get(part, 'mnt')}_namespaces"
    return f"user.{name}" if (read_or_none(proc / name) or "").strip() == "0" else ""


def said(host: Host, unit: str) -> str:
    """What systemd wrote at the last start, before it ran the program."""
    ask = ("journalctl", f"--unit={unit}", "--lines=20", "--output=cat", "--no-pager", "--quiet")
    lines = host.command(*ask, "--priority=err").stdout.splitlines()
    for begin in ("Failed to set up ", "Failed at step "):
        if found := [line for line in lines if begin in line]:
            return printable(found[-1].strip(), WORDS)
    return ""


Units = Mapping[str, Mapping[str, str]]


def failing(package: Package, look: Look, *shown: Units) -> Mapping[str, list[int]]:
    """Instances whose worker systemd can't start, by the step at which it fails, in one of the
    looks at their units."""
    found: dict[str, list[int]] = {}
    for n in sorted(look.serving | look.server.instances.heavy):
        steps = (failed_step(units.get(package.service_unit(n), {})) for units in shown)
        if step := next(filter(None, steps), ""):
            found.setdefault(step, []).append(n)
    return found


def check(host: Host, look: Look) -> Iterator[Finding]:
    """Looks twice: while a start is tried again, it has not failed."""
    package = host.package
    again = [look.units.get(package.service_unit(n), {}) for n in look.serving]
    shown = [look.units]
    if any(
        unit.get("SubState", "").startswith("start") and unit.get("NRestarts", "0") != "0"
        for unit in again
    ):
        time.sleep(SHORT)
        shown.append(instances.units(host))
    return told(host, failing(package, look, *shown))


def check_now(host: Host, look: Look) -> Iterator[Finding]:
    """Looks once."""
    return told(host, failing(host.package, look, look.units))


def sandboxed(package: Package) -> tuple[str, ...]:
    """The workers' unit and, by the beginning of their names (systemd.unit(5)), all other services
    of the pool: what a machine refuses to workers it refuses to these. systemd goes on trying to
    start them."""
    return f"{package.pool}@.service", f"{package.pool}-.service"


def told(host: Host, found: Mapping[str, list[int]]) -> Iterator[Finding]:
    """What is refused, with a drop-in that does without it; else what systemd said."""
    package = host.package
    parts = refused(host) if found else ()
    for step, numbers in found.items():
        unit = package.service_unit(numbers[0])
        words = said(host, unit)
        whose = f"worker of instance {label(numbers[0])}"
        if len(numbers) > 1:
            whose = f"workers of instances {listed(numbers)}"
        what = f"systemd can't start the {whose} (step {step})"
        where = ", ".join(map(package.service_unit, numbers))
        if parts:
            names = ", ".join(parts)
            why = ", ".join(f"{one} = 0" for one in dict.fromkeys(map(limit, parts)) if one)
            lines = "\\n".join(f"{name}={PARTS[name][1]}" for name in parts)
            folder = "/etc/systemd/system/$unit.d"
            yield error(
                "sandbox-refused",
                f"{what}: this machine refuses {names}{f' ({why})' if why else ''}",
                where,
                f"for unit in {' '.join(sandboxed(package))}; do mkdir -p {folder} && "
                f"printf '[Service]\\n{lines}\\n' >{folder}/{DROPIN}; done && "
                "systemctl daemon-reload",
            )
        else:
            yield error(
                "start-refused",
                quoting(what, words),
                where,
                f"fix that, then systemctl restart {unit}",
            )
