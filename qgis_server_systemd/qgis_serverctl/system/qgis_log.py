# SPDX-License-Identifier: GPL-2.0-or-later
"""How serious is an entry of the journal? Pure functions.

QGIS Server writes all of its log to standard error, so for the journal each line
has the same priority. The level stands in the text ("07:33:20 WARNING Server[42]: …",
QGIS 3.22 to 3.40), and only in the first line of a message: an exception's text is
in the lines that follow. Libraries write lines without any level, GDAL such as
"ERROR 4: …" (cpl_error.cpp).

Clients choose a part of that text, ends of lines too, so they can write what looks like a level.
That is good enough to choose lines for somebody who reads them, and for nothing else.
"""

import re
from dataclasses import dataclass, field
from typing import Any

LEVELS = ("critical", "warning", "info")
"""The most serious first."""


STAMPED = re.compile(r"\d\d:\d\d:\d\d (\w+) ")


GDAL = re.compile(r"(Warning|ERROR|FATAL) \d+: ")


USUAL = re.compile(r"Warning 1: Unable to find driver \w+ to unload from GDAL_SKIP ")
"""What GDAL says at each start of Debian's QGIS, and nobody can change."""


ALONE = re.compile(r'Application path not initialized|"Loading native module ')
"""Lines of QGIS that belong to no message before them."""


PATIENCE = 1_000_000
"""Microseconds after which a line no longer belongs to the message before it."""


def as_text(value: object) -> str:
    """A field as `journalctl --output=json` prints it: bytes that are no text come as a list of
    numbers, and a field that an entry has several times as a list of both."""
    if isinstance(value, list):
        if value and all(isinstance(one, int) and 0 <= one < 256 for one in value):
            return bytes(value).decode(errors="replace")
        return " ".join(map(as_text, value))
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Entry:
    """`time`: microseconds since the epoch. `manager`: systemd says it, of a unit. What has no
    underscore in front (systemd.journal-fields(7)) is what the sender made it, whoever it was."""

    time: int
    host: str
    identifier: str
    pid: str
    priority: int
    manager: bool
    message: str

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> "Entry":
        """From what `journalctl --output=json` prints."""
        priority = as_text(fields.get("PRIORITY"))
        return cls(
            time=int(fields.get("__REALTIME_TIMESTAMP") or 0),
            host=as_text(fields.get("_HOSTNAME")),
            identifier=as_text(fields.get("SYSLOG_IDENTIFIER") or fields.get("_COMM")),
            pid=as_text(fields.get("_PID") or fields.get("SYSLOG_PID")),
            priority=int(priority) if priority in tuple("01234567") else 6,
            manager=fields.get("_PID") == "1",
            message=as_text(fields.get("MESSAGE")),
        )


def by_itself(entry: Entry) -> str | None:
    """The level that an entry tells; None if it may belong to the one before it."""
    text = entry.message
    if entry.manager:
        return LEVELS[0] if entry.priority <= 3 else LEVELS[1] if entry.priority == 4 else LEVELS[2]
    if found := STAMPED.match(text):
        level = found[1].lower()
        return level if level in LEVELS else "info"
    if found := GDAL.match(text):
        if USUAL.match(text):
            return "info"
        return "warning" if found[1] == "Warning" else "critical"
    if text.startswith("Traceback ("):
        return "critical"
    if text.startswith("warning: "):
        return "warning"
    if re.match(rf"{re.escape(entry.identifier)}: ", text):
        return "critical"  # how this package's command says what it failed at
    return "info" if ALONE.match(text) else None


@dataclass
class Reader:
    """Tells the level of entries that come in their order."""

    last: dict[str, tuple[int, str]] = field(default_factory=dict)

    def level(self, entry: Entry) -> str:
        found = by_itself(entry)
        if found is None:
            time, former = self.last.get(entry.pid, (0, "info"))
            found = former if entry.time - time < PATIENCE else "info"
        self.last[entry.pid] = entry.time, found
        return found

    def passes(self, entry: Entry, least: str) -> bool:
        """Is the entry at least as serious as `least`?"""
        return LEVELS.index(self.level(entry)) <= LEVELS.index(least)
