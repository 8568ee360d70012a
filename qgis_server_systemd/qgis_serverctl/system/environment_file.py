# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd makes of an environment file, and what it drops without a word that
anybody sees (systemd.exec(5), EnvironmentFile=; src/basic/env-file.c of systemd).
Pure functions."""

import re
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Complaint:
    line: int
    what: str


@dataclass
class _Reader:
    """systemd's own reader goes by characters and so does this one."""

    text: str
    at: int = 0
    line: int = 1

    def take(self) -> str:
        character = self.text[self.at] if self.at < len(self.text) else ""
        self.at += 1
        self.line += character == "\n"
        return character

    def rest_of_line(self) -> str:
        taken = ""
        while (character := self.take()) not in ("", "\n"):
            taken += character
        return taken

    def value(self) -> tuple[str, str]:
        """The value, and the quote that is open at the end of the file, if any."""
        found, quote, begun = "", "", False
        while character := self.take():
            if quote:
                if character == quote:
                    quote = ""
                elif character == "\\" and quote == '"':
                    escaped = self.take()
                    found += escaped if escaped in '"\\`$' else "" if escaped == "\n" else escaped
                else:
                    found += character
            elif character == "\n":
                break
            elif character == "\\":
                escaped = self.take()
                found += "" if escaped == "\n" else escaped
                begun = True
            elif not begun and character in "'\"":
                quote = character
            elif begun or not character.isspace():
                found += character
                begun = True
        return found.rstrip(), quote


def read(text: str) -> tuple[dict[str, str], tuple[Complaint, ...]]:
    """The variables that a worker gets, and the lines that are lost."""
    found: dict[str, str] = {}
    lost: list[Complaint] = []
    reader = _Reader(text)
    while character := reader.take():
        line = reader.line
        if character.isspace():
            continue
        if character in "#;":
            comment = reader.rest_of_line()
            if comment.endswith("\\"):
                following = reader.rest_of_line()
                if following.strip() and following.lstrip()[0] not in "#;":
                    # Since systemd 254 it no longer is.
                    lost.append(
                        Complaint(line, "ends in a backslash: the next line is a comment too")
                    )
            continue
        key = character
        while (character := reader.take()) not in ("", "\n", "="):
            key += character
        if character != "=":
            lost.append(Complaint(line, f"is no assignment and is ignored: {key.strip()}"))
            continue
        value, quote = reader.value()
        name = key.strip()
        if quote:
            lost.append(Complaint(line, f"opens a {quote} that is never closed"))
        if not NAME.fullmatch(name):
            lost.append(Complaint(line, f"is ignored, since {name} is no name of a variable"))
            continue
        found[name] = value
    return found, tuple(lost)
