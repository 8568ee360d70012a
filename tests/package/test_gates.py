# SPDX-License-Identifier: GPL-2.0-or-later
"""What Debian's own tools say of the package, in each suite by that suite's tools."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.paths import TOP
from shared.pool import assert_lintian_finds_nothing
from testbed import Testbed

from qgis_server_systemd import completion
from qgis_server_systemd.build import build
from qgis_server_systemd.qgis_serverctl import cli as server
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.suites import SUITES

HERE = Path(__file__).resolve().parent

# $1 is where, $2 how ls sorts. tmpfs lists a folder's files by the order they were made in.
# /dev/shm is a chroot command's own, and gone with it.
BUILD = """
mkdir -p "$1"
dpkg-source --no-check -x /source/*.dsc /tmp/unpacked >&2
find /tmp/unpacked | sort $2 | sed s,/tmp/unpacked,., >/tmp/names
tar -c -C /tmp/unpacked --no-recursion -T /tmp/names | tar -x -C "$1" --delay-directory-restore
rm -r /tmp/unpacked
cp /source/*.orig.tar.* "$1/.."
cd "$1"
dpkg-buildpackage -us -uc -F >../log 2>&1 || { cat ../log; exit 1; }
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, suite: str) -> list[Path]:
    """The source package for a suite."""
    made = build(tmp_path_factory.mktemp(suite), suite)
    return [file for file in made if ".tar." in file.name or file.suffix == ".dsc"]


@pytest.fixture(scope="module")
def workshop(suite: str, sources: list[Path]) -> Iterator[Testbed]:
    """A tree of the suite, not booted, in which the package was built from its source."""
    with Testbed(suite, tools=True) as bed:
        for file in sources:
            bed.put(file, "/source/")
        bed.chroot("sh", "-ec", BUILD, "build", "/build/source", "")
        yield bed


def binary(workshop: Testbed) -> Path:
    (deb,) = (workshop.root / "build").glob("*_all.deb")
    return deb


@pytest.mark.testing
def test_lintian(workshop: Testbed, suite: str) -> None:
    control = (workshop.root / "build/source/debian/control").read_text()
    assert f"Standards-Version: {SUITES[suite].standards_version}\n" in control
    assert_lintian_finds_nothing(workshop, "/build/*.changes", suite)


@pytest.mark.testing
def test_lintian_of_one_package_for_all_releases(workshop: Testbed, artifacts: list[Path]) -> None:
    for file in artifacts:
        workshop.put(file, "/any/")
    assert_lintian_finds_nothing(workshop, "/any/*.changes", None)


SITE = """
[package]
name = "acme-maps"
binary = "acme-server"
maintainer = "ACME GIS team <gis@acme.example>"
version_suffix = "+acme1"
description = "The maps of ACME, as published on maps.acme.example."
group = "gis"
[nginx]
server_names = ["maps.acme.example"]
[settings]
backlog = 5
[environment]
GDAL_CACHEMAX = 64
[files]
"/var/lib/acme-maps/projects" = "projects"
"/usr/share/acme-maps/import.sql" = "import.sql"
"""


@pytest.mark.parametrize("one", [True, pytest.param(False, marks=pytest.mark.long)])
def test_lintian_of_a_site(workshop: Testbed, suite: str, one: bool, tmp_path: Path) -> None:
    """Made for one release, or for all of them."""
    made_for = suite if one else None
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects/city.qgs").write_text("<qgis/>\n")
    (tmp_path / "import.sql").write_text("SELECT 1;\n")
    (tmp_path / "site.toml").write_text(SITE)
    for file in build(tmp_path / "built", made_for, tmp_path / "site.toml"):
        workshop.put(file, f"/site-{made_for}/")
    assert_lintian_finds_nothing(workshop, f"/site-{made_for}/*.changes", made_for)


def test_maintainer_scripts_with_the_parts_of_debhelper(workshop: Testbed) -> None:
    scripts = "/build/source/debian/qgis-server-systemd/DEBIAN/p*"
    # debhelper calls functions of debconf with and without arguments.
    command = f"shellcheck --external-sources --exclude=SC2119,SC2120 {scripts}"
    done = workshop.chroot("sh", "-c", command, check=False)
    assert done.returncode == 0, done.stdout


def test_each_alarm_fires_with_its_fault_and_else_none_does(workshop: Testbed) -> None:
    for file in ("docs/monitoring/alerts.yml", "tests/shared/alerts_test.yml"):
        workshop.put(TOP / file, "/alerts/")
    workshop.chroot("promtool", "test", "rules", "/alerts/alerts_test.yml")


def test_another_build_gives_the_same_bytes(workshop: Testbed) -> None:
    """Another time, path, locale, time zone, umask, user name and order of files."""
    first = hashlib.sha256(binary(workshop).read_bytes()).hexdigest()
    for number, (order, umask) in enumerate((("", "077"), ("-r", "002"))):
        folder = f"/dev/shm/a folder {number}/source"
        script = f"{BUILD}\nsha256sum ../*_all.deb"
        done = workshop.chroot(
            "faketime", f"203{number + 1}-12-31 23:59:30",
            "sh", "-ec", f"umask {umask}; (\n{script}\n)", "build", folder, order,
            env={"LC_ALL": ("C", "C.UTF-8")[number], "TZ": "Asia/Tokyo", "LOGNAME": "somebody"},
        )  # fmt: skip
        assert done.stdout.split()[0] == first


def test_piuparts(workshop: Testbed, suite: str) -> None:
    with Testbed(suite, tools=True) as bed:
        bed.put(binary(workshop), "/build/")
        bed.put(HERE / "piuparts.sh", "/root/piuparts.sh")
        done = bed.chroot("sh", "/root/piuparts.sh", check=False)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert "PASS: Installation and purging test" in done.stdout
        assert "PASS: Installation, upgrade and purging tests" in done.stdout


def test_autopkgtest(workshop: Testbed, suite: str, sources: list[Path]) -> None:
    with Testbed(suite, tools=True) as bed:
        for file in (*sources, binary(workshop)):
            bed.put(file, "/build/")
        # It updates the package lists, too, which can only fail: let it fail at once.
        (bed.root / "etc/apt/apt.conf.d/99offline").write_text(
            'Acquire { Retries "0"; http::Proxy "http://127.0.0.1:9"; }\n'
        )
        bed.boot()
        # "null" stands for the machine itself. Debian 13's doesn't know that it is a container.
        done = bed.run(
            "sh", "-c", "autopkgtest --ignore-restrictions=isolation-container "
            "/build/*.dsc /build/*.deb -- null 2>&1",
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
        assert re.search(r"^pool +PASS$", done.stdout, re.MULTILINE)


def test_completion_is_installed_and_loads(workshop: Testbed) -> None:
    workshop.chroot("sh", "-ec", "dpkg-deb -x /build/*_all.deb /unpacked")
    share = workshop.root / "unpacked/usr/share"
    bash = share / "bash-completion/completions/qgis-serverctl"
    assert bash.read_text() == completion.script(server.parser(Package()), "bash")
    zsh = "/unpacked/usr/share/zsh/vendor-completions"
    workshop.chroot("zsh", "-n", f"{zsh}/_qgis-serverctl")
    found = workshop.chroot(
        "zsh", "-fc", f"fpath=({zsh} $fpath); autoload -Uz compinit; compinit -u -D;"
        "echo $_comps[qgis-serverctl]",
    )  # fmt: skip
    assert found.stdout.strip() == "_qgis-serverctl"
