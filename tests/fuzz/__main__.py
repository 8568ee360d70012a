# SPDX-License-Identifier: GPL-2.0-or-later
"""make fuzz: generated requests for as long as one likes.

    python -m fuzz --suite trixie --seconds 3600 --seed 7
    python -m fuzz --requests 20000
    python -m fuzz --show 7 1234      prints request 1234 of seed 7

Prints the seed and how many requests came to what; ends with status 1 if one was told what it
must not, if something of one was still there for others, or if the pool stays down.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

from shared.pool import binary, installed_server
from testbed import SUITES

from qgis_server_systemd.build import build

from .making import make
from .running import describe, run, target_bed


def say(text: str) -> None:
    print(f"fuzz: {text}", flush=True)


def fuzz(suite: str, seconds: float, seed: int, most: float) -> bool:
    with tempfile.TemporaryDirectory(prefix="qgis-server-systemd-fuzz-") as folder:
        package = binary(build(Path(folder)))
        say(f"{suite}, seed {seed}, {seconds:.0f} s")
        with (
            installed_server(suite, package) as installed,
            target_bed(installed) as bed,
        ):
            outcome = run(bed, seed, seconds, say, most)
            restarts = bed.out("systemctl", "show", "--property=NRestarts", "qgis-server@*")
    for made in outcome.told:
        say(f"TOLD what it must not: {describe(made)}")
    for text in outcome.kept:
        say(f"KEPT for others: {text}")
    say(f"{suite}: {outcome.sent.total()} requests: {dict(outcome.sent)}; {restarts.split()}")
    return not outcome.told and not outcome.kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--suite", choices=SUITES, action="append")
    parser.add_argument(
        "--seconds", type=float, help="default: 1800, or without end for --requests"
    )
    parser.add_argument("--requests", type=int, default=math.inf, metavar="NUMBER")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, nargs=2, metavar=("SEED", "NUMBER"))
    args = parser.parse_args()
    if args.show:
        sys.stdout.buffer.write(make(*args.show).raw)
        return 0
    try:
        seconds = args.seconds or (1800 if args.requests == math.inf else math.inf)
        results = [fuzz(one, seconds, args.seed, args.requests) for one in args.suite or SUITES]
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
