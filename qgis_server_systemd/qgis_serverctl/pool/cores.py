# SPDX-License-Identifier: GPL-2.0-or-later
"""How many cores the pool may really use.

Not os.cpu_count() (it ignores affinity and quota), and not nproc (it obeys
OMP_NUM_THREADS, and reads no quota in the supported releases).
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .host import Host

CGROUPS = "/sys/fs/cgroup"


@dataclass(frozen=True)
class Cores:
    """The three limits, in cores; None where there is none."""

    affinity: int
    cpuset: int | None
    quota: float | None

    @property
    def count(self) -> int:
        """The least of them, a quota rounded up, at least 1."""
        limits = [self.affinity]
        if self.cpuset is not None:
            limits.append(self.cpuset)
        if self.quota is not None:
            limits.append(math.ceil(self.quota))
        return max(1, min(limits))


def count_list(cpus: str) -> int:
    """Count a list such as "0-3,8" (cpuset(7), "List format")."""
    total = 0
    for part in cpus.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            total += int(last or first) - int(first) + 1
    return total


def slice_chain(slice_unit: str) -> list[str]:
    """Folders of a slice's cgroup and of all its ancestors below the root, the
    root first: systemd nests a-b.slice in a.slice (systemd.slice(5))."""
    parts = slice_unit.removesuffix(".slice").split("-")
    names = ["-".join(parts[: n + 1]) + ".slice" for n in range(len(parts))]
    return ["", *("/".join(names[: n + 1]) for n in range(len(names)))]


def _quota_of(cpu_max: str) -> float | None:
    quota, period = cpu_max.split()
    return None if quota == "max" else int(quota) / int(period)


def _seconds(span: str) -> float | None:
    """Parse the span of CPUQuotaPerSecUSec ("1.500000s", "50ms", "infinity")."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
    found = re.findall(r"([0-9.]+)(us|ms|min|s)", span)
    return sum(float(number) * units[unit] for number, unit in found) if found else None


def detect(host: Host) -> Cores:
    """Read the limits of the pool's slice on this machine.

    The affinity is that of the service manager, which workers inherit, not that
    of the calling shell. A slice that is not active has no cgroup yet: its own
    settings are then asked of systemd.
    """
    affinity = len(os.sched_getaffinity(1 if host.live else 0))
    cpusets: list[int] = []
    quotas: list[float] = []
    folders = slice_chain(host.package.slice)
    slices = (Path(folder).name for folder in folders if folder)
    known = host.show_each(slices, "CPUQuotaPerSecUSec", "AllowedCPUs") if host.live else {}
    for folder in folders:
        here = Path(CGROUPS) / folder
        try:
            cpusets.append(count_list((here / "cpuset.cpus.effective").read_text()))
        except OSError:
            pass
        try:
            quota = _quota_of((here / "cpu.max").read_text())
        except OSError:
            quota = None
        if shown := known.get(Path(folder).name):
            quota = quota or _seconds(shown.get("CPUQuotaPerSecUSec", ""))
            if allowed := shown.get("AllowedCPUs", ""):
                cpusets.append(count_list(allowed.replace(" ", ",")))
        if quota is not None:
            quotas.append(quota)
    return Cores(
        affinity=affinity,
        cpuset=min((n for n in cpusets if n), default=None),
        quota=min(quotas, default=None),
    )
