# SPDX-License-Identifier: GPL-2.0-or-later
"""``drain`` and ``undrain``: have NGINX send an instance no more requests, or load balancers this
server, for as long as the administrator wants."""

import argparse
from dataclasses import replace

from ..config.names import is_heavy
from ..front import foreign, nginx
from ..pool import instances, overrides, service
from ..pool.host import Host
from ..pool.lock import locked
from ..pool.settings import load_settings
from ..pool.state import State
from ..reconcile import roll, run
from ..system.output import die, note


def command(host: Host, args: argparse.Namespace) -> int:
    """Both subcommands; returns the exit status."""
    package, instance = host.package, args.instance
    host.need_root(f"{args.verb} an instance", args.verb)
    if instance is None:
        return _whole(host, on=args.verb == "drain")
    if is_heavy(instance):
        die(
            "the workers for heavy requests share a queue: nobody chooses which one gets a request",
            hint=f"systemctl stop {package.service_unit(instance)}",
        )
    if load_settings(host).settings.is_shared and args.verb == "drain":
        die(
            "with the shared queue nobody chooses the worker that gets a request",
            hint=f"systemctl stop {package.service_unit(instance)}",
        )
    with locked(host):
        state = State.load(host)
        now = instances.gather(host, frozenset({instance}))
        if args.verb == "drain":
            _refuse_by_hand(host, instance, state)
        serving = now.enabled - now.masked
        drained = state.drained | {instance} if args.verb == "drain" else state.drained - {instance}
        if args.verb == "drain" and instance not in serving:
            die(
                f"instance {instance} is not enabled, or is masked",
                hint=f"{package.command} status",
            )
        if not serving - drained:
            die(
                f"instance {instance} is the last one that takes requests",
                hint=f"{package.command} undrain another one first, or scale up",
            )
        replace(state, drained=drained).save(host)
        result = run.reconcile(host, dry_run=False)
    status = run.finish(host, result)
    if args.verb == "drain":
        _tell(host, instance)
    return status


def _refuse_by_hand(host: Host, instance: int, state: State) -> None:
    """Raises Failure where NGINX sends requests by a file that is not the package's."""
    files = [file for file, known in foreign.find(host).items() if instance in known]
    if not files and overrides.find(host, state).foreign and not nginx.gather(host).uses:
        files = ["/etc/nginx"]
    if files:
        die(
            f"{', '.join(files)} has NGINX send requests to instance {instance}, and is not the "
            "package's",
            hint=f"take its socket out there, then systemctl reload {nginx.SERVICE}",
        )


def _whole(host: Host, *, on: bool) -> int:
    """Have load balancers send nothing here. Whoever comes all the same is served."""
    package = host.package
    service.set_drained(host, on=on)
    if on:
        note(
            f"{package.url_prefix}/health answers with status 503, until {package.command}"
            " undrain; requests that come are served"
        )
    else:
        note(f"{package.url_prefix}/health tells again whether the pool can serve")
    return 0


def _tell(host: Host, instance: int) -> None:
    _, busy, queued = roll.look(host, instance)
    left = int(busy) + queued
    note(
        f"instance {instance} gets no new requests; {left} it still has"
        if left
        else f"instance {instance} gets no requests any more, and has none"
    )
