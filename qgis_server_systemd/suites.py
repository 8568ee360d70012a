# SPDX-License-Identifier: GPL-2.0-or-later
"""The releases of Debian, as far as a package made for one differs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """distribution: what the changelog names.
    standards_version: the Debian Policy that the release's lintian checks against.
    number: that of the release, such as 13; 0 for all of them.
    """

    distribution: str
    standards_version: str
    number: int

    @property
    def revision(self) -> str:
        """Ends the version, so that a repository can hold the packages for all releases, and
        an upgrade of Debian takes the newer release's."""
        return f"~deb{self.number}u1" if self.number else ""


SUITES = {
    "bookworm": Suite("bookworm", "4.6.2", 12),
    "trixie": Suite("trixie", "4.7.2", 13),
    "forky": Suite("forky", "4.7.4", 14),
}
ANY = Suite("unstable", "4.6.1", 0)
"""One package for all of them. Its standards are older than those of each release, so that
lintian says the same of them everywhere: an override that is unused is a fault."""

ALL = "all"
"""On the command line: each of them."""


def chosen(names: list[str] | None) -> tuple[str | None, ...]:
    """The suites that a command line names, each once and in the order of their releases;
    None stands for one package for all."""
    if not names:
        return (None,)
    return tuple(name for name in SUITES if name in names or ALL in names)
