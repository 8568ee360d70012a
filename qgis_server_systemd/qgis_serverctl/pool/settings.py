# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of this host, and the files that they are in."""

from collections.abc import Mapping
from pathlib import Path

from ..config.stored import Resolved, resolve
from ..system import environment_file
from ..system.files import read_or_none
from ..system.output import warn
from .host import Host


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


def env_variables(host: Host) -> dict[str, str]:
    """The administrator's variables for workers; none where the file is missing."""
    return environment_file.read(read_or_none(host.path(f"{host.package.etc}/env")) or "")[0]


def is_overruled(host: Host, key: str, *, since: str = "") -> bool:
    """Does the administrator's file win over what a command sets? If so, say it."""
    overruled = load_settings(host).source[key] == str(settings_file(host))
    if overruled:
        warn(f"{settings_file(host)} sets {key} too and wins{since}: change it there")
    return overruled
