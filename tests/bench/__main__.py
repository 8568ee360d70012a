# SPDX-License-Identifier: GPL-2.0-or-later
"""Measure this package, and the other ways to run QGIS Server beside it:

    make bench              all of it; writes docs/benchmarks.md
    make bench QUICK=1      six minutes: four contestants, one release, the main workloads
    make bench ARGS='--suite trixie --rounds 1 --json'

In one booted container for each release all contestants are asked for the same maps, with
the same number of workers, in turns and in several rounds. What the parts measure:

    compare   the contestants: rate, latency, failures, processor time, memory, and the time
              in which requests waited although a worker was idle; and whether this package
              meets its bars
    rest      this package and the recipe with as many workers as cores: how soon the first tile
              comes, and what memory a pool takes that has little to do
    scaling   this package with as many workers as cores, and with more
    memory    what workers share, and what MALLOC_ARENA_MAX and MemoryKSM= (--ksm) make of it;
              only if it is named
    cost      what a light request costs a worker, and what of it is this package's
    watched   what metrics, the log of requests and somebody who scrapes each 5 s cost:
              tiles with all of it against tiles without, in percent, with the 95 % interval
    own       what the package itself costs; the exit status is 1 if that is too much, or if
              a part has failed

All of it takes some 85 minutes for both releases, and more the first time, when it builds
the containers. Then benchmarks.md is written, benchmarks.json with the results of each
round, and benchmarks/*.svg. What takes less than all of it prints tables, and writes
nothing unless told where by --output.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.pool import binary, install, put_package
from testbed import RELEASED, SUITES, Testbed, TestbedError
from testbed.layers import say

import qgis_server_systemd
from bench import autogroup, cost, machine, memory, own, rest, scaling, store, watched
from bench.clock import Clock
from bench.compare import Options, compare, expected
from bench.contestants import contestants
from bench.files import write
from bench.report import heading, text, without_nan
from bench.workloads import WORKLOADS
from qgis_server_systemd.build import build

DOCS = Path(__file__).resolve().parents[2] / "docs"
THOROUGH = Options(rounds=7, seconds=20)
QUICK = Options(
    rounds=3,
    contestants=("recipe", "ours-per-worker", "ours-shared", "multiwatch"),
    workloads=("light", "open", "open+3N"),
)
QUICK_SUITE = "trixie"
PARTS = {
    "compare": 15.0,
    "rest": 85.0,
    "scaling": 75.0,
    "memory": 90.0,
    "cost": 130.0,
    "watched": 220.0,
    "own": 50.0,
}
"""Seconds that each takes in a release, about; of `compare`, what it does not tell itself."""
UNASKED = [part for part in PARTS if part != "memory"]
"""What it tells has long been settled."""
PARTIAL = ("suite", "part", "contestant", "workload", "workers", "rounds", "seconds", "quick")
"""Options by which less than all is measured, or something else."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Options()
    names = [one.name for one in contestants(default.workers)]
    parser.add_argument(
        "--suite",
        action="append",
        choices=SUITES,
        help="may be repeated (default: those that are released)",
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--contestant", action="append", choices=names, help="may be repeated")
    parser.add_argument(
        "--workload",
        action="append",
        choices=[one.name for one in WORKLOADS],
        help="may be repeated",
    )
    parser.add_argument("--workers", type=int, help=f"of each contestant ({default.workers})")
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"how many ({default.rounds}); what is not named by --workload, and no bar is about, "
        "has a part in some of them",
    )
    parser.add_argument(
        "--seconds", type=float, help="of each workload (3 to 7, or until 1000 light requests)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="what QUICK=1 measures; see there, above"
    )
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
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write benchmarks.md and the rest there"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="measure nothing: write the report anew beside this benchmarks.json, or to --output",
    )
    return parser.parse_args()


def options(args: argparse.Namespace) -> Options:
    base = QUICK if args.quick else THOROUGH if args.thorough else Options()
    return Options(
        args.workers or base.workers,
        args.rounds or base.rounds,
        args.seconds or base.seconds,
        tuple(args.contestant or base.contestants),
        tuple(args.workload or base.workloads),
    )


def target(args: argparse.Namespace) -> Path | None:
    """The folder for the report. What is partial never takes the place of the whole by itself."""
    if args.output is not None or args.report is not None:
        folder: Path = args.output or args.report.parent
        return folder
    return None if any(getattr(args, name) for name in PARTIAL) else DOCS


def measure(
    suite: str, package: Path, parts: list[str], wanted: Options, clock: Clock, *, ksm: bool
) -> dict[str, Any]:
    """All chosen parts in one release. Each part has a container of its own."""
    whole: dict[str, Callable[[Testbed], dict[str, Any]]] = {
        "compare": lambda bed: compare(bed, wanted, clock=clock),
        "rest": lambda bed: rest.measure(bed, wanted),
        "scaling": lambda bed: scaling.measure(bed, wanted),
        "memory": lambda bed: memory.measure(bed, ksm=ksm),
        "cost": cost.measure,
        "watched": watched.measure,
        "own": own.measure,
    }
    found: dict[str, Any] = {"load": {"begin": machine.load()}, "versions": {}, "failed": {}}
    ours = {one.name for one in contestants(wanted.workers) if one.ours}
    rivals = not wanted.contestants or bool(set(wanted.contestants) - ours)
    for part in parts:
        begin = time.monotonic()
        try:
            with Testbed(suite, rivals=part == "compare" and rivals) as bed:
                say(f"{suite}: {part}; {clock.left()} left")
                put_package(bed, package)
                bed.boot()
                install(bed, "nginx")
                found["versions"] |= machine.versions(bed)
                found[part] = whole[part](bed)
        except (AssertionError, TestbedError) as error:
            # The other parts have taken too long to be lost by it.
            found["failed"][part] = str(error)[:500] or repr(error)
            say(f"{suite}: {part} failed")
        clock.done(PARTS[part])
        say(f"{suite}: {part} took {time.monotonic() - begin:.0f} s")
    found["load"]["end"] = machine.load()
    return found


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    parts = [part for part in PARTS if part in (args.part or UNASKED)]
    suites = args.suite or RELEASED
    if args.quick:
        parts, suites = args.part or ["compare"], args.suite or [QUICK_SUITE]
    wanted = options(args)
    seconds = sum(PARTS[part] for part in parts)
    seconds += expected(wanted) if "compare" in parts else 0
    clock = Clock(seconds * len(suites))
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "package": qgis_server_systemd.__version__,
        "machine": machine.described(),
        "suites": {},
    }
    if not args.json:
        print(heading(found))
    with tempfile.TemporaryDirectory() as folder, autogroup.off() as state:
        found["autogroup"] = state
        say(f"the kernel's autogroup meanwhile: {state}")
        package = binary(build(Path(folder)))
        for suite in suites:
            one = measure(suite, package, parts, wanted, clock, ksm=args.ksm)
            found["suites"][suite] = one
            if not args.json:
                print(text(suite, one), flush=True)
    return found


def write_report(found: dict[str, Any], folder: Path | None) -> None:
    if folder is not None:
        for file in write(found, folder):
            say(f"written: {file}")


def failures(found: dict[str, Any]) -> list[str]:
    """What is not as it should be, a line each."""
    return [
        *(
            f"{suite}: the part {part} failed: {reason.splitlines()[0]}"
            for suite, one in found["suites"].items()
            for part, reason in one["failed"].items()
        ),
        *(
            f"{suite}: status takes more than {own.STATUS_LIMIT} s, or a scrape more than "
            f"{own.SCRAPE_LIMIT:g} ms"
            for suite, one in found["suites"].items()
            if own.is_dear(one.get("own", {}))
        ),
    ]


def main() -> int:
    args = arguments()
    if args.report is not None:
        try:
            write_report(store.load(args.report), target(args))
        except store.Unreadable as error:
            sys.exit(f"bench: {error}")
        return 0
    found = measure_all(args)
    if args.json:
        print(json.dumps(without_nan(found), indent=2))
    write_report(found, target(args))
    wrong = failures(found)
    for line in wrong:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
