# SPDX-License-Identifier: GPL-2.0-or-later
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.paths import TESTS

from qgis_server_systemd.qgis_serverctl.config.settings import SETTINGS, Settings
from qgis_server_systemd.qgis_serverctl.config.stored import (
    Mistakes,
    parse,
    read,
    remember,
    resolve,
)
from qgis_server_systemd.qgis_serverctl.system.output import Failure


def files(tmp_path: Path, mine: str = "", auto: str = "") -> tuple[Path, Path]:
    (tmp_path / "server.toml").write_text(mine)
    (tmp_path / "server.auto.toml").write_text(auto)
    return tmp_path / "server.toml", tmp_path / "server.auto.toml"


def test_precedence_is_command_line_then_file_then_auto_then_default(tmp_path: Path) -> None:
    file, auto = files(tmp_path, 'project = "/a.qgz"', 'project = "/b.qgz"\ninstances = 3')
    found = resolve(file, auto, {"instances": "7"})
    assert (found.settings.instances, found.source["instances"]) == (7, "command line")
    assert (found.settings.project, found.source["project"]) == ("/a.qgz", str(file))
    found = resolve(file, auto)
    assert (found.settings.instances, found.source["instances"]) == (3, str(auto))
    assert (found.settings.cors_origins, found.source["cors_origins"]) == ((), "default")


def test_some_test_sets_each_one_on_a_server() -> None:
    """Its effect is for that test to assert; none is forgotten."""
    files = (*TESTS.glob("server/test_*.py"), *TESTS.glob("machine/test_*.py"))
    text = "".join(file.read_text() for file in files)
    assert [one.key for one in SETTINGS if not re.search(rf"(?:\b|\\n){one.key} ?=", text)] == []


def test_projects_are_named_as_in_their_urls(tmp_path: Path) -> None:
    file, auto = files(tmp_path, 'unlisted_projects = ["Meine Karte", "Straße"]')
    assert resolve(file, auto).settings.unlisted_projects == ("Meine Karte", "Straße")


def test_what_host_names_have_of_their_own(tmp_path: Path) -> None:
    lines = (
        "a.example title=A = B", "b.example page=off", "a.example project=Meine Karte",
        "a.example project=Straße",
    )  # fmt: skip
    file, auto = files(tmp_path, f"front_hosts = {json.dumps(lines)}")
    assert resolve(file, auto).settings.hosts == {
        "a.example": {"title": "A = B", "projects": ["Meine Karte", "Straße"]},
        "b.example": {"page": "off"},
    }


def test_missing_files_mean_defaults(tmp_path: Path) -> None:
    found = resolve(tmp_path / "a", tmp_path / "b")
    assert found.settings == Settings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("instances = 0", 'instances = 0 is not "auto" or a number from 1 to 512'),
        ("instances = true", "is not"),
        ('instances = "many"', "is not"),
        ("instances = 513", "is not"),
        ("instances = 2026-01-01", "is not"),
        ("instanses = 3", "unknown key instanses (did you mean instances?)"),
        ('project = "relative.qgz"', "an absolute path"),
        ('project = "/a\\u0000b"', "an absolute path"),
        ('trusted_proxies = ["10.0.0.1/8"]', "CIDR"),
        ('trusted_proxies = ["proxy.example"]', "CIDR"),
        ('trusted_proxies = ["unix:/run/a"]', "CIDR"),
        ('trusted_proxies = "10.0.0.1"', "CIDR"),
        ('cors_origins = ["example.org"]', "a list of origins"),
        ('cors_origins = ["https://a/;}"]', "a list of origins"),
        ('unlisted_projects = ["a/b"]', "a list of names of projects"),
        ('front_hosts = ["a.example"]', 'a list of "host key=value"'),
        ('front_hosts = ["A.example title=x"]', "front_hosts"),
        ('front_hosts = ["a.example color=red"]', "front_hosts"),
        ('front_hosts = ["a.example project=a/b"]', "front_hosts"),
        ('front_hosts = ["a.example logo=/logo.html"]', "front_hosts"),
        ('front_hosts = ["a.example page=list"]', "page only off"),
        ('front_hosts = ["a.example text=a", "a.example text=b"]', "each once"),
        ("heavy_workers = -1", 'is not "auto" or a number'),
        ('heavy_workers = "100%"', 'is not "auto" or a number'),
        ("heavy_pixels = 1", "a number of pixels"),
        ('reply_cache = "50"', 'is not "off" or a size'),
        ("reply_cache_seconds = 0", "a number of seconds"),
        ('socket_user = "www data"', "name of a system user"),
        ("instances = \n", "line 1"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, complaint: str) -> None:
    file, auto = files(tmp_path, text)
    with pytest.raises(Failure) as caught:
        resolve(file, auto)
    message = str(caught.value)
    assert message.startswith(f"{file}: " if "line" in complaint else f"{file}:1: ")
    assert complaint in message
    assert "\n" not in message


def test_all_mistakes_of_all_files_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = '# instanses = 1\nbacklog = 3\n\n  instanses = 1\n"projekt" = 2\n[nginx]\nbacklog = 1\n'
    file, auto = files(tmp_path, text, "backlog = 0\n")
    with pytest.raises(Mistakes) as caught:
        resolve(file, auto)
    assert [line.partition(" (")[0] for line in caught.value.told] == [
        f"{auto}:1: backlog = 0 is not a number from 1 to 4096",
        f"{file}:4: unknown key instanses",
        f"{file}:5: unknown key projekt",
        f"{file}:6: unknown key nginx",
    ]
    assert "did you mean instances?" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_command_sets_is_read_back_and_leaves_other_keys(tmp_path: Path) -> None:
    file, auto = files(tmp_path)
    remember(auto, "project", '/srv/Karten & "Wege"/ü.qgz')
    remember(auto, "instances", 4)
    found = resolve(file, auto).settings
    assert found.project == '/srv/Karten & "Wege"/ü.qgz'
    assert found.instances == 4
    assert file.read_text() == ""


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=40))
def test_any_project_path_survives_toml(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    auto = tmp_path_factory.mktemp("toml") / "auto.toml"
    try:
        value = parse("project", "/" + text, "test")
    except Failure:
        assert any(ord(c) < 32 for c in text)
        return
    remember(auto, "project", value)
    assert read(auto)["project"] == "/" + text


def test_every_example_is_a_valid_value() -> None:
    import tomllib

    for setting in SETTINGS:
        value = tomllib.loads(f"x = {setting.example}")["x"]
        setting.parse(value)


def test_what_the_package_ships_wins_over_the_default_alone(tmp_path: Path) -> None:
    file, auto = files(tmp_path, "backlog = 3", "instances = 3")
    shipped = tmp_path / "defaults.toml"
    shipped.write_text("backlog = 1\ninstances = 1\nrequest_timeout = 60\n")
    found = resolve(file, auto, {}, shipped)
    assert (found.settings.backlog, found.source["backlog"]) == (3, str(file))
    assert (found.settings.instances, found.source["instances"]) == (3, str(auto))
    assert (found.settings.request_timeout, found.source["request_timeout"]) == (60, "package")
    assert found.settings.stop_timeout == 90
    assert found.source["memory_max"] == "default"
    shipped.unlink()
    assert resolve(file, auto, {}, shipped).settings.request_timeout == 300
