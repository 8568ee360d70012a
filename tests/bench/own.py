# SPDX-License-Identifier: GPL-2.0-or-later
"""What the package itself costs: seconds of processor time of `qgis-serverctl status` over
16 instances, and of the monitor that watches them; and what one scrape of the metrics costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from shared.pool import ctl
from testbed import Testbed

INSTANCES = 16
ROUNDS = 5
STATUS_LIMIT = 0.5
"""Seconds of processor time that status may take over all instances."""
WATCHED = 30
SCRAPES = 500
SCRAPE_LIMIT = 5.0
"""Ms of processor time that a scrape may take of all but who asks."""
METRICS = "http://127.0.0.1/qgis-server/metrics"

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


def used(bed: Testbed, unit: str) -> float:
    """Processor time of a service so far, in ms; 0 if it does not run."""
    group = bed.out("systemctl", "show", "--property=ControlGroup", "--value", unit).strip()
    if not group:
        return 0.0
    lines = bed.out("cat", f"/sys/fs/cgroup{group}/cpu.stat").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("usage_usec"))) / 1000


def scrape(bed: Testbed, number: int = SCRAPES) -> float:
    """What one costs in ms: of NGINX, the unit that counts, the monitor and the workers."""
    units = ("nginx.service", "qgis-server-metrics.service", "qgis-server-monitor.service")

    def whole() -> float:
        return sum(used(bed, unit) for unit in (*units, "qgis-server.slice"))

    # What they do anyway in that time is none of it.
    begun, before = time.monotonic(), whole()
    bed.run("curl", "--silent", "--fail", "--output", "/dev/null", f"{METRICS}?[1-{number}]")
    took, cost = time.monotonic() - begun, whole() - before
    before = whole()
    bed.run("sleep", str(took))
    return (cost - (whole() - before)) / number


def measure(bed: Testbed) -> dict[str, float]:
    """In a booted container with the package and NGINX."""
    ctl(bed, "site", "enable")
    ctl(bed, "scale", str(INSTANCES))
    rounds = [cpu(bed, "qgis-serverctl", "status", "--json") for _ in range(ROUNDS)]
    # A bare start of the interpreter, side by side: what can't be saved.
    python = [cpu(bed, "python3", "-c", "pass") for _ in range(ROUNDS)]
    before = ticks(bed, "qgis-server-monitor.service")
    bed.run("sleep", str(WATCHED))
    watched = ticks(bed, "qgis-server-monitor.service") - before
    return {
        "status_cpu_s": round(statistics.median(rounds), 3),
        "python_cpu_s": round(statistics.median(python), 3),
        "monitor_cpu_share": round(watched / 100 / WATCHED, 4),
        "scrape_cpu_ms": round(statistics.median(scrape(bed) for _ in range(ROUNDS)), 3),
    }


def is_dear(values: Mapping[str, float]) -> bool:
    """Does status take more than it may, or a scrape?"""
    dear = values.get("status_cpu_s", 0) > STATUS_LIMIT
    return dear or values.get("scrape_cpu_ms", 0) > SCRAPE_LIMIT
