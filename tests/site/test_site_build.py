# SPDX-License-Identifier: GPL-2.0-or-later
"""A site's package, as it is built."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.paths import TOP

from qgis_server_systemd import __version__, cli, lint
from qgis_server_systemd.qgis_serverctl.system.output import Failure
from qgis_server_systemd.suites import SUITES, chosen

SITE = """
[package]
name = "acme-maps"
binary = "acme-server"
maintainer = "ACME Geo-Team Zürich <gis@acme.example>"
version_suffix = "+acme1"
url_prefix = "/maps"
synopsis = "maps for ${Source} and $5"

[files]
"/usr/share/acme/logo.png" = "logo.png"

[settings]
backlog = 5
"""


def is_reachable(path: Path) -> bool:
    """For users other than its owner?"""
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, *path.parents))


def as_somebody(*command: str) -> list[str]:
    """Without a network, and as a user who owns nothing where that can be."""
    if os.geteuid() != 0:
        return ["unshare", "--map-current-user", "--net", *command]
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    reachable = is_reachable(TOP) and is_reachable(Path(sys.executable).resolve())
    return ["unshare", "--net", *(other if reachable else []), *command]


class Workshop:
    """A folder with a site's file, where anybody may build."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "out put"
        self.temporary = folder / "tmp"
        for made in (folder, self.temporary, self.output):
            made.mkdir(exist_ok=True)
            made.chmod(0o777)
        (folder / "site.toml").write_text(SITE)
        (folder / "logo.png").write_bytes(b"\x89PNG\0\xff")
        for file in folder.glob("*.*"):
            file.chmod(0o644)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        python = [sys.executable, "-B", "-m", "qgis_server_systemd", "build"]
        command = as_somebody(*python, "--site", "site.toml", "--output", "out put", *arguments)
        own = {"HOME": "/nonexistent", "PYTHONPATH": str(TOP), "TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            command, cwd=self.folder, text=True, env={"PATH": os.environ["PATH"], **own},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Workshop(Path(folder))


@pytest.fixture(scope="module")
def built(workshop: Workshop) -> list[Path]:
    """For each suite, at the same time."""
    running = [workshop.start("--suite", suite) for suite in SUITES]
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    assert list(workshop.temporary.iterdir()) == []
    return sorted(workshop.output.iterdir())


def test_each_suite_has_its_version(built: list[Path]) -> None:
    names = [file.name for file in built]
    for suite in SUITES.values():
        version = f"{__version__}-1+acme1{suite.revision}"
        (changes,) = (f for f in built if re.search(rf"_{re.escape(version)}_\w+\.changes", f.name))
        text = changes.read_text()
        assert f"\nDistribution: {suite.distribution}\n" in text
        for ending in ("_all.deb", ".dsc", ".debian.tar.xz"):
            assert f"acme-server_{version}{ending}" in names
            assert f" acme-server_{version}{ending}\n" in text
    assert f"acme-server_{__version__}.orig.tar.gz" in names
    assert len(names) == 1 + 5 * len(SUITES)


def test_what_the_package_is(built: list[Path]) -> None:
    deb = next(file for file in built if file.suffix == ".deb")
    fields = ("Package", "Maintainer", "Provides", "Conflicts", "Replaces", "Description")
    said = subprocess.run(
        ["dpkg-deb", "--field", deb, *fields], capture_output=True, text=True, check=True
    )
    found = dict(line.split(": ", 1) for line in said.stdout.splitlines() if line[0] != " ")
    assert found["Package"] == "acme-server"
    assert found["Maintainer"] == "ACME Geo-Team Zürich <gis@acme.example>"
    for field in ("Conflicts", "Replaces"):
        assert found[field] == "acme-maps-systemd"
    assert found["Provides"].startswith("acme-maps-systemd (= ")
    assert found["Description"] == "maps for ${Source} and $5"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "--extract", deb, folder], check=True)
        logo = Path(folder, "usr/share/acme/logo.png")
        assert logo.read_bytes() == b"\x89PNG\0\xff"
        assert Path(folder, "usr/share/acme-maps-systemd/defaults.toml").is_file()
        documents = Path(folder, "usr/share/doc/acme-server")
        assert (documents / "administration.md.gz").is_file()
        names = (documents / "README.Debian").read_text()
        assert re.search(r"^  qgis-serverctl +acme-mapsctl$", names, re.M)


def test_an_interrupted_build_leaves_nothing(workshop: Workshop, built: list[Path]) -> None:
    process = workshop.start("--suite", "all")
    deadline = time.monotonic() + 300
    while not any(workshop.temporary.glob("*/source/deb_dist")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    # unshare and setpriv have become the program itself.
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(workshop.temporary.iterdir()) == []
    assert sorted(workshop.output.iterdir()) == built


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, (None,)),
        (["all"], tuple(SUITES)),
        (["trixie", "bookworm", "trixie"], ("bookworm", "trixie")),
        (["trixie", "all"], tuple(SUITES)),
    ],
)
def test_suites_of_the_command_line(
    names: list[str] | None, expected: tuple[str | None, ...]
) -> None:
    assert chosen(names) == expected


@pytest.fixture
def lintian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that finds what stands in a file beside it."""
    program = tmp_path / "lintian"
    program.write_text(f"#!/bin/sh\ncat '{tmp_path}/tags'\n! grep -q '^E:' '{tmp_path}/tags'\n")
    program.chmod(0o755)
    (tmp_path / "tags").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(lint, "release", lambda: "bookworm")
    return tmp_path / "tags"


@pytest.mark.parametrize("suite", ["bookworm", None])
def test_lintian_is_asked_on_a_machine_of_the_suite(
    lintian: Path, suite: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    lintian.write_text("N: a note\nW: acme: some-tag\n")
    lint.lint(Path("x.changes"), suite)
    assert "warning: lintian: W: acme: some-tag\n" in capsys.readouterr().err
    lintian.write_text("E: acme: bad-tag\n")
    with pytest.raises(Failure, match=r"lintian: x\.changes has errors"):
        lint.lint(Path("x.changes"), suite)


def test_lintian_of_another_release_is_not(
    lintian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lintian.write_text("E: acme: bad-tag\n")
    lint.lint(Path("x.changes"), "trixie")
    assert capsys.readouterr().err.startswith("not linted: ")


def test_the_diff_shows_the_site_alone(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    file = workshop.folder / "site.toml"
    assert cli.main(["render", "--diff", "--site", str(file)]) == 0
    out = capsys.readouterr().out
    assert "# pool: qgis-server -> acme-maps\n" in out
    assert "\n+# Allowed: a number from 1 to 4096. Default: 5.\n" in out
    assert "\n+++ debian/root/usr/share/acme-maps-systemd/defaults.toml\n" in out
    assert "\n+backlog = 5\n" in out
    # What is merely called otherwise is not listed again.
    assert "acme-maps-wake.service" not in out
    assert not Path("rendered").exists()
    assert cli.main(["render", "--diff"]) == 0
    assert capsys.readouterr().out == ""
