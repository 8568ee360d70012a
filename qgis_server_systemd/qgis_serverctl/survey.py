# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings and facts of a server, brought together for the plan."""

import json
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import cores, instances, nginx, plan, rolling, sandbox, shadows
from .files import read_or_none
from .host import Host
from .log import die, warn
from .settings import MAX_INSTANCES, Resolved, Settings, resolve
from .state import State
from .template import render


def settings_file(host: Host) -> Path:
    """The administrator's; no program writes it."""
    return host.path(f"{host.package.etc}/server.toml")


def auto_file(host: Host) -> Path:
    """What commands set."""
    return host.path(host.package.auto_settings)


def load_settings(
    host: Host, given: Mapping[str, object] | None = None, file: Path | None = None
) -> Resolved:
    """`file`: in the place of the administrator's."""
    shipped = host.path(host.package.defaults)
    return resolve(file or settings_file(host), auto_file(host), given, shipped)


def is_overruled(host: Host, key: str, *, since: str = "") -> bool:
    """Does the administrator's file win over what a command sets? If so, say it."""
    overruled = load_settings(host).source[key] == str(settings_file(host))
    if overruled:
        warn(f"{settings_file(host)} sets {key} too and wins{since}: change it there")
    return overruled


def gather(host: Host) -> plan.Facts:
    state = State.load(host)
    found = cores.detect(host)
    candidates = state.enabled | state.pending | frozenset(range(1, found.count + 1))
    package = host.package
    files = (
        *nginx.generated(package),
        *package.dropins,
        package.worker_file,
        package.cache_mark,
    )
    return plan.Facts(
        live=host.live,
        cores=min(found.count, MAX_INSTANCES),
        instances=instances.gather(host, candidates),
        state=state,
        nginx=nginx.gather(host),
        files={file: read_or_none(host.path(file)) for file in files},
        loaded=nginx.is_loaded(host),
        caching=host.live
        and host.show(package.cache_unit, "ActiveState").get("ActiveState") == "active",
        rolling=rolling.load(host),
        shadows=shadows.find(host, state),
    )


def socket_dropins(host: Host, user: str) -> tuple[tuple[str, str | None], ...]:
    """The units name Debian's NGINX user; another one needs drop-ins."""
    text = (
        f"# Written by {host.package.command} (setting socket_user).\n[Socket]\nSocketUser={user}\n"
    )
    files = (host.package.socket_dropin, host.package.shared_socket_dropin)
    return tuple((file, None if user == "www-data" else text) for file in files)


def queue_dropin(host: Host, settings: Settings) -> str | None:
    """The package's own drop-in of that name is for queues of each worker. One that
    the administrator has put in its place stays. Raises Failure if it is in the way."""
    package = host.package
    there = read_or_none(host.path(package.queue_dropin))
    theirs = there is not None and not there.startswith(f"# Written by {package.command} ")
    if not settings.is_shared:
        return there if theirs else None
    if theirs:
        die(
            f"{package.queue_dropin}: is not the package's",
            hint="remove it: the shared queue needs its place",
        )
    return render("queue-shared.conf", {"command": package.command, "pool": package.pool})


def has_databases(host: Host) -> bool:
    """Has the administrator put a service file for databases among the secrets?"""
    file = host.package.service_file
    try:
        return host.path(file).exists()
    except PermissionError:
        # For those who may not look there: as it was applied.
        return file in (read_or_none(host.path(host.package.nginx_location)) or "")


def _dropin(host: Host, section: str, lines: Iterable[str]) -> str | None:
    """The units name the defaults; a drop-in has what the settings change."""
    changed = tuple(lines)
    if not changed:
        return None
    head = f"# Written by {host.package.command} from {settings_file(host)}; changes are lost."
    return "\n".join([head, f"[{section}]", *changed]) + "\n"


def generated(host: Host, settings: Settings) -> tuple[plan.Generated, ...]:
    """The files made of the settings, but for NGINX's."""
    package, usual = host.package, Settings()
    sockets, shared, workers = package.settings_dropins
    backlog = [] if settings.backlog == usual.backlog else [f"Backlog={settings.backlog}"]
    confined = sandbox.lines(package, settings, databases=has_databases(host))
    worker = {
        "reload": package.reload_file,
        "warm": settings.warmed,
        "guard": {
            "mode": package.map_variable,
            "folders": (*settings.data_folders, *settings.project_folders, package.projects),
            "projects": settings.chosen,
            "remote": settings.remote_references,
            "side": settings.image_size_max,
            "dpi": settings.dpi_max,
        },
    }
    warmed = json.dumps(worker, ensure_ascii=False) + "\n"
    return (
        plan.Generated(sockets, _dropin(host, "Socket", backlog), "sockets"),
        plan.Generated(shared, _dropin(host, "Socket", backlog), "sockets"),
        plan.Generated(package.queue_dropin, queue_dropin(host, settings), "queue"),
        plan.Generated(workers, _dropin(host, "Service", confined), "workers"),
        plan.Generated(
            package.folders_dropin, _dropin(host, "Service", sandbox.folders(settings)), "workers"
        ),
        plan.Generated(package.worker_file, warmed, ""),
        plan.Generated(package.cache_mark, "" if settings.caches else None, ""),
    )


def want(host: Host, settings: Settings, facts: plan.Facts, *, explicit: bool) -> plan.Wanted:
    user = facts.nginx.user if settings.socket_user == "auto" else settings.socket_user
    if host.live:
        try:
            pwd.getpwnam(user)
        except KeyError:
            die(f"socket_user: there is no user {user}", hint="is NGINX installed completely?")
    http, location, server = nginx.generated(host.package)
    # A file of that name may have been there before the package.
    theirs = facts.files[http] is not None and not nginx.is_generated(
        host.package, facts.files[http]
    )

    def queues(serving: frozenset[int]) -> tuple[str, ...]:
        now = facts.instances
        return tuple(now.queue(host.package, n, shared=settings.is_shared) for n in sorted(serving))

    return plan.Wanted(
        count=settings.instances,
        explicit=explicit,
        maintainer=host.maintainer,
        socket_user=user,
        dropins=socket_dropins(host, user),
        shared=settings.is_shared,
        caches=settings.caches,
        nginx_files=lambda serving: {
            **({} if theirs else {http: nginx.http_text(host.package, settings, queues(serving))}),
            location: nginx.location_text(
                host.package,
                settings,
                checks_end=facts.nginx.checks_end,
                databases=has_databases(host),
            ),
            server: nginx.server_text(host.package, settings),
        },
        generated=generated(host, settings),
        notes=(f"{http} is not the package's and is left alone: give it another name",)
        if theirs
        else (),
    )
