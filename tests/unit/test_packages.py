# SPDX-License-Identifier: GPL-2.0-or-later
"""What is no package is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.system.output import Failure
from qgis_server_systemd.repository import packages


@pytest.mark.parametrize("ending", [".changes", ".dsc", ".deb", ".txt"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"Source: a\nChecksums-Sha256:\n abc\n", b"Checksums-Sha256: x y z\n"],
    ids=["empty", "no text", "cut off", "on one line"],
)
def test_no_packages(ending: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"file{ending}"
    file.write_bytes(content)
    with pytest.raises(Failure, match=re.escape(f"{file}: ")):
        packages.placed([file], ("trixie",))
