# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instances a roll has taken out of NGINX's upstream for the moment, and
which ones someone wants to be restarted."""

import json
from dataclasses import dataclass
from typing import Any

from ..system.files import read_or_none, write
from .host import Host
from .lock import under_way

KEYS = ("drained", "spare", "leaving", "failed")
"""The sets that are kept in the file."""


@dataclass(frozen=True)
class Rolling:
    """`drained`: not to be named by the upstream while the roll goes on. `spare`:
    stands in for the only instance while that one is drained; `leaving` no longer
    does, and is to be stopped. `failed`: did not come up in a roll, and is not named
    until it does. `lane`: heavy requests go to the other workers while the roll goes on, since
    their socket is opened again. `alive`: a roll is under way; without it all but `failed` is left
    over from one that was cut off."""

    drained: frozenset[int] = frozenset()
    spare: frozenset[int] = frozenset()
    leaving: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    lane: bool = False
    alive: bool = False

    @property
    def at(self) -> frozenset[int]:
        """Instances that a roll restarts at this moment."""
        return self.drained if self.alive else frozenset()

    def named(self, serving: frozenset[int]) -> frozenset[int]:
        """What the upstream names; never nothing while anything may serve."""
        out = self.failed | self.drained if self.alive else self.failed
        return (serving - out) | (self.spare if self.alive else frozenset()) or serving


def _file(host: Host) -> str:
    return f"{host.package.run}/rolling.json"


def _wishes(host: Host) -> str:
    return f"{host.package.run}/restart.json"


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
    lane = isinstance(found, dict) and found.get("lane") is True
    return Rolling(drained, spare, leaving, failed, lane, alive=under_way(host))


def save(host: Host, rolling: Rolling) -> None:
    values = {key: sorted(getattr(rolling, key)) for key in KEYS} | {"lane": rolling.lane}
    _store(host, _file(host), {key: found for key, found in values.items() if found})


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
