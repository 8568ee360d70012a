# SPDX-License-Identifier: GPL-2.0-or-later
"""The drop-ins and other files that are made of the settings."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..config.settings import Settings
from ..config.values import NAME
from ..pool.host import Host
from ..pool.settings import settings_file
from ..system.files import read_or_none
from ..system.output import die
from ..system.template import render
from . import sandbox


@dataclass(frozen=True)
class Generated:
    """A file made of the settings; `text` is None where they ask for nothing.
    `changes`: what has to be renewed when it changes, if anything."""

    file: str
    text: str | None
    changes: Literal["sockets", "workers", "queue", ""]


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


def generated(host: Host, settings: Settings) -> tuple[Generated, ...]:
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
        "catalogue": {
            "folders": settings.project_folders,
            "named": settings.named,
            "project": settings.project,
            "warm": settings.warm,
            "pattern": NAME,
            "memory": settings.memory_max,
            "program": package.mapserv,
            "sent": f"{package.etc}/fastcgi_params",
        },
    }
    warmed = json.dumps(worker, ensure_ascii=False) + "\n"
    queue = queue_dropin(host, settings)
    own = f"# Written by {package.command} (setting queue): this is no worker.\n"
    return (
        Generated(sockets, _dropin(host, "Socket", backlog), "sockets"),
        Generated(shared, _dropin(host, "Socket", backlog), "sockets"),
        Generated(package.queue_dropin, queue, "queue"),
        Generated(package.catalogue_dropin, None if queue is None else own, ""),
        Generated(workers, _dropin(host, "Service", confined), "workers"),
        Generated(
            package.folders_dropin, _dropin(host, "Service", sandbox.folders(settings)), "workers"
        ),
        Generated(package.worker_file, warmed, ""),
        Generated(package.cache_mark, "" if settings.caches else None, ""),
    )
