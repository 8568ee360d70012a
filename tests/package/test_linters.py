# SPDX-License-Identifier: GPL-2.0-or-later
"""Linters, run as tests over the sources and over what is rendered and built."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from shared.paths import TOP
from shared.pool import put_package, quick_workers
from testbed import Testbed

from qgis_server_systemd.render import render_debian
from qgis_server_systemd.suites import ANY, SUITES, Suite

SCRIPTS = ("tests/package/piuparts.sh", "tests/trees/corpus/build.sh")


def clean(*command: str, cwd: Path = TOP) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("rendered") / "debian"
    render_debian(target)
    return target


def test_types() -> None:
    clean(sys.executable, "-m", "mypy")


def test_programs_whose_names_do_not_tell_are_linted_too() -> None:
    shown = [sys.executable, "-m", "ruff", "check", "--show-files", "."]
    linted = subprocess.run(shown, cwd=TOP, capture_output=True, text=True, check=True).stdout
    typed = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    root = [file for file in (TOP / "debian/root").rglob("*") if file.is_file()]
    programs = [file for file in root if file.read_text().startswith("#!/usr/bin/python3")]
    programs = [file for file in programs if "{{" not in file.read_text()]  # a template
    assert sorted(file.name for file in programs) == ["backoff", "turn"]
    for program in programs:
        assert str(program) in linted.splitlines()
        assert str(program.relative_to(TOP)) in typed


def test_spelling() -> None:
    clean(sys.executable, "-m", "codespell_lib")


def test_the_command_in_the_package_is_python_too(rendered: Path) -> None:
    program = rendered / "root/usr/sbin/qgis-serverctl"
    clean(sys.executable, "-m", "ruff", "check", "--extend-select", "S", str(program))


def test_maintainer_scripts(rendered: Path) -> None:
    ends = ("*.p*inst", "*.p*rm", "*.config")
    scripts = [str(file) for end in ends for file in rendered.glob(end)]
    assert len(scripts) == 5
    clean("shellcheck", *scripts, str(rendered / "tests" / "pool"), *SCRIPTS)


def test_the_role_for_ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path))
    clean(sys.executable, "-m", "ansiblelint", cwd=TOP / "contrib/ansible")


def test_manual_pages(rendered: Path) -> None:
    pages = [str(page) for page in rendered.glob("*.[1-8]")]
    assert pages
    for page in pages:
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
            capture_output=True,
            text=True,
            env={"MANROFFSEQ": "", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("of", [ANY, *SUITES.values()], ids=lambda of: of.distribution)
def test_every_lintian_override_has_a_reason(of: Suite, tmp_path: Path) -> None:
    render_debian(tmp_path, suite=of)
    files = [*tmp_path.glob("*lintian-overrides")]
    assert files
    for file in files:
        before = ""
        for line in file.read_text().splitlines():
            assert line.startswith("#") or before.startswith("#"), f"{file.name}: {line}"
            before = line


@pytest.mark.testing
def test_units_by_the_systemd_of_each_release(ready: Testbed, package: Path) -> None:
    quick_workers(ready)
    put_package(ready, package)
    ready.boot()
    ready.run("apt-get", "--yes", "install", "--no-install-recommends", "/root/package.deb")
    units = ready.out("dpkg-query", "--listfiles", "qgis-server-systemd").splitlines()
    names = [
        Path(unit).name.replace("@.", "@1.")
        for unit in units
        if unit.startswith("/usr/lib/systemd/system/") and unit.count("/") == 5 and "." in unit
    ]
    names = [name for name in names if not name.endswith(".d")]
    assert len(names) == 20

    def said() -> list[str]:
        done = ready.run("systemd-analyze", "verify", "--man=no", *names, check=False)
        return [line for line in done.stderr.splitlines() if "qgis" in line]

    assert said() == []
    # It reads each of them: a mistake in any is told.
    for name in names:
        kind = name.rpartition(".")[2].capitalize()
        section = "Unit" if kind == "Target" else kind
        folder = ready.root / "etc/systemd/system" / f"{name.replace('@1.', '@.')}.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "zz.conf").write_text(f"[{section}]\nNoSuchThing=1\n")
        # A line for each instance that others name, too.
        told = {line.partition(":")[0] for line in said() if "NoSuchThing" in line}
        assert told == {f"/etc/systemd/system/{folder.name}/zz.conf"}
        (folder / "zz.conf").unlink()
