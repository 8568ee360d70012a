# SPDX-License-Identifier: GPL-2.0-or-later
"""What an administrator has taken out of service: files that NGINX looks for at each request,
so that they count at once, whatever workers and units do. They outlast a boot."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..system.files import write
from .host import Host


@dataclass(frozen=True)
class Out:
    """`maintenance`: clients get a page with status 503. `projects`: those of these projects
    alone do. `drained`: requests are served, but load balancers shall send no more. `leaving`:
    the same, by the server itself, until it is back."""

    maintenance: bool = False
    projects: tuple[str, ...] = ()
    drained: bool = False
    leaving: bool = False


def load(host: Host) -> Out:
    package = host.package
    folder = host.path(package.maintenance_projects)
    there: Iterable[Path] = folder.iterdir() if folder.is_dir() else ()
    return Out(
        maintenance=host.path(package.maintenance).exists(),
        # What a write that was cut off has left begins with a dot, and is no name.
        projects=tuple(sorted(file.name for file in there if not file.name.startswith("."))),
        drained=host.path(package.out).exists(),
        leaving=host.path(package.leaving).exists(),
    )


def set_maintenance(host: Host, project: str | None, *, on: bool) -> None:
    """`project`: the name in its URL; None is the pool. Raises Failure or OSError."""
    package = host.package
    _keep(
        host,
        f"{package.maintenance_projects}/{project}" if project else package.maintenance,
        on=on,
    )


def set_drained(host: Host, *, on: bool) -> None:
    """Raises Failure or OSError."""
    _keep(host, host.package.out, on=on)
    if not on:
        # What a restart that was cut off has left.
        set_leaving(host, on=False)


def set_leaving(host: Host, *, on: bool) -> None:
    """Raises Failure or OSError."""
    _keep(host, host.package.leaving, on=on)


def _keep(host: Host, file: str, *, on: bool) -> None:
    if on:
        write(host.path(file), "")
    else:
        host.path(file).unlink(missing_ok=True)
