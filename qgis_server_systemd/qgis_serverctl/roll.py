# SPDX-License-Identifier: GPL-2.0-or-later
"""Restart workers, and open their sockets anew, one instance at a time.

An instance is taken out of NGINX's upstream, finishes what it has, is restarted,
loads its projects, and is put back: no request fails, and none meets a cold worker.
"""

import argparse
import time
from dataclasses import replace
from typing import NoReturn

from . import instances, nginx, plan, rolling, survey, workers
from .host import Host, Unanswered
from .lock import locked
from .log import Failure, die, note, warn
from .settings import Settings

FAILED_STARTS = 3
"""A worker that has ended so often right after its start won't come up."""


NEW_TIMEOUT = 60
"""Seconds that apply waits for workers that it has started: NGINX may wait for it."""


def look(host: Host, instance: int) -> tuple[int, bool, int]:
    """An instance's worker (0 if there is none), whether it has a request in hand,
    and how many wait."""
    there = workers.connections(workers.table(), host.package.socket(instance))
    pid = instances.worker_pid(host, instance)
    return pid, bool(pid) and workers.holds(pid, there), there.queued


class Roll:
    """One roll. Raises Failure if a new worker does not come up: that instance then
    stays out of the upstream, and the rest keeps serving by its old definition."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.settings: Settings = survey.load_settings(host).settings
        self.patience = self.settings.stop_timeout + 30
        self.undrained = False

    def run(self, asked: frozenset[int]) -> None:
        """Restart what is out of date, and `asked`, until nothing is left."""
        done: set[tuple[int, bool]] = set()
        try:
            while (todo := self._next(asked - {instance for instance, _ in done})) is not None:
                instance, reopen = todo
                if todo in done:
                    die(f"instance {instance} is out of date again right after its restart")
                done.add(todo)
                self._renew(instance, reopen=reopen)
        finally:
            self._put_back()
        instances.record(self.host)

    def _next(self, asked: frozenset[int]) -> tuple[int, bool] | None:
        found = instances.gather(self.host)
        for pending, reopen in ((found.old_sockets, True), (found.stale | asked, False)):
            if due := (pending & found.enabled) - found.masked:
                return min(due), reopen
        return None

    def _renew(self, instance: int, *, reopen: bool) -> None:
        host, package = self.host, self.host.package
        self._take_out(instance, wait=reopen)
        if reopen:
            # Only a stop and a start make systemd listen by a changed unit.
            note(f"instance {instance}: opening its socket anew")
            host.systemctl("stop", *package.units(instance), patience=self.patience)
            host.systemctl("start", package.socket_unit(instance))
        else:
            note(f"instance {instance}: restarting its worker")
            try:
                host.systemctl("restart", package.service_unit(instance), patience=self.patience)
            except Unanswered:
                raise
            except Failure:
                # The first try failed at once; systemd goes on trying, and the next may
                # go well. What counts is whether the worker comes up.
                pass
        started = time.monotonic()
        self._wait_until_up(instance)
        note(f"instance {instance}: ready after {time.monotonic() - started:.1f} s")
        now = rolling.load(host)
        rolling.save(host, replace(now, failed=now.failed - {instance}))

    # ---- out of the upstream and back

    def _take_out(self, instance: int, *, wait: bool) -> None:
        """Have NGINX send its requests elsewhere and wait until it has none. `wait`:
        until no process of NGINX knows it any more, since its socket goes."""
        host, now = self.host, instances.gather(self.host)
        former = rolling.load(host)
        others = (now.enabled & now.listening) - now.masked - former.failed - {instance}
        spare = former.spare - {instance}
        if not others and not spare:
            spare = frozenset({max(now.enabled | now.listening) + 1})
            # First the intent: cut off here, the next apply stops it.
            rolling.save(host, replace(former, leaving=spare))
            for number in spare:
                note(f"instance {number}: stands in meanwhile")
                host.systemctl("start", host.package.socket_unit(number))
                self._wait_until_up(number)
        rolling.save(host, replace(former, drained=frozenset({instance}), spare=spare))
        try:
            old = self._publish()
        except Failure as error:
            if wait:
                raise
            if not self.undrained:
                warn(f"{error}: requests wait while their worker restarts")
            self.undrained = True
            return
        if wait:
            nginx.wait_until_gone(host, old, self.patience)
        self._wait_until_quiet(instance)

    def _put_back(self) -> None:
        """Name all instances again, and stop the spare."""
        host, former = self.host, rolling.load(self.host)
        spare = former.spare | former.leaving
        left = replace(former, drained=frozenset(), spare=frozenset(), leaving=spare)
        rolling.save(host, left)
        try:
            old = self._publish()
            if spare:
                nginx.wait_until_gone(host, old, self.patience)
        except Failure as error:
            # The next apply goes on from here.
            rolling.save(host, former)
            warn(str(error))
            return
        for number in spare:
            self._wait_until_quiet(number)
            host.systemctl("stop", *host.package.units(number), patience=self.patience)
        rolling.save(host, replace(left, leaving=frozenset()))

    def _publish(self) -> frozenset[int]:
        """Bring the upstream in line with what is drained. Returns the processes of
        NGINX that knew the old one. The lock is not held for longer: requests may
        last, and apt may come by."""
        host = self.host
        with locked(host):
            facts = survey.gather(host)
            wanted = survey.want(host, self.settings, facts, explicit=False)
            files = wanted.nginx_files(plan.named(wanted, facts))
            if plan.differ(facts, files):
                nginx.put(host, files)
            if not facts.nginx.running:
                nginx.mark_loaded(host)
            elif facts.nginx.uses and not nginx.is_loaded(host):
                return nginx.reload(host, wait=False)
        return frozenset()

    # ---- waiting

    def _wait_until_up(self, instance: int) -> None:
        start = time.monotonic()
        unit = self.host.package.service_unit(instance)
        while True:
            pid, busy, _ = look(self.host, instance)
            if busy or workers.is_accepting(pid):
                return
            tries = int(self.host.show(unit, "NRestarts").get("NRestarts") or 0)
            if tries >= FAILED_STARTS or time.monotonic() > start + self.settings.stop_timeout:
                self._give_up(instance, tries, time.monotonic() - start)
            time.sleep(0.05)

    def _give_up(self, instance: int, tries: int, seconds: float) -> NoReturn:
        former = rolling.load(self.host)
        rolling.save(self.host, replace(former, failed=former.failed | {instance}))
        how = f"ended {tries} times at once" if tries else f"is not ready after {seconds:.0f} s"
        die(
            f"instance {instance} did not come up: its worker {how}",
            hint=f"journalctl -u {self.host.package.service_unit(instance)}; the others go on",
        )

    def _wait_until_quiet(self, instance: int) -> None:
        """Wait until a drained instance has neither a request in hand nor one waiting."""
        start = time.monotonic()
        told = False
        while True:
            pid, busy, queued = look(self.host, instance)
            # One that is between two requests might miss the signal.
            if not queued and not busy and (not pid or workers.is_accepting(pid)):
                return
            waited = time.monotonic() - start
            if waited > self.settings.stop_timeout:
                warn(f"instance {instance} is stopped in the middle of a request: it hangs")
                return
            if not told and waited > 2:
                note(f"instance {instance}: finishing {int(busy) + queued} requests")
                told = True
            time.sleep(0.05)


def await_up(host: Host, fresh: frozenset[int]) -> frozenset[int]:
    """Wait until new workers are ready. Returns those that are not within 60 s:
    they stay out of the upstream until they are."""
    start = time.monotonic()
    left = set(fresh)
    while left and time.monotonic() < start + NEW_TIMEOUT:
        left = {n for n in left if not workers.is_accepting(instances.worker_pid(host, n))}
        time.sleep(0.1 if left else 0)
    if left:
        former = rolling.load(host)
        rolling.save(host, replace(former, failed=former.failed | left))
        warn(f"not ready, so NGINX does not name them yet: instance {plan.listed(frozenset(left))}")
    return frozenset(left)


def run(host: Host, asked: frozenset[int] = frozenset(), *, wait: bool = True) -> bool:
    """Restart what is out of date, and `asked`, one after the other. Without `wait`,
    return False if another roll is under way: that one finds what is out of date."""
    with rolling.only_roll(host, wait=wait) as alone:
        if alone:
            Roll(host).run(asked)
        return alone


def command(host: Host, args: argparse.Namespace) -> int:
    """What the unit runs that maintainer scripts and the monitor hand over to."""
    with rolling.only_roll(host):
        asked = rolling.wishes(host)
        try:
            Roll(host).run(asked)
        finally:
            rolling.wish(host, rolling.wishes(host) - asked)
    return 0


def restart(host: Host, args: argparse.Namespace) -> int:
    """The subcommand restart."""
    host.need_root("restart workers", "restart")
    now = instances.gather(host)
    able = now.enabled - now.masked
    asked = frozenset({args.instance}) if args.instance else able
    if not asked or not asked <= able:
        what = f"instance {args.instance}" if args.instance else "any instance"
        die(f"{what} is not enabled, or is masked", hint=f"{host.package.command} status")
    run(host, asked)
    note(f"done: restarted {plan.listed(asked)}")
    return 0
