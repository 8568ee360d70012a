# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out a plan. Whoever changes the pool goes through here: postinst, trigger,
boot and administrator."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import names
from ..front import foreign, nginx
from ..pool import instances, outdated, roll_state
from ..pool.host import Forbidden, Host, Snapshot, Unanswered, complaint
from ..pool.settings import load_settings
from ..pool.state import State
from ..system.files import sweep, write
from ..system.output import Failure, note, tell, warn
from . import inputs, plan, roll


def tidy(folder: Path) -> None:
    """Remove a folder of drop-ins that has none any more."""
    with contextlib.suppress(OSError):
        folder.rmdir()


class Run:
    """Carries out one plan. A failed step is reported and the rest goes on,
    but for those steps that need it."""

    def __init__(self, host: Host, wanted: plan.Wanted, state: State) -> None:
        self.host = host
        self.wanted = wanted
        self.state = state
        self.unusable: set[int] = set()
        self.declined: set[int] = set()
        self.failed = False
        self.left = False
        self.nginx_knows_old = False
        self.forbidden = False
        self.unanswered = False
        self.told: set[str] = set()
        self.no_lane = False

    def carry_out(self, steps: plan.Plan) -> None:
        for action in steps.actions:
            try:
                self.act(action)
            except Forbidden as error:
                if not self.forbidden:
                    note(f"{error}: instances are enabled, but not started")
                self.forbidden = True
                self.nginx_knows_old |= isinstance(action, plan.ReloadNginx)
            except Unanswered as error:
                self.failed = self.unanswered = True
                warn(f"{action}: {error}")
                return
            except (Failure, OSError) as error:
                self.failed = True
                self.tell(action, str(error))
                if isinstance(action, plan.Start | plan.Enable):
                    self.unusable.add(action.instance)
                self.no_lane |= isinstance(action, plan.OpenLane)
                if isinstance(action, plan.ReloadNginx | plan.WriteUpstream):
                    self.nginx_knows_old = True

    def tell(self, action: plan.Action, problem: str) -> None:
        """Report a problem, such as a full disk, at the first action that it stops."""
        if problem not in self.told:
            warn(f"{action}: {problem}")
        self.told.add(problem)

    def act(self, action: plan.Action) -> None:
        host, package = self.host, self.host.package
        match action:
            case plan.Adopt(instance):
                # Of its two links one may be missing.
                host.enablement("enable", self.unit(instance))
                self.keep(self.state.done(instance, enabled=True))
            case plan.Enable(instance, preset):
                self.enable(instance, preset=preset)
            case plan.Relink(instance):
                self.relink(instance)
            case plan.EnableShared(on):
                self.enable_socket(package.shared_unit, on=on)
            case plan.StartShared():
                host.systemctl("start", package.shared_unit)
            case plan.EnableLane(on):
                self.enable_socket(package.heavy_unit, on=on)
            case plan.OpenLane():
                host.systemctl("start", package.heavy_unit)
            case plan.StartHeavy(missing):
                host.systemctl("start", *map(package.service_unit, sorted(missing)))
            case plan.StopHeavy(surplus):
                host.systemctl("stop", *map(package.service_unit, sorted(surplus)))
            case plan.CloseLane():
                self.close_lane()
            case plan.Write(file, None):
                host.path(file).unlink()
                if names.HEAVY_WORD in file:
                    tidy(host.path(file).parent)
            case plan.Write(file, str(text)):
                write(host.path(file), text)
                if file == package.worker_file:
                    # Workers look at the time of this folder alone.
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(host.path(package.run))
            case plan.ReloadManager():
                host.systemctl("daemon-reload")
            case plan.GiveSocket(None, user):
                shutil.chown(host.path(package.shared_socket), user)
            case plan.GiveSocket(names.HEAVY, user):
                shutil.chown(host.path(package.heavy_socket), user)
            case plan.GiveSocket(plan.FACTS, user):
                shutil.chown(host.path(package.facts_socket), user)
            case plan.GiveSocket(int(instance), user):
                shutil.chown(host.path(package.socket(instance)), user)
            case plan.Start(instance):
                if instance not in self.declined | self.unusable:
                    host.systemctl("start", self.unit(instance))
            case plan.AwaitWarm(fresh):
                self.unusable |= roll.await_up(host, fresh - self.declined - self.unusable)
            case plan.Roll():
                # To wait here, with the lock that the other needs, would be for ever.
                self.left = not roll.run(host, wait=False)
            case plan.HandOver():
                host.start_later(package.roll_unit)
            case plan.StopSpare(instance):
                host.systemctl("stop", *package.units(instance))
                roll_state.save(host, roll_state.Rolling(failed=roll_state.load(host).failed))
            case plan.WriteUpstream(serving, lane):
                usable = serving - self.unusable - self.declined
                nginx.put(host, self.wanted.nginx_files(usable, lane and not self.no_lane))
            case plan.EmptyReplies():
                nginx.empty_replies(host)
            case plan.ReloadNginx(wait):
                if wait or not nginx.is_loaded(host):
                    nginx.reload(host, wait=wait)
            case plan.RunUnits(on):
                host.systemctl("start" if on else "stop", *action.units(package))
            case plan.StartCounting():
                host.systemctl("start", package.metrics_socket_unit, package.metrics_unit)
            case plan.Retire(instance):
                self.retire(instance)

    def enable_socket(self, unit: str, *, on: bool) -> None:
        verb = "enable" if on else "disable"
        done = self.host.enablement(verb, unit)
        if instances.is_enabled(self.host, unit) != on:
            raise Failure(f"systemctl {verb} {unit}: {complaint(done)}")

    def close_lane(self) -> None:
        """Close it, unless NGINX may still send requests there; its socket first, or what
        waits would start its workers again."""
        package = self.host.package
        if self.nginx_knows_old:
            raise Failure(
                "not done, since NGINX still names it", f"then run {package.command} apply"
            )
        running = instances.gather(self.host).heavy
        workers = map(package.service_unit, sorted(running))
        self.host.systemctl("stop", package.heavy_unit, *workers)

    def unit(self, instance: int) -> str:
        """What is enabled and started of an instance, and pulls in the rest."""
        package = self.host.package
        if self.wanted.shared:
            return package.service_unit(instance)
        return package.socket_unit(instance)

    def relink(self, instance: int) -> None:
        """First the new link, so that the instance is enabled at any time."""
        package, wanted = self.host.package, self.unit(instance)
        done = self.host.enablement("enable", wanted)
        linked = instances.by_worker if self.wanted.shared else instances.by_socket
        if instance not in linked(self.host):
            raise Failure(f"systemctl enable {wanted}: {complaint(done)}")
        (other,) = {*package.units(instance)} - {wanted}
        self.host.enablement("disable", other)

    def keep(self, state: State) -> None:
        state.save(self.host)
        self.state = state

    def enable(self, instance: int, *, preset: bool) -> None:
        """Enable an instance, and remember that it was us: first the intent."""
        self.keep(self.state.intend(instance))
        unit = self.unit(instance)
        done = self.host.enablement("preset" if preset else "enable", unit)
        made = instance in instances.enabled(self.host)
        self.keep(self.state.done(instance, enabled=made))
        if not made:
            self.declined.add(instance)
            if done.returncode != 0 or not preset:
                raise Failure(f"systemctl enable {unit}: {complaint(done)}")

    def retire(self, instance: int) -> None:
        """Stop and disable an instance, unless NGINX may still send it requests."""
        package = self.host.package
        if self.nginx_knows_old and instance not in instances.gather(self.host).shared:
            raise Failure(
                "not done, since NGINX still names it", f"then run {package.command} apply"
            )
        if self.host.live:
            self.host.systemctl("stop", *package.units(instance))
        self.keep(self.state.leave(instance))
        self.host.enablement("disable", *package.units(instance))
        if instance in instances.enabled(self.host):
            raise Failure(f"systemctl disable {self.unit(instance)}: the link is still there")
        self.keep(self.state.done(instance, enabled=False))


def tell_of_steps(host: Host) -> None:
    """A socket opens whether or not systemd can start its worker."""
    package = host.package
    steps: dict[str, set[int]] = {}
    for name, unit in instances.units(host).items():
        number = instances.number(name, package.pool, "service")
        if number is not None and (step := instances.failed_step(unit)):
            steps.setdefault(step, set()).add(number)
    for step, numbers in sorted(steps.items()):
        warn(
            f"instance {instances.listed(numbers)}: systemd can't start the worker (step {step}); "
            f"{package.command} check tells why"
        )


def report(host: Host, run: Run, steps: plan.Plan) -> None:
    for text in steps.notes:
        note(text)
    serving = steps.serving - run.unusable - run.declined
    if run.declined:
        declined = instances.listed(run.declined)
        note(
            f"a systemd preset keeps instance {declined} disabled; "
            f"to enable regardless: {host.package.command} apply --instances {max(run.declined)}"
        )
    tell_of_steps(host)
    if run.left and not run.failed:
        note("the rest is left to the restart of workers that is under way")
    elif not steps.actions:
        note(f"nothing to do: {len(serving)} instances")
    elif not run.failed:
        note(f"done: {len(serving)} instances")
    elif not host.maintainer:  # postinst says it itself
        note(f"not complete: fix what the warnings say, then run {host.package.command} apply")


@dataclass(frozen=True)
class Result:
    """`good`: all went well. `left`: workers are out of date, and another process is
    restarting some."""

    good: bool
    left: bool = False


def finish(host: Host, result: Result) -> int:
    """Without the lock, wait for the other one. Returns the exit status."""
    if result.left:
        roll.run(host)
        note("done: the workers are up to date")
    return 0 if result.good else 1


def reconcile(
    host: Host,
    given: Mapping[str, object] | None = None,
    *,
    dry_run: bool,
    file: Path | None = None,
) -> Result:
    """Apply the settings; the caller holds the lock, and calls finish without it."""
    settings = load_settings(host, given, file).settings
    explicit = "instances" in (given or {})
    found = inputs.look(host, settings, explicit=explicit)
    if found.facts.instances.need_reload and not dry_run:
        # What systemd has not read yet is not in its list of a unit's files either.
        host.systemctl("daemon-reload")
        found = inputs.look(host, settings, explicit=explicit)
    facts, steps = found.facts, found.steps
    if dry_run:
        for line in (*map(str, steps.actions), *steps.notes):
            tell(line)
        if not steps.actions:
            tell("nothing to do")
        return Result(good=True)
    sweep(host.root, host.package.leftovers)
    run = Run(host, found.wanted, facts.state)
    if facts.state.pending - facts.instances.enabled:
        run.keep(facts.state.settled(facts.instances.enabled))
    for action in steps.actions:
        note(str(action))
    going = frozenset(a.instance for a in steps.actions if isinstance(a, plan.Retire))
    if going and facts.nginx.running:
        for text in foreign.warnings(foreign.find(host), going):
            warn(text)
    if host.live and steps.actions:
        # Else what ran before would seem older than files that are about others.
        outdated.save(host, facts.instances.definitions)
    run.carry_out(steps)
    after = Snapshot.of(host)
    if host.live and not run.unanswered:
        if not facts.nginx.running:
            nginx.mark_loaded(host)  # whichever NGINX starts from now on reads them
        instances.record(after)
    report(after, run, steps)
    return Result(not run.failed, run.left)
