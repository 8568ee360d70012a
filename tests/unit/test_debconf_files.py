# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions of debconf, as the package's files have them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.values import MAX_INSTANCES
from qgis_server_systemd.render import render_debian

NAME = "qgis-server-systemd"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("rendered") / "debian"
    render_debian(target)
    return target


@pytest.mark.parametrize("language", ["de", "fr"])
def test_translations_are_complete(rendered: Path, language: str) -> None:
    file = rendered / "po" / f"{language}.po"
    done = subprocess.run(
        ["msgfmt", "--check", "--statistics", "--output-file=/dev/null", str(file)],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, "8 translated messages.\n")


def test_translations_are_of_the_present_questions(rendered: Path) -> None:
    before = {file.name: file.read_text() for file in (rendered / "po").glob("*.po*")}
    subprocess.run(["debconf-updatepo"], cwd=rendered, check=True)
    for name, text in before.items():
        now = (rendered / "po" / name).read_text()
        undated = [re.sub(r'"(POT-Creation|PO-Revision)-Date.*', "", t) for t in (text, now)]
        assert undated[0] == undated[1], name


def test_questions_name_what_the_package_has(rendered: Path) -> None:
    text = (rendered / f"{NAME}.templates").read_text()
    package = Package()
    assert text.count(f"1 to {MAX_INSTANCES}") == 2
    assert f" {package.url_prefix} " in text
    assert f"{package.etc}/server.toml" in text
    assert f'"{package.command} site enable"' in text
