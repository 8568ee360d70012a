# SPDX-License-Identifier: GPL-2.0-or-later
"""Fill in the templates: what they are given, and the tree that comes out."""

import functools
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import jinja2

from . import __version__, completion, documents, quoting
from .qgis_serverctl import cli
from .qgis_serverctl.config.declaration import Declaration, as_toml
from .qgis_serverctl.config.names import POOL, Package
from .qgis_serverctl.config.qgis import REPLY_WAIT
from .qgis_serverctl.config.settings import NAMED_URL, SETTINGS, Settings
from .qgis_serverctl.config.values import MAX_INSTANCES, NAME
from .qgis_serverctl.system.output import die
from .qgis_serverctl.system.unit_file import mount_units
from .qgis_variables import VARIABLES, Variable
from .site import Site
from .sources import HERE, TEMPLATES, mode
from .suites import ANY, Suite

SERVER_SIDE = HERE / "qgis_serverctl"
PLUGIN = HERE / "worker_plugin"

ACTIVE = {"QGIS_SERVER_LOG_STDERR": "1", "QGIS_SERVER_LOG_LEVEL": "1"}
"""The variables that the env file sets; all others stand there commented out."""
PER_REQUEST = {"TZ": ":/etc/localtime"}
"""The same of fastcgi_params, beside HOME; why, their help tells."""


def _groups(variables: Iterable[Variable]) -> Iterator[tuple[str, list[Variable]]]:
    for group, members in groupby(variables, key=attrgetter("group")):
        yield group, list(members)


@functools.cache
def environment(folder: Path | None = None) -> jinja2.Environment:
    """With the templates of a folder, each of which is compiled once."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder) if folder else None,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "comment": quoting.comment,
        "control": quoting.control,
        "environment": quoting.environment,
        "groups": _groups,
        "paragraphs": quoting.paragraphs,
        "parameter": quoting.parameter,
        "mounts": lambda folder: " ".join(mount_units(folder)),
        "toml": as_toml,
        "troff": quoting.troff,
    }
    return env


def _called(text: str, package: Package) -> str:
    """A text of a declaration, whose examples name folders and URLs of the usual pool."""
    text = text.replace(NAMED_URL, f"{package.projects_prefix}/NAME")
    text = text.replace(Package().request_log, package.request_log)
    text = re.sub(rf"(?<=\s){Package().url_prefix}(?=\s)", package.url_prefix, text)
    return re.sub(rf"(?<=/){POOL}(?![\w-])", package.pool, text)


def _variables(package: Package) -> tuple[Variable, ...]:
    return tuple(
        replace(
            one,
            default=_called(one.default, package),
            help=_called(one.help, package),
            example=_called(one.example, package),
        )
        for one in VARIABLES
    )


def _settings(site: Site) -> tuple[Declaration, ...]:
    return tuple(
        replace(
            one,
            default=getattr(site.defaults, one.key),
            help=_called(one.help, site.package),
            example=_called(one.example, site.package),
        )
        for one in SETTINGS
    )


def values(site: Site, suite: Suite = ANY) -> dict[str, object]:
    """What a template may name."""
    package = site.package
    return {
        "package": package,
        # Whose names the documents use.
        "usual": Package(),
        "suite": suite,
        "maintainer": site.identity.maintainer,
        "site": site,
        "settings": _settings(site),
        # The units have these in every package, and drop-ins what differs.
        "defaults": Settings(),
        "project_name": NAME,
        "max_instances": MAX_INSTANCES,
        "reply_wait": REPLY_WAIT,
        "variables": _variables(package),
        "active": {**ACTIVE, **site.environment},
        "active_per_request": PER_REQUEST | {"HOME": package.home} | site.environment_per_request,
        "completion": lambda shell: completion.script(cli.parser(package), shell),
    }


def check_version(changelog: str) -> None:
    """The version has one place, but a changelog is written by hand."""
    version = changelog.partition("(")[2].partition(")")[0]
    if version.rpartition("-")[0] != __version__:
        die(
            f"debian/changelog: the first entry is {version}, but the package is {__version__}",
            hint="add an entry",
        )


def changelog_for(site: Site, suite: Suite, changelog: str) -> str:
    """The newest entry gets the site's maintainer, and the site's and the suite's version
    and distribution. The file in debian/ names neither suite, for tools to read it as it
    is."""
    name, own = site.package.name, site.identity
    changelog = re.sub(rf"^{re.escape(Package().name)} \(", f"{name} (", changelog, flags=re.M)
    end = f"{own.version_suffix}{suite.revision}) {suite.distribution};"
    changelog = re.sub(r"\) \w+;", end, changelog, count=1)
    return re.sub(r"^ -- .*?  ", f" -- {own.maintainer}  ", changelog, count=1, flags=re.M)


def named(template: Path, package: Package) -> Path:
    """Where a template goes: the files in debian/ are called as in the package of the usual
    pool. Only debhelper's, which lie at the top, are called by the package itself."""
    usual = Package()
    names = {
        usual.pool: package.pool,
        usual.slice: package.slice,
        usual.heavy_slice: package.heavy_slice,
    }
    if template.parent == Path():
        names[usual.name] = package.name
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return Path(re.sub(either, lambda found: names[found[0]], str(template)))


def render_debian(target: Path, site: Site | None = None, suite: Suite = ANY) -> None:
    """Write the complete debian/ folder of the source package of a site, or of this
    project's own package, to `target`. A template that comes out empty makes no file.

    Its folder root/ holds each installed file under its path on the server.
    Raises Failure naming the template that can't be rendered.
    """
    site = site or Site()
    package = site.package
    env = environment(TEMPLATES)
    given = values(site, suite)
    for source in sorted(TEMPLATES.rglob("*")):
        if source.is_dir():
            continue
        name = source.relative_to(TEMPLATES)
        try:
            text = env.get_template(name.as_posix()).render(given)
        except (jinja2.TemplateError, UnicodeDecodeError) as error:
            die(f"debian/{name}: {error}")
        if not text.strip():
            continue
        file = target / named(name, package)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode(text))
    changelog = target / "changelog"
    text = changelog.read_text(encoding="utf-8")
    check_version(text)
    changelog.write_text(changelog_for(site, suite, text), encoding="utf-8")
    for page, text in documents.pages(env, package).items():
        (target / f"root{package.share}/status" / page).write_text(text, encoding="utf-8")
    copy_server_side(target, package)
    copy_files(target, site)


def copy_server_side(target: Path, package: Package) -> None:
    """Put the command's modules and the plugin, which no name has to be filled into."""
    shutil.copytree(
        SERVER_SIDE,
        target / "root" / package.share.lstrip("/") / "qgis_serverctl",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    plugin = target / "root" / package.plugins.lstrip("/") / package.plugin
    shutil.copytree(PLUGIN, plugin, ignore=shutil.ignore_patterns("__pycache__"))


def copy_files(target: Path, site: Site) -> None:
    """Put the site's own files. Raises Failure where the package itself has one of that
    name."""
    for path, source in site.files.items():
        file = target / "root" / path.lstrip("/")
        if file.exists() or any(folder.is_file() for folder in file.parents):
            die(f"files.{path}: the package itself has a file there", hint="choose another path")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, file)
        file.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
