# SPDX-License-Identifier: GPL-2.0-or-later
"""The releases of Debian that tests run on, and how they differ as far as tests must know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """qgis: the first two numbers of QGIS Server's version.
    reply_wait: does QGIS Server hold each reply back for 10 ms?
    http_3: does NGINX know HTTP/3, and HTTP/2 as a directive of its own?
    own_tags: what its lintian alone says of a package for all releases, which can't override it:
        for another release's lintian that would be an error.
    released: false while it is still Debian testing. Few tests run on it each time, and its
        archive's Release file may be older than apt likes.
    """

    qgis: tuple[int, int]
    reply_wait: bool = True
    http_3: bool = True
    own_tags: tuple[str, ...] = ()
    released: bool = True


RELEASES = {
    "bookworm": Release(
        (3, 22),
        reply_wait=False,
        http_3=False,
        # Of each service without an init script.
        own_tags=("package-supports-alternative-init-but-no-init.d-script",),
    ),
    "trixie": Release((3, 40)),
    "forky": Release(
        (3, 44),
        # What older releases build with.
        own_tags=(
            "package-uses-old-debhelper-compat-version",
            "redundant-priority-optional-field",
            "redundant-rules-requires-root-no-field",
        ),
        released=False,
    ),
}
"""By codename, oldest first."""
SUITES = tuple(RELEASES)
RELEASED = tuple(name for name, release in RELEASES.items() if release.released)


def since(first: str) -> tuple[str, ...]:
    """A release and all later ones."""
    return SUITES[SUITES.index(first) :]
