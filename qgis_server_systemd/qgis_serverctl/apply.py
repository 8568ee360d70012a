# SPDX-License-Identifier: GPL-2.0-or-later
"""``apply``: bring the server to its wanted state. Whoever changes the pool
goes through here: postinst, trigger, boot and administrator."""

import argparse
import os
import pwd
import shutil
from collections.abc import Mapping
from pathlib import Path

from . import cores, instances, nginx, plan
from .files import read_or_none, write
from .host import Forbidden, Host
from .lock import locked
from .log import Failure, die, note, warn
from .settings import MAX_INSTANCES, Resolved, Settings, parse, remember, resolve
from .state import State


def settings_file(host: Host) -> Path:
    """The administrator's; no program writes it."""
    return host.path(f"{host.package.etc}/server.toml")


def auto_file(host: Host) -> Path:
    """What commands set."""
    return host.path(f"{host.package.etc}/server.auto.toml")


def load_settings(host: Host, given: Mapping[str, object] | None = None) -> Resolved:
    return resolve(settings_file(host), auto_file(host), given)


def gather(host: Host) -> plan.Facts:
    state = State.load(host)
    found = cores.detect(host)
    candidates = state.enabled | state.pending | frozenset(range(1, found.count + 1))
    files = (*nginx.generated(host.package), host.package.socket_dropin)
    return plan.Facts(
        live=host.live,
        cores=min(found.count, MAX_INSTANCES),
        instances=instances.gather(host, candidates),
        state=state,
        nginx=nginx.gather(host),
        files={file: read_or_none(host.path(file)) for file in files},
        loaded=nginx.is_loaded(host),
    )


def socket_dropin(host: Host, user: str) -> tuple[str, str | None]:
    """The unit names Debian's NGINX user; another one needs a drop-in."""
    text = (
        f"# Written by {host.package.command} (setting socket_user).\n[Socket]\nSocketUser={user}\n"
    )
    return host.package.socket_dropin, None if user == "www-data" else text


def want(host: Host, settings: Settings, facts: plan.Facts, *, explicit: bool) -> plan.Wanted:
    user = facts.nginx.user if settings.socket_user == "auto" else settings.socket_user
    if host.live:
        try:
            pwd.getpwnam(user)
        except KeyError:
            die(f"socket_user: there is no user {user}", hint="is NGINX installed completely?")
    http, location = nginx.generated(host.package)
    return plan.Wanted(
        count=settings.instances,
        explicit=explicit,
        grow_only=host.maintainer,
        socket_user=user,
        dropin=socket_dropin(host, user),
        nginx_files=lambda serving: {
            http: nginx.http_text(host.package, settings, serving),
            location: nginx.location_text(host.package, settings),
        },
    )


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
        self.nginx_knows_old = False
        self.forbidden = False

    def carry_out(self, steps: plan.Plan) -> None:
        for action in steps.actions:
            try:
                self.act(action)
            except Forbidden as error:
                if not self.forbidden:
                    note(f"{error}: instances are enabled, but not started")
                self.forbidden = True
                self.nginx_knows_old |= isinstance(action, plan.ReloadNginx)
            except (Failure, OSError) as error:
                self.failed = True
                warn(f"{action}: {error}")
                if isinstance(action, plan.Start):
                    self.unusable.add(action.instance)
                if isinstance(action, plan.ReloadNginx | plan.WriteUpstream):
                    self.nginx_knows_old = True

    def act(self, action: plan.Action) -> None:
        host, package = self.host, self.host.package
        match action:
            case plan.Adopt(instance):
                self.keep(self.state.done(instance, enabled=True))
            case plan.Enable(instance, preset):
                self.enable(instance, preset=preset)
            case plan.Write(file, None):
                host.path(file).unlink()
            case plan.Write(file, str(text)):
                write(host.path(file), text)
            case plan.ReloadManager():
                host.systemctl("daemon-reload")
            case plan.GiveSocket(instance, user):
                shutil.chown(host.path(package.socket(instance)), user)
            case plan.Start(instance):
                if instance not in self.declined:
                    host.systemctl("start", package.socket_unit(instance))
            case plan.RestartStale(instance):
                host.systemctl("try-restart", package.service_unit(instance))
            case plan.WriteUpstream(serving):
                self.write_upstream(serving - self.unusable - self.declined)
            case plan.ReloadNginx(wait):
                if wait or not nginx.is_loaded(host):
                    nginx.reload(host, wait=wait)
            case plan.Retire(instance):
                self.retire(instance)

    def keep(self, state: State) -> None:
        state.save(self.host)
        self.state = state

    def enable(self, instance: int, *, preset: bool) -> None:
        """Enable an instance, and remember that it was us: first the intent."""
        self.keep(self.state.intend(instance))
        unit = self.host.package.socket_unit(instance)
        done = self.host.enablement("preset" if preset else "enable", unit)
        made = instance in instances.enabled(self.host)
        self.keep(self.state.done(instance, enabled=made))
        if not made:
            self.declined.add(instance)
            if done.returncode != 0 or not preset:
                said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
                raise Failure(f"systemctl enable {unit}: {said[0]}")

    def write_upstream(self, serving: frozenset[int]) -> None:
        """Write NGINX's files; should nginx -t dislike them, put the old ones back."""
        files = self.wanted.nginx_files(serving)
        old = {file: read_or_none(self.host.path(file)) for file in files}
        testable = self.host.root == Path("/") and Path("/usr/sbin/nginx").exists()
        broken_before = nginx.test(self.host) if testable else ""
        for file, text in files.items():
            write(self.host.path(file), text)
        if testable and not broken_before and (problem := nginx.test(self.host)):
            for file, before in old.items():
                if before is None:
                    self.host.path(file).unlink()
                else:
                    write(self.host.path(file), before)
            raise Failure(f"nginx -t: {problem}", "the former files are back")

    def retire(self, instance: int) -> None:
        """Stop and disable an instance, unless NGINX may still send it requests."""
        package = self.host.package
        if self.nginx_knows_old:
            raise Failure(
                "not done, since NGINX still names it", f"then run {package.command} apply"
            )
        if self.host.live:
            units = (package.socket_unit(instance), package.service_unit(instance))
            self.host.systemctl("stop", *units)
        self.host.enablement("disable", package.socket_unit(instance))
        if instance in instances.enabled(self.host):
            raise Failure(
                f"systemctl disable {package.socket_unit(instance)}: the link is still there"
            )
        self.keep(self.state.done(instance, enabled=False))


def report(host: Host, run: Run, steps: plan.Plan) -> None:
    for text in steps.notes:
        note(text)
    serving = steps.serving - run.unusable - run.declined
    if run.declined:
        note(
            f"a systemd preset keeps instance {plan.listed(frozenset(run.declined))} disabled; "
            f"to enable regardless: {host.package.command} apply --instances {max(run.declined)}"
        )
    if not steps.actions:
        note(f"nothing to do: {len(serving)} instances")
    elif not run.failed:
        note(f"done: {len(serving)} instances")


def reconcile(host: Host, given: Mapping[str, object] | None = None, *, dry_run: bool) -> bool:
    """Apply the settings; the caller holds the lock. True if all went well."""
    resolved = load_settings(host, given)
    facts = gather(host)
    wanted = want(
        host, resolved.settings, facts, explicit=isinstance((given or {}).get("instances"), int)
    )
    steps = plan.make(wanted, facts)
    if dry_run:
        for line in (*map(str, steps.actions), *steps.notes):
            print(line)
        if not steps.actions:
            print("nothing to do")
        return True
    run = Run(host, wanted, facts.state)
    for action in steps.actions:
        note(str(action))
    run.carry_out(steps)
    if host.live and not facts.nginx.running:
        nginx.mark_loaded(host)  # whichever NGINX starts from now on reads them
    report(host, run, steps)
    return not run.failed


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    if os.geteuid() != 0 and not args.dry_run:
        raise Failure("only root may change the pool", f"sudo {host.package.command} apply")
    given = (
        {"instances": parse("instances", args.instances, "--instances")} if args.instances else {}
    )
    if args.dry_run:
        return 0 if reconcile(host, given, dry_run=True) else 1
    with locked(host):
        if given:
            source = load_settings(host).source["instances"]
            remember(auto_file(host), "instances", given["instances"])
            if source == str(settings_file(host)):
                warn(
                    f"{source} sets instances too and wins from the next apply on: change it there"
                )
        good = reconcile(host, given, dry_run=False)
    return 0 if good else 1
