# SPDX-License-Identifier: GPL-2.0-or-later
"""The address at which a project of the landing page is served. Knows nothing of QGIS.

QGIS Server's landing page serves each project below a number as well, the MD5 sum of its path.
That would be a second address of the project: whoever knows it would pass by what NGINX's site
asks for at the first one, such as a password. So it is nothing but a way to the first one.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, urlsplit, urlunsplit

ENDS = ("qgz", "qgs")
"""Of projects; of two that have the same name the first one is served (setting project_folders)."""


def is_project(name: str) -> bool:
    """Could a file of this name be a project? QGIS opens those with large letters, too."""
    return name.lower().endswith(tuple(f".{end}" for end in ENDS))


def raw(text: str) -> bytes:
    """As it is on disk and in a URL, whatever the locale is."""
    return text.encode(errors="surrogateescape")


def is_name(pattern: str, text: str) -> bool:
    """May a project have this name in its URL? `pattern`: for bytes, as NGINX sees names."""
    return re.fullmatch(pattern.encode(), raw(text)) is not None


SPACED = re.compile("[^ ?]+ [^/?]*")
"""The beginning of a URL, up to the end of the first part of its path that has a space."""


def origin_of(url: str) -> str:
    return urlunsplit((*urlsplit(url)[:2], "", "", ""))


def encoded(url: str, path: str) -> dict[str, str]:
    """What of the URLs in a reply is to be replaced by what, because a URL has no spaces. `url`:
    that of the request as QGIS Server writes it, which decodes spaces and letters; `path`: with
    all decoded, as its OGC API may write it."""
    written = (SPACED.match(one) for one in (url, origin_of(url) + path))
    return {one[0]: one[0].replace(" ", "%20") for one in written if one}


class Addresses:
    """Where NGINX serves projects: at `below`/NAME those of `named` by their names, else files in
    `folders`. `name`: see `is_name`. `landing`: the path of the landing page,
    `listed`: the folders that it shows."""

    def __init__(
        self,
        landing: str,
        listed: Iterable[str],
        below: str,
        name: str,
        named: Mapping[str, str],
        folders: Sequence[str],
    ) -> None:
        self.landing, self.listed = landing, tuple(listed)
        self.below, self.named = below, dict(named)
        self.folders = [folder.rstrip("/") for folder in folders]
        self.pattern = name
        self.second = f"{landing}/project/"
        self.number = re.compile(
            rf"{re.escape(self.second)}(?P<number>[0-9a-f]{{32}})(?P<rest>/[^?]*)?(?P<query>\?.*)?"
        )

    def is_second(self, path: str) -> bool:
        """Would the landing page serve a project here?"""
        return path.startswith(self.second)

    def first(self, target: str) -> str:
        """The one address for a second one: path and query as a client sends them. Empty if there
        is none."""
        if not (found := self.number.fullmatch(target)):
            return ""
        if not (name := self._name_of(found["number"])):
            return ""
        rest = (found["rest"] or "").rstrip("/")
        return f"{self.below}/{quote(raw(name))}{rest}{found['query'] or ''}"

    def _name_of(self, number: str) -> str:
        for project in (*self.named.values(), *self._files()):
            if hashlib.md5(raw(project), usedforsecurity=False).hexdigest() == number:
                return self.name_of(project)
        return ""

    def _files(self) -> Iterable[str]:
        for folder in self.listed:
            try:
                yield from (f"{folder}/{name}" for name in os.listdir(folder))
            except OSError:
                continue

    def name_of(self, project: str) -> str:
        """The name that leads to this very project; empty if none does."""
        for name, other in self.named.items():
            if other == project:
                return name
        stem = os.path.splitext(os.path.basename(project))[0]
        if stem in self.named or not is_name(self.pattern, stem):
            return ""
        files = (f"{folder}/{stem}.{end}" for folder in self.folders for end in ENDS)
        served = next(filter(os.path.isfile, files), "")
        return stem if served == os.path.normpath(project) else ""

    def with_prefix(self, prefix: str, url: str) -> dict[str, str]:
        """What of the URLs in a reply of the landing page is to be replaced by what: a proxy has
        cut `prefix` off their paths. `url`: that of the request."""
        origin = origin_of(url)
        return {f"{origin}{self.landing}/": f"{origin}{prefix}{self.landing}/"}
