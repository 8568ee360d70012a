# SPDX-License-Identifier: GPL-2.0-or-later
"""What the plugin writes to the journal. Knows nothing of QGIS."""

import sys

MOST = 500
"""Characters of a line; clients can send millions."""


def say(text: str) -> None:
    """One line to standard error, which is the journal. QGIS's own log may be off. Clients choose
    paths, and authors names of files: ends of lines and control characters become escapes, and
    a backslash becomes two."""
    line = text if len(text) <= MOST else f"{text[:MOST]}…"
    print(repr(line)[1:-1], file=sys.stderr, flush=True)
