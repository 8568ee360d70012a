# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests of requests.toml, and how their replies are judged and compared."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from testbed import SUITES, Reply

from shared import serving

FOLDER = "/srv/corpus"
PREFIX = serving.PREFIX
FILE = Path(__file__).with_name("requests.toml")

SIDES = ("a", "b")
"""Each side of a comparison has data of its own to change: a is the pool's."""

ABOUT = {
    "name",
    "kind",
    "project",
    "path",
    "method",
    "body",
    "content_type",
    "accept",
    "status",
    "type",
    "size",
    "pages",
    "holds",
    "lacks",
    "unlike",
    "compare",
    "since",
}
"""What a request of the file has beside the parameters of its query."""


@dataclass(frozen=True)
class Request:
    """One request, the same for both sides but for {side}, which stands for the side's name.

    project: a path below FOLDER, or a whole URI; None for a request that names none.
    size: width and height of the image that is to come.
    holds, lacks: texts that are in the reply, or are not.
    unlike: the name of a request whose reply must differ, else a part of the project is ignored.
    compare: how the replies of both sides are, see SAME.
    since: the first release whose QGIS can do it.
    """

    name: str
    query: dict[str, str]
    status: int
    type: str
    project: str | None
    path: str = ""
    method: str = "GET"
    body: str = ""
    content_type: str = "text/xml"
    accept: str = ""
    size: tuple[int, int] | None = None
    pages: int = 0
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    unlike: str = ""
    compare: str = "bytes"
    since: str = SUITES[0]

    def target(self, side: str) -> str:
        """Path and query, as in the first line of the HTTP request."""
        given = dict(self.query)
        if self.project is not None:
            whole = self.project.startswith(("/", "postgresql:"))
            given = {"MAP": self.project if whole else f"{FOLDER}/{self.project}"} | given
        pairs = (f"{name}={quote(value, safe='/:,')}" for name, value in given.items())
        query = "&".join(pairs)
        return (
            (f"{PREFIX}{self.path}" + (f"?{query}" if query else ""))
            .replace(quote("{side}"), side)
            .replace("{side}", side)
        )

    def content(self, side: str) -> bytes:
        return self.body.replace("{side}", side).encode()

    def judge(self, reply: Reply) -> None:
        """It is what the request asked for, and no complaint."""
        assert reply.status == self.status, serving.shown(reply)
        if self.status < 300 and self.type:
            assert serving.media_type(reply).partition(";")[0] == self.type, serving.shown(reply)
            for complaint in (b"ServiceException", b"ExceptionReport"):
                assert complaint not in reply.body, serving.shown(reply)
        if self.size is not None:
            IMAGES[self.type](*self.size)(reply)
        if self.type == "application/pdf":
            serving.pdf(reply)
            counts = re.findall(rb"/Type\s*/Pages\b.*?/Count (\d+)", reply.body, re.DOTALL)
            assert [int(count) for count in counts] == [self.pages]
        text = reply.body.decode(errors="replace")
        for word in self.holds:
            assert word in text, f"{word!r} isn't in {serving.shown(reply)}"
        for word in self.lacks:
            assert word not in text, f"{word!r} is in {serving.shown(reply)}"


IMAGES: dict[str, Callable[[int, int], serving.Check]] = {
    "image/png": partial(serving.png, colour_types=serving.PNG_24 + serving.PNG_8),
    "image/jpeg": serving.jpeg,
    "image/tiff": serving.geotiff,
}


def without_side(body: bytes) -> bytes:
    """Without the side's name; and without the extent of a layer, which a worker remembers from
    before another one has changed the data."""
    body = re.sub(rb'"bbox": \[[^]]*\]', b'"bbox": []', body)
    return re.sub(rb"\b(edit-|places_)[ab]\b", rb"\1x", body)


SAME: dict[str, Callable[[bytes], bytes]] = {
    "bytes": lambda body: body,
    # Dates and numbers at random.
    "dated": serving.comparable,
    # Each process numbers what it has got from another server as it comes.
    "numbered": lambda body: re.sub(rb'"id":"wfs\.\d+"', b'"id":""', body),
    "sides": without_side,
}


def read(file: Path = FILE) -> Iterator[Request]:
    """All requests, in their order; a table's name is the project of its requests, unless they
    name another."""
    found: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    kinds: dict[str, dict[str, Any]] = found.pop("kinds")
    for project, requests in found.items():
        for request in requests:
            yield make(project, request, kinds)


def make(project: str, request: dict[str, Any], kinds: dict[str, dict[str, Any]]) -> Request:
    given = kinds[request["kind"]] | request
    about = {name: value for name, value in given.items() if name in ABOUT}
    query = {name: str(value) for name, value in given.items() if name not in ABOUT}
    del about["kind"]
    about["name"] = f"{project}: {about['name']}"
    chosen = about.pop("project", f"{project}.qgs")
    about |= {name: tuple(about[name]) for name in ("size", "holds", "lacks") if name in about}
    if "WIDTH" in query and about.get("type") in IMAGES and "size" not in about:
        about["size"] = (int(query["WIDTH"]), int(query["HEIGHT"]))
    if "unlike" in about:
        about["unlike"] = f"{project}: {about['unlike']}"
    return Request(
        **about, project=chosen or None, query={k: v for k, v in query.items() if v != "-"}
    )
