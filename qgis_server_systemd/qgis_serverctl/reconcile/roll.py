# SPDX-License-Identifier: GPL-2.0-or-later
"""Restart workers, and open their sockets again, one instance at a time.

An instance is taken out of NGINX's upstream, finishes what it has, is restarted,
loads its projects, and is put back: no request fails, and none meets a cold worker.

Workers of the lane for heavy requests are restarted as those of the shared queue are, and only
if they run. If their socket is opened again, NGINX sends heavy requests to the other workers
meanwhile.

With the shared queue there is nothing to take out: a worker that is told to end
finishes its request, and the others take the next ones. A change from one queue to
the other moves the workers one after the other; a shared socket whose unit has
changed is opened again while all workers are on sockets of their own.
"""

import os
import time
from collections import Counter
from dataclasses import replace
from typing import Literal, NoReturn

from ..config.names import HEAVY, is_heavy, label
from ..config.settings import Settings
from ..front import nginx
from ..pool import connections, instances, outdated, roll_state
from ..pool.host import Host, Unanswered
from ..pool.lock import Turn, locked, only_roll
from ..pool.settings import load_settings
from ..system.files import read_or_none, write
from ..system.output import Failure, die, note, warn
from ..units.dropins import queue_dropin
from . import inputs, plan

How = Literal["restart", "reopen", "own", "shared"]
"""What is done to an instance: its worker is restarted, its own socket is opened again,
or it moves to its own queue, or to the shared one. The number HEAVY stands for the lane for
heavy requests: its socket is opened again."""


REPEATS = 3
"""So often an instance may be found out of date again in one roll: settings may change
meanwhile."""


NEW_TIMEOUT = 60
"""Seconds that apply waits for workers that it has started: NGINX may wait for it."""


def look(host: Host, instance: int) -> tuple[int, bool, int]:
    """An instance's worker (0 if there is none), whether it has a request in hand,
    and how many wait."""
    try:
        table = connections.table()
    except Failure:
        if not connections.sees_accept():
            raise
        # Whether the worker accepts must do: `check` tells of what is missing.
        return instances.worker_pid(host, instance), False, 0
    there = connections.connections(table, connections.queue_of(host.package, instance, table))
    pid = instances.worker_pid(host, instance)
    return pid, bool(pid) and connections.holds(pid, there), there.queued


def is_up(host: Host, instance: int) -> bool:
    """Does its worker take requests? On a busy shared queue it has one at once."""
    pid, busy, _ = look(host, instance)
    return busy or connections.is_accepting(pid)


def _shares(now: instances.Instances, instance: int) -> bool:
    """Is it on the shared queue, and some other worker, too?"""
    return instance in now.shared and len(now.shared) > 1


def await_sign(pid: int) -> None:
    """Wait until a worker that starts accepts, or has ended; not for longer than half a second,
    since one on a busy shared queue does neither. To ask systemd costs far more than this."""
    end = time.monotonic() + 0.5
    time.sleep(0.05)
    while pid and time.monotonic() < end and not connections.is_accepting(pid):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.05)


class Stopped(Failure):
    """Somebody has stopped the pool in the middle of a roll."""


class Roll:
    """One roll. Raises Failure if a new worker does not come up: that instance then
    stays out of the upstream, and the rest keeps serving by its old definition; Stopped if the
    pool is stopped meanwhile, which then stays so."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.undrained = self.stopped = False
        # A pool that was made by hand need not be in the slice.
        self.in_slice = self._slice().get("ActiveState") == "active"
        self.found = instances.Instances()
        self._read_settings()

    def _read_settings(self) -> None:
        self.settings: Settings = load_settings(self.host).settings
        self.patience = self.settings.stop_timeout + 30
        self.heavy_patience = self.settings.lane_stop_timeout + 30
        self.queue = queue_dropin(self.host, self.settings)

    def run(self, asked: frozenset[int], turn: Turn) -> None:
        """Restart what is out of date, and `asked`, until nothing is left. Ends its turn
        while it has the lock: whoever changes something under the lock either finds this
        roll under way, which then sees the change, or none."""
        done: Counter[tuple[int, How]] = Counter()
        while True:
            try:
                while (todo := self._next(asked - {instance for instance, _ in done})) is not None:
                    instance, how = todo
                    if done[todo] == REPEATS:
                        die(f"instance {label(instance)} is out of date again after each restart")
                    done[todo] += 1
                    self._renew(instance, how)
            finally:
                self._put_back()
            with locked(self.host):
                if self._next(frozenset()) is None:
                    outdated.save(self.host, self.found.definitions)
                    turn.give_up()
                    return

    def _next(self, asked: frozenset[int]) -> tuple[int, How] | None:
        """What is to be done next. Leaves what it has found, for what follows: to ask systemd costs
        it a tenth of what a start costs."""
        self._read_settings()
        found = self.found = instances.gather(self.host)
        able = found.enabled - found.masked
        own = (found.listening - found.shared) & able
        if self.settings.is_shared and found.shared_old:
            if due := found.shared & able:
                return min(due), "own"
            self._close_shared()
            found = self.found = instances.gather(self.host)
        moves = own if self.settings.is_shared else found.shared
        to: How = "shared" if self.settings.is_shared else "own"
        todo: tuple[tuple[frozenset[int], How], ...] = (
            (moves, to),
            (found.old_sockets, "reopen"),
            (found.stale | asked, "restart"),
        )
        for pending, how in todo:
            if due := pending & able:
                return min(due), how
        if found.lane_old and found.lane_open and self.settings.has_lane:
            return HEAVY, "reopen"
        if due := (found.stale | asked) & found.heavy - found.masked:
            return min(due), "restart"
        return None

    def _close_shared(self) -> None:
        """Nobody takes requests from it, and NGINX does not name it."""
        host = self.host
        nginx.wait_until_gone(host, self._publish(), self.patience)
        note("closing the shared socket")
        host.systemctl("stop", host.package.shared_unit, patience=self.patience)

    def _use(self, how: How) -> None:
        """Have units that are started from now on take requests from this queue. What
        the settings ask for stands on the disk already; a shared socket that is to be
        opened again asks for the other one in between."""
        if how not in ("own", "shared"):
            return
        host, file = self.host, self.host.package.queue_dropin
        text = self.queue if how == "shared" else None
        if read_or_none(host.path(file)) != text:
            if text is None:
                host.path(file).unlink()
            else:
                write(host.path(file), text)
            host.systemctl("daemon-reload")
        if how == "shared":
            self._order("start", host.package.shared_unit)

    def _order(self, verb: str, *units: str, patience: float = 0) -> None:
        """Start or restart units, unless the pool is being stopped. systemd would give that up
        for a unit that is started meanwhile (systemctl(1), --job-mode=)."""
        self._go_on()
        self.host.systemctl(verb, "--job-mode=fail", *units, patience=patience)

    def _go_on(self) -> None:
        """Raises Stopped if the pool is stopped, or about to be."""
        shown = self._slice()
        if self.in_slice and (shown.get("ActiveState") != "active" or shown.get("Job")):
            self.stopped = True
            raise Stopped(
                "the pool was stopped meanwhile: its workers are not restarted",
                hint=f"systemctl start {self.host.package.pool}.target",
            )

    def _slice(self) -> dict[str, str]:
        return self.host.show(self.host.package.slice, "ActiveState", "Job")

    def _start(self, instance: int, how: How) -> None:
        package = self.host.package
        shared = how == "shared"
        unit = package.service_unit(instance) if shared else package.socket_unit(instance)
        self._order("start", unit)

    def _renew_heavy(self, instance: int) -> None:
        """It finishes its request, and the others take the next ones. One that has ended
        meanwhile, since nobody asks for it, stays away."""
        unit = self.host.package.service_unit(instance)
        note(f"instance {label(instance)}: restarting its worker")
        try:
            self._order("try-restart", unit, patience=self.heavy_patience)
        except (Unanswered, Stopped):
            raise
        except Failure:
            # As in _renew: what counts is whether the worker comes up.
            pass
        self._wait_until_up(instance)

    def _reopen_lane(self) -> None:
        """Open the socket of heavy requests again, while NGINX sends them elsewhere."""
        host, package = self.host, self.host.package
        former = roll_state.load(host)
        roll_state.save(host, replace(former, lane=True))
        try:
            nginx.wait_until_gone(host, self._publish(), self.heavy_patience)
            self._wait_until_lane_is_empty()
            note("opening the socket of heavy requests again")
            running = instances.gather(host).heavy
            units = (package.heavy_unit, *map(package.service_unit, sorted(running)))
            host.systemctl("stop", *units, patience=self.heavy_patience)
            self._order("start", *units)
        finally:
            roll_state.save(host, replace(roll_state.load(host), lane=False))

    def _wait_until_lane_is_empty(self) -> None:
        """NGINX's processes that knew it may have ended in the middle of a request."""
        start = time.monotonic()
        while time.monotonic() < start + self.heavy_patience:
            try:
                table = connections.table()
            except Failure:
                return
            if not connections.connections(table, self.host.package.heavy_socket).queued:
                return
            time.sleep(0.05)

    def _renew(self, instance: int, how: How) -> None:
        host, package = self.host, self.host.package
        if instance == HEAVY:
            self._reopen_lane()
            return
        if is_heavy(instance):
            self._renew_heavy(instance)
            return
        self._use(how)
        self._take_out(instance, how)
        if how != "restart":
            # Only a stop and a start make systemd listen by a changed unit.
            what = {
                "reopen": "opening its socket again",
                "own": "moving to a queue of its own",
                "shared": "moving to the shared queue",
            }
            note(f"instance {instance}: {what[how]}")
            host.systemctl("stop", *package.units(instance), patience=self.patience)
            self._start(instance, how)
        else:
            note(f"instance {instance}: restarting its worker")
            try:
                self._order("restart", package.service_unit(instance), patience=self.patience)
            except (Unanswered, Stopped):
                raise
            except Failure:
                # The first try failed at once; systemd goes on trying, and the next may
                # go well. What counts is whether the worker comes up.
                pass
        started = time.monotonic()
        self._wait_until_up(instance)
        note(f"instance {instance}: ready after {time.monotonic() - started:.1f} s")
        now = roll_state.load(host)
        roll_state.save(host, replace(now, failed=now.failed - {instance}))

    # ---- out of the upstream and back

    def _take_out(self, instance: int, how: How) -> None:
        """Have NGINX send its requests elsewhere and wait until it has none; where its
        socket goes, also until no process of NGINX knows it any more."""
        host, now = self.host, self.found
        wait = how != "restart"
        former = roll_state.load(host)
        others = (now.enabled & now.listening) - now.masked - former.failed - {instance}
        spare = former.spare - {instance}
        if not others and not spare:
            spare = frozenset({max(now.enabled | now.listening) + 1})
            # First the intent: cut off here, the next apply stops it.
            roll_state.save(host, replace(former, leaving=spare))
            for number in spare:
                note(f"instance {number}: stands in meanwhile")
                self._start(number, self._home(now, instance) if how == "restart" else how)
                self._wait_until_up(number)
            now = instances.gather(host)
        roll_state.save(host, replace(former, drained=frozenset({instance}), spare=spare))
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
        # Of one queue for all, only the last one to leave has to see to the end.
        if not _shares(now, instance):
            self._wait_until_quiet(instance)

    def _home(self, now: instances.Instances, instance: int) -> How:
        package = self.host.package
        queue = now.queue(package, instance, shared=self.settings.is_shared)
        return "shared" if queue == package.shared_socket else "own"

    def _put_back(self) -> None:
        """Name all instances again, and stop the spare."""
        host, former = self.host, roll_state.load(self.host)
        spare = former.spare | former.leaving
        left = replace(former, drained=frozenset(), spare=frozenset(), leaving=spare)
        roll_state.save(host, left)
        try:
            old = self._publish()
            if spare:
                nginx.wait_until_gone(host, old, self.patience)
        except Failure as error:
            # The next apply goes on from here.
            roll_state.save(host, former)
            warn(str(error))
            return
        for number in spare:
            if not _shares(instances.gather(host), number):
                self._wait_until_quiet(number)
            host.systemctl("stop", *host.package.units(number), patience=self.patience)
        roll_state.save(host, replace(left, leaving=frozenset()))
        now = instances.gather(host)
        if now.shared_open and not self.settings.is_shared and not now.shared:
            self._close_shared()

    def _publish(self) -> frozenset[int]:
        """Bring the upstream in line with what is drained. Returns the processes of
        NGINX that knew the old one. The lock is not held for longer: requests may
        last, and apt may come by."""
        host = self.host
        with locked(host):
            found = inputs.look(host, self.settings)
            facts, wanted = found.facts, found.wanted
            # Settings that are not applied yet may ask for a lane that there is not.
            # A pool that is stopped has none either, until it is started again.
            there = facts.instances.lane_open or self.stopped
            lane = plan.names_lane(wanted, facts) and there
            files = wanted.nginx_files(plan.named(wanted, facts), lane)
            tested = plan.differ(facts, files) and nginx.put(host, files)
            if not facts.nginx.running:
                nginx.mark_loaded(host)
            elif facts.nginx.uses and not nginx.is_loaded(host):
                return nginx.reload(host, wait=False, tested=tested)
        return frozenset()

    # ---- waiting

    def _wait_until_up(self, instance: int) -> None:
        start = time.monotonic()
        unit = self.host.package.service_unit(instance)
        while True:
            if is_up(self.host, instance):
                return
            self._go_on()
            shown = self.host.show(unit, "MainPID", "NRestarts", "ActiveState")
            if is_heavy(instance) and shown.get("ActiveState") in instances.ENDED:
                return
            tries = int(shown.get("NRestarts") or 0)
            if (
                tries >= instances.FAILED_STARTS
                or time.monotonic() > start + self.settings.stop_timeout
            ):
                self._give_up(instance, tries, time.monotonic() - start)
            await_sign(int(shown.get("MainPID") or 0))

    def _give_up(self, instance: int, tries: int, seconds: float) -> NoReturn:
        former = roll_state.load(self.host)
        if not is_heavy(instance):
            roll_state.save(self.host, replace(former, failed=former.failed | {instance}))
        how = f"ended {tries} times at once" if tries else f"is not ready after {seconds:.0f} s"
        die(
            f"instance {label(instance)} did not come up: its worker {how}",
            hint=f"journalctl -u {self.host.package.service_unit(instance)}; the others go on",
        )

    def _wait_until_quiet(self, instance: int) -> None:
        """Wait until a drained instance has neither a request in hand nor one waiting."""
        start = time.monotonic()
        told = False
        while True:
            pid, busy, queued = look(self.host, instance)
            # One that is between two requests might miss the signal.
            if not queued and not busy and (not pid or connections.is_accepting(pid)):
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
        left = {n for n in left if not is_up(host, n)}
        if left:
            await_sign(instances.worker_pid(host, min(left)))
    if left:
        former = roll_state.load(host)
        roll_state.save(host, replace(former, failed=former.failed | left))
        late = instances.listed(left)
        warn(f"not ready, so NGINX does not name them yet: instance {late}")
    return frozenset(left)


def run(host: Host, *, wait: bool = True) -> bool:
    """Restart what is out of date, one after the other. Without `wait`, return False if
    another roll is under way: that one finds what is out of date."""
    with only_roll(host, wait=wait) as turn:
        if turn:
            Roll(host).run(frozenset(), turn)
        return turn is not None
