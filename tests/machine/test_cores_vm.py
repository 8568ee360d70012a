# SPDX-License-Identifier: GPL-2.0-or-later
"""Cores where cgroups have their controllers: a small virtual machine with four."""

from __future__ import annotations

import json

import pytest
from shared.pool import DEB, OFFLINE, quick_workers
from testbed import SUITES, Testbed
from testbed.vm import Machine

# Each step prints the number of listening sockets once apply is through.
SCRIPT = """
set -eu
count() {
    qgis-serverctl apply >&2
    ss -lxH | grep -c /run/qgis-server-
}
ss -lxH | grep -c /run/qgis-server-
systemctl set-property qgis-server.slice CPUQuota=150%
count
systemctl set-property qgis-server.slice CPUQuota= AllowedCPUs=0-2
count
systemctl set-property qgis.slice CPUQuota=50%
count
systemctl set-property qgis.slice CPUQuota=
systemctl set-property qgis-server.slice AllowedCPUs=
OMP_NUM_THREADS=1 taskset --cpu-list 0 qgis-serverctl apply >&2
ss -lxH | grep -c /run/qgis-server-
qgis-serverctl status --json
"""


# The newest release has the other test in a virtual machine: each takes minutes.
@pytest.mark.parametrize("suite", [SUITES[0]], scope="session")
def test_an_image_from_elsewhere_and_limits_of_the_slice(ready: Testbed) -> None:
    """Installed in a chroot on a machine with another count, then booted on four cores."""
    ready.chroot("apt-get", "--yes", "install", DEB, "nginx", env=OFFLINE)
    quick_workers(ready)
    code, out = Machine(ready.root, cpus=4).run_script(SCRIPT, timeout=600)
    assert code == 0, out
    counts, found = out.split("{", 1)
    # All four; a quota of 1.5 rounded up; a cpuset of three; half a core for
    # an ancestor; and nothing of what the caller's shell is limited to.
    assert counts.split() == ["4", "2", "3", "1", "4"]
    assert json.loads("{" + found)["cores"] == {
        "affinity": 4,
        "cpuset": 4,
        "quota": None,
        "count": 4,
    }
