# SPDX-License-Identifier: GPL-2.0-or-later
"""Restart the workers, one after the other, whose program, units or environment
have changed, and open anew the sockets whose unit has."""

import argparse
import time
from pathlib import Path

from . import definition, instances, nginx, rolling, survey, workers
from .host import Host
from .lock import locked
from .log import die, note, warn
from .plan import serving
from .rolling import Rolling

UP_TIMEOUT = 60
"""Seconds that a worker may take to come up."""


def run(host: Host) -> None:
    """Roll until nothing is out of date. Raises Failure if a new worker does not
    come up: the rest then keeps serving by its old definition."""
    with rolling.only_roll(host):
        done: set[tuple[int, bool]] = set()
        while (todo := _next(host)) is not None:
            instance, reopen = todo
            if todo in done:
                die(f"instance {instance} is out of date again right after its restart")
            done.add(todo)
            if reopen:
                note(f"opening the socket of instance {instance} anew")
                _reopen(host, instance)
            else:
                note(f"restarting instance {instance}")
                _restart(host, instance)
        definition.save(host, instances.gather(host, frozenset()).current)


def _next(host: Host) -> tuple[int, bool] | None:
    found = instances.gather(host, frozenset())
    for pending, reopen in ((found.old_sockets, True), (found.stale, False)):
        if due := (pending & found.enabled) - found.masked:
            return min(due), reopen
    return None


def _restart(host: Host, instance: int) -> None:
    host.systemctl("restart", host.package.service_unit(instance))
    _wait_until_up(host, instance)


def _reopen(host: Host, instance: int) -> None:
    """Stop and start a socket while NGINX sends its requests elsewhere: only a
    stop and a start make systemd listen by a changed unit."""
    package = host.package
    now = instances.gather(host, frozenset())
    others = (now.enabled & now.listening) - now.masked - {instance}
    spare = frozenset() if others else frozenset({max(now.enabled | now.listening) + 1})
    for number in spare:
        host.systemctl("start", package.socket_unit(number))
        _wait_until_up(host, number)
    rolling.save(host, Rolling(frozenset({instance}), spare))
    _publish_and_wait(host)
    _wait_until_quiet(host, instance)
    host.systemctl("stop", package.socket_unit(instance), package.service_unit(instance))
    host.systemctl("start", package.socket_unit(instance))
    _wait_until_up(host, instance)
    rolling.save(host, Rolling())
    if spare:
        _publish_and_wait(host)
    else:
        _publish(host)
    for number in spare:
        _wait_until_quiet(host, number)
        host.systemctl("stop", package.socket_unit(number), package.service_unit(number))


def _publish(host: Host) -> frozenset[int]:
    """Bring the upstream in line with what is drained. Returns the processes of
    NGINX that knew the old one."""
    with locked(host):
        settings = survey.load_settings(host).settings
        facts = survey.gather(host)
        wanted = survey.want(host, settings, facts, explicit=False)
        named = facts.rolling.named(serving(wanted, facts))
        nginx.put(host, wanted.nginx_files(named))
        if not facts.nginx.running:
            nginx.mark_loaded(host)
            return frozenset()
        return nginx.reload(host, wait=False)


def _publish_and_wait(host: Host) -> None:
    """Without the lock: requests may last long, and apt may come by."""
    nginx.wait_until_gone(host, _publish(host))


def _wait_until_up(host: Host, instance: int) -> None:
    deadline = time.monotonic() + UP_TIMEOUT
    while not workers.is_accepting(pid := instances.worker_pid(host, instance)):
        there = workers.connections(_table(), host.package.socket(instance))
        if pid and workers.holds(pid, there):
            return  # up, and at work already
        if time.monotonic() > deadline:
            die(
                f"instance {instance} did not come up within {UP_TIMEOUT} s",
                hint=f"journalctl -u {host.package.service_unit(instance)}; the others go on",
            )
        time.sleep(0.05)


def _wait_until_quiet(host: Host, instance: int) -> None:
    """Wait until a drained instance has neither a request in hand nor one waiting."""
    start = time.monotonic()
    while True:
        there = workers.connections(_table(), host.package.socket(instance))
        pid = instances.worker_pid(host, instance)
        if not there.queued and not (pid and workers.holds(pid, there)):
            return
        if time.monotonic() > start + host.package.stop_timeout:
            warn(f"instance {instance} is stopped in the middle of a request that takes too long")
            return
        time.sleep(0.1)


def _table() -> str:
    return Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")


def command(host: Host, args: argparse.Namespace) -> int:
    """What the unit runs that a maintainer script hands over to."""
    run(host)
    return 0
