# SPDX-License-Identifier: GPL-2.0-or-later
"""What the package itself costs: seconds of processor time of `qgis-serverctl status` over
16 instances, and of the monitor that watches them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from shared.pool import ctl
from testbed import Testbed

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


def measure(bed: Testbed) -> dict[str, float]:
    """In a booted container with the package and NGINX."""
    ctl(bed, "site", "enable")
    ctl(bed, "scale", str(INSTANCES))
    rounds = [cpu(bed, "qgis-serverctl", "status", "--json") for _ in range(ROUNDS)]
    # A bare start of the interpreter, side by side: what can't be saved.
    python = [cpu(bed, "python3", "-c", "pass") for _ in range(ROUNDS)]
    before = ticks(bed, "qgis-server-monitor.service")
    bed.run("sleep", str(WATCHED))
    used = ticks(bed, "qgis-server-monitor.service") - before
    return {
        "status_cpu_s": round(statistics.median(rounds), 3),
        "python_cpu_s": round(statistics.median(python), 3),
        "monitor_cpu_share": round(used / 100 / WATCHED, 4),
    }


def is_dear(values: Mapping[str, float]) -> bool:
    """Does status take more than it may?"""
    return values.get("status_cpu_s", 0) > STATUS_LIMIT
