# SPDX-License-Identifier: GPL-2.0-or-later
"""What workers need of the machine's memory, all warm and after the same requests: one of
them, several, several with fewer arenas of the allocator, and, where systemd and the kernel
can do it, with equal pages merged (KSM)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from shared.pool import ctl, settled, wait_for
from testbed import Testbed
from testbed.layers import say

from bench import contestants, workloads
from bench.compare import drive, prepare
from bench.contestants import PROGRAM, PROJECT, ours
from bench.inside.drive import Group, Spec

WORKERS = 4
SECONDS = 5.0
KSM = Path("/sys/kernel/mm/ksm")
DROPIN = "/etc/systemd/system/qgis-server@.service.d/90-bench.conf"
READ = """
import glob, json, re, sys
totals = {}
count = 0
for folder in glob.glob("/proc/[0-9]*"):
    try:
        if not re.match(sys.argv[1], open(f"{folder}/cmdline").read()):
            continue
        if sys.argv[2] in open(f"{folder}/cgroup").read():
            continue
        lines = open(f"{folder}/smaps_rollup").read().splitlines()[1:]
    except OSError:
        continue
    count += 1
    for line in lines:
        name, value = line.split(":")
        totals[name] = totals.get(name, 0) + int(value.split()[0]) / 1024
names = ("Pss", "Rss", "Pss_Anon")
print(json.dumps({"workers": count} | {name: round(totals.get(name, 0), 1) for name in names}))
"""


def ksm_can_run() -> bool:
    """Has the kernel KSM, and may it be set?"""
    return (KSM / "run").exists()


def settings(extra: str) -> str:
    return f"[Service]\n{extra}\n"


def read(bed: Testbed) -> dict[str, Any]:
    """Of all workers together, in MiB, without those for heavy requests."""
    apart = ours("shared", 1).apart
    found: dict[str, Any] = json.loads(bed.out("python3", "-c", READ, PROGRAM, apart))
    return found


def load(bed: Testbed, workers: int) -> None:
    one = ours("shared", workers)
    groups = [Group(2 * workers, workloads.replay(one.path))]
    drive(bed, Spec(one.port, groups, SECONDS))


def variant(bed: Testbed, workers: int, extra: str = "") -> dict[str, Any]:
    """Workers that have just started, after the same requests."""
    contestants.put(bed, DROPIN, settings(extra))
    bed.run("systemctl", "daemon-reload")
    ctl(bed, "scale", str(workers))
    wait_for(lambda: settled(bed), "the number of workers is applied")
    ctl(bed, "restart")
    load(bed, workers)
    return read(bed)


def merged(bed: Testbed) -> dict[str, Any]:
    """With MemoryKSM=yes, after the kernel has gone through all pages twice. `saved`: MiB that
    are in memory once instead of several times. Sets the machine's own KSM meanwhile."""
    before = {
        name: (KSM / name).read_text() for name in ("run", "pages_to_scan", "sleep_millisecs")
    }
    try:
        (KSM / "pages_to_scan").write_text("20000")
        (KSM / "sleep_millisecs").write_text("20")
        (KSM / "run").write_text("1")
        found = variant(bed, WORKERS, "MemoryKSM=yes")
        scans = int((KSM / "full_scans").read_text())
        wait_for(lambda: int((KSM / "full_scans").read_text()) > scans + 2, "KSM has looked", 120)
        found = read(bed)
        saved = int((KSM / "pages_sharing").read_text()) * os.sysconf("SC_PAGE_SIZE")
        found["saved"] = round(saved / 2**20, 1)
        return found
    finally:
        for name, value in before.items():
            (KSM / name).write_text(value)


def measure(bed: Testbed, *, ksm: bool) -> dict[str, Any]:
    """In a booted container with the package and NGINX."""
    prepare(bed)
    ctl(bed, "site", "enable", "--project", PROJECT)
    ctl(bed, "queue", "shared")
    found: dict[str, Any] = {}
    for name, workers, extra in (
        ("1 worker", 1, ""),
        (f"{WORKERS} workers", WORKERS, ""),
        (f"{WORKERS} workers, MALLOC_ARENA_MAX=2", WORKERS, "Environment=MALLOC_ARENA_MAX=2"),
        (f"{WORKERS} workers, MALLOC_ARENA_MAX=1", WORKERS, "Environment=MALLOC_ARENA_MAX=1"),
    ):
        say(f"memory of {name}")
        found[name] = variant(bed, workers, extra)
    if not ksm:
        return found
    version = int(bed.out("systemctl", "--version").split()[1])
    if version < 254:
        found["KSM"] = f"systemd {version} has no MemoryKSM="
    elif not ksm_can_run():
        found["KSM"] = "the kernel has no KSM"
    else:
        say(f"memory of {WORKERS} workers, MemoryKSM=yes")
        found[f"{WORKERS} workers, MemoryKSM=yes"] = merged(bed)
    return found
