# SPDX-License-Identifier: GPL-2.0-or-later
"""The files and links of an adoption: what is to be changed, its backup, the
change, and the way back. Each step may be done twice."""

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from ..config.stored import remember
from ..config.values import MAX_INSTANCES
from ..pool import instances, overrides
from ..pool.host import Host
from ..pool.settings import auto_file
from ..pool.state import State
from ..system import files
from ..system.files import read_or_none, write
from ..system.output import die

BACKUPS = "/var/backups"


@dataclass(frozen=True)
class Journal:
    """All that is to be done, noted before the first change; a second run goes on
    from here.

    `backup`: the folder with everything as it was. `files` and `links`: the unit
    files and links that go. `wanted`: socket units to enable. `dropins`: files to
    write, with their texts. `folders`: what workers have to see, or to write to, by
    setting. `enabled`: instances as they were. `running`: those
    with a socket that listens. `waiting`: those whose worker is still to be
    restarted. `answer`: the status with which a worker of old answered a trial
    request.
    """

    backup: str
    files: tuple[str, ...]
    links: tuple[str, ...]
    wanted: tuple[str, ...]
    dropins: dict[str, str]
    folders: dict[str, list[str]]
    enabled: tuple[int, ...]
    running: tuple[int, ...]
    waiting: tuple[int, ...]
    answer: int | None

    @classmethod
    def load(cls, host: Host) -> Self | None:
        file = overrides.journal(host)
        text = read_or_none(file)
        if text is None:
            return None
        try:
            found = json.loads(text).items()
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found}
            return cls(**values)
        except (ValueError, TypeError, AttributeError):
            die(f"{file}: is damaged", hint=f"see the newest backup in {BACKUPS}")

    def save(self, host: Host) -> None:
        write(overrides.journal(host), json.dumps(asdict(self)) + "\n")

    @property
    def count(self) -> int:
        return min(max(self.enabled, default=0), MAX_INSTANCES)

    def touched(self, host: Host) -> list[str]:
        """Every path that may be written or removed."""
        kept = (host.package.auto_settings, host.package.state_file)
        links = [link for unit in self.wanted for link in links_of(host, unit)]
        return [*dict.fromkeys([*self.files, *self.links, *links, *self.dropins, *kept])]


def links_of(host: Host, unit: str) -> tuple[str, str]:
    """The links by which the package's socket unit is enabled."""
    etc = overrides.FOLDERS[0]
    return f"{etc}/{instances.WANTS}/{unit}", f"{etc}/{host.package.pool}.target.wants/{unit}"


def back_up(host: Host, journal: Journal) -> None:
    """Copy what will be touched; paths, links and owners are kept."""
    for path in journal.touched(host):
        source = host.path(path)
        if os.path.lexists(source):
            files.copy(source, host.path(journal.backup + path))


def change(host: Host, journal: Journal) -> None:
    """The links first: each instance stays enabled whenever this is cut off."""
    if journal.count:
        remember(auto_file(host), "instances", journal.count)
        # A number that had no instance counts as disabled by hand, and stays so.
        own = State.load(host)
        replace(own, enabled=own.enabled | set(range(1, journal.count + 1))).save(host)
    for key, value in journal.folders.items():
        remember(auto_file(host), key, tuple(value))
    for file, text in journal.dropins.items():
        write(host.path(file), text)
    kept = [link for unit in journal.wanted for link in links_of(host, unit)]
    for link in kept:
        files.link(host.path(link), f"{overrides.PACKAGED}/{host.package.pool}@.socket")
    for path in (*journal.links, *journal.files):
        if path not in kept:
            host.path(path).unlink(missing_ok=True)


def put_back(host: Host, journal: Journal) -> None:
    """All files and links as they were, the units before the links to them."""
    for path in journal.touched(host):
        kept = host.path(journal.backup + path)
        if os.path.lexists(kept):
            files.copy(kept, host.path(path))
        else:
            host.path(path).unlink(missing_ok=True)
