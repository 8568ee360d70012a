# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the list of projects that the front page shows to everybody. Knows nothing of QGIS.

    python3 -m PLUGIN.catalogue.front WORKER_FILE CATALOGUE FOLDER

Every second it looks which projects have an address. Where that has changed it writes
FOLDER/wish: systemd has a path unit for it, which has the projects looked at. Of what that look
finds (CATALOGUE) it writes FOLDER/projects.json, for NGINX to serve: a public part of the projects
that are in order and still there. NGINX needs nothing else for the page, so it comes with all
workers stopped, and when this has ended. FOLDER/broken has the number of those that are not in
order, for metrics.

What CATALOGUE says is a stranger's: projects are code, and may have taken over who writes it. So
addresses are found out here, and the rest is text of known length or numbers.
"""

import json
import math
import os
import posixpath
import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..fresh import Signature, note, of_file
from .addresses import Address, Entry, addresses, entries

FORMAT = 1
"""Of the list; the page shows no other."""

FOUND = 1
"""Format of what the look finds."""

EVERY, SOON = 1.0, 0.3
"""Seconds between two turns, and while a look is waited for."""

AGAIN = 600.0
"""Seconds after which all projects are looked at although none of them has changed: their data
may have."""

PATIENCE = 30.0
"""Seconds without a sign of the look after which it is wished for again; longer each time."""

MOST_BYTES = 64 << 20
"""Of what the look finds."""

LONGEST_TITLE, LONGEST_ABSTRACT, LONGEST_NAME = 200, 1000, 200
"""Characters."""

MOST_DRAWN = 50
"""Layers of the small map."""

SERVICES = ("WMS", "WMTS", "WFS", "WCS", "OGC API Features")

SYSTEM = re.compile(r"[A-Z]{2,10}:[0-9]{1,10}")
"""A reference system that a request may name."""


State = tuple[Address | tuple[str, Signature], ...]
"""Which projects there are, and their files as they are."""


# ---- Reading a stranger's file


def text(value: object, longest: int) -> str:
    """What is no text is none."""
    return value[:longest].strip() if isinstance(value, str) else ""


def number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def several(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def is_served(record: Mapping[str, Any], *, ignores: bool) -> bool:
    """Does QGIS Server serve the project? `ignores`: also without layers that are invalid."""
    if record.get("read") is not True or not number(record.get("looked")):
        return False
    for problem in several(record.get("problems")):
        if not isinstance(problem, dict) or not problem.get("layer"):
            return False
        if not ignores and problem.get("hidden") is not True:
            return False
    return True


def small_map(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a picture of the project is asked for by; empty if there can't be one."""
    crs = text(record.get("crs"), LONGEST_NAME)
    extent = [number(one) for one in several(record.get("extent"))]
    drawn = several(record.get("drawn"))[:MOST_DRAWN]
    layers = [name for one in drawn if (name := text(one, LONGEST_NAME)) and "," not in name]
    if not SYSTEM.fullmatch(crs) or len(extent) != 4 or None in extent or not layers:
        return {}
    metres = number(record.get("metres")) or 0.0
    return {
        "crs": crs, "inverted": record.get("inverted") is True, "metres": metres,
        "extent": extent, "layers": layers,
    }  # fmt: skip


def card(address: str, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What everybody may know of a project."""
    offered = several(record.get("services"))
    return {
        "address": address,
        "name": name,
        "title": text(record.get("title"), LONGEST_TITLE) or name,
        "abstract": text(record.get("abstract"), LONGEST_ABSTRACT),
        "services": [one for one in SERVICES if one in offered],
        "changed": number(record.get("changed")),
        "map": small_map(record),
    }


class Found:
    """What the look has found last. `begun`: which look it was; None if there never was one.
    `ended`: it is not under way any more."""

    def __init__(self, content: bytes = b"{}") -> None:
        """Raises ValueError for anything else than what the look writes."""
        try:
            given = json.loads(content.decode())
        except RecursionError as error:
            raise ValueError from error
        if not isinstance(given, dict) or (given and given.get("format") != FOUND):
            raise ValueError
        self.begun = number(given.get("begun"))
        self.ended = number(given.get("ended")) is not None
        self.ignores = given.get("ignores") is True
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        for one in several(given.get("projects")):
            if isinstance(one, dict) and isinstance(one.get("path"), str):
                self.records[text(one.get("name"), LONGEST_NAME), one["path"]] = one


# ---- What is there


def listed(folder: str) -> list[Entry]:
    """The projects of a folder; none if it can't be read."""
    try:
        return entries(folder, below=False)
    except OSError:
        return []


def there(settings: Mapping[str, Any]) -> list[Address]:
    """The projects that have an address, as NGINX finds them."""
    served = settings["addresses"]
    folders = [(folder, listed(folder)) for folder in served["folders"]]
    found, _ = addresses(
        served["named"], settings["catalogue"]["project"], (), folders, served["name"]
    )
    paths = {one.path for one in found if one.name}
    # The one that is served without a name as well is shown once.
    return [one for one in found if one.name or one.path not in paths]


def sources(all_of_them: Iterable[Address]) -> dict[str, Signature]:
    """What the files are that were found; one in a database has none."""
    return {one.path: of_file(one.path) for one in all_of_them if one.path.startswith("/")}


def below(page: str, target: str) -> str:
    """A path as the page names it, so that whatever a proxy puts before both counts."""
    return posixpath.relpath(target, page)


def public(
    settings: Mapping[str, Any],
    all_of_them: Iterable[Address],
    found: Found,
    own: Mapping[str, Any] | None = None,
) -> str:
    """The list that everybody may read. `own`: what a host name has of its own; with `projects`
    it shows these alone."""
    front = settings["front"] | (own or {})
    only = front.get("projects")
    page, projects = front["page"], settings["addresses"]["below"]
    cards = []
    for one in all_of_them:
        record = found.records.get((one.name, one.path))
        if one.name in front["unlisted"] or not record:
            continue
        if only is not None and one.name not in only:
            continue
        if is_served(record, ignores=found.ignores):
            at = below(page, f"{projects}/{one.name}" if one.name else page)
            cards.append(card(at, one.name or posixpath.basename(page), record))
    shown = {
        "format": FORMAT, "title": front["title"], "text": front["text"],
        "logo": front["logo"] and f"page/logo{posixpath.splitext(front['logo'])[1]}",
        "projects": cards,
    }  # fmt: skip
    return json.dumps(shown, ensure_ascii=True) + "\n"


def broken(all_of_them: Iterable[Address], found: Found) -> int:
    """How many projects with an address QGIS Server does not serve, of those looked at."""
    records = [found.records.get((one.name, one.path)) for one in all_of_them]
    looked_at = [record for record in records if record and number(record.get("looked"))]
    return sum(not is_served(record, ignores=found.ignores) for record in looked_at)


# ---- The watch


class Front:
    """All that is kept from one turn to the next. Times are of the monotonic clock but for
    `wished_at`, which is compared with what the look says."""

    def __init__(self, worker_file: Path, catalogue: Path, folder: Path) -> None:
        self.worker_file, self.catalogue, self.folder = worker_file, catalogue, folder
        self.known: Signature = ()
        self.found = Found()
        self.written: dict[str, str] = {}
        self.made_of: tuple[str, list[Address], Found] | None = None
        # What was there when a look was wished for that has not ended yet, and at the last one.
        self.wished: State | None = None
        self.seen: State | None = None
        self.wished_at = self.begun = self.sign = self.ended = self.took = 0.0
        self.patience = PATIENCE

    def turn(self, now: float, clock: float) -> None:
        """One look, and what follows from it. `now`: seconds of the monotonic clock, `clock`:
        since 1970."""
        given = self.worker_file.read_text(encoding="utf-8")
        settings = json.loads(given)
        all_of_them = there(settings)
        state: State = (*all_of_them, *sorted(sources(all_of_them).items()))
        self.read(now)
        made_of = given, all_of_them, self.found
        # Hundreds of cards are not made each second.
        if self.found.begun is not None and made_of != self.made_of:
            self.made_of = made_of
            self.write_lists(settings, all_of_them)
            self.write("broken", f"{broken(all_of_them, self.found)}\n")
        if self.is_due(state, now):
            self.wished, self.wished_at, self.begun, self.sign = state, clock, now, now
            (self.folder / "wish").write_text(f"{clock}\n", encoding="ascii")

    def write_lists(self, settings: Mapping[str, Any], all_of_them: list[Address]) -> None:
        """For all, and for each host name that has something of its own."""
        self.write("projects.json", public(settings, all_of_them, self.found))
        # Until the first apply of this version there are none.
        hosts = settings["front"].get("hosts", {})
        for host, own in hosts.items():
            text = public(settings, all_of_them, self.found, own)
            self.write(f"projects-{host}.json", text)
        for file in self.folder.glob("projects-*.json"):
            if file.name.removeprefix("projects-").removesuffix(".json") not in hosts:
                file.unlink()
                self.written.pop(file.name, None)

    def read(self, now: float) -> None:
        """What the look has found, if that is new."""
        signature = of_file(str(self.catalogue))
        if signature == self.known:
            return
        self.known = signature
        try:
            found = Found(note(self.catalogue, MOST_BYTES)) if signature else Found()
        except (OSError, ValueError):
            return
        self.sign = now
        if not found.ended:
            # Such as after an upgrade of QGIS: what was known counts until it is read again.
            for project, record in self.found.records.items():
                if not found.records.get(project, {}).get("looked"):
                    found.records[project] = record
        elif self.wished is not None and (found.begun or 0.0) >= self.wished_at:
            self.seen, self.wished = self.wished, None
            self.ended, self.took, self.patience = now, now - self.begun, PATIENCE
        elif self.wished is not None:
            # One that somebody else had begun before: the wish was not followed.
            self.sign = now - self.patience
        self.found = found

    def is_due(self, state: State, now: float) -> bool:
        """Shall the projects be looked at? Between two looks it waits for as long as one took: so
        they take half of what the processor has left for them, however much changes. A project
        that is new does not wait: it is read before all others, and is new but once."""
        if self.wished is not None:
            if now - self.sign < self.patience:
                return False
            self.patience = min(2 * self.patience, AGAIN)
            return True
        if self.seen is None:
            return True
        if any(isinstance(one, Address) for one in {*state} - {*self.seen}):
            return True
        quiet = now - self.ended
        return quiet >= self.took and (state != self.seen or quiet >= AGAIN)

    def write(self, name: str, content: str) -> None:
        """For others to read it whole."""
        if content == self.written.get(name):
            return
        beside = self.folder / f".{name}.new"
        beside.write_text(content, encoding="ascii")
        beside.replace(self.folder / name)
        self.written[name] = content


def main(worker_file: str, catalogue: str, folder: str) -> None:
    """Ends only to be started again after an upgrade."""
    program = os.stat(__file__).st_ino
    front = Front(Path(worker_file), Path(catalogue), Path(folder))
    while os.path.exists(__file__) and os.stat(__file__).st_ino == program:
        front.turn(time.monotonic(), time.time())
        time.sleep(EVERY if front.wished is None else SOON)


if __name__ == "__main__":
    main(*sys.argv[1:])
