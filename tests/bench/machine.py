# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures depend on: the machine, without names and paths, and the versions."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from testbed import Testbed

from bench.contestants import PY_QGIS_SERVER, has_py_qgis_server

PACKAGES = (
    "qgis-server",
    "nginx",
    "systemd",
    "spawn-fcgi",
    "multiwatch",
    "apache2",
    "libapache2-mod-fcgid",
    "uwsgi-core",
    "fcgiwrap",
)


def field(text: str, name: str) -> str:
    """A field of /proc/cpuinfo or /proc/meminfo; empty if there is none."""
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def load() -> str:
    """Processes that ran or waited for a core, of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def described(
    cpu: str | None = None, memory: str | None = None, kernel: str | None = None
) -> dict[str, str]:
    """`virtual` goes by the processor flag that hypervisors set, which x86 alone has. Of the
    kernel's release only the number: what follows it may be a local name."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8") if cpu is None else cpu
    memory = Path("/proc/meminfo").read_text(encoding="ascii") if memory is None else memory
    total = field(memory, "MemTotal").partition(" ")[0]
    flags = field(cpu, "flags").split()
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": field(cpu, "model name") or platform.machine(),
        "virtual": ("yes" if "hypervisor" in flags else "no") if flags else "not known",
        "memory": f"{int(total or 0) / 2**20:.0f} GiB",
        "kernel": (platform.release() if kernel is None else kernel).partition("-")[0],
    }


def versions(bed: Testbed) -> dict[str, str]:
    """Of packages in a release, without the epoch; a rival's only if it is there."""
    asked = ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\n"]
    found = {}
    for line in bed.run(*asked, *PACKAGES, check=False).stdout.splitlines():
        name, version, status = line.split(" ")
        if status == "installed":
            found[name] = version.partition(":")[2] or version
    if bed.rivals and has_py_qgis_server(bed.suite):
        name, _, version = PY_QGIS_SERVER.partition("==")
        found[name] = version
    return {name: found[name] for name in (*PACKAGES, "py-qgis-server") if name in found}
