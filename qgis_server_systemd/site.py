# SPDX-License-Identifier: GPL-2.0-or-later
"""``site.toml``: what an organisation wants of its package."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from .identity import PATH, Identity, Web
from .qgis_serverctl.config.declaration import Declaration, as_toml, declarations, nearest
from .qgis_serverctl.config.names import Package
from .qgis_serverctl.config.settings import SETTINGS, Settings
from .qgis_serverctl.config.values import text
from .qgis_serverctl.system.output import Failure, die
from .qgis_variables import NOT_OFFERED, VARIABLES
from .toml_lines import line_of

FILE = "site.toml"

FOLDERS = ("/etc/", "/usr/", "/var/lib/")
"""Where a package may put files, of those that it makes sense for (Debian Policy 9.1)."""


@dataclass(frozen=True)
class Table:
    """A part of the file. `known`: its keys; none where they are free, as the file's
    author calls them."""

    name: str
    help: str
    known: tuple[Declaration, ...] = ()


TABLES = (
    Table("package", "What the package is called, and what it needs.", declarations(Identity)),
    Table("nginx", "The ready site of NGINX.", declarations(Web)),
    Table(
        "settings",
        "Settings of the pool, which each server's server.toml may overrule.",
        SETTINGS,
    ),
    Table(
        "environment",
        "Variables of QGIS Server, GDAL and PROJ, for the files env and fastcgi_params.\n"
        "Those files are the administrator's to change on each server.",
    ),
    Table(
        "files",
        "Files that the package brings: where to on the server = the file or folder here,\n"
        "beside this file. What is executable stays so.",
    ),
)


@dataclass(frozen=True)
class Site:
    """`settings`: those that the file sets. `files`: where to on the server, and the file
    here that goes there."""

    identity: Identity = Identity()
    web: Web = Web()
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def package(self) -> Package:
        """The names and paths."""
        own = self.identity
        usual = Package.of(own.name)

        def chosen(value: str, otherwise: str) -> str:
            return otherwise if value == "auto" else value

        user = chosen(own.user, usual.user)
        return Package(
            name=chosen(own.binary, usual.name),
            pool=own.name,
            user=user,
            group=chosen(own.group, user),
            mapserv=own.qgis_binary,
            url_prefix=chosen(own.url_prefix, usual.url_prefix),
            projects_prefix=chosen(own.projects_prefix, usual.projects_prefix),
            sockets=own.sockets,
        )

    @property
    def depends(self) -> tuple[str, ...]:
        """Its dependencies, but for those that debhelper finds."""
        own = self.identity
        qgis = (own.qgis_package,) if own.qgis_package else ()
        return (
            "python3 (>= 3.11)",
            "python3-prometheus-client",
            *qgis,
            "systemd (>= 252)",
            *own.depends,
        )

    @property
    def environment_per_request(self) -> dict[str, str]:
        """The variables that NGINX has to send. The workers have these, too: libraries may
        also look them up when they start."""
        asked = {one.name for one in VARIABLES if one.per_request}
        return {name: value for name, value in self.environment.items() if name in asked}

    @property
    def environment_of_its_own(self) -> dict[str, str]:
        """The variables that the env file has no place for otherwise."""
        placed = {one.name for one in VARIABLES if not one.per_request}
        return {name: value for name, value in self.environment.items() if name not in placed}

    @property
    def shipped(self) -> dict[str, Any]:
        """The settings that the package has other defaults for than this project. A default
        that names a folder of the usual pool is such a one for another pool."""
        usual, own = f"{Package().data}/", f"{self.package.data}/"
        moved = {
            one.key: tuple(item.replace(usual, own) for item in one.default)
            for one in SETTINGS
            if isinstance(one.default, tuple) and usual != own
        }
        changed = {key: value for key, value in moved.items() if value != getattr(Settings, key)}
        return changed | dict(self.settings)

    @property
    def defaults(self) -> Settings:
        """What holds on a server whose administrator sets nothing."""
        return Settings(**self.shipped)


@dataclass(frozen=True)
class Mistake:
    """`key` has its table's name before it."""

    file: str
    line: int
    key: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}: {self.what}{hint}"


class _Reader:
    """Goes through a file, and notes whatever is wrong."""

    def __init__(self, file: Path, source: str) -> None:
        self.file, self.source = file, source
        self.mistakes: list[Mistake] = []

    def note(self, path: tuple[str, ...], what: str, hint: str = "") -> None:
        line = line_of(self.source, path)
        self.mistakes.append(Mistake(str(self.file), line, ".".join(path), what, hint))

    def table(self, values: Mapping[str, Any], name: str) -> dict[str, Any]:
        found = values.get(name, {})
        if isinstance(found, dict):
            return found
        self.note((name,), f"{name} = {_shown(found)} is not a table", f"write [{name}]")
        return {}

    def declared(self, values: Mapping[str, Any], table: Table) -> dict[str, Any]:
        """The checked values of a table whose keys are known."""
        known = {one.key: one for one in table.known}
        found = {}
        for key, value in self.table(values, table.name).items():
            path = (table.name, key)
            if key not in known:
                self.note(path, f"unknown key {table.name}.{_plain(key)}", _nearest(key, table))
                continue
            try:
                found[key] = known[key].parse(value)
            except ValueError as error:
                self.note(
                    path, _refusal(".".join(path), value, known[key].allowed), _short(str(error))
                )
        return found

    def environment(self, values: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for name, value in self.table(values, "environment").items():
            try:
                found[name] = variable(name, value)
            except ValueError as error:
                path = f"environment.{_plain(name)}"
                self.note(("environment", name), f"{path} = {_shown(value)}: {error}")
        return found

    def files(self, values: Mapping[str, Any]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for target, source in self.table(values, "files").items():
            try:
                found |= dict(_placed(target, source, self.file.parent))
            except ValueError as error:
                path = f"files.{_plain(target)}"
                self.note(("files", target), f"{path} = {_shown(source)}: {error}")
        return found


def _shown(value: object) -> str:
    """A value in a message: in one line that is not too long, and prints."""
    return _short(as_toml(value))


def _short(text: str) -> str:
    printed = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return printed if len(printed) <= 120 else printed[:117] + "..."


def _plain(key: str) -> str:
    """A key of the author's own in a message."""
    return key if re.fullmatch(r"[A-Za-z0-9_/.-]{1,60}", key) else _shown(key)


def _refusal(key: str, value: object, allowed: str) -> str:
    return f"{key} = {_shown(value)} is not {allowed}"


def _nearest(key: str, table: Table) -> str:
    """The key that may have been meant, also one of another table."""
    for other in TABLES:
        if other != table and key in (one.key for one in other.known):
            return f"it belongs to [{other.name}]"
    return nearest(key, (one.key for one in table.known))


def variable(name: str, value: object) -> str:
    """The text of a variable. Raises ValueError with the reason that it can't be one."""
    known = {one.name: one for one in VARIABLES}
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
        raise ValueError("no name of a variable: letters, digits and _ alone")
    if name in NOT_OFFERED:
        raise ValueError("no site should set this variable")
    if name not in known and name.upper().startswith(("QGIS_", "GDAL_", "PROJ_")):
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(f"unknown variable{f' (did you mean {near[0]}?)' if near else ''}")
    if isinstance(value, bool):
        value = "1" if value else "0"
    elif isinstance(value, int | float):
        value = str(value)
    try:
        found = text(value)
    except ValueError as error:
        raise ValueError(str(error) or "a variable is a text or a number") from error
    if found != found.strip():
        raise ValueError("it begins or ends with a space")
    if name in known and known[name].per_request and "$" in found:
        raise ValueError("NGINX sends this one, and would take what comes after $ for a variable")
    return found


_LEFT_OUT = re.compile(r"\.(a|la|o|so)(/|$)|/(CVS|RCS|DEADJOE|_MTN|_darcs)(/|$)")


def _server_path(path: str) -> None:
    """Raises ValueError for what no file of a package can be called."""
    PATH(path)
    if _LEFT_OUT.search(path):
        raise ValueError("dpkg-source leaves files of such names out (dpkg-source(1), -I)")


def _placed(target: str, source: object, beside: Path) -> Iterator[tuple[str, Path]]:
    """Each file and where it goes. Raises ValueError."""
    try:
        _server_path(target)
    except ValueError as error:
        raise ValueError(f"no path on a server: {error}") from error
    if not target.startswith(FOLDERS) or target.startswith("/usr/local/"):
        raise ValueError(f"a package puts files below {', '.join(FOLDERS)} alone")
    if not isinstance(source, str) or "\0" in source:
        raise ValueError("the file here is named by a path")
    here = beside / source
    if here.resolve() == beside.resolve() or not here.resolve().is_relative_to(beside.resolve()):
        raise ValueError("the file here is named by a path below the folder of this file")
    if not here.exists():
        raise ValueError(f"there is no file {_shown(str(here))[1:-1]}")
    if not here.is_dir():
        yield target, here
        return
    for file in sorted(here.rglob("*")):
        if file.is_file():
            inner = f"{target}/{PurePosixPath(file.relative_to(here))}"
            try:
                _server_path(inner)
            except ValueError as error:
                raise ValueError(f"{_shown(str(file.relative_to(here)))} in it: {error}") from error
            yield inner, file


def examine(file: Path) -> tuple[Site, tuple[Mistake, ...]]:
    """The site, as far as the file is right, and all mistakes in it. Raises Failure where
    it can't be read at all."""
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        die(f"{file}: can't be read: {reason}", hint="qgis-server-systemd init writes one")
    try:
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        at = int(line[1]) if line else source.count("\n") + 1
        return Site(), (Mistake(str(file), at, "", str(error)),)
    reader = _Reader(file, source)
    names = [table.name for table in TABLES]
    for name, value in values.items():
        if name not in names:
            reader.note((name,), f"unknown {_kind(value)} {_plain(name)}", _home(name, names))
    package, nginx, settings, *_ = TABLES
    site = Site(
        Identity(**reader.declared(values, package)),
        Web(**reader.declared(values, nginx)),
        reader.declared(values, settings),
        reader.environment(values),
        reader.files(values),
    )
    for path, what, hint in _contradictions(site):
        reader.note(path, what, hint)
    return site, tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line))


def _kind(value: object) -> str:
    return "table" if isinstance(value, dict) else "key"


def _home(name: str, names: list[str]) -> str:
    for table in TABLES:
        if name in (one.key for one in table.known):
            return f"it belongs to [{table.name}]"
    return nearest(name, names)


def _contradictions(site: Site) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """What is wrong with values that are right each for itself."""
    own, web, package = site.identity, site.web, site.package
    if package.name == Package().name and own.name != Package().pool:
        yield (
            ("package", "binary"),
            f"package.binary = {as_toml(own.binary)} is the package of the pool {Package().pool}",
            "an upgrade of that one would give up its pool",
        )
    if web.tls_certificate and not (web.tls_key and web.server_names):
        key = ("nginx", "tls_certificate")
        yield key, "nginx.tls_certificate needs nginx.tls_key and nginx.server_names", ""
    if web.tls_key and not web.tls_certificate:
        yield ("nginx", "tls_key"), "nginx.tls_key needs nginx.tls_certificate", ""
    one, two = package.url_prefix, package.projects_prefix
    if f"{two}/".startswith(f"{one}/") or one.startswith(f"{two}/"):
        what = f"package.url_prefix {one} and package.projects_prefix {two} are not apart"
        yield ("package", "projects_prefix"), what, ""
    limits = site.defaults
    if limits.stop_timeout <= limits.request_timeout:
        yield (
            ("settings", "kill_timeout"),
            f"settings.kill_timeout = {limits.kill_timeout} is not above "
            f"request_timeout = {limits.request_timeout}",
            "a request would be tried again while the first worker still has it",
        )
    for target in site.files:
        if target.startswith((f"{package.share}/", f"{package.plugins}/{package.plugin}/")):
            yield ("files", target), f"files.{target}: is the package's own folder", ""


def load(file: Path | None) -> Site:
    """The site that a file describes; without a file, that of this project. Raises
    Failure, naming the first mistake."""
    if file is None:
        return Site()
    site, mistakes = examine(file)
    if mistakes:
        refuse(file, mistakes)
    return site


def refuse(file: Path, mistakes: tuple[Mistake, ...]) -> NoReturn:
    """Raise Failure for a file with mistakes."""
    more = len(mistakes) - 1
    tail = f"; {more} more: qgis-server-systemd validate {file}" if more else ""
    raise Failure(f"{mistakes[0]}{tail}")
