# SPDX-License-Identifier: GPL-2.0-or-later
"""The syntax of unit files. Pure functions."""

import re
from collections.abc import Iterator


def lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of each setting of a unit file (systemd.syntax(7))."""
    section = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()
