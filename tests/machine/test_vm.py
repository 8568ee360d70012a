# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual machine itself: what the other tests take for granted about it."""

from __future__ import annotations

import pytest
from testbed import Testbed
from testbed.vm import Machine

SCRIPT = """
nproc
systemctl is-system-running
systemctl --failed --quiet
cat /etc/marker
systemd-run --quiet --wait --property=MemoryMax=50M --property=MemorySwapMax=0 \\
    python3 -c 'bytearray(300_000_000)' && echo "no limit was enforced"
exit 5
"""


@pytest.mark.long
def test_runs_a_script_on_three_processors_with_memory_limits(bed: Testbed) -> None:
    bed.chroot("sh", "-c", "echo marked >/etc/marker")
    status, output = Machine(bed.root, cpus=3).run_script(SCRIPT, timeout=900)
    assert output.splitlines() == ["3", "running", "marked"]
    assert status == 5
    assert not (bed.root / "usr/local/lib/vm").exists()
