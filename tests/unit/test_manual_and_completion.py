# SPDX-License-Identifier: GPL-2.0-or-later
"""Manual pages and completion, as they are made."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import testbed
from shared.paths import SHARED, TOP

from qgis_server_systemd import cli as tool
from qgis_server_systemd import completion, render
from qgis_server_systemd.qgis_serverctl import cli as server
from qgis_server_systemd.qgis_serverctl.commands import debconf
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import SETTINGS
from qgis_server_systemd.qgis_variables import VARIABLES
from qgis_server_systemd.sources import HERE as TOOL
from qgis_server_systemd.suites import SUITES


def test_the_build_tool_knows_the_suites() -> None:
    assert tuple(SUITES) == testbed.SUITES
    versions = ["0.1.0-1" + suite.revision for suite in SUITES.values()] + ["0.1.0-1"]
    for older, newer in pairwise(versions):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


def test_manual_pages_tell_of_each_setting_and_variable(tmp_path: Path) -> None:
    render.render_debian(tmp_path)
    settings = (tmp_path / "qgis-server-settings.5").read_text()
    for setting in SETTINGS:
        assert f"\n.B {setting.key}\n" in settings
    env = (tmp_path / "qgis-server-env.5").read_text()
    for variable in VARIABLES:
        assert f"\n.B {variable.name}\n" in env
    listed = (tmp_path / "qgis-server-systemd.manpages").read_text().split()
    assert sorted(listed) == sorted(f"debian/{page.name}" for page in tmp_path.glob("*.[1-8]"))


def test_text_in_a_manual_page_stays_as_it_is() -> None:
    text = ".profile isn't \\n\n'quoted' --option `x` ^ ~"
    page = '.TH T 5 "" "" ""\n.SH NAME\n.nf\n' + render.environment().filters["troff"](text) + "\n"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-P-c", "-P-b", "-P-u"],
        input=page, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ".profile isn't \\n" in done.stdout
    assert "'quoted' --option `x` ^ ~" in done.stdout


def test_the_manual_page_of_the_build_tool_tells_of_each_option() -> None:
    page = TOOL / "man" / "qgis-server-systemd.1"
    text = page.read_text().replace("\\-", "-")
    verbs = completion.script(tool.parser(), "bash")
    for option in set(re.findall(r"--[a-z-]+", "".join(re.findall(r"_strings=\(.*\)", verbs)))):
        assert option in text or option == "--help"
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
        capture_output=True, text=True,
        env={"MANROFFSEQ": "", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_verbs_of_units_and_scripts_stay_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        server.parser(Package()).parse_args(["nonsense"])
    said = capsys.readouterr().err + server.parser(Package()).format_help()
    assert "status" in said
    assert [verb for verb in server.INTERNAL if verb in re.findall(r"\w+", said)] == []


def test_what_a_verb_does_is_imported_when_it_is_used() -> None:
    """A short command would take half as long again, and the monitor a sixth more memory."""
    look = "import sys, qgis_server_systemd.qgis_serverctl.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=TOP
    )
    rooms = {name.split(".")[2] for name in done.stdout.split() if name.count(".") == 2}
    assert rooms & {"pool", "system"} == {"pool", "system"}
    assert rooms & {"adopt", "checks", "commands", "metrics", "monitor", "reconcile"} == set()


def test_each_verb_does_something() -> None:
    package = Package()
    for parser, verbs in (
        (server.parser(package), {"apply", "status", "top"}),
        (server.internal(package), set(server.INTERNAL)),
    ):
        (choices,) = (one.choices for one in parser._actions if isinstance(one.choices, dict))
        assert verbs <= set(choices)
        for name, verb in choices.items():
            module, function = verb.get_default("run").args
            found = import_module(f"{server.__package__}.{module}")
            assert callable(getattr(found, function)), name
    # The command line names them without importing what asks them.
    (asked,) = (one for one in choices["proposal"]._actions if one.dest == "question")
    assert asked.choices == tuple(debconf.DEFAULTS)


def completed(script: str, command: str, *words: str) -> set[str]:
    """What bash offers after these words."""
    function = f"_shtab_{command.replace('-', '_')}"
    asked = """
    . /dev/stdin
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    "$0"
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-uc", asked, function, command, *words],
        input=script, capture_output=True, text=True, check=True, cwd=SHARED,
    )  # fmt: skip
    assert done.stderr == ""
    return set(done.stdout.split())


def test_completion_in_bash(tmp_path: Path) -> None:
    script = completion.script(server.parser(Package()), "bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert {"apply", "status", "site"} <= completed(script, "qgis-serverctl", "")
    assert completed(script, "qgis-serverctl", "ap") == {"apply"}
    assert completed(script, "qgis-serverctl", "site", "") == {"enable", "disable"}
    options = completed(script, "qgis-serverctl", "apply", "--")
    assert {"--instances", "--dry-run"} <= options
    assert "--maintainer-script" not in options
    # The command itself tells them; one that answers in its place does here.
    asked = tmp_path / "qgis-serverctl"
    asked.write_text(
        '#!/bin/sh\n[ "$*" = "complete instances" ] && echo 1 2 10 || echo city plan\n'
    )
    asked.chmod(0o755)
    here = f'PATH="{tmp_path}:$PATH"\n{script}'
    assert completed(here, "qgis-serverctl", "restart", "--instance", "1") == {"1", "10"}
    assert completed(here, "qgis-serverctl", "drain", "") == {"1", "2", "10"}
    assert completed(here, "qgis-serverctl", "reload", "c") == {"city"}
    files = completed(script, "qgis-serverctl", "site", "enable", "--project", "pool")
    assert files == {"pool.py"}
    done = subprocess.run(
        [sys.executable, "-m", "qgis_server_systemd", "--print-completion", "bash"],
        capture_output=True, text=True, check=True, cwd=SHARED.parent,
    )  # fmt: skip
    verbs = {"build", "render", "init", "validate", "explain", "schema", "publish"}
    assert verbs == completed(done.stdout, "qgis-server-systemd", "")
    assert completed(done.stdout, "qgis-server-systemd", "build", "--suite", "") == {*SUITES, "all"}
    assert completed(done.stdout, "qgis-server-systemd", "explain", "backl") == {"backlog"}
    assert completed(done.stdout, "qgis-server-systemd", "validate", "pool") == {"pool.py"}
