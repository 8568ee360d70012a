# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests are run by one process, and in which order processes take them.

Tests of a file that share something, such as a booted server, are one unit for each suite; any
other test is one by itself. What takes longest comes first, so that no process ends late.

pytest-xdist's processes collect the tests, and the one that hands them out knows only their names:
the first tell it in a file which unit a test belongs to.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

CHEAP = {
    "artifacts",
    "installed",
    "newer_package",
    "package",
    "suite",
    "suites_chosen",
    "with_nginx",
    "without_qgis",
}
"""Fixtures of a session that are made once for all processes, or soon made."""

FIRST = (
    # While the trees are being built for these,
    "test_corpus",
    # others use none.
    "test_site_pairs",
    "test_site_build",
    "test_publish.py",
    "test_machine",
    "test_arm64",
    "test_queue",
    "test_faults",
    "test_heavy",
    "test_interrupted",
    "test_serving",
    "test_restart",
    "test_projects",
    "test_security",
    "test_check",
    "test_gates",
    "test_attacks",
    "test_distribution",
    "test_recipes",
    "test_readme",
    "test_invariants",
    "test_ansible",
    "test_adopt",
    "test_fresh",
    "test_cache",
    "test_site_cases",
    "test_limits",
    "test_bench",
    "test_fuzz",
)
"""Units by the beginning of their names: those that take longest before the others."""


def units_file() -> Path:
    """Of a run, made by the process that hands out the tests."""
    return Path(tempfile.gettempdir(), f"qgis-server-systemd-units-{os.getpid()}")


def shares(item: pytest.Function) -> bool:
    """Does a test use something that others of its file use as well?"""
    found = item._fixtureinfo.name2fixturedefs
    return any(
        fixtures[-1].scope != "function" and name not in CHEAP
        for name, fixtures in found.items()
        if fixtures[-1].baseid
    )


def unit_of(item: pytest.Item) -> str:
    """Its own name for a test that is a unit by itself."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("apart"):
        return item.nodeid
    if not shares(item):
        return item.nodeid
    suite = item.callspec.params.get("suite", "") if hasattr(item, "callspec") else ""
    return f"{item.path.stem} {suite}"


def tell_units(items: list[pytest.Item], file: Path) -> None:
    """Write which unit each test belongs to."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(json.dumps({item.nodeid: unit_of(item) for item in items}))
    new.rename(file)


class LongestFirst(LoadScopeScheduling):  # type: ignore[misc]
    """A process gets its next unit when it is at its last test, and the longest that is left."""

    _sorted = False

    def schedule(self) -> None:
        if self.collection is None:
            file = units_file()
            self._units: dict[str, str] = json.loads(file.read_text())
            file.unlink()
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._units[nodeid]

    def _assign_work_unit(self, node: WorkerController) -> None:
        if not self._sorted:
            self._sorted = True
            for unit in sorted(self.workqueue, key=self._rank):
                self.workqueue.move_to_end(unit)
        super()._assign_work_unit(node)

    def _rank(self, unit: str) -> tuple[int, int]:
        name = unit.partition("::")[0].rpartition("/")[2] + unit.partition(".py")[2]
        place = (at for at, beginning in enumerate(FIRST) if name.startswith(beginning))
        return next(place, len(FIRST)), -len(self.workqueue[unit])

    def _reschedule(self, node: WorkerController) -> None:
        # More than one: none is kept back for longer than it must.
        if self.workqueue and self._pending_of(self.assigned_work[node]) > 1:
            return
        super()._reschedule(node)
