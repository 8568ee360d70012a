# SPDX-License-Identifier: GPL-2.0-or-later
"""``render --diff``: what a site changes in the package's files."""

import difflib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .identity import Identity
from .render import render_debian
from .site import Site
from .suites import ANY, Suite


def _files(tree: Path) -> dict[str, bytes]:
    found = sorted(file for file in tree.rglob("*") if file.is_file())
    return {str(file.relative_to(tree)): file.read_bytes() for file in found}


def _rendered(site: Site, suite: Suite) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="qgis-server-systemd-") as folder:
        render_debian(Path(folder, "debian"), site, suite)
        return _files(Path(folder))


def _lines(content: bytes | None) -> list[str] | None:
    """None for what is no text."""
    try:
        return (content or b"").decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return None


def compare(old: dict[str, bytes], new: dict[str, bytes]) -> Iterator[str]:
    """The lines of a unified diff."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        source = name if before is not None else "/dev/null"
        target = name if after is not None else "/dev/null"
        one, two = _lines(before), _lines(after)
        if one is None or two is None:
            yield f"binary files {source} and {target} differ"
            continue
        for line in difflib.unified_diff(one, two, source, target):
            yield line.rstrip("\n")


def changes(site: Site, suite: Suite = ANY) -> Iterator[str]:
    """First what the site's names do to all files, in a line for each kind; then what its
    other settings do, as a diff against a package of the same names."""
    own, usual = site.package, Site().package
    names = ("name", "pool", "user", "group", "command", "etc", "share", "slice", "url_prefix")
    for name in names:
        if getattr(own, name) != getattr(usual, name):
            yield f"# {name}: {getattr(usual, name)} -> {getattr(own, name)}"
    called = Site(Identity(name=own.pool, binary=own.name if own.replaces else "auto"))
    yield from compare(_rendered(called, suite), _rendered(site, suite))
