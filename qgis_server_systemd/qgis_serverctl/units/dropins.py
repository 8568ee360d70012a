# SPDX-License-Identifier: GPL-2.0-or-later
"""The drop-ins and other files that are made of the settings."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..config.names import HEAVY, HEAVY_WORD
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
    `changes`: what has to be renewed when it changes, if anything: a worker of the lane
    for heavy requests by its definition, hence "lane"."""

    file: str
    text: str | None
    changes: Literal["sockets", "workers", "queue", "lane", ""]


def socket_dropins(host: Host, user: str) -> tuple[tuple[str, str | None], ...]:
    """The units name Debian's NGINX user; another one needs drop-ins."""
    text = (
        f"# Written by {host.package.command} (setting socket_user).\n[Socket]\nSocketUser={user}\n"
    )
    files = host.package.socket_dropins
    return tuple((file, None if user == "www-data" else text) for file in files)


def queue_dropin(host: Host, settings: Settings) -> str | None:
    """The package's own drop-in of that name is for queues of each worker. One that
    the administrator has put in its place stays. Raises Failure if it is in the way."""
    package = host.package
    theirs = is_theirs(host, package.queue_dropin)
    if not settings.is_shared:
        return read_or_none(host.path(package.queue_dropin)) if theirs else None
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


def _dropin(
    host: Host, section: str, lines: Iterable[str], *, unit: Iterable[str] = ()
) -> str | None:
    """The units name the defaults; a drop-in has what the settings change. `unit`: lines of
    [Unit]."""
    changed, before = tuple(lines), tuple(unit)
    if not changed:
        return None
    head = f"# Written by {host.package.command} from {settings_file(host)}; changes are lost."
    return "\n".join([head, *(["[Unit]", *before] if before else []), f"[{section}]", *changed, ""])


def is_theirs(host: Host, file: str) -> bool:
    """Has the administrator put a file in the place of a generated one?"""
    text = read_or_none(host.path(file))
    return text is not None and not text.startswith(f"# Written by {host.package.command} ")


def there(host: Host) -> tuple[str, ...]:
    """The drop-ins of single workers for heavy requests that are on disk."""
    package = host.package
    folders = host.path("/etc/systemd/system").glob(f"{package.pool}@{HEAVY_WORD}*.service.d")
    labels = (folder.name.partition("@")[2].removesuffix(".service.d") for folder in folders)
    files = (file for label in sorted(labels) for file in package.heavy_dropins(label))
    return tuple(one for one in files if host.path(one).exists() and not is_theirs(host, one))


def lane(host: Host, settings: Settings, count: int) -> tuple[Generated, ...]:
    """The files of the lane for heavy requests, which has `count` workers. Those of workers
    that it has no more go; those of the administrator's stay."""
    package, usual = host.package, settings.stop_timeout
    values = {
        "command": package.command,
        "slice": package.heavy_slice,
        "socket": package.heavy_unit,
    }
    text = render("queue-heavy.conf", values)
    own = [f"TimeoutStopSec={settings.lane_stop_timeout}"] * (settings.lane_stop_timeout != usual)
    timeout = _dropin(host, "Service", own)
    numbers = range(HEAVY + 1, HEAVY + count + 1)
    made: dict[str, str | None] = dict.fromkeys(there(host))
    for queue, limit in map(package.heavy_dropins, numbers):
        made |= {queue: text} | ({limit: timeout} if timeout or limit in made else {})
    units = " ".join(map(package.service_unit, numbers))
    wants = _dropin(host, "Unit", [f"Wants={units}"] * (count > 0))
    made[package.heavy_workers_dropin] = wants
    made[package.heavy_start_dropin] = None if settings.heavy_idle_minutes else wants
    return tuple(
        Generated(file, text, "lane") for file, text in made.items() if not is_theirs(host, file)
    )


def generated(host: Host, settings: Settings, heavy: int) -> tuple[Generated, ...]:
    """The files made of the settings, but for NGINX's. `heavy`: how many workers the lane for
    heavy requests has."""
    package, usual = host.package, Settings()
    sockets, shared, heavy_socket, workers = package.settings_dropins
    backlog = [] if settings.backlog == usual.backlog else [f"Backlog={settings.backlog}"]
    mounts, folders = sandbox.folders(package, settings)
    confined = sandbox.lines(package, settings, databases=has_databases(host))
    worker = {
        "reload": package.reload_file,
        "warm": settings.warmed,
        "learn": settings.learned,
        "lane": {
            "variable": package.lane_variable,
            "pixels": settings.heavy_pixels,
            "features": settings.heavy_features,
        }
        if heavy
        else None,
        "system_calls": settings.system_calls,
        "guard": {
            "mode": package.map_variable,
            "landing": settings.front_page == "qgis",
            "folders": (*settings.data_folders, *settings.project_folders, package.projects),
            "projects": settings.chosen,
            "remote": settings.remote_references,
            "side": settings.image_size_max,
            "dpi": settings.dpi_max,
        },
        "catalogue": {
            "project": settings.project,
            "warm": settings.warmed,
            "memory": settings.memory_max,
            "program": package.mapserv,
            "sent": f"{package.etc}/fastcgi_params",
        },
        "addresses": {
            "below": package.projects_prefix,
            "name": NAME,
            "named": settings.named,
            "folders": settings.project_folders,
        },
        "front": {
            "page": package.url_prefix,
            "title": settings.front_title,
            "text": settings.front_text,
            "logo": settings.front_logo,
            "unlisted": settings.unlisted_projects,
            "hosts": {host: own for host, own in settings.hosts.items() if "page" not in own},
        },
        "prefix": package.prefix_variable,
        "turn": package.home,
        "sent": package.sent_variable,
    }
    warmed = json.dumps(worker, ensure_ascii=False) + "\n"
    queue = queue_dropin(host, settings)
    own = f"# Written by {package.command} (setting queue): this is no worker.\n"
    return (
        Generated(sockets, _dropin(host, "Socket", backlog), "sockets"),
        Generated(shared, _dropin(host, "Socket", backlog), "sockets"),
        Generated(heavy_socket, _dropin(host, "Socket", backlog), "sockets"),
        Generated(package.queue_dropin, queue, "queue"),
        Generated(package.catalogue_dropin, None if queue is None else own, ""),
        Generated(workers, _dropin(host, "Service", confined), "workers"),
        Generated(
            package.folders_dropin, _dropin(host, "Service", folders, unit=mounts), "workers"
        ),
        *lane(host, settings, heavy),
        Generated(package.worker_file, warmed, ""),
        Generated(package.cache_mark, "" if settings.caches else None, ""),
        Generated(package.front_mark, "" if settings.lists else None, ""),
        Generated(package.notify_mark, "" if settings.notify else None, ""),
    )
