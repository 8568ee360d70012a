# SPDX-License-Identifier: GPL-2.0-or-later
"""The one address of a project of the landing page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.config.values import NAME
from qgis_server_systemd.worker_plugin.addresses import Addresses, encoded

PLAN = "postgresql://?service=gis&schema=public&project=plan"

Second = Callable[[str], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = (
        "city.qgz",
        "city.qgs",
        "river.qgs",
        "Meine Karte.qgz",
        "LARGE.QGZ",
        "road.qgz",
        "Süd + (neu).qgz",
        "A&B.qgz",
    )
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    for name in names:
        (tmp_path / "two" / name).touch()
    (tmp_path / "one" / "road.qgs").touch()
    return tmp_path


def addresses(folder: Path) -> Addresses:
    named = {"town": f"{folder}/two/Meine Karte.qgz", "river": "/srv/other.qgz", "plan": PLAN}
    folders = [f"{folder}/one", f"{folder}/two/"]
    return Addresses("/qgis-server", [f"{folder}/two"], "/qgis", NAME, named, folders)


def second(project: str, rest: str = "/") -> str:
    return f"/qgis-server/project/{hashlib.md5(project.encode()).hexdigest()}{rest}"


@pytest.mark.parametrize(
    ("project", "address"),
    [
        ("two/city.qgz", "/qgis/city"),
        ("two/Meine Karte.qgz", "/qgis/town"),
        ("two/Süd + (neu).qgz", "/qgis/S%C3%BCd%20%2B%20%28neu%29"),
        ("two/A&B.qgz", ""),
        # At /qgis/NAME there is another project.
        ("two/city.qgs", ""),
        ("two/road.qgz", ""),
        ("two/river.qgs", ""),
        # NGINX looks for a name like this one with .qgz alone.
        ("two/LARGE.QGZ", ""),
        # Not on the landing page.
        ("one/road.qgs", ""),
        ("two/gone.qgz", ""),
    ],
)
def test_the_address_of_a_file(folder: Path, project: str, address: str) -> None:
    assert addresses(folder).first(second(f"{folder}/{project}")) == address


def test_the_address_of_a_project_in_a_database(folder: Path) -> None:
    assert addresses(folder).first(second(PLAN)) == "/qgis/plan"


@pytest.mark.parametrize(
    ("rest", "address"),
    [
        ("", "/qgis/city"),
        ("?SERVICE=WMS&LAYERS=%C3%BC", "/qgis/city?SERVICE=WMS&LAYERS=%C3%BC"),
        ("/?SERVICE=WMS", "/qgis/city?SERVICE=WMS"),
        ("/wfs3/collections?f=json", "/qgis/city/wfs3/collections?f=json"),
        ("x", ""),
    ],
)
def test_the_rest_of_a_url_stays(folder: Path, rest: str, address: str) -> None:
    assert addresses(folder).first(second(f"{folder}/two/city.qgz", rest)) == address


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/qgis-server/project/x", True),
        ("/qgis-server/projects", False),
        ("/qgis-server/index.json", False),
        ("/qgis/project/x", False),
    ],
)
def test_what_is_a_second_address(folder: Path, path: str, known: bool) -> None:
    assert addresses(folder).is_second(path) == known


def test_what_a_proxy_has_cut_off_is_put_back(folder: Path) -> None:
    origin = "https://a.example:8443"
    url = f"{origin}/qgis-server/?x=https://b.example/"
    assert addresses(folder).with_prefix("/gis", url) == {
        f"{origin}/qgis-server/": f"{origin}/gis/qgis-server/"
    }


ORIGIN = "https://a.example:8443"


@pytest.mark.parametrize(
    ("url", "path", "wrong"),
    [
        ("/qgis/Meine Karte?x=a b", "/qgis/Meine Karte", {"/qgis/Meine Karte"}),
        ("/gis/qgis/a b c/wfs3/d e", "/gis/qgis/a b c/wfs3/d e", {"/gis/qgis/a b c"}),
        ("/qgis/%28a%29 b?x", "/qgis/(a) b", {"/qgis/%28a%29 b", "/qgis/(a) b"}),
        ("/qgis/city?x=a b", "/qgis/city", set()),
    ],
)
def test_no_space_is_left_in_a_url(url: str, path: str, wrong: set[str]) -> None:
    assert encoded(ORIGIN + url, path) == {
        ORIGIN + one: ORIGIN + one.replace(" ", "%20") for one in wrong
    }
