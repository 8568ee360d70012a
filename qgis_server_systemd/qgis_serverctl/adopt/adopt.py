# SPDX-License-Identifier: GPL-2.0-or-later
"""``adopt``: move a pool that was made by hand, as by the recipe of 2018, over to
the package's units.

The sockets stay open all the time: systemd keeps them over a change of their
unit. Workers are restarted one after the other, while requests wait in the
socket. A trial worker that NGINX does not know goes first.
"""

import argparse
import os
import pwd
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..config import values as values_of_settings
from ..config.declaration import as_toml
from ..pool import instances, outdated, overrides
from ..pool.host import Host
from ..pool.lock import locked
from ..pool.settings import auto_file, is_overruled, load_settings
from ..pool.state import State
from ..reconcile.run import finish, reconcile
from ..system import access, environment_file, unit_file
from ..system.access import Question
from ..system.files import read_or_none
from ..system.output import Failure, die, note, printable, tell, warn
from ..units import sandbox
from ..units.dropins import generated
from . import changes, hand_made, trial
from .changes import Journal

READ = ("QGIS_PROJECT_FILE", "QGIS_AUTH_PASSWORD_FILE", "QGIS_PLUGINPATH")


WRITTEN = (*sandbox.WRITTEN, *sandbox.WRITTEN_FILES)
"""Variables whose paths the workers' new user must reach."""


# ---- Before anything is changed


def prepare(host: Host, found: overrides.Shadows) -> Journal:
    """Look at the pool and note all that is to be done."""
    package = host.package
    sockets = [link for link in overrides.all_links(host) if link.endswith(".socket")]
    running = tuple(sorted(instances.gather(host).listening))
    dropins = {}
    for file in found.files:
        unit = hand_made.read_unit(package, read_or_none(host.path(file)) or "")
        name = os.path.basename(file)
        if unit.environment:
            text = f"# Kept from {file} by {package.command} adopt.\n[Service]\n"
            dropin = f"{overrides.FOLDERS[0]}/{name}.d/{hand_made.DROPIN}"
            dropins[dropin] = text + "\n".join(unit.environment) + "\n"
        for value in unit.files:
            if step := access.changed_by_others(value):
                warn(
                    f"{file}: EnvironmentFile={value} stays, but others than root can change"
                    f" {step}, and with it what workers run"
                )
        if unit.user not in ("", package.user):
            warn(
                f"{file}: workers will run as user {package.user}, no longer as {unit.user}: it "
                "must be able to read your projects and data"
            )
        if unit.other:
            other = ", ".join(unit.other)
            warn(f"not taken over from {file}: {other} (to keep it: systemctl edit {name})")
    journal = Journal(
        backup=f"{changes.BACKUPS}/{package.name}/adopted-{time.strftime('%Y%m%d-%H%M%S')}",
        files=found.files,
        links=found.links,
        wanted=tuple(dict.fromkeys(map(os.path.basename, sockets))),
        dropins=dropins,
        folders={},
        enabled=tuple(sorted(instances.enabled(host))),
        running=running,
        waiting=running,
        answer=None,
    )
    more = folders(host, environment(host, journal))
    allowed = more.get("data_folders", load_settings(host).settings.data_folders)
    note(
        "URLs stay as NGINX's files have them; MAP will lead to files in "
        f"{', '.join(allowed)} alone (setting data_folders)"
    )
    # The trial worker needs these, before the settings are applied.
    needed = (package.folders_dropin, package.worker_file)
    for made in generated(host, load_settings(host, more).settings, 0):
        if made.file in needed and made.text is not None:
            dropins[made.file] = made.text
    return replace(journal, dropins=dropins, folders=more)


def folders(host: Host, values: Mapping[str, str]) -> dict[str, list[str]]:
    """The settings data_folders and writable_folders, where workers need more than they
    would see: each with its new value."""
    package, settings = host.package, load_settings(host).settings
    found: dict[str, list[str]] = {}
    for name, path in sandbox.named(values):
        if sandbox.is_allowed(package, settings, name, path):
            continue
        key, folder = sandbox.remedy(name, path)
        value = found.setdefault(key, list(getattr(settings, key)))
        if os.path.isdir(folder) and not sandbox.is_in(folder, tuple(value)):
            try:
                value.append(values_of_settings.folder(folder))
            except ValueError:
                die(
                    f"{name}={path}: the setting {key} can't have {folder}",
                    hint="nothing was changed; a remedy: move it to another folder",
                )
    return {
        key: value
        for key, value in found.items()
        if value != list(getattr(settings, key)) and not is_overruled(host, key)
    }


def check(host: Host, journal: Journal) -> None:
    """Raises Failure where the package's units could not serve what is served now."""
    package = host.package
    for kind in ("socket", "service"):
        if not host.path(f"{overrides.PACKAGED}/{package.pool}@.{kind}").exists():
            die(f"{package.pool}@.{kind} of the package is missing", hint="reinstall the package")
    try:
        pwd.getpwnam(package.user)
    except KeyError:
        die(f"there is no user {package.user}", hint="systemd-sysusers makes it")
    load_settings(host)
    for instance in journal.running:
        unit = package.socket_unit(instance)
        listens = host.show(unit, "Listen").get("Listen", "")
        if listens != f"{package.socket(instance)} (Stream)":
            die(
                f"{unit} listens on {listens}, the package's unit on {package.socket(instance)}",
                hint="let it and NGINX use that path first",
            )
    values = environment(host, journal)
    for name in READ:
        check_path(host, name, values.get(name, ""), "r")
    for name in WRITTEN:
        check_path(host, name, values.get(name, ""), "w")


def environment(host: Host, journal: Journal) -> dict[str, str]:
    """The variables that the workers will have."""
    own = read_or_none(host.path(f"{host.package.etc}/env"))
    if own is None:
        die(f"{host.package.etc}/env: is missing", hint="the package's units need one, even empty")
    found: dict[str, str] = {}
    for text in journal.dropins.values():
        for _, key, value in unit_file.lines(text):
            if key == "EnvironmentFile":
                text = read_or_none(host.path(value.lstrip("-"))) or ""
                found |= environment_file.read(text)[0]
            elif key == "Environment":
                found |= hand_made.assignments(value)
    return environment_file.read(own)[0] | found


def check_path(host: Host, name: str, path: str, mode: str) -> None:
    """`mode`: see access.MODES. Raises Failure where the workers' user can't do that."""
    user = host.package.user
    if not path.startswith("/") or not host.path(path).exists():
        return
    if name == "QGIS_PROJECT_FILE" and path.startswith(("/tmp/", "/var/tmp/")):
        die(f"{name}={path}: the package's workers have a /tmp of their own", hint="move it")
    mode = "rw" if mode == "w" and not host.path(path).is_dir() else mode
    if not access.as_user(user, [Question(path, mode)]):
        return
    verb, remedy = "read", f"chmod o+rX on it and the folders above, or adduser {user} GROUP"
    if mode != "r":
        place = shlex.quote(path)
        verb, remedy = "write", f"chgrp -R {user} {place} && chmod -R g+rwX {place}"
        if os.path.realpath(path) != path:
            # Who can write to a folder on the way may have made the link.
            remedy = f"namei -l {place}"
    die(
        f"{name}={path}: user {user}, whom the package's workers run as, can't {verb} it",
        hint=f"nothing was changed; a remedy: {remedy}",
    )


# ---- The change


def carry_out(host: Host, journal: Journal) -> None:
    """All steps. Raises Failure if one failed and everything was put back."""
    look_at = ""
    try:
        changes.change(host, journal)
        if host.live:
            reload_manager(host, journal)
        if host.live and journal.waiting:
            look_at = host.package.service_unit(trial.INSTANCE)
            note("trying the package's units with a worker that NGINX does not know")
            trial.run(host, journal.answer)
        for instance in journal.waiting if host.live else ():
            look_at = host.package.service_unit(instance)
            note(f"restarting the worker of instance {instance}; its socket stays")
            # No longer waiting even if it fails: then it has to go back, too.
            journal = replace(journal, waiting=journal.waiting[1:])
            host.systemctl("restart", look_at)
            trial.ask(host, instance, journal.answer)
            journal.save(host)
    except (Failure, OSError) as error:
        warn(f"{error}: putting everything back")
        go_back(host, journal)
        die(
            "a step failed, see above; the pool is as it was before",
            hint=f"journalctl -u {look_at}" if look_at else "",
        )
    overrides.journal(host).unlink(missing_ok=True)


def reload_manager(host: Host, journal: Journal) -> None:
    """From here on systemd stops and starts by the package's units. A socket that
    is open is as good as a new one, so it must not count as out of date."""
    package = host.package
    host.systemctl("daemon-reload")
    shown = instances.units(host)
    known = outdated.load(host)
    for instance in journal.running:
        for name in (package.socket_unit(instance), package.service_unit(instance)):
            source = shown.get(name, {}).get("FragmentPath", "")
            if source and os.path.dirname(source) not in overrides.OURS:
                die(f"{name} still comes from {source}")
        name = package.socket_unit(instance)
        if name in shown:
            known[name] = outdated.digest(instances.definition_files(host, shown[name]))
        shutil.chown(host.path(package.socket(instance)), group="root")
    outdated.save(host, known)


def go_back(host: Host, journal: Journal) -> None:
    """Everything as it was before, restarted workers included."""
    changes.put_back(host, journal)
    overrides.journal(host).unlink(missing_ok=True)
    if host.live:
        host.systemctl("daemon-reload")
        for instance in journal.running:
            if instance not in journal.waiting:
                host.systemctl("restart", host.package.service_unit(instance))


# ---- The command


def steps(host: Host, journal: Journal) -> list[str]:
    """What is to be done, for people."""
    todo = [f"back up what is touched to {journal.backup}"]
    if journal.count:
        todo.append(f"set instances = {journal.count} in {auto_file(host)}")
    for key, value in journal.folders.items():
        todo.append(f"set {key} = {as_toml(value)} in {auto_file(host)}")
    todo += [f"write {file}" for file in journal.dropins]
    todo += [f"enable the package's {unit}" for unit in journal.wanted]
    todo += [f"remove {file}" for file in journal.files]
    if host.live and journal.waiting:
        todo.append("try the package's units with a worker that NGINX does not know")
        todo += [f"restart the worker of instance {n}; its socket stays" for n in journal.waiting]
    return todo


def nginx_texts(host: Host) -> Iterator[tuple[str, str]]:
    """NGINX's files that an administrator writes."""
    own = (host.package.nginx_http, host.package.nginx_snippet)
    for pattern in ("nginx.conf", "conf.d/*.conf", "sites-enabled/*", "snippets/*.conf"):
        for file in sorted(host.path("/etc/nginx").glob(pattern)):
            name = f"/{file.relative_to(host.root)}"
            if name not in own and file.is_file():
                yield name, file.read_text(encoding="utf-8", errors="replace")


def advise(host: Host, journal: Journal) -> None:
    package = host.package
    include = f"include {os.path.relpath(package.nginx_snippet, '/etc/nginx')};"
    for place in hand_made.passes(package.pool, nginx_texts(host)):
        note(
            f"{place}: goes on as it is; instead of its location you may write: {include} "
            f"Projects are then at {package.projects_prefix}/NAME, and MAP is refused unless "
            "map_parameter = true"
        )
    note(f"adopted: what was there before is in {journal.backup}")


def begin(host: Host, found: overrides.Shadows) -> Journal:
    """The last of what changes nothing: ask a worker, copy what will be touched."""
    journal = prepare(host, found)
    check(host, journal)
    if journal.running:
        journal = replace(journal, answer=trial.ask(host, journal.running[0], None))
    changes.back_up(host, journal)
    journal.save(host)
    return journal


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    host.need_root("move the pool", "adopt")
    with locked(host):
        journal = Journal.load(host)
        found = overrides.find(host, State.load(host))
        if journal is None and not found.files and not found.links:
            note("nothing to adopt: the pool is run by the package's units")
            return 0
        if args.dry_run:
            if journal is None:
                journal = prepare(host, found)
                check(host, journal)
            for step in steps(host, journal):
                tell(printable(step))
            return 0
        journal = journal or begin(host, found)
        carry_out(host, journal)
        is_overruled(host, "instances")
        result = reconcile(host, dry_run=False)
        advise(host, journal)
    return finish(host, result)
