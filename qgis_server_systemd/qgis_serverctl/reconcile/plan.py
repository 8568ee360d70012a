# SPDX-License-Identifier: GPL-2.0-or-later
"""Desired state in, differences out. No side effects, no look at the machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..front.nginx import Nginx
from ..pool.instances import Instances, listed
from ..pool.overrides import Shadows
from ..pool.roll_state import Rolling
from ..pool.state import State
from ..units.dropins import Generated


@dataclass(frozen=True)
class Facts:
    """The machine as it is. `files`: present texts of the generated files.
    `loaded`: a running NGINX has read them as they are. `caching`: the unit of the
    reply cache runs. `cancels`: this QGIS Server ends a request whose client hangs up."""

    live: bool
    cores: int
    instances: Instances
    state: State
    nginx: Nginx
    files: Mapping[str, str | None]
    loaded: bool
    caching: bool = False
    cancels: bool = False
    rolling: Rolling = Rolling()
    shadows: Shadows = Shadows()


@dataclass(frozen=True)
class Wanted:
    """The server as the settings want it.

    `count`: instances, or "auto". `explicit`: the administrator gave the count
    just now; a number beats systemd's presets. `maintainer`: for a maintainer
    script, which in mode auto lowers no count unasked and doesn't wait for workers
    to finish their requests. `socket_user` and `dropins`, (path, text or None), say
    whose the sockets are. `shared`: one queue for all workers. `caches`: NGINX keeps
    replies. `nginx_files`: texts of the files generated for NGINX over a set of
    instances. `generated`: other files. `notes`: what the administrator should know anyway.
    """

    count: int | str
    explicit: bool
    maintainer: bool
    socket_user: str
    dropins: tuple[tuple[str, str | None], ...]
    nginx_files: Callable[[frozenset[int]], Mapping[str, str]]
    generated: tuple[Generated, ...] = ()
    shared: bool = False
    caches: bool = False
    notes: tuple[str, ...] = ()


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
class Relink:
    """Enable an instance by the unit that its queue goes by."""

    instance: int

    def __str__(self) -> str:
        return f"enable instance {self.instance} by its other unit"


@dataclass(frozen=True)
class EnableShared:
    """Enable the shared socket, or disable it."""

    on: bool

    def __str__(self) -> str:
        return f"{'enable' if self.on else 'disable'} the shared socket"


@dataclass(frozen=True)
class StartShared:
    def __str__(self) -> str:
        return "open the shared socket"


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
    """Make over the sockets that exist to NGINX's user. `instance`: None is the
    shared one."""

    instance: int | None
    user: str

    def __str__(self) -> str:
        whose = "shared socket" if self.instance is None else f"socket of instance {self.instance}"
        return f"give the {whose} to {self.user}"


@dataclass(frozen=True)
class Start:
    instance: int

    def __str__(self) -> str:
        return f"start instance {self.instance}"


@dataclass(frozen=True)
class AwaitWarm:
    """Wait until new workers have loaded their projects: NGINX names them then. A
    pool that starts has no other workers, and a maintainer script no time."""

    instances: frozenset[int]

    def __str__(self) -> str:
        return f"wait until the workers of {listed(self.instances)} are ready"


@dataclass(frozen=True)
class Roll:
    """Restart workers, and stop and start sockets, that have changed on disk; move
    workers from one queue to the other, the shared one if `shared`. `again`: the
    shared socket is closed, or opened again."""

    workers: frozenset[int]
    sockets: frozenset[int]
    moves: frozenset[int] = frozenset()
    shared: bool = False
    again: bool = False

    @property
    def is_needed(self) -> bool:
        return bool(self.workers or self.sockets or self.moves or self.again)

    def __str__(self) -> str:
        parts = []
        if self.moves:
            to = "the shared queue" if self.shared else "queues of their own"
            parts.append(f"move to {to}, one after the other: {listed(self.moves)}")
        if self.again:
            parts.append(
                "open the shared socket again" if self.shared else "close the shared socket"
            )
        if self.sockets:
            parts.append(f"open again, one after the other, the sockets of {listed(self.sockets)}")
        if self.workers:
            parts.append(f"restart, one after the other, the workers of {listed(self.workers)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class HandOver:
    """Leave that to a unit: apt must not wait for a slow request."""

    what: Roll

    def __str__(self) -> str:
        return f"in the background: {self.what}"


@dataclass(frozen=True)
class StopSpare:
    """Stop what a roll that was cut off has left behind."""

    instance: int

    def __str__(self) -> str:
        return f"stop instance {self.instance}, left over from an interrupted restart"


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
class RunCache:
    """Start what tells NGINX which replies are still good, or stop it."""

    on: bool

    def __str__(self) -> str:
        return f"{'start' if self.on else 'stop'} the watch over the reply cache"


@dataclass(frozen=True)
class Retire:
    """Stop and disable an instance that NGINX no longer names."""

    instance: int

    def __str__(self) -> str:
        return f"stop and disable instance {self.instance}"


Action = (
    Adopt
    | Enable
    | Relink
    | EnableShared
    | StartShared
    | Write
    | ReloadManager
    | GiveSocket
    | Start
    | AwaitWarm
    | Roll
    | HandOver
    | StopSpare
    | WriteUpstream
    | ReloadNginx
    | RunCache
    | Retire
)


@dataclass(frozen=True)
class Plan:
    """`serving`: the instances that the upstream shall name."""

    actions: tuple[Action, ...]
    serving: frozenset[int]
    notes: tuple[str, ...]


def count(wanted: Wanted, facts: Facts) -> int:
    """The number of instances, in mode auto by the cores."""
    if isinstance(wanted.count, int):
        return wanted.count
    own = facts.instances.enabled & facts.state.enabled
    if wanted.maintainer and own and not wanted.explicit:
        return max(facts.cores, *own)
    return facts.cores


def _range(wanted: Wanted, facts: Facts) -> frozenset[int]:
    return frozenset(range(1, count(wanted, facts) + 1))


def to_enable(wanted: Wanted, facts: Facts) -> frozenset[int]:
    now = facts.instances
    if facts.shadows.foreign:
        return frozenset()
    return _range(wanted, facts) - now.enabled - facts.state.enabled - now.masked


def to_retire(wanted: Wanted, facts: Facts) -> frozenset[int]:
    if facts.shadows.foreign:
        return frozenset()
    own = facts.state.enabled | facts.state.pending
    return (own & facts.instances.enabled) - _range(wanted, facts)


def serving(wanted: Wanted, facts: Facts) -> frozenset[int]:
    """The instances that shall run and take requests."""
    now = facts.instances
    enabled = now.enabled | to_enable(wanted, facts)
    return enabled - to_retire(wanted, facts) - now.masked


def named(wanted: Wanted, facts: Facts) -> frozenset[int]:
    """The instances that NGINX shall send requests to."""
    serve = serving(wanted, facts)
    return facts.rolling.named(serve - facts.state.drained or serve)


def differ(facts: Facts, files: Mapping[str, str]) -> bool:
    """Are generated files other than they should be?"""
    return any(facts.files[file] != text for file, text in files.items())


def beside(wanted: Wanted, facts: Facts) -> Plan:
    """For a pool that is not the package's to change: NGINX's upstream names its
    instances, and that is all."""
    serve = serving(wanted, facts)
    changes = differ(facts, wanted.nginx_files(serve))
    actions: list[Action] = [WriteUpstream(serve)] if changes else []
    if facts.nginx.running and facts.nginx.uses and (changes or not facts.loaded):
        actions.append(ReloadNginx(wait=False))
    return Plan(tuple(actions), serve, (*wanted.notes, facts.shadows.advice))


def make(wanted: Wanted, facts: Facts) -> Plan:
    """Order the differences so that each step leaves a pool that serves.

    New instances run before NGINX names them; NGINX has let go of an instance
    before it stops.
    """
    if facts.shadows.foreign:
        return beside(wanted, facts)
    now, state = facts.instances, facts.state
    range_ = _range(wanted, facts)
    enable = to_enable(wanted, facts)
    adopt = state.pending & now.enabled
    retire = to_retire(wanted, facts)
    serve = serving(wanted, facts)
    dropins = [(file, text) for file, text in wanted.dropins if facts.files[file] != text]
    linked, other = (
        (now.by_worker, now.by_socket) if wanted.shared else (now.by_socket, now.by_worker)
    )
    relink = now.enabled - retire - now.masked - (linked - other)
    upstream = named(wanted, facts)
    nginx_changes = differ(facts, wanted.nginx_files(upstream))
    files = [made for made in wanted.generated if facts.files[made.file] != made.text]
    renew = {made.changes for made in files}
    by_number = wanted.explicit and isinstance(wanted.count, int)

    actions: list[Action] = [Adopt(n) for n in sorted(adopt)]
    actions += [Write(file, text) for file, text in dropins]
    actions += [Write(made.file, made.text) for made in files]
    if now.shared_enabled != wanted.shared:
        actions.append(EnableShared(wanted.shared))
    actions += [Enable(n, preset=not by_number) for n in sorted(enable)]
    actions += [Relink(n) for n in sorted(relink)]
    if facts.live:
        if dropins or renew - {""} or enable or relink or now.need_reload:
            actions.append(ReloadManager())
        if dropins:
            own: list[int | None] = [*sorted(now.listening - now.shared)]
            there = [*own, *([None] if now.shared_open else [])]
            actions += [GiveSocket(n, wanted.socket_user) for n in there]
        if wanted.shared and not now.shared_open:
            actions.append(StartShared())
        actions += [Start(n) for n in sorted(serve - now.listening)]
        if facts.caching != wanted.caches:
            actions.append(RunCache(wanted.caches))
        if not wanted.maintainer and now.listening and serve - now.listening:
            actions.append(AwaitWarm(serve - now.listening))
    if nginx_changes:
        actions.append(WriteUpstream(upstream))
    spares = facts.rolling.spare | facts.rolling.leaving
    left_over = frozenset() if facts.rolling.alive else spares - serve
    unread = facts.nginx.uses and (nginx_changes or not facts.loaded)
    # A worker on the shared socket has no path that NGINX would have to forget.
    going = (retire | left_over) - now.shared
    if facts.nginx.running and (unread or going):
        actions.append(ReloadNginx(wait=bool(going)))
    actions += [Retire(n) for n in sorted(retire)]
    if facts.live and retire:
        # Else the target, started for whatever reason, would start them again.
        actions.append(ReloadManager())
    actions += [StopSpare(n) for n in sorted(left_over)]
    workers = now.stale | (now.listening if "workers" in renew else frozenset())
    own_sockets = now.listening - now.shared
    old = now.old_sockets | (own_sockets if "sockets" in renew else frozenset())
    moves = own_sockets if wanted.shared else now.shared
    old_shared = now.shared_old or "sockets" in renew
    change = Roll(
        (workers - old - moves) & serve,
        (old - moves) & serve,
        moves & serve,
        wanted.shared,
        again=facts.live and now.shared_open and (old_shared or not wanted.shared),
    )
    # A roll that is under way sees what changes; but who is not in haste waits for it.
    if change.is_needed and not (wanted.maintainer and facts.rolling.alive):
        actions.append(HandOver(change) if wanted.maintainer else change)

    notes = [*wanted.notes]
    if facts.shadows.files:
        notes.append(facts.shadows.advice)
    if by_hand := (range_ & state.enabled) - now.enabled - now.masked:
        notes.append(f"left alone, disabled by hand: instance {listed(by_hand)}")
    if drained := facts.state.drained & serve:
        notes.append(f"drained by hand: instance {listed(drained)}")
    if masked := now.masked & (range_ | now.enabled):
        notes.append(f"left alone, masked: instance {listed(masked)}")
    if extra := now.enabled - range_ - retire - now.masked:
        notes.append(f"left alone, enabled by hand beyond {len(range_)}: instance {listed(extra)}")
    return Plan(tuple(actions), serve, tuple(notes))
