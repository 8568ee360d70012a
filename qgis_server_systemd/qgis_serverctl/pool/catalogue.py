# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of the projects. A sandboxed unit finds it out (``worker_plugin/catalogue``),
since projects may be hostile; so what it writes is read here as a stranger's."""

import json
import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.settings import Settings
from ..config.values import is_name
from ..system.files import read_strangers, write
from ..system.lock import acquire, open_lock
from ..system.output import Failure, die
from . import instances
from .host import Host

FORMAT = 1

MOST_BYTES = 64 << 20
"""Of the file."""

MOST = 5000
"""Projects, and files without an address."""

MOST_PROBLEMS = 300
"""Of a project."""

LONGEST, LONGEST_ABSTRACT, LONGEST_PATH = 500, 5000, 10_000
"""Characters of a text."""

SERVICES = ("WMS", "WMTS", "WFS", "WCS", "OGC API Features")

SOON, LATER = 0.1, 1.0
"""Seconds between the first two looks at how far it is, and the most between two later ones."""

REMOTE = 600.0
"""Seconds for which `check` takes what depends on servers for unchanged, if it was in order."""


@dataclass(frozen=True)
class Problem:
    """`layer`: its name, empty for the project as a whole. `hidden`: that layer is not for WMS, so
    QGIS Server serves the project without it. `kind`, `place`, `part`, `detail`: as in
    worker_plugin/catalogue/sources.py."""

    kind: str
    layer: str = ""
    hidden: bool = False
    place: str = ""
    part: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Project:
    """`name`: in the URL, empty for the one of the setting project; None for one that is only
    loaded in advance. `changed`, `looked`: seconds since 1970; `looked` is 0 if it was never
    looked at."""

    name: str | None
    path: str
    size: int | None
    changed: float | None
    looked: float
    title: str
    abstract: str
    services: tuple[str, ...]
    layers: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Without:
    """A file that has no address: `kind` tells why, `by` what hides it."""

    path: str
    kind: str
    by: str


@dataclass(frozen=True)
class Catalogue:
    """`ended`: None while a look is under way, of which `done` of `total` projects are read.
    `orders`: the id of those that it has followed."""

    begun: float
    ended: float | None
    done: int
    total: int
    projects: tuple[Project, ...]
    without: tuple[Without, ...]
    orders: str = ""


# ---- Reading a stranger's file


def text(value: object, longest: int = LONGEST) -> str:
    """Raises ValueError for what is none."""
    if not isinstance(value, str):
        raise ValueError
    return value[:longest]


def number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def several(value: object, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return value[:most]


def _problem(given: dict[str, Any]) -> Problem:
    return Problem(
        kind=text(given["kind"]),
        layer=text(given.get("layer", "")),
        hidden=given.get("hidden") is True,
        place=text(given["place"], LONGEST_PATH),
        part=text(given["part"], LONGEST_PATH),
        detail=text(given["detail"]),
    )


def _project(given: dict[str, Any]) -> Project:
    size, changed = given["size"], given["changed"]
    offered = several(given["services"], len(SERVICES))
    name = text(given["name"])
    if name and not is_name(name):
        raise ValueError
    return Project(
        name=None if given["origin"] == "warm" else name,
        path=text(given["path"], LONGEST_PATH),
        size=None if size is None else int(number(size)),
        changed=None if changed is None else number(changed),
        looked=number(given["looked"]),
        title=text(given["title"]),
        abstract=text(given["abstract"], LONGEST_ABSTRACT),
        services=tuple(one for one in SERVICES if one in offered),
        layers=int(number(given["layers"])),
        problems=tuple(map(_problem, several(given["problems"], MOST_PROBLEMS))),
    )


def _without(given: dict[str, Any]) -> Without:
    path, by = (text(given[key], LONGEST_PATH) for key in ("path", "by"))
    return Without(path, text(given["kind"]), by)


def parse(content: bytes) -> Catalogue:
    """Raises ValueError for anything else than what the unit writes."""
    try:
        given = json.loads(content.decode())
        if given["format"] != FORMAT:
            raise ValueError
        ended = given["ended"]
        return Catalogue(
            begun=number(given["begun"]),
            ended=None if ended is None else number(ended),
            done=int(number(given["done"])),
            total=int(number(given["total"])),
            projects=tuple(map(_project, several(given["projects"], MOST))),
            without=tuple(map(_without, several(given["without"], MOST))),
            orders=text(given.get("orders", "")),
        )
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError from error


def has_address(settings: Settings, project: Project) -> bool:
    """Is it a project of these settings, by its name and path?"""
    if project.name is None:
        return project.path in settings.warmed
    if not project.name:
        return project.path == settings.project
    if project.name in settings.named:
        return project.path == settings.named[project.name]
    folder, _, file = project.path.rpartition("/")
    tops = {top.rstrip("/") for top in settings.project_folders}
    return folder in tops and file in (f"{project.name}.qgz", f"{project.name}.qgs")


def load(host: Host) -> Catalogue | None:
    """What was found last; None if there never was a look. Raises Failure."""
    file = host.path(host.package.catalogue)
    try:
        content = read_strangers(file, MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        die(f"{file}: {error.strerror}", hint=f"rm {file}")
    try:
        if len(content) > MOST_BYTES:
            raise ValueError
        return parse(content)
    except ValueError:
        die(f"{file}: is not what the look at the projects writes", hint=f"rm {file}")


# ---- Having it made


def states(host: Host) -> dict[str, str]:
    unit = host.package.catalogue_unit
    return host.show(unit, "ActiveState", "Job", "Result", "ExecMainStatus", "LoadState")


def is_under_way(shown: dict[str, str]) -> bool:
    return shown.get("ActiveState") not in instances.ENDED or bool(shown.get("Job", "0").strip("0"))


def _wait(host: Host, deadline: float, tell: Callable[[], None]) -> dict[str, str] | None:
    """Until no look is under way; None if it takes too long."""
    pause = SOON
    while is_under_way(shown := states(host)):
        if time.monotonic() > deadline:
            return None
        tell()
        time.sleep(pause)
        pause = min(2 * pause, LATER)
    return shown


def refresh(
    host: Host,
    *,
    names: Iterable[str] = (),
    remote: float = 0.0,
    patience: float = math.inf,
    tell: Callable[[], None] = lambda: None,
) -> bool:
    """Have the projects looked at. False if that takes longer than `patience` seconds, and goes
    on. `names`: of projects that are to be read whatever is known of them. `remote`: seconds for
    which what depends on servers is good. `tell` is called while it goes on. Raises Failure."""
    # A snapshot would see no progress.
    host = Host(host.package, host.root)
    deadline = time.monotonic() + patience
    with open_lock(host.path(f"{host.package.run}/catalogue.lock")) as file:
        waiting = None if patience < math.inf else lambda: None
        if not acquire(file, waiting) or _wait(host, deadline, tell) is None:
            return False
        # They count once: other looks are made without any.
        number = secrets.token_hex(8)
        orders = {"id": number, "names": sorted(names), "remote": remote}
        write(host.path(host.package.catalogue_orders), json.dumps(orders) + "\n")
        # A look that the front page had begun just before knows nothing of them.
        for _ in range(2):
            host.systemctl("start", "--no-block", host.package.catalogue_unit)
            shown = _wait(host, deadline, tell)
            if shown is None:
                return False
            if shown.get("ActiveState") == "failed":
                _fail(host, shown)
            found = load(host)
            if found and found.orders == number:
                break
    return True


def _fail(host: Host, shown: dict[str, str]) -> None:
    unit = host.package.catalogue_unit
    raise Failure(
        f"{unit}: the look at the projects has ended ({shown.get('Result')}, "
        f"status {shown.get('ExecMainStatus')})",
        f"journalctl --unit={unit}",
    )


def of_settings(found: Catalogue, settings: Settings) -> Sequence[Project]:
    """Those projects that the settings give an address to, or load in advance."""
    return [one for one in found.projects if has_address(settings, one)]
