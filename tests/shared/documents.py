# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that documents show."""

from __future__ import annotations

import re
from pathlib import Path

from shared.paths import TOP

README = TOP / "README.md"

COMMAND = re.compile(r"(make|apt|qgis-serverctl|qgis-server-systemd)\b .*")


def sections(file: Path) -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", file.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(text: str) -> list[str]:
    """In their order: those that stand in lines of their own, and those within a text."""
    shown = re.findall(r"^    (.*\S)|`([^`\n]+)`", text.replace("\\\n", " "), flags=re.M)
    found = (re.sub(r" +# .*", "", line or word) for line, word in shown)
    return [command for command in found if COMMAND.fullmatch(command)]


SHOWN = {name: commands(text) for name, text in sections(README).items()}
