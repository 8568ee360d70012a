# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instances a roll has taken out of NGINX's upstream for the moment."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass

from .files import read_or_none, write
from .host import Host


@dataclass(frozen=True)
class Rolling:
    """`drained`: enabled, but not to be named by the upstream. `spare`: stands in
    for the only instance while that one is drained. `alive`: a roll is under
    way; without it the rest is left over from one that was cut off."""

    drained: frozenset[int] = frozenset()
    spare: frozenset[int] = frozenset()
    alive: bool = False

    def named(self, serving: frozenset[int]) -> frozenset[int]:
        """What the upstream names."""
        return (serving - self.drained) | self.spare if self.alive else serving


def _file(host: Host) -> str:
    return f"{host.package.run}/rolling.json"


@contextlib.contextmanager
def only_roll(host: Host) -> Iterator[None]:
    """One roll at a time; ends when the process does."""
    folder = host.path(host.package.run)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "roll.lock").open("a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _under_way(host: Host) -> bool:
    try:
        with host.path(f"{host.package.run}/roll.lock").open("r", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def load(host: Host) -> Rolling:
    try:
        found = json.loads(read_or_none(host.path(_file(host))) or "{}")
        drained, spare = frozenset(found.get("drained", ())), frozenset(found.get("spare", ()))
    except (ValueError, AttributeError, TypeError):
        drained = spare = frozenset()
    return Rolling(drained, spare, _under_way(host))


def save(host: Host, rolling: Rolling) -> None:
    file = host.path(_file(host))
    if rolling.drained or rolling.spare:
        found = {"drained": sorted(rolling.drained), "spare": sorted(rolling.spare)}
        write(file, json.dumps(found) + "\n")
    else:
        file.unlink(missing_ok=True)
