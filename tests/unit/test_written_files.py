# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file that is written is on the disk before it takes its place."""

from __future__ import annotations

import re

from shared.paths import TOP

PACKAGE = TOP / "qgis_server_systemd/qgis_serverctl"


def test_every_file_is_written_by_one_function() -> None:
    """It brings a file to the disk before the file takes its place."""
    pattern = re.compile(
        r"\.write_(text|bytes)\(|open\([^)]*[\"'][rwax]*[wax+]|\bbeside\.replace\("
    )
    found = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for line in file.read_text().splitlines()
        if pattern.search(line)
    }
    # The locks hold nothing that counts; access.py writes into a pipe.
    assert found == {"system/files.py", "system/lock.py", "system/access.py"}
    text = (PACKAGE / "system/files.py").read_text()
    put = text[text.index("def _put(") :]
    assert "with _put(file) as beside" in text
    assert put.index("yield beside") < put.index("beside.replace") < put.index("_sync(file.parent")
    assert "os.fsync(stream.fileno())" in text
