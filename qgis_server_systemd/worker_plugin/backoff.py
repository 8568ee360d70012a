#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs after each end of a worker (ExecStopPost=): one that never came up is started
again only after a while, longer each time. The start limits of systemd would end with a
dead socket, and Debian 12's systemd has no RestartSteps=.

Runs as the pool's user; its folder is kept while systemd restarts the worker
(RuntimeDirectoryPreserve=restart).
"""

import os
import sys
import time

READY, COUNT = "ready", "failures"
LONGEST = 5.0
TELL = 3


def main() -> None:
    os.chdir(os.environ["RUNTIME_DIRECTORY"])
    try:
        os.unlink(READY)
    except FileNotFoundError:
        pass
    else:
        if os.path.exists(COUNT):
            os.unlink(COUNT)
        return
    try:
        with open(COUNT, encoding="ascii") as file:
            failures = int(file.read()) + 1
    except (FileNotFoundError, ValueError):
        failures = 1
    with open(COUNT, "w", encoding="ascii") as file:
        file.write(str(failures))
    if failures == TELL:
        how = f"{os.environ.get('EXIT_CODE', '')} {os.environ.get('EXIT_STATUS', '')}".strip()
        if not os.path.isfile(sys.argv[2]):
            how = f"{sys.argv[2]} is missing"
        print(
            f"worker {sys.argv[1]} has ended {TELL} times before it was ready ({how}): see the"
            f" lines above for the reason. It is tried again every {LONGEST:.0f} s; once the"
            " reason is mended, it comes up by itself, and what waits is served.",
            file=sys.stderr,
        )
    time.sleep(min(LONGEST, 0.25 * 2 ** min(failures, 8)))


main()
