# SPDX-License-Identifier: GPL-2.0-or-later
"""What the targets of the Makefile install: what each of them needs, and only once."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import prepare
import pytest
from shared.paths import TOP

PYPROJECT = (TOP / "pyproject.toml").read_text()
CONTAINERS = {"mmdebstrap", "systemd-container"}


def test_each_target_of_the_makefile_that_prepares_is_known() -> None:
    makefile = (TOP / "Makefile").read_text()
    assert set(re.findall(r"tests/prepare\.py (\S+)", makefile)) == set(prepare.NEEDED)


def test_each_extra_is_somebodys() -> None:
    extras = tomllib.loads(PYPROJECT)["project"]["optional-dependencies"]
    assert {extra for needs in prepare.NEEDED.values() for extra in needs.extras} == set(extras)
    assert set(prepare.NEEDED["test"].extras) == set(extras)


def test_a_target_needs_no_more_than_it_uses() -> None:
    needed = prepare.NEEDED
    assert needed["deb"].extras == ()
    assert not CONTAINERS & {*needed["deb"].debian, *needed["dist"].debian, *needed["unit"].debian}
    assert "debhelper" not in needed["unit"].debian
    assert "ansible" not in needed["unit"].extras
    assert {*needed["test"].debian} >= CONTAINERS
    assert {*needed["test"].debian} < {*needed["test-all"].debian}


class Folder:
    """A project whose steps are noted instead of taken."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.steps: list[list[str]] = []
        self.write(PYPROJECT)
        monkeypatch.setattr(prepare, "TOP", path)
        monkeypatch.setattr(prepare, "VENV", path / ".venv")
        monkeypatch.setattr(subprocess, "run", self.step)

    def write(self, pyproject: str) -> None:
        (self.path / "pyproject.toml").write_text(pyproject)

    def step(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        (self.path / ".venv").mkdir(exist_ok=True)
        self.steps.append(command)
        return subprocess.CompletedProcess(command, 0)

    def make(self, target: str) -> list[list[str]]:
        """The steps of a target."""
        self.steps = []
        prepare.install_python(prepare.NEEDED[target].extras)
        return self.steps


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(tmp_path, monkeypatch)


def test_targets_in_turn_install_once(folder: Folder) -> None:
    for target in ("deb", "unit", "dist", "test"):
        venv, pip = folder.make(target)
        assert "--clear" in venv
        assert "--editable" in pip
        for again in (target, "deb", "demo"):
            assert folder.make(again) == []
    assert pip[-1] == f"{folder.path}[ansible,bench,dist,test]"
    for target in prepare.NEEDED:
        assert folder.make(target) == []
    folder.write(PYPROJECT + "# Newer.\n")
    _, pip = folder.make("deb")
    assert pip[-1] == f"{folder.path}[ansible,bench,dist,test]"
    assert folder.make("test") == []


def test_a_failed_step_is_taken_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(subprocess, "run", lambda step: subprocess.CompletedProcess(step, 1))
        with pytest.raises(SystemExit, match=r"prepare: failed: .* -m venv"):
            folder.make("deb")
    assert len(folder.make("deb")) == 2


@pytest.mark.parametrize("debians", [True, False])
def test_packages_of_debian_serve_its_own_python_alone(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    debians: bool,
) -> None:
    monkeypatch.setattr(prepare, "DEBIANS", debians)
    venv, pip = folder.make("deb")
    assert ("--system-site-packages" in venv) == ("--no-build-isolation" in pip) == debians
    rest = (
        ""
        if debians
        else "jinja2>=3.1, markdown-it-py>=2.1, python-debian>=0.1.49, setuptools>=64, "
    )
    told = f"prepare: installing into .venv from PyPI: {rest}shtab==1.13.0, stdeb==0.11.*\n"
    assert capsys.readouterr().out == told
    # Tests are run with none of them.
    venv, pip = folder.make("test")
    assert "--system-site-packages" not in venv
    assert "--no-build-isolation" not in pip
