# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUWeight= of units, in force where the container has no cpu controller.

The kernel has one scheduler, and version 1 of its control groups may be what it is mounted by:
then systemd in the container can't use it. So the groups of its units are made once more in the
machine's own hierarchy, from outside, by the rules of systemd.resource-control(5): on each level
where a unit sets a weight, and on those above, each unit has a group, with a weight of 100 if it
sets none. A contestant that sets no weight gets no groups, as from systemd.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from testbed import Testbed
from testbed.folders import cpu_group_of, hierarchies, remove_cgroup

PERIOD = 0.1
"""Seconds between two looks at which processes there are."""
LEAVE = 10.0
"""Seconds in which processes must be out of the groups again."""
DEFAULT = 100
SHARES = 1024
"""Of a group of version 1, what the default weight is in version 2."""
NONE, INSIDE, OUTSIDE = "none", "inside", "outside"

Weights = Mapping[str, int | None]
"""By unit; None where it sets none."""
Units = Mapping[str, list[int]]
"""By the unit's group below the container's own: its processes, as this machine numbers them."""


def units(tree: Path, above: str = "") -> dict[str, list[int]]:
    """All slices, and what has processes in them."""
    found: dict[str, list[int]] = {}
    with os.scandir(tree / above) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for name in names:
        path = f"{above}/{name}" if above else name
        with contextlib.suppress(FileNotFoundError):  # the unit has ended meanwhile
            if name.endswith(".slice"):
                found[path] = processes(tree / path)
                found |= units(tree, path)
            elif pids := [pid for folder, _, _ in os.walk(tree / path) for pid in of(folder)]:
                found[path] = pids
    return found


def of(folder: str) -> list[int]:
    with contextlib.suppress(OSError):
        return processes(Path(folder))
    return []


def processes(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text(encoding="ascii").split()]


def levels(weights: Weights) -> set[str]:
    """The groups below which all have one of their own."""
    found: set[str] = set()
    for unit, weight in weights.items():
        if weight is not None:
            found |= {str(folder) for folder in PurePosixPath(unit).parents}
    return found


def place(unit: str, there: set[str]) -> str | None:
    """The group for the processes of a unit: its own, or that of the nearest slice above."""
    path = PurePosixPath(unit)
    for one in (path, *path.parents):
        if one.name and str(one.parent) in there:
            return str(one)
    return None


def shown(text: str) -> list[int | None]:
    """From `systemctl show --property=CPUWeight`, a unit each."""
    values = [line.partition("=")[2] for line in text.split() if line.startswith("CPUWeight=")]
    found = [int(value) if value.isdecimal() else None for value in values]
    return [None if value is None or value >= 2**64 - 1 else value for value in found]


class Mirror:
    """The groups of one contestant. `tree`: that of the container's units; `group`: where the
    others are made; `home`: where processes were before. `ask` tells weights of units."""

    def __init__(
        self, tree: Path, group: Path, home: Path, ask: Callable[[list[str]], list[int | None]]
    ) -> None:
        self.tree, self.group, self.home, self.ask = tree, group, home, ask
        self.state = NONE
        self._weights: dict[str, int | None] = {}
        self._moved: dict[int, str] = {}
        self._ended = threading.Event()

    def look(self) -> None:
        """Ask for weights of units that are new, and put processes where they belong."""
        there = units(self.tree)
        if new := [unit for unit in there if unit not in self._weights]:
            found = self.ask([PurePosixPath(unit).name for unit in new])
            self._weights |= dict(zip(new, found, strict=True))
        shared = levels(self._weights)
        moved: dict[int, str] = {}
        for unit, pids in there.items():
            target = place(unit, shared)
            if target is None:
                continue
            for pid in pids:
                if self._moved.get(pid) != target:
                    self._put(pid, target)
                moved[pid] = target
        self._moved = moved
        if moved:
            self.state = OUTSIDE

    def _put(self, pid: int, target: str) -> None:
        folder = self.group
        if not folder.exists():
            self._make(folder, SHARES * len(os.sched_getaffinity(0)))
        unit = PurePosixPath()
        for name in PurePosixPath(target).parts:
            unit /= name
            folder = self.group / unit
            if not folder.exists():
                self._make(folder, (self._weights.get(str(unit)) or DEFAULT) * SHARES // DEFAULT)
        move(pid, folder)

    def _make(self, folder: Path, shares: int) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "cpu.shares").write_text(str(max(2, shares)), encoding="ascii")

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except (OSError, AssertionError, ValueError) as error:
                self.state = f"not in force: {str(error).splitlines()[0]}"
                return
            self._ended.wait(PERIOD)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Mirror]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            put_back(self.group, self.home)


def move(pid: int, group: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(pid), encoding="ascii")


def put_back(group: Path, home: Path) -> None:
    """Processes of the group, and of those below, and away with these."""
    deadline = time.monotonic() + LEAVE
    while group.exists() and time.monotonic() < deadline:
        for folder, _, _ in os.walk(group, topdown=False):
            for pid in of(folder):
                move(pid, home)
        remove_cgroup(group)


def own_group(pid: int, controller: str) -> str:
    """The group of a process, in the hierarchy of a controller; "" is that of version 2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    raise OSError(f"process {pid} is in no group of {controller or 'version 2'}")


def tree_of(bed: Testbed) -> Path:
    """The groups of the container's units, as this machine sees them."""
    path = own_group(bed.pid, "").removesuffix("/init.scope")
    return hierarchies()[""] / path.lstrip("/")


def mirror(bed: Testbed) -> Mirror:
    """For what runs in a container. Raises OSError where it can't be."""
    group = cpu_group_of(bed.bed.name)
    there = hierarchies()
    if group is None:
        raise OSError("neither the container nor the machine has a cpu hierarchy of control groups")
    group.mkdir(exist_ok=True)
    remove_cgroup(group)
    home = there["cpu"] / own_group(bed.pid, "cpu").lstrip("/")
    return Mirror(tree_of(bed), group, home, lambda names: weights_of(bed, names))


def weights_of(bed: Testbed, names: Iterable[str]) -> list[int | None]:
    return shown(bed.out("systemctl", "show", "--property=CPUWeight", "--", *names))


class State:
    """What became of the weights; known at the end."""

    text = NONE


@contextlib.contextmanager
def in_force(bed: Testbed) -> Iterator[State]:
    """See to it that weights of units count meanwhile, also of those that start later."""
    state = State()
    if "cpu" in bed.out("cat", "/sys/fs/cgroup/cgroup.controllers").split():
        state.text = INSIDE
        yield state
        return
    try:
        found = mirror(bed)
    except OSError as error:
        yield state
        if any(weights_of(bed, ["*.service", "*.slice"])):
            state.text = f"not in force: {error}"
        return
    with found.at_work():
        yield state
        state.text = found.state
