# SPDX-License-Identifier: GPL-2.0-or-later
"""The build tool: what it makes, and that it makes it the same every time."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import stdeb.util

from qgis_server_systemd import __version__, cli, render
from qgis_server_systemd.qgis_serverctl.log import Failure
from qgis_server_systemd.qgis_serverctl.settings import SETTINGS
from qgis_server_systemd.qgis_variables import VARIABLES
from qgis_server_systemd.sources import SOURCES

TOP = Path(__file__).resolve().parents[1]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_everything_a_repository_wants(artifacts: list[Path]) -> None:
    version = re.escape(f"{__version__}-1")
    wanted = (
        rf"qgis-server-systemd_{version}_all\.deb",
        rf"qgis-server-systemd_{version}\.dsc",
        rf"qgis-server-systemd_{version}\.debian\.tar\.xz",
        rf"qgis-server-systemd_{re.escape(__version__)}\.orig\.tar\.gz",
        rf"qgis-server-systemd_{version}_\w+\.buildinfo",
        rf"qgis-server-systemd_{version}_\w+\.changes",
    )
    names = sorted(file.name for file in artifacts)
    assert len(names) == len(wanted)
    for pattern in wanted:
        assert sum(bool(re.fullmatch(pattern, name)) for name in names) == 1, pattern
    (changes,) = (file for file in artifacts if file.suffix == ".changes")
    listed = changes.read_text()
    for name in names:
        assert name == changes.name or name in listed


def test_the_documents_are_in_the_package(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    folder = tmp_path / "usr/share/doc/qgis-server-systemd"

    def read(name: str) -> bytes:
        """A file of the folder, compressed or not."""
        packed = folder / f"{name}.gz"
        return (
            gzip.decompress(packed.read_bytes())
            if packed.exists()
            else (folder / name).read_bytes()
        )

    documents = sorted((TOP / "docs").glob("*.md"))
    assert len(documents) > 7
    for file in documents:
        text = read(file.name)
        assert text == file.read_bytes(), file.name
        for link in re.findall(r"\]\(([^:)#]+)", text.decode()):
            assert read(link), f"{file.name}: {link}"
    for name in (listed := re.findall(r"[\w-]+\.md\b", read("README.Debian").decode())):
        assert read(name)
    assert len(listed) > 6


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on a tmpfs, which lists files by the order they were made in."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_setup_py_gives_the_same_bytes_on_another_day_in_another_folder(
    artifacts: list[Path], elsewhere: Path
) -> None:
    elsewhere = elsewhere / "a folder with spaces"
    found = [TOP / name for name in SOURCES]
    found += [file for name in SOURCES for file in (TOP / name).rglob("*")]
    for file in sorted(found, reverse=True):
        if file.is_file() and "__pycache__" not in file.parts:
            copy = elsewhere / file.relative_to(TOP)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    for file in elsewhere.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    done = subprocess.run(
        [sys.executable, "setup.py", "bdist_deb"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        umask=0o077,
        env={**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # The .changes and the .buildinfo tell of the machine and the day.
    for file in artifacts:
        if file.suffix not in (".buildinfo", ".changes"):
            assert digest(elsewhere / "deb_dist" / file.name) == digest(file), file.name


def test_the_extension_point_of_stdeb_is_there() -> None:
    assert inspect.signature(stdeb.util.dpkg_buildpackage)
    assert inspect.getsource(stdeb.util.build_dsc).count("dpkg_buildpackage(") == 1


def test_rules_leave_setup_py_alone() -> None:
    rules = (TOP / "debian" / "rules").read_text()
    code = [line for line in rules.splitlines() if not line.startswith("#")]
    assert not any("setup.py" in line for line in code)


def test_render_writes_the_tree_and_replaces_only_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "tree"
    for _ in range(2):
        assert cli.main(["render", "--output", str(target)]) == 0
    unit = target / "debian/root/usr/lib/systemd/system/qgis-server@.service"
    assert "StandardInput=socket" in unit.read_text()
    assert os.access(target / "debian/rules", os.X_OK)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").touch()
    assert cli.main(["render", "--output", str(other)]) == 1
    assert "holds no earlier output" in capsys.readouterr().err
    assert (other / "mine").exists()


def test_nothing_is_left_unfilled(tmp_path: Path) -> None:
    render.render_debian(tmp_path)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert not re.search(r"\{\{|\{%|\}\}", file.read_text()), file


def test_an_unknown_name_in_a_template_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path / "debian"
    templates.mkdir()
    (templates / "control").write_text("Package: {{ package.nane }}\n")
    monkeypatch.setattr(render, "TEMPLATES", templates)
    with pytest.raises(Failure, match=r"debian/control: .*nane"):
        render.render_debian(tmp_path / "out")


def test_the_changelog_must_know_the_version() -> None:
    with pytest.raises(Failure, match=r"the first entry is 9\.9-1"):
        render.check_version("qgis-server-systemd (9.9-1) unstable; urgency=low\n")


def test_a_missing_tool_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["build", "--output", str(tmp_path / "dist")]) == 1
    assert capsys.readouterr().err == (
        "qgis-server-systemd: not installed: dpkg-buildpackage, dh, dh_python3 "
        "(apt install build-essential debhelper dh-python po-debconf)\n"
    )
    assert not (tmp_path / "dist").exists()


def test_env_names_every_variable_and_sets_two(tmp_path: Path) -> None:
    render.render_debian(tmp_path)
    etc = tmp_path / "root/etc/qgis-server"
    env, request = (etc / "env").read_text(), (etc / "fastcgi_params").read_text()
    for variable in VARIABLES:
        where = request if variable.per_request else env
        assert re.search(rf"^#?(fastcgi_param )?{variable.name}[ =]", where, re.MULTILINE)
    lines = [line for line in env.splitlines() if line and not line.startswith("#")]
    assert lines == ["QGIS_SERVER_LOG_STDERR=1", "QGIS_SERVER_LOG_LEVEL=1"]
    first = re.findall(r"^#?([A-Z_]+)=", env, re.MULTILINE)[:3]
    assert first == ["QGIS_PROJECT_FILE", "QGIS_SERVER_LOG_STDERR", "QGIS_SERVER_LOG_LEVEL"]


def test_the_settings_file_ships_with_every_key_commented_out(tmp_path: Path) -> None:
    import tomllib

    render.render_debian(tmp_path)
    text = (tmp_path / "root/etc/qgis-server/server.toml").read_text()
    assert tomllib.loads(text) == {}
    keys = re.findall(r"^#([a-z_]+) = ", text, re.MULTILINE)
    assert keys == [setting.key for setting in SETTINGS]
