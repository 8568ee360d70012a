# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests are run by one process, and in which order processes take them.

Tests of a file that share something, such as a booted server, are one unit for each suite; any
other test is one by itself. What takes longest comes first, so that no process ends late.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

CHEAP = {
    "artifacts",
    "installed",
    "newer_package",
    "package",
    "suite",
    "with_nginx",
    "without_qgis",
}
"""Fixtures of a session that are made once for all processes."""

FIRST = (
    # While the trees are being built for these,
    "test_corpus",
    # others use none.
    "test_site_pairs",
    "test_site_build",
    "test_publish.py",
    "test_machine",
    "test_serving",
    "test_interrupted",
    "test_faults",
    "test_gates",
    "test_distribution",
    "test_check",
    "test_ansible",
    "test_queue",
    "test_cache",
    "test_attacks",
    "test_readme",
    "test_restart",
    "test_adopt",
    "test_security",
    "test_fresh",
    "test_heavy",
    "test_site_cases",
    "test_limits",
    "test_bench",
    "test_fuzz",
)
"""Units by the beginning of their names: those that take longest before the others."""


def shares(item: pytest.Function) -> bool:
    """Does a test use something that others of its file use as well?"""
    found = item._fixtureinfo.name2fixturedefs
    return any(
        fixtures[-1].scope != "function" and name not in CHEAP
        for name, fixtures in found.items()
        if fixtures[-1].baseid
    )


def unit_of(item: pytest.Function) -> str:
    """Empty for a test that is a unit by itself."""
    if item.get_closest_marker("apart") or not shares(item):
        return ""
    suite = getattr(item, "callspec", None) and item.callspec.params.get("suite", "")
    return f"{item.path.stem} {suite}".strip()


def mark_units(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and (unit := unit_of(item)):
            item.add_marker(pytest.mark.xdist_group(unit))


class LongestFirst(LoadGroupScheduling):  # type: ignore[misc]
    """A process gets its next unit when it is at its last test, and the longest that is left."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        first = min(self.workqueue, key=self._rank)
        self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _rank(self, unit: str) -> tuple[int, int]:
        name = unit.rpartition("/")[2]
        place = (at for at, beginning in enumerate(FIRST) if name.startswith(beginning))
        return next(place, len(FIRST)), -len(self.workqueue[unit])

    def _reschedule(self, node: WorkerController) -> None:
        # More than one: none is kept back for longer than it must.
        if self.workqueue and self._pending_of(self.assigned_work[node]) > 1:
            return
        super()._reschedule(node)


def make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst:
    return LongestFirst(config, log)
