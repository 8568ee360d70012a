# SPDX-License-Identifier: GPL-2.0-or-later
"""Measure this package, and the other ways to run QGIS Server beside it:

    make bench        (ARGS='--suite trixie --rounds 1 --json')

In one booted container for each release all contestants are asked for the same maps, with
the same number of workers, in turns and in several rounds. What the parts measure:

    compare   the contestants: rate, latency, failures, processor time, memory, and the time
              in which requests waited although a worker was idle
    scaling   this package with as many workers as cores, and with more
    memory    what workers share, and what MALLOC_ARENA_MAX and MemoryKSM= (--ksm) make of it
    own       what the package itself costs; the exit status is 1 if that is too much
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pool import install, put_package
from testbed import SUITES, Testbed, say

from bench import memory, own, scaling
from bench.compare import Options, compare
from bench.contestants import contestants
from bench.report import text, without_nan
from bench.workloads import WORKLOADS
from qgis_server_systemd.build import build

THOROUGH = Options(rounds=7, seconds=20)
PARTS = ("compare", "scaling", "memory", "own")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Options()
    names = [one.name for one in contestants(default.workers)]
    parser.add_argument("--suite", action="append", choices=SUITES, help="may be repeated")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--contestant", action="append", choices=names, help="may be repeated")
    parser.add_argument(
        "--workload",
        action="append",
        choices=[one.name for one in WORKLOADS],
        help="may be repeated",
    )
    parser.add_argument("--workers", type=int, help=f"of each contestant ({default.workers})")
    parser.add_argument("--rounds", type=int, help=f"how many ({default.rounds})")
    parser.add_argument("--seconds", type=float, help=f"of each workload ({default.seconds:g})")
    parser.add_argument(
        "--thorough",
        action="store_true",
        help=f"{THOROUGH.rounds} rounds, {THOROUGH.seconds:g} s for each workload",
    )
    parser.add_argument(
        "--ksm",
        action="store_true",
        help="memory: MemoryKSM= as well, for which this machine's KSM is turned on meanwhile",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


def options(args: argparse.Namespace) -> Options:
    base = THOROUGH if args.thorough else Options()
    return Options(
        args.workers or base.workers,
        args.rounds or base.rounds,
        args.seconds or base.seconds,
        tuple(args.contestant or ()),
        tuple(args.workload or ()),
    )


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "load": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release().partition("-")[0],
    }


def measure(
    suite: str, package: Path, parts: list[str], wanted: Options, *, ksm: bool
) -> dict[str, Any]:
    """All chosen parts in one release. Each part has a container of its own."""
    whole: dict[str, Callable[[Testbed], dict[str, Any]]] = {
        "compare": lambda bed: compare(bed, wanted),
        "scaling": lambda bed: scaling.measure(bed, wanted),
        "memory": lambda bed: memory.measure(bed, ksm=ksm),
        "own": own.measure,
    }
    found: dict[str, Any] = {"machine": machine()}
    ours = {one.name for one in contestants(wanted.workers) if one.ours}
    rivals = not wanted.contestants or bool(set(wanted.contestants) - ours)
    for part in parts:
        begin = time.monotonic()
        with Testbed(suite, rivals=part == "compare" and rivals) as bed:
            say(f"{suite}: {part}")
            put_package(bed, package)
            bed.boot()
            install(bed, "nginx")
            found[part] = whole[part](bed)
        say(f"{suite}: {part} took {time.monotonic() - begin:.0f} s")
    return found


def main() -> int:
    args = arguments()
    parts = [part for part in PARTS if part in (args.part or PARTS)]
    with tempfile.TemporaryDirectory() as folder:
        (package,) = (file for file in build(Path(folder)) if file.suffix == ".deb")
        found = {}
        for suite in args.suite or SUITES:
            found[suite] = measure(suite, package, parts, options(args), ksm=args.ksm)
            if not args.json:
                print(text(suite, found[suite]), flush=True)
    if args.json:
        print(json.dumps(without_nan(found), indent=2))
    dear = [suite for suite in found if own.is_dear(found[suite].get("own", {}))]
    for suite in dear:
        print(f"bench: {suite}: status takes more than {own.STATUS_LIMIT} s", file=sys.stderr)
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
