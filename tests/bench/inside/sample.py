# SPDX-License-Identifier: GPL-2.0-or-later
"""Look at the workers every 5 ms until a line comes on standard input, then print JSON.

    python3 -m bench.inside.sample PROGRAM APART SOCKET...

PROGRAM is a pattern for the command of the processes that take requests, SOCKET a path
whose connections they accept. Those whose control group APART is a part of, if it is not empty,
accept other ones. What is counted is the time in which a request waited though
a worker was idle: the same connection was not yet accepted, and the same worker waited in
accept(2), in one sample and in the next. A worker that has been woken, but has no core yet,
is not idle: the kernel calls it running.
"""

import json
import os
import re
import select
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qgis_server_systemd.qgis_serverctl.pool import connections as workers
from qgis_server_systemd.qgis_serverctl.system import unix_sockets
from qgis_server_systemd.qgis_serverctl.system.processes import memory

PERIOD = 0.005
LOOK_FOR_WORKERS = 0.25
"""Seconds between two looks at which processes there are."""
MAPSERV = r"\S+/qgis_mapserv\.fcgi"
"""Counts as a worker, whatever takes the requests for it."""
MEMORY_AFTER = 1.5
"""Seconds until memory is looked at, once."""


@dataclass(frozen=True)
class Sample:
    """When it was taken, in seconds; the connections that nobody had accepted, by the inodes
    of their clients; the processes that waited for one."""

    at: float
    waiting: frozenset[int]
    idle: frozenset[int]


@dataclass(frozen=True)
class Times:
    """Seconds: of all samples; in which any request waited for a worker; in which one waited
    while a worker was idle. `pss`: of all workers, in bytes; `workers`: how many. `cpu`: what
    the samples took of processor time, in seconds."""

    sampled: float = 0.0
    waited: float = 0.0
    wasted: float = 0.0
    pss: int = 0
    workers: int = 0
    cpu: float = 0.0


def count(times: Times, before: Sample, now: Sample) -> Times:
    """Add what was between two samples."""
    gap = now.at - before.at
    waited = bool(before.waiting & now.waiting)
    wasted = waited and bool(before.idle & now.idle)
    return replace(
        times,
        sampled=times.sampled + gap,
        waited=times.waited + gap * waited,
        wasted=times.wasted + gap * wasted,
    )


def not_accepted(paths: Collection[str]) -> Iterator[int]:
    """Connections to these paths that nobody has accepted, by the inodes of their clients."""
    names = set(map(os.fsencode, paths))
    for one in unix_sockets.dump(clients=True):
        if one.name in names:
            yield from one.clients


def processes(pattern: str) -> Iterator[int]:
    """Processes whose command matches."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            if re.match(pattern, command):
                yield int(folder.name)


def is_apart(pid: int, apart: str) -> bool:
    """Does it accept from other sockets?"""
    try:
        return bool(apart) and apart in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return False


def takers(pattern: str, apart: str) -> list[int]:
    """The processes that accept from the sockets."""
    return [pid for pid in processes(pattern) if not is_apart(pid, apart)] if pattern else []


def pss(pid: int) -> int:
    """Its proportional share of memory, in bytes."""
    return int((memory(pid) or 0) * 2**20)


def look(pids: Iterable[int], paths: Collection[str]) -> Sample:
    return Sample(
        time.monotonic(),
        frozenset(not_accepted(paths)),
        frozenset(pid for pid in pids if workers.is_accepting(pid)),
    )


def main() -> None:
    pattern, apart, *paths = sys.argv[1:]
    with suppress(PermissionError):
        os.nice(-10)
    pids = takers(pattern, apart)
    times = Times()
    start = before = look(pids, paths)
    looked = start.at
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], max(0, before.at + PERIOD - time.monotonic()))[0]:
        now = look(pids, paths)
        if paths:  # else nothing of what waits can be seen
            times = count(times, before, now)
        before = now
        if pattern and now.at - looked > LOOK_FOR_WORKERS:
            pids, looked = takers(pattern, apart), now.at
        if not times.pss and now.at - start.at > MEMORY_AFTER:
            all_of_them = set(processes(f"{pattern}|{MAPSERV}"))
            times = replace(times, pss=sum(map(pss, all_of_them)) or 1, workers=len(all_of_them))
            before = replace(before, at=time.monotonic())
    json.dump(asdict(replace(times, cpu=time.process_time())), sys.stdout)


if __name__ == "__main__":
    main()
