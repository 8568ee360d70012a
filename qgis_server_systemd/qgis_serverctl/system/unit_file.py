# SPDX-License-Identifier: GPL-2.0-or-later
"""The syntax of unit files. Pure functions."""

import re
from collections.abc import Iterator

SPACE = " \t\n\r"
"""Nothing else is one to systemd, nor the end of a line."""


def lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of each setting of a unit file (systemd.syntax(7))."""
    section = ""
    for line in _joined(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(SPACE), value.strip(SPACE)


def _joined(text: str) -> Iterator[str]:
    """Lines that go on in the next one as one line. A comment never does, and may stand between
    them."""
    begun: list[str] = []
    for part in re.split(r"[\n\0]", text):
        line = part.lstrip(SPACE)
        if line.startswith(("#", ";")):
            continue
        # Two backslashes are one, and end nothing.
        goes_on = (len(line) - len(line.rstrip("\\"))) % 2 == 1
        begun.append(line[:-1] if goes_on else line)
        if not goes_on:
            yield " ".join(begun).strip(SPACE)
            begun = []
    yield " ".join(begun).strip(SPACE)


def mount_units(path: str) -> tuple[str, ...]:
    """The units of what may be mounted at an absolute path, or above it (systemd.mount(5));
    systemd passes over those that do not exist."""
    parts = [part for part in path.split("/") if part]
    return tuple(f"{_escaped(parts[:n])}.mount" for n in range(1, len(parts) + 1))


def _escaped(parts: list[str]) -> str:
    """As systemd-escape(1) does with --path."""
    plain = re.compile(rb"[A-Za-z0-9:_.]")
    name = "/".join(parts).encode()
    signs = (bytes([byte]) for byte in name)
    words = (
        "-"
        if sign == b"/"
        else sign.decode()
        if plain.fullmatch(sign) and (at or sign != b".")
        else f"\\x{sign[0]:02x}"
        for at, sign in enumerate(signs)
    )
    return "".join(words)
