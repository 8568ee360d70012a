# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the rendered package of a site with the parsers of those who will read it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crossplane

from qgis_server_systemd.identity import Identity
from qgis_server_systemd.qgis_serverctl.front import nginx_config
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.system import environment_file, unit_file
from qgis_server_systemd.qgis_serverctl.units import dropins
from qgis_server_systemd.render import ACTIVE, PER_REQUEST, render_debian
from qgis_server_systemd.site import Site
from qgis_server_systemd.stdeb_commands import lay_over
from qgis_server_systemd.suites import ANY, Suite
from shared.paths import TOP

Shape = dict[str, Any]


def directives(text: str) -> list[dict[str, Any]]:
    """What NGINX makes of a configuration; the names of maps are no directives to it."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        parsed = crossplane.parse(file.name, single=True, check_ctx=False, check_args=False)
    assert parsed["status"] == "ok", parsed["errors"]
    found: list[dict[str, Any]] = parsed["config"][0]["parsed"]
    return found


def _outline(block: list[dict[str, Any]]) -> list[Any]:
    return [(one["directive"], len(one["args"]), _outline(one.get("block", []))) for one in block]


def parameters(text: str) -> dict[str, str]:
    """The values that fastcgi_params sends."""
    sent = directives(text)
    assert {one["directive"] for one in sent} == {"fastcgi_param"}
    assert all(len(one["args"]) == 2 for one in sent)
    # NGINX takes the second backslash away, and crossplane does not.
    return {one["args"][0]: one["args"][1].replace("\\\\", "\\") for one in sent}


def fields(control: str) -> dict[str, str]:
    """The fields of debian/control by dpkg's rules (deb822(5)), of both stanzas."""
    found: dict[str, str] = {}
    for number, stanza in enumerate(re.split(r"\n\n", control.rstrip("\n"))):
        name = ""
        for line in stanza.split("\n"):
            if line.startswith(" "):
                assert line.strip(), "an empty line ends a stanza"
                found[name] += "\n" + line
                continue
            assert re.match(r"[A-Za-z-]+: \S", line), line
            name = f"{number}.{line.partition(':')[0]}"
            assert name not in found
            found[name] = line.partition(": ")[2]
    assert {name[0] for name in found} == {"0", "1"}
    return found


def units(root: Path) -> Iterator[Path]:
    for file in sorted((root / "usr/lib/systemd/system").rglob("*")):
        if file.is_file():
            yield file


def generated(site: Site) -> str:
    """What the server side writes for NGINX at http level."""
    package, settings = site.package, site.defaults
    return nginx_config.http_text(package, settings, [package.socket(1), package.socket(2)])


def shape(debian: Path, site: Site) -> Shape:
    """What readers find, but for the values: no value may change it."""
    root, package = debian / "root", site.package
    found: Shape = {}
    for file in units(root):
        settings = [(section, key) for section, key, _ in unit_file.lines(file.read_text())]
        name = str(file.relative_to(root)).replace(package.pool, "POOL")
        for own, usual in (
            (package.slice, "POOL.slice"),
            (package.heavy_slice, "POOL-heavy.slice"),
        ):
            name = name.replace(own, usual)
        found[name] = settings
    for path in (package.nginx_snippet, package.nginx_request, package.nginx_site):
        found[Path(path).parent.name] = _outline(directives((root / path[1:]).read_text()))
    changelog = (debian / "changelog").read_text().splitlines()
    found["changelog"] = [line[:2] for line in changelog]
    templates = (debian / f"{package.name}.templates").read_text()
    found["templates"] = re.findall(r"^\w+:", templates, re.MULTILINE)
    for script in scripts(debian, site):
        found[script.suffix] = len(script.read_text().splitlines())
    return found


def scripts(debian: Path, site: Site) -> list[Path]:
    ends = ("preinst", "postinst", "prerm", "postrm", "config")
    return [debian / f"{site.package.name}.{end}" for end in ends]


def with_dropins(debian: Path, site: Site) -> Path:
    """A folder with the units as they are on a server: with what the settings change."""
    copies = debian.parent / "units"
    shutil.rmtree(copies, ignore_errors=True)
    shutil.copytree(debian / "root/usr/lib/systemd/system", copies)
    for made in dropins.generated(Host(site.package, debian / "root"), site.defaults, 2):
        dropin = Path(made.file)
        if made.text is not None and dropin.suffix == ".conf":
            (copies / dropin.parent.name).mkdir(exist_ok=True)
            (copies / dropin.parent.name / dropin.name).write_text(made.text)
    return copies


EXPECTED = "is not executable|Failed to parse system call|Unknown system call group"
"""What the units' reader says of programs that aren't here, and of system calls that a
processor or a release doesn't have: it passes over them."""


def complaints(debian: Path, site: Site) -> list[str]:
    """What programs say of the files that they read."""
    said = []
    for script in (*scripts(debian, site), debian / "tests/pool"):
        done = subprocess.run(["sh", "-n", script], capture_output=True, text=True)
        said += done.stderr.splitlines()
    if shutil.which("systemd-analyze"):
        copies = with_dropins(debian, site)
        files = [str(unit) for unit in sorted(copies.iterdir()) if unit.is_file()]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *files],
            capture_output=True, text=True,
        )  # fmt: skip
        said += [line for line in done.stderr.splitlines() if not re.search(EXPECTED, line)]
    for file in (debian / "root").rglob("*.toml"):
        tomllib.loads(file.read_text())
    asked = subprocess.run(
        ["dpkg-parsechangelog", "-l", debian / "changelog"], capture_output=True, text=True
    )
    said += [line for line in asked.stderr.splitlines() if "unknown suite" not in line]
    return said


def check(site: Site, folder: Path, suite: Suite = ANY) -> None:
    """Render a site's package, and look whether each reader finds what the site says."""
    debian = folder / "debian"
    shutil.rmtree(debian, ignore_errors=True)
    render_debian(debian, site, suite)
    assert complaints(debian, site) == []
    package, root = site.package, debian / "root"
    env, lost = environment_file.read((root / f"{package.etc[1:]}/env").read_text())
    assert (env, lost) == ({**ACTIVE, **site.environment}, ())
    sent = parameters((root / f"{package.etc[1:]}/fastcgi_params").read_text())
    assert sent == {**PER_REQUEST, "HOME": package.home, **site.environment_per_request}
    told = fields((debian / "control").read_text())
    assert told["0.Maintainer"] == site.identity.maintainer
    synopsis, _, _ = told["1.Description"].partition("\n")
    assert synopsis.replace("${}", "$") == site.identity.synopsis
    directives(nginx_config.location_text(package, site.defaults))
    directives(nginx_config.server_text(package, site.defaults))
    (project,) = (
        block["block"]
        for block in directives(generated(site))
        if block["args"] == [f"${package.nginx_variable}_project"]
    )
    assert [one["directive"] for one in project] == ["default"]
    assert project[0]["args"][0].replace("\\\\", "\\") == site.defaults.project
    # The same package without what has values of the site's own choice.
    plain = folder / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    names = Identity(name=package.pool, binary=package.name, qgis_binary=package.mapserv)
    bare = Site(names, site.web)
    render_debian(plain, bare, suite)
    assert shape(debian, site) == shape(plain, bare)


def build_quickly(site: Site, folder: Path, suite: Suite = ANY) -> Path:
    """The binary package alone, without stdeb; returns its file."""
    source = folder / "source"
    (source / "debian").mkdir(parents=True)
    lay_over(source / "debian", site, suite)
    (source / "debian/source/format").write_text("3.0 (native)\n")
    shutil.copytree(TOP / "docs", source / "docs")
    done = subprocess.run(
        ["dpkg-buildpackage", "--build=binary", "-us", "-uc"],
        cwd=source, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{site}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    (deb,) = folder.glob(f"{site.package.name}_*_all.deb")
    return deb
