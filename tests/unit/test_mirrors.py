# SPDX-License-Identifier: GPL-2.0-or-later
"""The mirrors of this machine, from its APT sources."""

from __future__ import annotations

from pathlib import Path

from testbed.mirrors import mirrors


def test_mirrors_are_read_from_both_formats(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        "# comment\n\nTypes: deb deb-src\nURIs: http://one.invalid/debian\n"
        "Suites: trixie trixie-updates\nComponents: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://two.invalid/security\n"
        "Suites: trixie-security\nComponents: main\n"
    )
    (parts / "other.list").write_text("deb http://three.invalid/x nodistro main\n")
    assert mirrors(tmp_path) == ("http://one.invalid/debian", None)
    (tmp_path / "sources.list").write_text(
        "deb-src http://four.invalid/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://five.invalid/debian bookworm main # x\n"
        "deb http://six.invalid/security bookworm-security main\n"
    )
    assert mirrors(tmp_path) == ("http://five.invalid/debian", "http://six.invalid/security")
