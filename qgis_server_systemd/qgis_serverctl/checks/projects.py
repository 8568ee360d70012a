# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of projects, by what the catalogue says of them: what is wrong in plain words, and what
to do. Nothing follows from words in it that others chose, but that they are shown."""

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from ..config.names import Package
from ..config.settings import Settings
from ..config.values import NAME_WORDS, is_name
from ..pool import catalogue
from ..pool.catalogue import Catalogue, Problem, Project, Without
from ..pool.host import Host
from ..pool.settings import env_variables
from ..system import access
from ..system.access import Obstacle
from ..system.output import Failure, die, printable
from ..units import sandbox
from ..view.look import Look
from .finding import Finding, quoting

PATIENCE = 20.0
"""Seconds that `check` waits for a look at the projects."""

SHOWN = 20
"""Findings of a kind that `check` tells."""

HOST = r"[A-Za-z0-9.:-]{1,253}"
"""A regular expression for a server that may stand in a command."""

TRUE = ("1", "true", "yes", "on", "t", "y")
"""What QGIS takes for true (QVariant::toBool takes all but "", "0" and "false")."""

AWAY = ("missing", "broken-link", "denied", "unreadable", "special")
"""Kinds of problems of a path."""


@dataclass(frozen=True)
class Words:
    """`short`: for a table. `what`, `remedy`: as of a finding."""

    id: str
    short: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Told:
    """A problem of a project."""

    finding: Finding
    layer: str
    short: str


# ---- What is wrong, and what to do


def path_words(package: Package, settings: Settings, problem: Problem, *, noun: str) -> Words:
    """Of a path that workers can't read; `noun`: project or layer."""
    path, part = problem.place, problem.part
    toml = f"{package.etc}/server.toml"
    if noun == "project" and sandbox.is_in(path, sandbox.PRIVATE):
        return Words(
            "project-private",
            "in a private folder",
            "workers have a /tmp of their own, and can't see this project",
            f"move it and change the settings project and warm; {package.command} apply",
        )
    if not sandbox.is_in(path, sandbox.readable(package, settings)):
        folder = os.path.dirname(path)
        return Words(
            f"{noun}-outside",
            "outside of data_folders",
            "workers see nothing of this folder"
            if noun == "project"
            else f"workers see nothing of {folder}",
            f"add the folder to data_folders in {toml}; {package.command} apply",
        )
    if problem.kind == "denied":
        itself = part == path
        return Words(
            f"{noun}-unreadable",
            "not readable",
            f"the workers' user can't {'read' if itself else 'enter'} {part}",
            access.opening(path, Obstacle(part, missing=False)),
        )
    if problem.kind in ("special", "unreadable"):
        return Words(
            f"{noun}-unreadable",
            "no file",
            f"{path} is no file" if problem.kind == "special" else f"{path} can't be read",
            f"ls -l {shlex.quote(path)}",
        )
    if problem.kind == "broken-link":
        return Words(
            f"{noun}-missing",
            "broken link",
            f"{part} is a link to what is not there, or not for workers",
            f"ls -l {shlex.quote(part)}; add the folder to data_folders in {toml} if it is there, "
            f"then {package.command} apply",
        )
    if noun == "project":
        return Words(
            "project-missing",
            "missing",
            "there is no such project"
            if part == path
            else f"there is no such project: {part} is missing",
            f"put it there, or change the settings project, warm and named_projects; "
            f"{package.command} apply",
        )
    return Words(
        "layer-missing",
        "data missing",
        f"{path} is missing" if part == path else f"{path}: {part} is missing",
        "put the data there; or open the project in QGIS, tell it where they are, and save it",
    )


def without_wal(path: str) -> str:
    """As whom the file belongs to: root opens no file that others may have made."""
    if not path.isprintable():
        return "save the project in a file of a plain name"
    file = shlex.quote(path)
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode=DELETE')"
    return f'runuser -u "$(stat -c %U {file})" -- python3 -c "{code}" {file}'


def project_words(package: Package, settings: Settings, problem: Problem) -> Words:
    """Of a project as a whole."""
    kind = problem.kind
    command, toml = package.command, f"{package.etc}/server.toml"
    again = "copy it again, or save it again in QGIS"
    if kind in AWAY:
        return path_words(package, settings, problem, noun="project")
    known = {
        "outside": Words(
            "project-outside", "link out of the folders",
            "the project is a link to where no project is opened",
            f"add the folder that it leads to to data_folders in {toml}; {command} apply",
        ),
        "archive": Words(
            "project-broken", "refused archive", f"the project {problem.detail}",
            "it may be harmful: save it again in QGIS from a project that you trust",
        ),
        "empty": Words("project-broken", "empty", "the file is empty", again),
        "not-whole": Words(
            "project-broken", "not whole", "the file is no whole project", again
        ),
        "wal": Words(
            "project-wal", "left in WAL mode",
            f"{problem.place} is left in SQLite's mode WAL, and workers may not write beside it: "
            "they can't open it",
            without_wal(problem.place),
        ),
        "unloadable": Words(
            "project-broken", "not loadable",
            quoting("QGIS can't load the project", problem.detail), again,
        ),
        "hangs": Words(
            "project-hangs", "hangs", "loading the project takes too long: a worker would hang",
            "see to what its layers wait for; a server or database may be down",
        ),
        "memory": Words(
            "project-memory", "too large",
            "loading the project takes more memory than a worker may have (setting memory_max)",
            f"make the project smaller, or raise memory_max in {toml}; {command} apply",
        ),
        "crashes": Words(
            "project-crashes", "crashes", "loading the project makes QGIS crash",
            "find the layer that does it, by removing layers in a copy of the project",
        ),
    }  # fmt: skip
    return known.get(kind) or Words(
        "project-broken", kind, f"the project has a problem: {kind}", again
    )


def place_of(problem: Problem) -> str:
    """A server in a sentence."""
    host, _, port = problem.place.rpartition(":")
    return f"{host}, port {port}" if host and port.isdigit() else problem.place


def layer_words(package: Package, settings: Settings, problem: Problem) -> Words:
    """Of a layer."""
    kind, place = problem.kind, problem.place
    if kind in AWAY:
        return path_words(package, settings, problem, noun="layer")
    there = place_of(problem)
    file = package.service_file
    correct = f"correct it in {file} and {package.command} apply, or in the project"
    host = place.rpartition(":")[0] if ":" in place else place
    resolves = re.fullmatch(HOST, host) and not host.startswith("-")
    look_up = f"getent hosts {host}" if resolves else "see to its name in the project"
    server = "start that server, or let this machine reach it; else correct it in the project"
    if not settings.network and kind in ("host-unknown", "refused", "silent", "unreachable"):
        toml = f"{package.etc}/server.toml"
        return Words(
            "layer-server", "no network", f"workers may not use the network to ask {there}",
            f"set network = true in {toml}; {package.command} apply",
        )  # fmt: skip
    known = {
        "password": Words(
            "layer-password", "wrong password",
            f"the database at {there} does not accept the user and password", correct,
        ),
        "service-unknown": Words(
            "layer-service", "unknown service",
            f"there is no database service {place}",
            f"add a section [{place}] to {file}; {package.command} apply",
        ),
        "database-missing": Words(
            "layer-database", "no such database",
            f"the server {there} has no database of that name", correct,
        ),
        "database-down": Words(
            "layer-database", "database down", f"the database at {there} does not run",
            "start it: systemctl start postgresql",
        ),
        "database-full": Words(
            "layer-database", "too many connections",
            f"the database at {there} takes no more connections",
            "raise max_connections in postgresql.conf, or have fewer workers",
        ),
        "table-missing": Words(
            "layer-table", "no such table", f"the database has no table {place}",
            "make the table, or choose another one in the project",
        ),
        "table-denied": Words(
            "layer-table", "table not readable",
            f"the database user may not read the table {place}",
            "GRANT SELECT on that table to the database user, and USAGE on its schema",
        ),
        "host-unknown": Words(
            "layer-server", "unknown server", f"no server of the name {place} is known", look_up,
        ),
        "refused": Words(
            "layer-server", "server down", f"the server {there} refuses connections", server,
        ),
        "silent": Words("layer-server", "no answer", f"the server {there} does not answer", server),
        "unreachable": Words(
            "layer-server", "unreachable", f"the server {there} can't be reached", server,
        ),
        "wal": Words(
            "layer-wal", "edits not seen",
            f"{place} is left in SQLite's mode WAL, and workers may not write beside it: they "
            "don't see the edits that lie there",
            without_wal(place),
        ),
        "provider-missing": Words(
            "layer-invalid", "no provider", f"QGIS Server has no provider {place}",
            "install the provider, or use another format",
        ),
    }  # fmt: skip
    return known.get(kind) or Words(
        "layer-invalid",
        "invalid layer",
        quoting("QGIS can't use its data", problem.detail),
        "open the project in QGIS, repair or remove the layer, and save it; "
        f"{package.command} logs --level warning may tell more",
    )


def told(package: Package, settings: Settings, project: Project, *, ignores: bool) -> list[Told]:
    """All problems of a project. `ignores`: QGIS Server serves projects without the layers that
    are broken."""
    found = []
    for problem in project.problems:
        words = (layer_words if problem.layer else project_words)(package, settings, problem)
        served = bool(problem.layer) and (problem.hidden or ignores)
        what = f'layer "{printable(problem.layer)}": {words.what}' if problem.layer else words.what
        severity = "warning" if served else "error"
        finding = Finding(words.id, severity, what, project.path, words.remedy)
        found.append(Told(finding, problem.layer, words.short))
    return found


# ---- What has no address


def plain(stem: str, taken: Collection[str]) -> str:
    """A name that could be served in the place of one that can't."""
    for letters, instead in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        stem = stem.replace(letters, instead).replace(letters.upper(), instead.capitalize())
    ascii = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", ascii).strip("_").lstrip(".-") or "project"
    names = (name if at == 1 else f"{name}_{at}" for at in range(1, 1000))
    return next((one for one in names if one not in taken and is_name(one)), "")


def renamed(path: str, to: str) -> str:
    """The command, or what to do, where a name is not fit for a command."""
    folder = os.path.dirname(path)
    if not path.isprintable() or not to:
        return f"rename it: a name is made of {NAME_WORDS}, and begins with a letter or digit"
    return f"mv -n -- {shlex.quote(path)} {shlex.quote(f'{folder}/{to}')}"


def without_words(package: Package, one: Without, taken: Collection[str]) -> Words:
    path, folder = one.path, os.path.dirname(one.path)
    stem, _, end = os.path.basename(path).rpartition(".")
    prefix = package.projects_prefix
    quoted = shlex.quote(path) if path.isprintable() else "it"
    known: dict[str, Callable[[], Words]] = {
        "name": lambda: Words(
            "project-name", "name",
            f"no project of this name is served below {prefix}: names are made of {NAME_WORDS}, "
            "and begin with a letter or digit",
            renamed(path, f"{plain(stem, taken)}.{end}"),
        ),
        "ending": lambda: Words(
            "project-name", "ending", "only files that end in .qgz or .qgs are served",
            renamed(path, f"{plain(stem, taken)}.{end.lower()}"),
        ),
        "below": lambda: Words(
            "project-below", "one level down",
            "only what is in the folder itself is served, not in a folder in it",
            f"add {printable(folder)} to project_folders in {package.etc}/server.toml; "
            f"{package.command} apply",
        ),
        "hidden": lambda: Words(
            "project-hidden", "hidden", "another project is served by its name",
            f"remove or rename the one that is not wanted; the other one is {printable(one.by)}",
        ),
        "folder": lambda: Words(
            "project-name", "folder", "a folder is no project", f"ls -ld {quoted}",
        ),
        "special": lambda: Words(
            "project-name", "no file", "this is no file", f"ls -ld {quoted}",
        ),
        "broken": lambda: Words(
            "project-missing", "broken link",
            "this is a link to what is not there, or not for workers",
            f"ls -l {quoted}; add the folder to data_folders in {package.etc}/server.toml if it "
            f"is there, then {package.command} apply",
        ),
        "denied": lambda: Words(
            "project-unreadable", "not readable", "workers can't see what this leads to",
            f"namei -l {quoted}",
        ),
        "folder-missing": lambda: Words(
            "folder-missing", "no folder", "there is no such folder (setting project_folders)",
            f"mkdir -p {quoted} && {package.command} restart",
        ),
        "folder-denied": lambda: Words(
            "folder-unreadable", "not readable",
            f"the workers' user {package.user} can't list the projects of this folder",
            f"chmod o+rx {quoted}",
        ),
    }  # fmt: skip
    return known.get(
        one.kind,
        lambda: Words("folder-unreadable", one.kind, "this can't be looked at", f"ls -l {quoted}"),
    )()


def unserved(
    package: Package, settings: Settings, found: Catalogue
) -> list[tuple[Without, Finding]]:
    """What has no address, if the settings have its folder."""
    taken = {one.name for one in found.projects if one.name}
    folders = tuple(folder.rstrip("/") for folder in settings.project_folders)
    result = []
    for one in found.without:
        if not sandbox.is_in(one.path, folders):
            continue
        words = without_words(package, one, taken)
        kind = "error" if words.id.startswith("folder-") else "warning"
        result.append((one, Finding(words.id, kind, words.what, one.path, words.remedy)))
    return result


# ---- For check


def ignores_bad_layers(host: Host) -> bool:
    """Does QGIS Server serve projects without their broken layers?"""
    return env_variables(host).get("QGIS_SERVER_IGNORE_BAD_LAYERS", "").strip().lower() in TRUE


def some(findings: Iterable[Finding], command: str) -> Iterator[Finding]:
    """Of each kind the first ones; the last tells how many more there are."""
    count: Counter[str] = Counter()
    listed = list(findings)
    all_of = Counter(one.id for one in listed)
    for one in listed:
        count[one.id] += 1
        if count[one.id] < SHOWN or all_of[one.id] == SHOWN:
            yield one
        elif count[one.id] == SHOWN:
            left = all_of[one.id] - SHOWN + 1
            yield Finding(one.id, one.severity, f"{left} more of these", "projects",
                          f"{command} projects")  # fmt: skip


def findings(host: Host, settings: Settings, found: Catalogue) -> Iterator[Finding]:
    package = host.package
    ignores = ignores_bad_layers(host)
    for project in catalogue.of_settings(found, settings):
        yield from (one.finding for one in told(package, settings, project, ignores=ignores))
    yield from (finding for _, finding in unserved(package, settings, found))


def check(host: Host, look: Look) -> Iterator[Finding]:
    """By a look at what has changed; it is not waited for for long."""
    settings = look.settings
    if settings is None:
        return
    if look.server.shadows.foreign:
        die("a unit of another pool would be run", hint=f"{host.package.command} adopt")
    done = catalogue.refresh(host, remote=catalogue.REMOTE, patience=PATIENCE)
    if found := catalogue.load(host):
        yield from some(findings(host, settings, found), host.package.command)
    if not done or not found:
        raise Failure(f"they are being looked at; {host.package.command} projects waits for it")
