# SPDX-License-Identifier: GPL-2.0-or-later
"""Why workers have ended: counted by whoever saw it, since afterwards nobody can tell. Pure, but
for the counts."""

from collections.abc import Mapping
from dataclasses import dataclass

CAUSES = ("crash", "hang", "memory", "age", "folders", "planned")
"""crash: by itself, or killed by the kernel. hang: killed by the monitor. memory, age, folders:
restarted at the monitor's wish. planned: by an administrator, apply or an upgrade."""


@dataclass(frozen=True)
class Run:
    """One run of a worker, as systemd tells it: `restarts` counts those of its own accord, and
    begins anew with each that somebody has asked for."""

    pid: int
    restarts: int


class Ends:
    """`counts` and `runs`: of former monitors. A worker that ends while there is none, as in an
    upgrade, is counted by the next one."""

    def __init__(self, counts: Mapping[str, int], runs: Mapping[int, Run]) -> None:
        self.counts = {cause: counts.get(cause, 0) for cause in CAUSES}
        self.runs = dict(runs)
        self.killed: dict[int, int] = {}
        self.wished: dict[int, str] = {}

    def kill(self, instance: int, pid: int) -> None:
        """The monitor kills it."""
        self.killed[instance] = pid

    def wish(self, instances: frozenset[int], cause: str) -> None:
        """The monitor wants them restarted."""
        self.wished |= dict.fromkeys(instances, cause)

    def see(self, found: Mapping[int, Run]) -> None:
        """One look. Instances without a process are between two runs, or stopped."""
        for instance, run in found.items():
            former = self.runs.get(instance)
            if not run.pid:
                continue
            self.runs[instance] = run
            if former and former.pid != run.pid:
                self.counts[self._cause(instance, former, run)] += 1
                self.killed.pop(instance, None)
                self.wished.pop(instance, None)
        # What was stopped and comes back much later is a start, and no end.
        self.runs = {n: run for n, run in self.runs.items() if n in found}

    def _cause(self, instance: int, former: Run, run: Run) -> str:
        if self.killed.get(instance) == former.pid:
            return "hang"
        if run.restarts > former.restarts:
            return "crash"
        return self.wished.get(instance, "planned")
