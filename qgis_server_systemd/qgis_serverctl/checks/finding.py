# SPDX-License-Identifier: GPL-2.0-or-later
"""What `check` finds, and the facts that it looks at."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..config.settings import Settings
from ..reconcile import plan


@dataclass(frozen=True)
class Finding:
    """`id`: the same for each thing of a kind. `severity`: error (requests fail, or
    will), or warning. `where`: a file, unit or instance. `remedy`: a command, or
    what to do before one."""

    id: str
    severity: str
    what: str
    where: str
    remedy: str


def error(id: str, what: str, where: str, remedy: str) -> Finding:
    return Finding(id, "error", what, where, remedy)


def warning(id: str, what: str, where: str, remedy: str) -> Finding:
    return Finding(id, "warning", what, where, remedy)


@dataclass(frozen=True)
class Facts:
    """`settings`, `wanted` and `pending` are None where the settings are invalid.
    `units`: properties by unit name. `root`: the caller may look everywhere."""

    root: bool
    settings: Settings | None
    server: plan.Facts
    wanted: plan.Wanted | None
    pending: tuple[str, ...] | None
    units: Mapping[str, Mapping[str, str]]

    @property
    def is_shared(self) -> bool:
        """Is one queue for all workers wanted?"""
        return self.wanted is not None and self.wanted.shared

    @property
    def serving(self) -> frozenset[int]:
        """Instances that shall run."""
        now = self.server.instances
        return now.enabled - now.masked
