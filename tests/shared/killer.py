# SPDX-License-Identifier: GPL-2.0-or-later
"""Kill workers in the middle of a request, run inside a testbed: python3 killer.py TIMES COUNT

In turn by SIGKILL and SIGSEGV, one of instances 1 to COUNT at a time: the next one falls
once the former is up again, and each other one has served all that it had then. NGINX
sends a request to two workers at most, so one that met two crashes would be lost.
"""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, "/usr/share/qgis-server-systemd")

from qgis_serverctl.pool import connections  # type: ignore[import-not-found]


def pid_of(instance: int) -> int:
    command = ("systemctl", "show", "--property=MainPID", "--value")
    return int(subprocess.check_output((*command, f"qgis-server@{instance}.service")))


class Pool:
    def __init__(self, count: int) -> None:
        self.pids = {n: pid_of(n) for n in range(1, count + 1)}
        self.dirty: set[int] = set()
        """Instances that may still have what a crash has sent them."""

    def look(self, instance: int) -> tuple[bool, bool, int]:
        """Whether the worker is up, whether it has a request in hand, and what waits."""
        pid = self.pids[instance]
        there = connections.connections(connections.table(), f"/run/qgis-server-{instance}.sock")
        busy = connections.holds(pid, there)
        return busy or connections.is_accepting(pid), busy, there.queued

    def is_calm(self) -> bool:
        for instance in self.pids:
            if not os.path.exists(f"/proc/{self.pids[instance]}"):
                self.pids[instance] = pid_of(instance)
            up, busy, queued = self.look(instance)
            if not up:
                return False
            if not busy and not queued:
                self.dirty.discard(instance)
        return not self.dirty

    def kill(self, number: signal.Signals) -> bool:
        """Kill a worker that holds a request; False if there is none at the moment."""
        for instance, pid in self.pids.items():
            if self.look(instance)[1]:
                # Stopped, it can't end the request before it is killed.
                os.kill(pid, signal.SIGSTOP)
                if self.look(instance)[1]:
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
                    self.dirty = set(self.pids) - {instance}
                    return True
                os.kill(pid, signal.SIGCONT)
        return False


def main() -> None:
    times, pool = int(sys.argv[1]), Pool(int(sys.argv[2]))
    deadline = time.monotonic() + 240
    killed = 0
    while killed < times:
        assert time.monotonic() < deadline, f"{killed} of {times} killed in vain time"
        number = (signal.SIGKILL, signal.SIGSEGV)[killed % 2]
        if pool.is_calm() and pool.kill(number):
            killed += 1
        time.sleep(0.005)  # between two looks; nothing tells that a request is in hand
    while not pool.is_calm():
        assert time.monotonic() < deadline, "the last one does not come back"
        time.sleep(0.005)  # between two looks; bounded above


if __name__ == "__main__":
    main()
