# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at all projects."""

import json
import os
import re
import sys
import time
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from .. import archives, fresh, later
from ..folders import Folders
from . import children
from .addresses import Address, Entry, Without, addresses, entries
from .children import Outcome, Send
from .sources import Reason, of_path, signature

FORMAT = 1
"""Of the result; one of another format is not read."""

LISTING = 10.0
"""Seconds for a folder."""

STAT = 20.0
"""Seconds for a look at the files of a project that has been read before."""

SECONDS = 40.0
"""For a project."""

TROUBLES = 15.0
"""Seconds for why a project took longer."""

BUDGET = 900.0
"""Seconds after which no further project is begun."""

AGAIN = 3600.0
"""Seconds after which a project is read again that depends on more than files, or that ended
the look; orders may ask for less."""

BROKEN = 600.0
"""The same for one that depends on more than files and has problems, unless there are orders."""

WRITE_EVERY = 0.5
"""Seconds between two states of the result, while it is in the making."""

LEAST_MEMORY = 512 << 20

BAD = ("hangs", "memory", "crashes")
"""Kinds of problems that may come from elsewhere, and may be gone the next time."""

OF_A_START = (
    "INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_WATCH", "SYSTEMD_EXEC_PID",
    "TRIGGER_PATH", "TRIGGER_UNIT",
)  # fmt: skip
"""Variables that differ from one start of the unit to the next (systemd.exec(5))."""

VARIABLE = re.compile(r'^\s*fastcgi_param\s+([A-Z][A-Z0-9_]*)\s+("?)([^"$;]*)\2\s*;', re.M)
"""In a file of NGINX's: what a worker is sent at each request, and libraries look up."""


def memory_limit(text: str) -> int:
    """Bytes: a size such as "2G", or a share of the machine's memory such as "60%"."""
    if text.endswith("%"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return max(LEAST_MEMORY, total * int(text[:-1]) // 100)
    return int(text[:-1]) << (30 if text.endswith("G") else 20)


def sent(file: str) -> dict[str, str]:
    """Variables that are in the environment of a worker only while it serves a request."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: value for name, _, value in VARIABLE.findall(text)}


def blank(address: Address) -> dict[str, Any]:
    """What is said of a project that was never looked at."""
    return {
        "name": address.name, "path": address.path, "origin": address.origin, "size": None,
        "changed": None, "looked": 0.0, "read": False, "title": "", "abstract": "",
        "services": [], "layers": 0, "crs": "", "inverted": False, "metres": 0.0,
        "extent": [], "drawn": [],
        "remote": not address.path.startswith("/"), "files": {}, "problems": [],
    }  # fmt: skip


def ignores_bad_layers() -> bool:
    """Does QGIS Server serve projects without those of their layers that are invalid? As QGIS
    reads it (QVariant::toBool)."""
    return os.environ.get("QGIS_SERVER_IGNORE_BAD_LAYERS", "").lower() not in ("", "0", "false")


def done(send: Send, reason: Reason) -> None:
    """There is nothing to ask QGIS for."""
    send({"problems": [reason.as_dict()], "read": True, "looked": time.time()})


def listed(folder: str, most: int) -> tuple[list[Entry], str]:
    """The entries of a folder, and why there are none."""

    def work(send: Send) -> None:
        try:
            send({"entries": [vars(one) for one in entries(folder)]})
        except FileNotFoundError:
            send({"problem": "folder-missing"})
        except OSError:
            send({"problem": "folder-denied"})

    outcome = children.run(work, LISTING, most)
    said: dict[str, Any] = outcome.said[0] if outcome.said else {"problem": "folder-hangs"}
    return [Entry(**one) for one in said.get("entries", ())], said.get("problem", "")


class Catalogue:
    """All that is kept from one look to the next, in the file `result`. `settings`: what the
    workers have as well. `orders`: `names` of projects that are to be read whatever is known of
    them, and after how many seconds those are that depend on more than files (`remote`). They
    count once, by their `id`: a look may also be made without any."""

    def __init__(
        self, settings: Mapping[str, Any], orders: Mapping[str, Any], result: Path
    ) -> None:
        self.given, self.addresses = settings["catalogue"], settings["addresses"]
        guard = settings["guard"]
        self.folders = Folders(guard["folders"], guard["projects"])
        self.result = result
        last = self._last()
        self.orders = orders.get("id", "")
        if self.orders and self.orders == last.get("orders"):
            orders = {}
        self.names = frozenset(orders.get("names", ()))
        self.remote = float(orders.get("remote", AGAIN))
        self.broken = 0.0 if orders else BROKEN
        self.most = memory_limit(self.given["memory"])
        os.environ.update(sent(self.given["sent"]))
        self.key = self._key()
        self.old = self._old(last)
        self.silent: dict[str, dict[str, Any]] = {}
        self.begun = time.time()
        self.written = 0.0
        self.until = time.monotonic() + BUDGET
        self.total = self.count = 0
        self.projects: list[dict[str, Any]] = []
        self.without: list[Without] = []

    def _key(self) -> str:
        """What all results depend on, beside the projects: QGIS, and what it is told."""
        files = (self.given["program"], os.environ.get("PGSERVICEFILE", ""), __file__)
        variables = sorted(item for item in os.environ.items() if item[0] not in OF_A_START)
        told = repr(([signature(file) for file in files], variables, self.given["memory"]))
        return sha256(told.encode(errors="surrogateescape")).hexdigest()

    def _last(self) -> dict[str, Any]:
        """What the look before this one has written."""
        try:
            found = json.loads(self.result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _old(self, last: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
        try:
            if (last["format"], last["key"]) != (FORMAT, self.key):
                return {}
            return {(one["name"], one["path"]): one for one in last["projects"]}
        except (KeyError, TypeError):
            return {}

    def write(self, *, ended: bool = False) -> None:
        now = time.monotonic()
        if not ended and now - self.written < WRITE_EVERY:
            return
        self.written = now
        text = json.dumps(
            {
                "format": FORMAT,
                "key": self.key,
                "begun": self.begun,
                "ended": time.time() if ended else None,
                "orders": self.orders,
                "ignores": ignores_bad_layers(),
                "total": self.total,
                "done": self.count,
                "projects": self.projects,
                "without": [vars(one) for one in self.without],
            }
        )
        beside = self.result.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.result)

    def found(self, passed_over: Collection[str] = ()) -> tuple[list[Address], list[Without]]:
        """The projects that have an address, and those that have none."""
        given, served = self.given, self.addresses
        folders: list[tuple[str, list[Entry]]] = []
        closed = []
        for folder in served["folders"]:
            if folder in passed_over:
                continue
            found, problem = listed(folder, self.most)
            folders.append((folder, found))
            closed += [Without(folder, problem)] if problem else []
        there, without = addresses(
            served["named"], given["project"], given["warm"], folders, served["name"]
        )
        return there, closed + without

    def look(self) -> None:
        there, self.without = self.found()
        # What was known stays known while this goes on.
        self.projects = [self.old.get((one.name, one.path)) or blank(one) for one in there]
        # Those that were never looked at come first, whatever is to be known of the others: the
        # front page waits for them.
        known = {at: there[at] for at, one in enumerate(self.projects) if one["looked"]}
        self.part({at: one for at, one in enumerate(there) if at not in known})
        self.part(known)
        self.write(ended=True)

    def part(self, there: Mapping[int, Address]) -> None:
        """Some of them, by their place in `projects`."""
        waiting = []
        for at, address in there.items():
            record = self.first(address)
            if record["read"]:
                self.projects[at] = record
            else:
                waiting.append((at, record))
        self.total += len(waiting)
        self.write()
        # Of those that it has no time for, others have their turn the next time.
        for at, record in sorted(waiting, key=lambda one: self.projects[one[0]]["looked"]):
            if time.monotonic() > self.until:
                break
            self.projects[at] = self.with_qgis(record)
            self.count += 1
            self.newcomers()
            self.write()

    def newcomers(self) -> None:
        """Projects that came while others are read do not wait for these: hundreds of them take
        minutes, as after an upgrade of QGIS."""
        hanging = {one.path for one in self.without if one.kind == "folder-hangs"}
        known = {(one["name"], one["path"]) for one in self.projects}
        for address in self.found(hanging)[0]:
            if (address.name, address.path) not in known and time.monotonic() < self.until:
                record = self.first(address)
                self.projects.append(record if record["read"] else self.with_qgis(record))

    # ---- One project

    def first(self, address: Address) -> dict[str, Any]:
        """What is known before QGIS is asked; `read`: it need not be."""
        record = blank(address)
        outcome = children.run(lambda send: self.cheap(record, send), STAT, self.most)
        if outcome.end != "done":
            kind = "hangs" if outcome.end == "time" else "crashes"
            problem = Reason(kind, address.path, detail=outcome.end).as_dict()
            return record | {"problems": [problem], "looked": time.time(), "read": True}
        for message in outcome.said:
            record |= message
        return record | {"origin": address.origin}

    def cheap(self, record: dict[str, Any], send: Send) -> None:
        """In a child: all that needs no QGIS."""
        path = record["path"]
        old = self.old.get((record["name"], path), {})
        files = {file: signature(file) for file in old.get("files", {})}
        if not path.startswith("/"):
            if self.is_good(old, files, record["name"]):
                send(old)
            return
        if reason := of_path(path):
            done(send, reason)
            return
        size, changed = os.stat(path).st_size, os.stat(path).st_mtime
        send({"size": size, "changed": changed})
        if not self.folders.has(path):
            done(send, Reason("outside", path, os.path.realpath(path)))
            return
        own = {path, archives.archive_of(path)} - {""}
        files |= {file: signature(file) for file in own}
        if self.is_good(old, files, record["name"]):
            send(old)
        elif refusal := archives.Archives().refusal(path):
            done(send, Reason("archive", path, detail=refusal))
        elif not fresh.is_whole(path):
            done(send, Reason("empty" if size == 0 else "not-whole", path))
        else:
            send({"files": {file: files[file] for file in own}})

    def is_good(self, old: Mapping[str, Any], files: Mapping[str, Any], name: str) -> bool:
        """Is what was known still true?"""
        if not old or not old["read"] or old["files"] != files or name in self.names:
            return False
        age = time.time() - float(old["looked"])
        if old["remote"]:
            return age < (self.broken if old["problems"] else self.remote)
        return age < AGAIN or not any(one["kind"] in BAD for one in old["problems"])

    def with_qgis(self, record: dict[str, Any]) -> dict[str, Any]:
        # QGIS's libraries are loaded here once, and it starts in each child: what it starts, such
        # as threads, does not outlast a fork.
        from . import reading

        path = record["path"]
        outcome = children.run(
            lambda send: reading.look(path, send, self.silent), SECONDS, self.most
        )
        problems = self.take(record, outcome)
        if outcome.end != "done":
            kind = {"time": "hangs", "memory": "memory"}.get(outcome.end, "crashes")
            detail = str(outcome.signal or outcome.end)
            problems.insert(0, Reason(kind, path, detail=detail).as_dict())
            if outcome.end == "time":
                more = children.run(lambda send: reading.causes(path, send), TROUBLES, self.most)
                problems += self.take(record, more)
        elif not any({"problem", "whole", "partly"} & one.keys() for one in outcome.said):
            problems.append(Reason("crashes", path, detail="0").as_dict())
        return record | {"problems": problems, "looked": time.time(), "read": True}

    def take(self, record: dict[str, Any], outcome: Outcome) -> list[dict[str, Any]]:
        """What a child has said of a project."""
        problems = []
        for message in outcome.said:
            if "problem" in message:
                problems.append(message["problem"])
            elif "silent" in message:
                self.silent |= message["silent"]
            elif "files" in message:
                record["files"] |= message["files"]
            elif "title" in message:
                record |= message
        return problems


def main(settings: str, orders: str, result: str) -> None:
    later.install()
    file = Path(result)
    try:
        ordered = json.loads(Path(orders).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        ordered = {}
    try:
        given = json.loads(Path(settings).read_text(encoding="utf-8"))
        Catalogue(given, ordered, file).look()
    except Exception:
        # Should it be the cause, it is not there the next time.
        file.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
