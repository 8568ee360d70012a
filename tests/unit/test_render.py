# SPDX-License-Identifier: GPL-2.0-or-later
"""The debian folder, as it is rendered."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from pathlib import Path

import pytest
import stdeb.util
from shared.paths import TOP

from qgis_server_systemd import cli, completion, render
from qgis_server_systemd.qgis_serverctl import cli as server_cli
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import SETTINGS
from qgis_server_systemd.qgis_serverctl.system.output import Failure
from qgis_server_systemd.qgis_variables import VARIABLES


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
        # In Python's own texts, braces are doubled.
        if file.is_file() and file.suffix != ".py":
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


COMMANDS = (cli.parser(), server_cli.parser(Package()))


@pytest.mark.parametrize(
    "parser",
    [each for command in COMMANDS for each in completion.parsers(command)],
    ids=lambda one: one.prog,
)
def test_each_help_begins_with_a_sentence_and_tells_of_each_argument(
    parser: argparse.ArgumentParser,
) -> None:
    usage, sentences, *_ = parser.format_help().split("\n\n")
    assert usage.startswith(f"usage: {parser.prog} ")
    assert re.fullmatch(r"([A-Z][a-z]+ [^\n]*\w\.( |$))+", " ".join(sentences.split()))
    assert [action.dest for action in parser._actions if not action.help] == (
        ["verb"] if parser in COMMANDS else []
    )
