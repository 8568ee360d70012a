# SPDX-License-Identifier: GPL-2.0-or-later
"""What the package itself costs, measured in a booted container of each release:

    make bench        (ARGS='--suite trixie --json')

Seconds of processor time, of `qgis-serverctl status` over 16 instances, and of the
monitor that watches them. The exit status is 1 if status takes more than it may.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from pool import ctl, install, put_package
from testbed import SUITES, Testbed, say

from qgis_server_systemd.build import build

INSTANCES = 16
ROUNDS = 5
STATUS_LIMIT = 0.5
"""Seconds of processor time that status may take over all instances."""
WATCHED = 30

CPU = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps(used.ru_utime + used.ru_stime))
"""


def cpu(bed: Testbed, *argv: str) -> float:
    """Processor time of a command and all that it starts, in seconds."""
    return float(bed.out("python3", "-c", CPU, *argv))


def ticks(bed: Testbed, unit: str) -> int:
    """Processor time of a service's main process so far, in hundredths of a second."""
    pid = bed.out("systemctl", "show", "--property=MainPID", "--value", unit)
    fields = bed.out("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def measure(suite: str, package: Path) -> dict[str, float]:
    with Testbed(suite) as bed:
        say(f"{suite}: {INSTANCES} instances")
        put_package(bed, package)
        bed.boot()
        install(bed, "nginx")
        ctl(bed, "site", "enable")
        ctl(bed, "scale", str(INSTANCES))
        say(f"{suite}: status, {ROUNDS} rounds")
        rounds = [cpu(bed, "qgis-serverctl", "status", "--json") for _ in range(ROUNDS)]
        # A bare start of the interpreter, side by side: what can't be saved.
        python = [cpu(bed, "python3", "-c", "pass") for _ in range(ROUNDS)]
        say(f"{suite}: the monitor, {WATCHED} s")
        before = ticks(bed, "qgis-server-monitor.service")
        bed.run("sleep", str(WATCHED))
        used = ticks(bed, "qgis-server-monitor.service") - before
    return {
        "status_cpu_s": round(statistics.median(rounds), 3),
        "python_cpu_s": round(statistics.median(python), 3),
        "monitor_cpu_share": round(used / 100 / WATCHED, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="measure what the package itself costs")
    parser.add_argument("--suite", action="append", choices=SUITES)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (package,) = (file for file in build(Path(folder)) if file.suffix == ".deb")
        found = {suite: measure(suite, package) for suite in args.suite or SUITES}
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for suite, values in found.items():
            print(suite, *(f"{name} {value}" for name, value in values.items()), sep="  ")
    dear = [suite for suite, values in found.items() if values["status_cpu_s"] > STATUS_LIMIT]
    for suite in dear:
        print(f"bench: {suite}: status takes more than {STATUS_LIMIT} s", file=sys.stderr)
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
