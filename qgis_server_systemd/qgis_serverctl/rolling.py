# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instances a roll has taken out of NGINX's upstream for the moment, and
which ones someone wants to be restarted."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from .files import read_or_none, write
from .host import Host
from .log import note

KEYS = ("drained", "spare", "leaving", "failed")
"""The sets that are kept in the file."""


@dataclass(frozen=True)
class Rolling:
    """`drained`: not to be named by the upstream while the roll goes on. `spare`:
    stands in for the only instance while that one is drained; `leaving` no longer
    does, and is to be stopped. `failed`: did not come up in a roll, and is not named
    until it does. `alive`: a roll is under way; without it all but `failed` is left
    over from one that was cut off."""

    drained: frozenset[int] = frozenset()
    spare: frozenset[int] = frozenset()
    leaving: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    alive: bool = False

    def named(self, serving: frozenset[int]) -> frozenset[int]:
        """What the upstream names; never nothing while anything may serve."""
        out = self.failed | self.drained if self.alive else self.failed
        return (serving - out) | (self.spare if self.alive else frozenset()) or serving


def _file(host: Host) -> str:
    return f"{host.package.run}/rolling.json"


def _wishes(host: Host) -> str:
    return f"{host.package.run}/restart.json"


class Turn:
    """The right to roll, which one process at a time has."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def give_up(self) -> None:
        """Before the block of only_roll ends, such as while something else is locked."""
        self._file.close()


@contextlib.contextmanager
def only_roll(host: Host, *, wait: bool = True) -> Iterator[Turn | None]:
    """One roll at a time; ends when the process does. Yields the turn, or without
    `wait` None if another roll is under way."""
    folder = host.path(host.package.run)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "roll.lock").open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield None
                return
            note("waiting for another restart of workers to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield Turn(file)


def _under_way(host: Host) -> bool:
    try:
        with host.path(f"{host.package.run}/roll.lock").open("r", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _read(host: Host, file: str) -> Any:
    try:
        return json.loads(read_or_none(host.path(file)) or "null")
    except ValueError:
        return None


def load(host: Host) -> Rolling:
    found = _read(host, _file(host)) or {}
    try:
        sets = [frozenset(map(int, found.get(key, ()))) for key in KEYS]
    except (AttributeError, TypeError, ValueError):
        sets = [frozenset()] * len(KEYS)
    drained, spare, leaving, failed = sets
    return Rolling(drained, spare, leaving, failed, alive=_under_way(host))


def save(host: Host, rolling: Rolling) -> None:
    sets = {key: sorted(getattr(rolling, key)) for key in KEYS}
    _store(host, _file(host), {key: found for key, found in sets.items() if found})


def _store(host: Host, file: str, content: object) -> None:
    if content:
        write(host.path(file), json.dumps(content) + "\n")
    else:
        host.path(file).unlink(missing_ok=True)


def wishes(host: Host) -> frozenset[int]:
    """Instances that the next roll shall restart, whether out of date or not."""
    try:
        return frozenset(map(int, _read(host, _wishes(host)) or ()))
    except (TypeError, ValueError):
        return frozenset()


def wish(host: Host, instances: frozenset[int]) -> None:
    _store(host, _wishes(host), sorted(instances))
