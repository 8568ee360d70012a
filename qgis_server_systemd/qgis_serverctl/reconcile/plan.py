# SPDX-License-Identifier: GPL-2.0-or-later
"""Desired state in, differences out. No side effects, no look at the machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..config.names import HEAVY, Package, label
from ..front.nginx import Nginx
from ..pool.instances import Instances, listed
from ..pool.overrides import Shadows
from ..pool.roll_state import Rolling
from ..pool.state import State
from ..units.dropins import Generated

FACTS = 0
"""In GiveSocket; no instance has this number."""


@dataclass(frozen=True)
class Facts:
    """The machine as it is. `files`: present texts of the generated files.
    `loaded`: a running NGINX has read them as they are. `caching`: the unit of the
    reply cache runs, `lists`: that of the front page does, `notifies`: the timer that tells
    of findings does. `counting`: the socket of the metrics
    is there. `cancels`: this QGIS Server ends a request whose client hangs up."""

    live: bool
    cores: int
    instances: Instances
    state: State
    nginx: Nginx
    files: Mapping[str, str | None]
    loaded: bool
    caching: bool = False
    counting: bool = True
    lists: bool = False
    notifies: bool = False
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
    replies. `lists`: there is a front page. `notifies`: somebody is told of
    findings. `nginx_files`: texts of the files generated for
    NGINX over a set of instances, with the lane for heavy requests or without. `generated`:
    other files. `heavy`: how many workers that lane has, 0 if there is none; `stays`: they don't
    wait for a request, nor end without one. `notes`: what the administrator should know anyway.
    """

    count: int | str
    explicit: bool
    maintainer: bool
    socket_user: str
    dropins: tuple[tuple[str, str | None], ...]
    nginx_files: Callable[[frozenset[int], bool], Mapping[str, str]]
    generated: tuple[Generated, ...] = ()
    shared: bool = False
    caches: bool = False
    lists: bool = False
    notifies: bool = False
    heavy: int = 0
    stays: bool = False
    notes: tuple[str, ...] = ()

    @property
    def lane(self) -> frozenset[int]:
        """The workers that the lane for heavy requests shall have."""
        return frozenset(range(HEAVY + 1, HEAVY + self.heavy + 1))


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
class EnableLane:
    """Enable the socket of heavy requests, or disable it."""

    on: bool

    def __str__(self) -> str:
        return f"{'enable' if self.on else 'disable'} the socket of heavy requests"


@dataclass(frozen=True)
class OpenLane:
    def __str__(self) -> str:
        return "open the socket of heavy requests"


@dataclass(frozen=True)
class StartHeavy:
    """Start the workers of the lane that do not run, if they shall."""

    instances: frozenset[int]

    def __str__(self) -> str:
        return f"start instance {listed(self.instances)}"


@dataclass(frozen=True)
class StopHeavy:
    """Stop workers that the lane has no more; the others take the requests that wait."""

    instances: frozenset[int]

    def __str__(self) -> str:
        return f"stop instance {listed(self.instances)}"


@dataclass(frozen=True)
class CloseLane:
    """Close the socket of heavy requests, which NGINX no longer names, and stop its workers."""

    def __str__(self) -> str:
        return "close the socket of heavy requests, and stop its workers"


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
    shared one, HEAVY that of heavy requests, FACTS the one to which NGINX tells of each."""

    instance: int | None
    user: str

    def __str__(self) -> str:
        special = {
            None: "shared socket",
            HEAVY: "socket of heavy requests",
            FACTS: "socket of the metrics",
        }
        whose = special.get(self.instance, f"socket of instance {self.instance}")
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
    shared socket is closed, or opened again. `lane`: that of heavy requests is."""

    workers: frozenset[int]
    sockets: frozenset[int]
    moves: frozenset[int] = frozenset()
    shared: bool = False
    again: bool = False
    lane: bool = False

    @property
    def is_needed(self) -> bool:
        return bool(self.workers or self.sockets or self.moves or self.again or self.lane)

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
        if self.lane:
            parts.append("open the socket of heavy requests again")
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
    """Write NGINX's files over those of `instances` that could be started. `lane`: with that
    for heavy requests, if its socket is open."""

    instances: frozenset[int]
    lane: bool = False

    def __str__(self) -> str:
        return f"write NGINX's upstream: {listed(self.instances) or 'no instance'}"


@dataclass(frozen=True)
class EmptyReplies:
    def __str__(self) -> str:
        return "empty the reply cache, whose files are another user's than NGINX's"


@dataclass(frozen=True)
class ReloadNginx:
    """`wait`: until no process of NGINX knows the old configuration."""

    wait: bool

    def __str__(self) -> str:
        return "reload NGINX, if nginx -t passes"


@dataclass(frozen=True)
class RunUnits:
    """Start units that a setting switches on, or stop them. `what` they do, in words."""

    on: bool
    what: ClassVar[str]

    def __str__(self) -> str:
        return f"{'start' if self.on else 'stop'} {self.what}"

    def units(self, package: Package) -> tuple[str, ...]:
        raise NotImplementedError


class RunCache(RunUnits):
    """What tells NGINX which replies are still good."""

    what = "the watch over the reply cache"

    def units(self, package: Package) -> tuple[str, ...]:
        return (package.cache_unit,)


class RunFront(RunUnits):
    """What keeps the list of the front page."""

    what = "the list of the front page"

    def units(self, package: Package) -> tuple[str, ...]:
        return package.front_path_unit, package.front_unit


class RunNotify(RunUnits):
    """The timer that tells of findings."""

    what = "telling of findings"

    def units(self, package: Package) -> tuple[str, ...]:
        return (package.notify_timer_unit,)


@dataclass(frozen=True)
class StartCounting:
    """Start what counts requests, before NGINX sends it what it knows of them."""

    def __str__(self) -> str:
        return "start what counts requests"


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
    | EnableLane
    | OpenLane
    | StartHeavy
    | StopHeavy
    | CloseLane
    | Write
    | ReloadManager
    | GiveSocket
    | Start
    | AwaitWarm
    | Roll
    | HandOver
    | StopSpare
    | WriteUpstream
    | EmptyReplies
    | ReloadNginx
    | RunUnits
    | StartCounting
    | Retire
)


@dataclass(frozen=True)
class Plan:
    """`serving`: the instances that the upstream shall name."""

    actions: tuple[Action, ...]
    serving: frozenset[int]
    notes: tuple[str, ...]


def count(wanted: int | str, facts: Facts, *, explicit: bool, maintainer: bool) -> int:
    """The number of instances, in mode auto by the cores; for the rest see Wanted."""
    if isinstance(wanted, int):
        return wanted
    own = facts.instances.enabled & facts.state.enabled
    if maintainer and own and not explicit:
        return max(facts.cores, *own)
    return facts.cores


def _range(wanted: Wanted, facts: Facts) -> frozenset[int]:
    explicit, maintainer = wanted.explicit, wanted.maintainer
    most = count(wanted.count, facts, explicit=explicit, maintainer=maintainer)
    return frozenset(range(1, most + 1))


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


def names_lane(wanted: Wanted, facts: Facts) -> bool:
    """Shall NGINX send heavy requests to their lane?"""
    return bool(wanted.heavy) and not (facts.rolling.alive and facts.rolling.lane)


def nginx_files(wanted: Wanted, facts: Facts) -> Mapping[str, str]:
    """Texts of NGINX's files as they shall be now."""
    return wanted.nginx_files(named(wanted, facts), names_lane(wanted, facts))


def differ(facts: Facts, files: Mapping[str, str]) -> bool:
    """Are generated files other than they should be?"""
    return any(facts.files.get(file) != text for file, text in files.items())


def beside(wanted: Wanted, facts: Facts) -> Plan:
    """For a pool that is not the package's to change: NGINX's upstream names its
    instances, and that is all."""
    serve = serving(wanted, facts)
    changes = differ(facts, wanted.nginx_files(serve, False))
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
    nginx_changes = differ(facts, nginx_files(wanted, facts))
    files = [made for made in wanted.generated if facts.files.get(made.file) != made.text]
    renew = {made.changes for made in files}
    # Workers of the lane need theirs until they have stopped.
    late = [made for made in files if made.changes == "lane" and made.text is None]
    by_number = wanted.explicit and isinstance(wanted.count, int)

    actions: list[Action] = [Adopt(n) for n in sorted(adopt)]
    actions += [Write(file, text) for file, text in dropins]
    actions += [Write(made.file, made.text) for made in files if made not in late]
    if now.shared_enabled != wanted.shared:
        actions.append(EnableShared(wanted.shared))
    has_lane = bool(wanted.heavy)
    lane_link = now.lane_enabled != has_lane and not now.lane_masked
    if lane_link:
        actions.append(EnableLane(has_lane))
    actions += [Enable(n, preset=not by_number) for n in sorted(enable)]
    actions += [Relink(n) for n in sorted(relink)]
    if facts.live:
        if dropins or renew - {""} or enable or relink or lane_link or now.need_reload:
            actions.append(ReloadManager())
        if dropins:
            own: list[int | None] = [*sorted(now.listening - now.shared)]
            there = [*own, *([None] if now.shared_open else []), *([HEAVY] * now.lane_open)]
            there += [FACTS] * facts.counting
            actions += [GiveSocket(n, wanted.socket_user) for n in there]
        if wanted.shared and not now.shared_open:
            actions.append(StartShared())
        if has_lane and not now.lane_open:
            actions.append(OpenLane())
        actions += [Start(n) for n in sorted(serve - now.listening)]
        missing = wanted.lane - now.heavy - now.masked
        if missing and (wanted.stays or now.heavy):
            actions.append(StartHeavy(missing))
        if facts.caching != wanted.caches:
            actions.append(RunCache(wanted.caches))
        if not facts.counting:
            actions.append(StartCounting())
        if facts.lists != wanted.lists:
            actions.append(RunFront(wanted.lists))
        if facts.notifies != wanted.notifies:
            actions.append(RunNotify(wanted.notifies))
        if not wanted.maintainer and now.listening and serve - now.listening:
            actions.append(AwaitWarm(serve - now.listening))
    if facts.nginx.bars_replies:
        actions.append(EmptyReplies())
    if nginx_changes:
        actions.append(WriteUpstream(upstream, names_lane(wanted, facts)))
    spares = facts.rolling.spare | facts.rolling.leaving
    left_over = frozenset() if facts.rolling.alive else spares - serve
    unread = facts.nginx.uses and (nginx_changes or not facts.loaded)
    # A worker on the shared socket has no path that NGINX would have to forget.
    going = (retire | left_over) - now.shared
    closing = facts.live and now.lane_open and not has_lane
    if facts.nginx.running and (unread or going or closing):
        actions.append(ReloadNginx(wait=bool(going or closing)))
    if closing:
        actions.append(CloseLane())
    elif surplus := now.heavy - wanted.lane:
        actions.append(StopHeavy(surplus))
    actions += [Write(made.file, None) for made in late]
    if facts.live and late:
        actions.append(ReloadManager())
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
    heavy = (now.heavy & wanted.lane) - now.masked
    changed = {n for n in heavy for made in files if f"@{label(n)}.service.d/" in made.file}
    old_heavy = heavy if "workers" in renew else heavy & (now.stale | changed)
    change = Roll(
        ((workers - old - moves) & serve) | old_heavy,
        (old - moves) & serve,
        moves & serve,
        wanted.shared,
        again=facts.live and now.shared_open and (old_shared or not wanted.shared),
        lane=has_lane and now.lane_open and (now.lane_old or "sockets" in renew),
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
    if masked := now.masked & (range_ | now.enabled | wanted.lane):
        notes.append(f"left alone, masked: instance {listed(masked)}")
    if now.lane_masked:
        notes.append("heavy requests have no workers of their own: their socket is masked")
    if extra := now.enabled - range_ - retire - now.masked:
        notes.append(f"left alone, enabled by hand beyond {len(range_)}: instance {listed(extra)}")
    return Plan(tuple(actions), serve, tuple(notes))
