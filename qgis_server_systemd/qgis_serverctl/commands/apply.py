# SPDX-License-Identifier: GPL-2.0-or-later
"""``apply``, ``scale`` and ``queue``: bring the server to its wanted state."""

import argparse
from pathlib import Path

from ..config.stored import parse, remember
from ..pool import instances
from ..pool.host import Host
from ..pool.lock import locked
from ..pool.settings import auto_file, is_overruled, settings_file
from ..pool.state import State
from ..reconcile.run import finish, reconcile
from ..system.output import die


def change(host: Host, key: str, value: str, option: str) -> int:
    """Set a setting, if there is a value, and apply it; returns the exit status."""
    host.need_root("change the pool", "apply")
    given = {key: parse(key, value, option)} if value else {}
    with locked(host):
        if given:
            remember(auto_file(host), key, given[key])
            is_overruled(host, key, since=" from the next apply on")
        result = reconcile(host, given, dry_run=False)
    return finish(host, result)


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand apply."""
    file: Path | None = args.settings
    if not args.dry_run:
        if file:
            die("--settings is for --dry-run alone", hint=f"write it to {settings_file(host)}")
        return change(host, "instances", args.instances, "--instances")
    if file and not file.exists():
        die(f"--settings {file}: there is no such file")
    count = args.instances
    given = {"instances": parse("instances", count, "--instances")} if count else {}
    reconcile(host, given, dry_run=True, file=file)
    return 0


def scale(host: Host, args: argparse.Namespace) -> int:
    """The subcommand scale."""
    return change(host, "instances", args.count, "scale")


def queue(host: Host, args: argparse.Namespace) -> int:
    """The subcommand queue."""
    if drained := State.load(host).drained:
        numbers = instances.listed(drained)
        die(
            f"instance {numbers} is drained, which a shared queue knows nothing of",
            hint=f"{host.package.command} undrain {min(drained)}",
        )
    return change(host, "queue", args.layout, "queue")
