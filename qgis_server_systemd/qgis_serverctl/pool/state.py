# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper remembers of its own deeds, so that it can tell them from
those of the administrator."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Self

from ..system.files import read_or_none, write
from ..system.output import die
from .host import Host


@dataclass(frozen=True)
class State:
    """`enabled`: instances that the package enabled, also those that the
    administrator has disabled since. `pending`: those that it is about to
    enable or disable; after an interruption they are its own if there is a link,
    and else nobody's. `drained`: those that NGINX shall not be told of until the
    administrator says so."""

    enabled: frozenset[int] = frozenset()
    pending: frozenset[int] = frozenset()
    drained: frozenset[int] = frozenset()

    @classmethod
    def load(cls, host: Host) -> Self:
        file = host.path(host.package.state_file)
        text = read_or_none(file)
        if text is None:
            return cls()
        try:
            values = json.loads(text)
            return cls(
                enabled=frozenset(map(int, values["enabled"])),
                pending=frozenset(map(int, values["pending"])),
                drained=frozenset(map(int, values.get("drained", ()))),
            )
        except (ValueError, KeyError, TypeError):
            die(
                f"{file}: is damaged",
                hint="delete it: instances enabled so far then count as the administrator's",
            )

    def save(self, host: Host) -> None:
        values = {key: sorted(found) for key, found in asdict(self).items()}
        write(host.path(host.package.state_file), json.dumps(values) + "\n")

    def intend(self, instance: int) -> Self:
        return replace(self, pending=self.pending | {instance})

    def leave(self, instance: int) -> Self:
        """Note that `instance` is about to be disabled."""
        return replace(self, enabled=self.enabled - {instance}, pending=self.pending | {instance})

    def settled(self, linked: frozenset[int]) -> Self:
        """Without what an earlier run was about to do, and left without a link."""
        return replace(self, pending=self.pending & linked)

    def done(self, instance: int, *, enabled: bool) -> Self:
        """Note that `instance` was just enabled, or that it no longer is ours."""
        own = self.enabled | {instance} if enabled else self.enabled - {instance}
        drained = self.drained if enabled else self.drained - {instance}
        return replace(self, enabled=own, pending=self.pending - {instance}, drained=drained)
