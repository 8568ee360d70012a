# SPDX-License-Identifier: GPL-2.0-or-later
"""A host at one moment: what systemd was asked once is not asked again."""

from dataclasses import dataclass, field

from .host import Host


@dataclass(frozen=True)
class Snapshot(Host):
    """For commands that only look; one that changes something must not use it."""

    replies: dict[tuple[str, ...], str] = field(default_factory=dict)

    @classmethod
    def of(cls, host: Host) -> "Snapshot":
        return cls(host.package, host.root, host.maintainer)

    def ask(self, verb: str, *args: str) -> str:
        key = (verb, *args)
        if key not in self.replies:
            self.replies[key] = super().ask(verb, *args)
        return self.replies[key]
