# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's autogroup (sched(7)) shares cores out by session. A contestant whose workers are
a service each would get more of them than one that starts all from one process, by no merit of
either. So it is off meanwhile, for all processes that begin then."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

SWITCH = Path("/proc/sys/kernel/sched_autogroup_enabled")
RESTORE = 'cat >/dev/null; echo 1 >"$0"'


@contextlib.contextmanager
def off(switch: Path = SWITCH) -> Iterator[str]:
    """Tells how it is: `off`, `on` where it can't be set, or `none`, without which there is
    nothing to do. What turns it on again is a process of its own, that waits for the end of
    this one, so that even SIGKILL does not leave it off."""
    if not switch.is_file():
        yield "none"
        return
    if switch.read_text(encoding="ascii").strip() != "1":
        yield "off"
        return
    guard = subprocess.Popen(
        ["sh", "-c", RESTORE, str(switch)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        try:
            switch.write_text("0", encoding="ascii")
            state = "off"
        except OSError:  # read-only in some containers
            state = "on"
        yield state
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()
