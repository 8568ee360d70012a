# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in a TOML file a key stands, which tomllib does not tell."""

import tomllib
from collections.abc import Sequence
from typing import Any


def _has(values: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def line_of(text: str, path: Sequence[str]) -> int:
    """The line on which the key begins, for text that tomllib takes; 1 if it is nowhere.

    The first lines of a file are TOML themselves as long as no value is cut off: the
    shortest such part that has the key ends with its value, and the longest one that
    lacks it ends just before the key.
    """
    lines = text.split("\n")
    before = 0
    for end, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            values = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _has(values, path):
            while before < end - 1 and lines[before].lstrip()[:1] in ("", "#", "\r"):
                before += 1
            return before + 1
        before = end
    return 1
