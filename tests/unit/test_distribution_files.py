# SPDX-License-Identifier: GPL-2.0-or-later
"""The builder's own package, as far as its files tell."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

from shared.paths import TOP

BUILDER = TOP / "contrib/builder"

NAME = "qgis-server-systemd-builder"

LIBRARIES = ("stdeb", "shtab")


def words(text: str) -> str:
    return " ".join(text.replace("\n .\n", "\n\n").split())


def test_its_copyright_tells_of_each_library() -> None:
    text = (BUILDER / "debian/copyright").read_text()
    for library in LIBRARIES:
        assert f"Files: lib/{library}/*\n" in text
    purelib = Path(sysconfig.get_path("purelib"))
    (mit,) = purelib.glob("stdeb-*.dist-info/**/LICENSE.txt")
    holders, _, terms = mit.read_text().partition("\n")
    assert words(terms) in words(text)
    assert holders.removeprefix("Copyright (c) ").rstrip(".") in text
    (mpl,) = purelib.glob("shtab-*.dist-info/**/LICENCE")
    terms, _, holders = mpl.read_text().partition("* files: *")
    assert words(terms.partition("====\n")[2]) in words(text)
    assert "MPL-2.0 2020-2026 (c) Casper da Costa-Luis" in holders


def test_every_lintian_override_has_a_reason() -> None:
    before = ""
    for line in (BUILDER / f"debian/{NAME}.lintian-overrides").read_text().splitlines():
        assert line.startswith("#") or before.startswith("#"), line
        before = line


def test_its_command_is_plain_shell() -> None:
    subprocess.run(["shellcheck", BUILDER / "qgis-server-systemd"], check=True)
