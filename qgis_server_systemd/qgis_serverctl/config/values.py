# SPDX-License-Identifier: GPL-2.0-or-later
"""Parsers of values: each takes what TOML or an option gives, and returns the checked value
or raises ValueError."""

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# ---- Parsers that can tell an editor what they take (`schema`, in JSON Schema's words).


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    least: int
    most: int

    def __call__(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if not self.least <= value <= self.most:
            raise ValueError
        return value

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    def __call__(self, value: object) -> str:
        if value not in self.words:
            raise ValueError
        return str(value)

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class WordOr:
    """One word, or what another parser takes."""

    word: str
    other: Callable[[object], Any]

    def __call__(self, value: object) -> Any:
        return value if value == self.word else self.other(value)

    @property
    def schema(self) -> dict[str, Any]:
        other = getattr(self.other, "schema", None)
        either = [{"const": self.word}, other]
        return {"anyOf": either} if other else {}


LONGEST_TEXT = 1000


def text(value: object, longest: int = LONGEST_TEXT) -> str:
    """One line that prints. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError
    if not value.isprintable():
        raise ValueError("it holds a line break or another sign that does not print")
    if len(value) > longest:
        raise ValueError(f"it has more than {longest} letters")
    return value


@dataclass(frozen=True)
class Pattern:
    """A text that a regular expression describes; `why` tells who would read others in
    another way. `schema`: see `declaration.schema`."""

    pattern: str
    longest: int
    why: str = ""

    def __call__(self, value: object) -> str:
        found = text(value, self.longest)
        if not re.fullmatch(self.pattern, found):
            raise ValueError(self.why)
        return found

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^({self.pattern})$", "maxLength": self.longest}


@dataclass(frozen=True)
class ListOf:
    """A list of what another parser takes."""

    one: Callable[[object], str]

    def __call__(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError("it is no list")
        return tuple(dict.fromkeys(self.one(item) for item in value))

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": getattr(self.one, "schema", {"type": "string"})}


# ---- What settings take

MAX_INSTANCES = 512


LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes (NAME_MAX and PATH_MAX in linux/limits.h); systemd passes over what is longer."""


Count = int | str
"""A number of instances, or "auto"."""


def count(value: object) -> Count:
    if value == "auto":
        return "auto"
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_INSTANCES:
        return value
    raise ValueError


def project(value: object) -> str:
    if not isinstance(value, str) or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError
    if value and not re.match(r"/|[a-z]+:", value):
        raise ValueError
    return value


def strings(value: object, one: Callable[[str], str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError
    return tuple(one(item) if isinstance(item, str) else one("") for item in value)


UNIX = "unix:"
"""A client over a Unix socket, whichever, as NGINX calls it."""


def networks(value: object) -> tuple[str, ...]:
    return strings(value, lambda item: item if item == UNIX else str(ipaddress.ip_network(item)))


@dataclass(frozen=True)
class Projects:
    """A list of paths and URIs."""

    def __call__(self, value: object) -> tuple[str, ...]:
        found = strings(value, project)
        if "" in found:
            raise ValueError
        return found

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}}


def folder(value: str) -> str:
    """Systemd would take a colon for the end of the path."""
    if not re.fullmatch(r'/[^\x00-\x1f\x7f:"\\]+', value) or os.path.normpath(value) != value:
        raise ValueError
    if len(value.encode()) > LONGEST_PATH:
        raise ValueError(f"a path of more than {LONGEST_PATH} bytes")
    if any(len(name.encode()) > LONGEST_NAME for name in value.split("/")):
        raise ValueError(f"a name of more than {LONGEST_NAME} bytes in a path")
    return value


def folders(value: object) -> tuple[str, ...]:
    return strings(value, folder)


def plain_folders(value: object) -> tuple[str, ...]:
    """Folders that NGINX's files name in places where it expands variables."""
    found = folders(value)
    if any(set(folder) & set('$"\\') for folder in found):
        raise ValueError
    return found


def picture(value: object) -> str:
    """A file that NGINX serves as what its name says; empty for none."""
    if value == "":
        return ""
    (file,) = plain_folders([value])
    if not file.endswith((".png", ".jpg", ".jpeg", ".webp", ".svg")):
        raise ValueError
    return file


HOST_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
"""A regular expression for a host name as NGINX compares it, without a port."""

KEYS = ("page", "title", "text", "logo", "project")
"""What a host name may have of its own on the front page (setting front_hosts)."""


def host_lines(value: object) -> tuple[str, ...]:
    """Lines "host key=value", for each host each key but `project` once."""
    found = strings(value, text)
    once = []
    for line in found:
        host, _, given = line.partition(" ")
        key, equals, said = given.partition("=")
        if not re.fullmatch(HOST_NAME, host) or key not in KEYS or not equals:
            raise ValueError
        if (key == "page" and said != "off") or (key == "project" and not is_name(said)):
            raise ValueError
        if key == "logo":
            picture(said)
        once += [] if key == "project" else [(host, key)]
    if len(set(once)) < len(once):
        raise ValueError
    return found


NAME = (
    r"(?![\x20',.-])(?:[A-Za-z0-9_+()\x20',.-]"
    # Beyond ASCII, letters and signs as UTF-8 has them (RFC 3629).
    # Without U+061C, which changes the direction of text.
    r"|\xc2[\xa1-\xbf]|\xd8[\x80-\x9b\x9d-\xbf]|[\xc3-\xd7\xd9-\xdf][\x80-\xbf]"
    r"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1\xe3-\xec][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    # Of U+2000 to U+206F dashes and quotation marks alone: the others are spaces, ends of lines
    # and orders to write from right to left.
    r"|\xe2(?:\x80[\x90-\xa7]|[\x82-\xbf][\x80-\xbf])|\xef[\xa4-\xba\xbc-\xbe][\x80-\xbf]"
    r"|\xf0[\x90-\xbf][\x80-\xbf]{2})+(?<!\x20)"
)
"""A regular expression for the name that a project has in its URL, for the bytes of UTF-8: NGINX
knows no others. As text it is ASCII. Not in it is what means something else in a URL, in NGINX's
files, in XML or to a terminal."""
_NAME = re.compile(NAME.encode())

NAME_WORDS = "letters of any script, digits, spaces and any of _ - . , + ( ) '"
"""What NAME says, but for how a name begins."""


def is_name(text: str) -> bool:
    """May a project have this name in its URL?"""
    return _NAME.fullmatch(text.encode(errors="surrogateescape")) is not None


def named(value: object) -> tuple[str, ...]:
    """Lines "name=project", each name once."""
    found = strings(value, str)
    names = [line.partition("=")[0] for line in found]
    if not all(map(is_name, names)) or len(set(names)) < len(names):
        raise ValueError
    Projects()([line.partition("=")[2] for line in found])
    return found


def switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


size = Pattern("[1-9][0-9]{0,8}[MG]", 10)
kilobytes = Pattern("[1-9][0-9]{0,2}K", 4)
account = Pattern("[a-z_][a-z0-9_.-]{0,31}", 32)
origins = ListOf(Pattern(r"\*|https?://[A-Za-z0-9.\-\[\]:]+", LONGEST_TEXT))


recipient = Pattern(r"(?:[A-Za-z0-9_][A-Za-z0-9_.+@-]*)?|/[A-Za-z0-9_./+-]+", LONGEST_PATH)


def project_name(value: object) -> str:
    found = text(value)
    if not is_name(found):
        raise ValueError
    return found


names_of_projects = ListOf(project_name)
system_calls = ListOf(Pattern("@?[a-z][a-z0-9_-]{0,63}", 65))


def size_or_share(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]?%|100%", value):
        return value
    return size(value)


def heavy_workers(value: object) -> int | str:
    """Also what once was a share of the workers: see Settings.notes."""
    if value == "auto" or (isinstance(value, str) and re.fullmatch(r"[1-9][0-9]?%", value)):
        return value
    return Whole(0, MAX_INSTANCES)(value)


def megabytes(text: str) -> int:
    """The number in a size such as "512M" or "2G"."""
    return int(text[:-1]) * (1024 if text.endswith("G") else 1)
