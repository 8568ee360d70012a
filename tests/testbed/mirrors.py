# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian archives that this machine itself uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def stanzas(text: str) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The URIs, suites and components of each binary stanza of a deb822 sources file."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in "\n".join(line if line.strip() else "" for line in lines).split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[key] = fields.get(key, "") + " " + line
            elif ":" in line:
                name, _, value = line.partition(":")
                key = name.strip().lower()
                fields[key] = value
        enabled = fields.get("enabled", "yes").strip().lower() not in ("no", "false", "0", "off")
        if enabled and "deb" in fields.get("types", "").split():
            uris, suites, components = (
                fields.get(name, "").split() for name in ("uris", "suites", "components")
            )
            yield uris, suites, components


def one_liners(text: str) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The URI, suite and components of each deb line of a sources.list."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] != ["deb"]:
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            end = next((at for at, word in enumerate(rest) if word.endswith("]")), len(rest))
            rest = rest[end + 1 :]
        if len(rest) >= 2:
            yield rest[:1], rest[1:2], rest[2:]


def debian_suite(name: str) -> bool:
    """Whether this names a release of Debian as an archive does."""
    known = ("bullseye", "bookworm", "trixie", "forky", "duke", "sid")
    return name in (*known, "oldoldstable", "oldstable", "stable", "testing", "unstable")


def mirrors(apt: Path = Path("/etc/apt")) -> tuple[str | None, str | None]:
    """The URIs of this machine's Debian archive and of its security archive."""
    archive = security = None
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for file in files:
        if file.suffix not in (".list", ".sources") or not file.is_file():
            continue
        parse = stanzas if file.suffix == ".sources" else one_liners
        for uris, suites, components in parse(file.read_text()):
            if not uris or "main" not in components:
                continue
            for name in suites:
                base, _, kind = name.replace("/", "-").partition("-")
                if debian_suite(base) and kind in ("security", "updates", ""):
                    if kind == "security":
                        security = security or uris[0]
                    elif kind == "":
                        archive = archive or uris[0]
    return archive, security


def source_lines(suite: str) -> list[str]:
    """What mmdebstrap takes for its mirrors; none of them means its own default."""
    archive, security = mirrors()
    if archive is None:
        return []
    lines = [f"deb {archive} {suite} main", f"deb {archive} {suite}-updates main"]
    if security is not None:
        lines.append(f"deb {security} {suite}-security main")
    return lines
