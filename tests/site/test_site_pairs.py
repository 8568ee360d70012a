# SPDX-License-Identifier: GPL-2.0-or-later
"""Each pair of settings of a site gives a package that can be built, and no value breaks
a file."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shared.site_cases import CASES, DECLARED, put, text_of
from shared.site_checks import build_quickly, check, complaints

from qgis_server_systemd.render import render_debian
from qgis_server_systemd.schema import site_schema
from qgis_server_systemd.site import Site, examine, load
from qgis_server_systemd.suites import ANY, SUITES


def test_every_setting_is_in_a_case() -> None:
    assert {key for case in CASES for key in case} >= set(DECLARED)
    assert len(CASES) < 40


@pytest.mark.parametrize("number", range(len(CASES)))
def test_each_pair_is_rendered(number: int, tmp_path: Path) -> None:
    case = dict(CASES[number])
    suite = SUITES.get(case.pop("suite"), ANY)
    file = put(case, tmp_path)
    jsonschema.validate(tomllib.loads(file.read_text()), site_schema())
    check(load(file), tmp_path, suite)


def when(number: int) -> tuple[pytest.MarkDecorator, ...]:
    """Each build takes seconds: a few of them each time, and all with --all."""
    return (pytest.mark.long,) if number % 6 else ()


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=when(number)) for number in range(len(CASES))]
)
def test_each_pair_is_built(number: int, tmp_path: Path) -> None:
    case = CASES[number]
    site = load(put(case, tmp_path))
    deb = build_quickly(site, tmp_path / "build", SUITES.get(case["suite"], ANY))
    listed = subprocess.run(
        ["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True
    )
    names = {line.split()[5][1:] for line in listed.stdout.splitlines()}
    assert names >= {*site.files, f"/usr/sbin/{site.package.command}"}


def test_a_mistake_in_what_settings_change_in_units_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "qgis_server_systemd.qgis_serverctl.units.sandbox.lines", lambda *_, **__: ["X=1"]
    )
    render_debian(tmp_path / "debian")
    (said,) = complaints(tmp_path / "debian", Site())
    assert "10-settings.conf:3: Unknown key" in said


# ---- Hostile values

NASTY = (
    "\n", "\r", "\0", "\t", "\x7f", "\x85", "\u2028", "\ufeff", '"', "'", "\\", "`", "$", "$(id)",
    "${x}", "${misc:Depends}", "%", "%i", "%%", ";", "}", "{", "{{", "{%", "#", "#}", " ", "  ",
    "=", "&", "|", "<", ">", "*", "[", "]", "..", "/", "/../", "-", ".", ",", "ü", "漢", "x" * 400,
    "\n[Service]\n", "\nExecStart=/bin/x\n", '";\nreturn 200;\n"', "EOF", "\\\n", "!",
)  # fmt: skip
WORDS = st.one_of(
    st.lists(st.sampled_from((*NASTY, "a", "acme", "1", "G", "/srv/x")), max_size=5).map("".join),
    st.text(max_size=12),
)
STARTS = ("", "/", "acme-", "ACME <gis@acme.example>", "https://", "/srv/qgis/", "qgis")
KEYS = sorted(
    (key for key, one in DECLARED.items() if one.kind is not int),
)


def is_refused(told: list[str]) -> bool:
    """With a line that tells why."""
    for line in told:
        assert line.isprintable(), line
        assert len(line) < 700
    return bool(told)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@given(
    st.sampled_from([*KEYS, "environment.ACME", "environment.GDAL_CACHEMAX", "files./etc/x"]),
    st.sampled_from(STARTS), WORDS, st.booleans(),
)  # fmt: skip
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example("package.maintainer", "A", " & (B) 'C' <a@b.c>", False)
@example("package.synopsis", "", "${misc:Depends} %i `x` \\ \" ' #", False)
@example("settings.project", "/", "\" \\ ' $x ${y} %i ; } # \u2028 \x85 ü", False)
@example("settings.warm", "/", "\" \\ ' $x ${y} %i ; } # \u2028 \x85 ü", True)
@example("package.description", "", "a\n\n.b\n${x}\n [Unit]", False)
@example("environment.ACME", "", "%i \" ' \\ ` $x #", False)
@example("environment.GDAL_CACHEMAX", "", "%i \" ' \\ ` ; } #", False)
@example("settings.trusted_proxies", "", "x" * 600, True)
@example("settings.system_calls", "", "x" * 600, True)
@example("settings.writable_folders", "/", "x" * 256, True)
@example("settings.writable_folders", "/", "x/" * 2050 + "x", True)
@example("settings.data_folders", "/", "ü" * 128, True)
@example("settings.project_folders", "/", "x" * 256, True)
@example("settings.system_calls", "", "frobnicate", True)
def test_a_hostile_value_is_refused_or_kept(
    folder: Path, key: str, start: str, value: str, in_list: bool
) -> None:
    """Each reader finds the value, and nothing but the value."""
    hostile: object = [start + value] if in_list else start + value
    try:
        text = text_of({key: hostile})
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeEncodeError):
        return
    file = folder / "site.toml"
    try:
        file.write_text(text)
    except UnicodeEncodeError:
        return
    site, mistakes = examine(file)
    if is_refused([str(one) for one in mistakes]):
        return
    check(site, folder)
