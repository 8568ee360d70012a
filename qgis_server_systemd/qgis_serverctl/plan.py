# SPDX-License-Identifier: GPL-2.0-or-later
"""Desired state in, differences out. No side effects, no look at the machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .instances import Instances
from .nginx import Nginx
from .state import State


@dataclass(frozen=True)
class Facts:
    """The machine as it is. `files`: present texts of the generated files.
    `loaded`: a running NGINX has read them as they are."""

    live: bool
    cores: int
    instances: Instances
    state: State
    nginx: Nginx
    files: Mapping[str, str | None]
    loaded: bool


@dataclass(frozen=True)
class Wanted:
    """The server as the settings want it.

    `count`: instances, or "auto". `explicit`: the administrator gave the count
    on the command line, which beats systemd's presets. `grow_only`: in mode auto
    never lower the count. `socket_user` and `dropin`, (path, text or None), say
    whose the sockets are. `nginx_files`: texts of the files generated for NGINX
    over a set of instances.
    """

    count: int | str
    explicit: bool
    grow_only: bool
    socket_user: str
    dropin: tuple[str, str | None]
    nginx_files: Callable[[frozenset[int]], Mapping[str, str]]


@dataclass(frozen=True)
class Adopt:
    """An earlier run was cut off after it had enabled the instance."""

    instance: int

    def __str__(self) -> str:
        return f"note that instance {self.instance} is ours"


@dataclass(frozen=True)
class Enable:
    instance: int
    preset: bool

    def __str__(self) -> str:
        by = " unless a preset says no" if self.preset else ""
        return f"enable instance {self.instance}{by}"


@dataclass(frozen=True)
class Write:
    """Write a generated file, or with None remove it."""

    file: str
    text: str | None

    def __str__(self) -> str:
        return f"{'remove' if self.text is None else 'write'} {self.file}"


@dataclass(frozen=True)
class ReloadManager:
    def __str__(self) -> str:
        return "make systemd read its units"


@dataclass(frozen=True)
class GiveSocket:
    """Make over the sockets that exist to NGINX's user."""

    instance: int
    user: str

    def __str__(self) -> str:
        return f"give the socket of instance {self.instance} to {self.user}"


@dataclass(frozen=True)
class Start:
    instance: int

    def __str__(self) -> str:
        return f"start instance {self.instance}"


@dataclass(frozen=True)
class RestartStale:
    instance: int

    def __str__(self) -> str:
        return f"restart instance {self.instance}: its program was replaced"


@dataclass(frozen=True)
class WriteUpstream:
    """Write NGINX's files over those of `instances` that could be started."""

    instances: frozenset[int]

    def __str__(self) -> str:
        return f"write NGINX's upstream: {listed(self.instances) or 'no instance'}"


@dataclass(frozen=True)
class ReloadNginx:
    """`wait`: until no process of NGINX knows the old configuration."""

    wait: bool

    def __str__(self) -> str:
        return "reload NGINX, if nginx -t passes"


@dataclass(frozen=True)
class Retire:
    """Stop and disable an instance that NGINX no longer names."""

    instance: int

    def __str__(self) -> str:
        return f"stop and disable instance {self.instance}"


Action = (
    Adopt
    | Enable
    | Write
    | ReloadManager
    | GiveSocket
    | Start
    | RestartStale
    | WriteUpstream
    | ReloadNginx
    | Retire
)


@dataclass(frozen=True)
class Plan:
    """`serving`: the instances that the upstream shall name."""

    actions: tuple[Action, ...]
    serving: frozenset[int]
    notes: tuple[str, ...]


def listed(instances: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(instances)))


def count(wanted: Wanted, facts: Facts) -> int:
    """The number of instances, in mode auto by the cores."""
    if isinstance(wanted.count, int):
        return wanted.count
    own = facts.instances.enabled & facts.state.enabled
    return max(facts.cores, *own) if wanted.grow_only and own else facts.cores


def make(wanted: Wanted, facts: Facts) -> Plan:
    """Order the differences so that each step leaves a pool that serves.

    New instances run before NGINX names them; NGINX has let go of an instance
    before it stops.
    """
    now, state = facts.instances, facts.state
    number = count(wanted, facts)
    range_ = frozenset(range(1, number + 1))
    enable = range_ - now.enabled - state.enabled - now.masked
    adopt = state.pending & now.enabled
    retire = ((state.enabled | state.pending) & now.enabled) - range_
    serving = (now.enabled | enable) - retire - now.masked
    dropin_file, dropin_text = wanted.dropin
    dropin_changes = facts.files[dropin_file] != dropin_text
    nginx_files = wanted.nginx_files(serving)
    nginx_changes = any(facts.files[file] != text for file, text in nginx_files.items())

    actions: list[Action] = [Adopt(n) for n in sorted(adopt)]
    if dropin_changes:
        actions.append(Write(dropin_file, dropin_text))
    actions += [Enable(n, preset=not wanted.explicit) for n in sorted(enable)]
    if facts.live:
        if dropin_changes or enable:
            actions.append(ReloadManager())
        if dropin_changes:
            actions += [GiveSocket(n, wanted.socket_user) for n in sorted(now.listening)]
        actions += [Start(n) for n in sorted(serving - now.listening)]
    if nginx_changes:
        actions.append(WriteUpstream(serving))
    if facts.nginx.running and (nginx_changes or not facts.loaded or retire):
        actions.append(ReloadNginx(wait=bool(retire)))
    actions += [Retire(n) for n in sorted(retire)]
    actions += [RestartStale(n) for n in sorted(now.stale & serving)]

    notes = []
    if by_hand := (range_ & state.enabled) - now.enabled - now.masked:
        notes.append(f"left alone, disabled by hand: instance {listed(by_hand)}")
    if masked := now.masked & (range_ | now.enabled):
        notes.append(f"left alone, masked: instance {listed(masked)}")
    if extra := now.enabled - range_ - retire - now.masked:
        notes.append(f"left alone, enabled by hand beyond {number}: instance {listed(extra)}")
    return Plan(tuple(actions), serving, tuple(notes))
