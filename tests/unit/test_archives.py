# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archives of projects QGIS may unpack."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from shared.harm import taking

from qgis_server_systemd.worker_plugin import archives
from qgis_server_systemd.worker_plugin.archives import Archives, archive_of

Fill = Callable[[zipfile.ZipFile], object]


def made(path: Path, *fill: Fill) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("city.qgs", "<qgis/>")
        for one in fill:
            one(archive)
    return path


def member(name: str, mode: int = 0, extra: bytes = b"") -> Fill:
    about = zipfile.ZipInfo(name)
    about.external_attr = mode << 16
    about.extra = extra
    return lambda archive: archive.writestr(about, "a")


def test_an_ordinary_archive_is_unpacked(tmp_path: Path) -> None:
    fill = (member("city.qgd", 0o100644), member("a..b/ü ..svg"), member("c/", 0o40755))
    times = member("d.svg", extra=b"UT\x05\0\x01up\x75\x70ux\x02\0\x75\x70")
    path = made(tmp_path / "city.qgz", *fill, times)
    assert Archives().refusal(str(path)) == ""


@pytest.mark.parametrize(
    "fill",
    [
        member("../a"),
        member("a/../../b"),
        member("..\\a"),
        member("/etc/a"),
        member("\\a"),
        member("a\x01"),
        member("link", 0o120777),
        member("pipe", 0o010644),
        member("a", extra=struct.pack("<HH", archives.OTHER_NAME, 0)),
    ],
)
def test_a_member_that_leads_out_is_found(tmp_path: Path, fill: Fill) -> None:
    path = made(tmp_path / "city.QGZ", fill)
    assert Archives().refusal(str(path))


def test_an_archive_that_is_a_bomb_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "city.qgz", lambda archive: archive.writestr("a", bytes(5000)))
    assert Archives().refusal(str(path)) == ""
    monkeypatch.setattr(archives, "MOST_BYTES", 5000)
    assert "too large" in Archives().refusal(str(path))
    monkeypatch.setattr(archives, "MOST_MEMBERS", 1)
    assert "too many" in Archives().refusal(str(path))


def test_an_archive_that_programs_read_in_two_ways_is_found(tmp_path: Path) -> None:
    good, bad = made(tmp_path / "a.qgz").read_bytes(), made(tmp_path / "b.qgz", member("../a"))
    evil = bad.read_bytes()
    for content in (
        evil + good,
        evil[:-2] + struct.pack("<H", len(good)) + good,
        good[:-2] + b"\x01\0a",
        b"a" + good,
        good[:-22] + archives.LOCATOR + bytes(16) + good[-22:],
        good.replace(b"city.qgs", b"city\0qgs"),
        good.replace(b"PK\x01\x02", b"PK\x01\x03"),
    ):
        path = tmp_path / "c.qgz"
        path.write_bytes(content)
        assert Archives().refusal(str(path)), content


def test_what_is_still_being_written_is_no_archive_yet(tmp_path: Path) -> None:
    content = made(tmp_path / "a.qgz", member("../a")).read_bytes()
    path = tmp_path / "b.qgz"
    known = Archives()
    for part in (b"", content[:40], content[:-22]):
        path.write_bytes(part)
        known.look_again(str(path))
        assert known.refusal(str(path)) == ""
    path.write_bytes(content)
    assert known.refusal(str(path)) == "", "for a moment an answer is good"
    known.look_again(str(path))
    assert known.refusal(str(path))
    path.unlink()
    known.look_again(str(path))
    assert known.refusal(str(path)) == ""


def test_an_archive_beside_a_project_is_unpacked_as_well(tmp_path: Path) -> None:
    project = tmp_path / "city.v1.qgs"
    project.write_text("<qgis/>")
    known = Archives()
    assert known.refusal(str(project)) == ""
    made(tmp_path / "city.v1_attachments.zip", member("../a"))
    known.look_again(str(project))
    assert known.refusal(str(project))
    assert [path for path, _ in known.strays(str(tmp_path))] == [str(project)]
    assert list(known.strays(str(tmp_path / "missing"))) == []


@pytest.mark.parametrize(
    ("project", "archive"),
    [
        ("/srv/a.qgz", "/srv/a.qgz"),
        ("/srv/a.QGZ", "/srv/a.QGZ"),
        ("/srv/a.b.qgs", "/srv/a.b_attachments.zip"),
        ("/srv/a.b/c", "/srv/a.b/c_attachments.zip"),
        ("/srv/qgz", "/srv/qgz_attachments.zip"),
        ("postgresql:?service=a", ""),
        ("", ""),
    ],
)
def test_where_the_archive_of_a_project_is(project: str, archive: str) -> None:
    assert archive_of(project) == archive


def test_the_archives_of_embedded_projects_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    bad = made(tmp_path / "far/bad.qgz", member("../a"))
    middle = made(tmp_path / "far/middle.qgz")
    first = tmp_path / "first.qgs"
    known = Archives()

    def refusal(text: str) -> str:
        first.write_text(text)
        known.look_again(str(first))
        return known.refusal(str(first))

    for path in ("far/bad.qgz", "./far/../far/bad.qgz", str(bad), "far/bad.q&#103;z"):
        assert "takes a layer from a project that has a member" in refusal(taking(path))
    assert refusal(taking("far/middle.qgz")) == ""
    # The other one changes later, and is itself in an archive.
    with zipfile.ZipFile(middle, "w") as archive:
        archive.writestr("m.qgs", taking("bad.qgz"))
    known.look_again(str(first))
    assert "takes a layer" in known.refusal(str(first))
    assert refusal(taking("first.qgs")) == ""
    assert refusal(taking("far/none.qgz")) == ""


GROUP = (
    '<qgis><layer-tree-group name="g"><customproperties><Option type="Map"><Option '
    'name="embedded_project" value="./bad.qgz" type="QString"/></Option></customproperties>'
    "</layer-tree-group></qgis>"
)
OLD_GROUP = '<qgis><a><property key="embedded_project" value="./bad.qgz"/></a></qgis>'
ENTITY = """<!DOCTYPE qgis [
<!ENTITY % p "<!ENTITY m '&#38;#60;a project=&#34;./bad.qgz&#34;/>'>"> %p;]>
<qgis>&m;</qgis>"""
TYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"


@pytest.mark.parametrize(
    "text",
    [
        taking("attachment:/srv/bad.qgz"),
        taking("inbuilt:/../../bad.qgz"),
        taking("localized:bad.QGZ"),
        taking("./link/../bad.qgz"),
        taking("./link/../../../../../../../../../../../{here}/bad.qgz"),
        taking("{cwd}/bad.qgz"),
        taking("./bad.qgz", inner="\x01"),
        taking("./bad.qgz", '<?xml version="1.0" encoding="Big5"?>'),
        taking("./bad.qgz", '<?xml version="1.0" encoding="cp037"?>'),
        taking("./bad.qgz", inner="&unknown;"),
        GROUP,
        OLD_GROUP,
        ENTITY,
    ],
)
def test_whatever_qgis_takes_for_another_project_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Relative to the project by the text of the path, or to where the process is; by ways of
    QGIS's own; and in what is no XML to expat, as it is to Qt."""
    made(tmp_path / "bad.qgz", member("../a"))
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("/usr")
    monkeypatch.chdir("/")
    filled = text.replace("{cwd}", str(tmp_path)[1:]).replace("{here}", str(tmp_path))
    project = tmp_path / "first.qgs"
    project.write_text(filled)
    assert "takes a layer" in (said := Archives().refusal(str(project))) or "may take" in said
    with zipfile.ZipFile(tmp_path / "first.qgz", "w") as archive:
        archive.writestr("a.qgs", filled)
    assert Archives().refusal(str(tmp_path / "first.qgz"))


@pytest.mark.parametrize("space", ["\t", "\n", "\r", "\r\n"])
def test_kinds_of_white_space_are_one_to_expat_alone(tmp_path: Path, space: str) -> None:
    (tmp_path / "a b").mkdir()
    made(tmp_path / f"a b/bad{space}1.qgz", member("../a"))
    project = tmp_path / "first.qgs"
    project.write_bytes(taking(f"./a b/bad{space}1.qgz").encode())
    assert "takes a layer" in Archives().refusal(str(project))
    made(tmp_path / f"a b/bad{space}1.qgz")
    made(tmp_path / "a b/bad.1.qgz", member("../a"))
    assert Archives().refusal(str(project)) == ""


@pytest.mark.parametrize("text", ["<qgis><a>", "<qgis/>" * 2, "", "<qgis><a b='1' b='2'/></qgis>"])
def test_what_takes_no_layers_from_others_is_for_qgis_to_judge(tmp_path: Path, text: str) -> None:
    project = tmp_path / "first.qgs"
    project.write_text(text)
    assert Archives().refusal(str(project)) == ""
    project.write_text(taking("./none.qgz", TYPE))
    assert Archives().refusal(str(project)) == ""


def test_a_project_in_an_archive_that_programs_read_in_two_ways_is_found(tmp_path: Path) -> None:
    content = made(tmp_path / "a.qgz").read_bytes()
    path = tmp_path / "b.qgz"
    path.write_bytes(content.replace(b"city.qgs", b"town.qgs", 1))
    assert Archives().refusal(str(path))


def test_an_archive_that_only_its_times_hide_is_found(tmp_path: Path) -> None:
    """Its author can give it the size and the time that it had."""
    good, bad = made(tmp_path / "a.qgz", member("xx/a")), made(tmp_path / "b.qgz", member("../a"))
    known, was = Archives(), good.stat()
    assert known.refusal(str(good)) == ""
    good.write_bytes(bad.read_bytes())
    os.utime(good, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert good.stat().st_size == was.st_size
    known._known[str(good)].asked = -archives.LOOK_EVERY
    assert known.refusal(str(good))


def test_a_project_in_a_store_is_an_archive_as_well(tmp_path: Path) -> None:
    bad = made(tmp_path / "bad.qgz", member("../a"))
    contents = {
        "geopackage:/srv/a.gpkg?projectName=bad": bad.read_bytes(),
        "postgresql://?service=a&project=good": made(tmp_path / "good.qgz").read_bytes(),
    }
    for path in ("./bad.qgz", str(bad), f".{'/..' * 9}{bad}"):
        with zipfile.ZipFile(tmp_path / "taking.qgz", "w") as archive:
            archive.writestr("a.qgs", taking(path))
        another = (tmp_path / "taking.qgz").read_bytes()
        contents[f"geopackage:{tmp_path}/a.gpkg?projectName=a"] = another
        refused = [project for project in contents if Archives(contents.get).refusal(project)]
        assert refused == [project for project in contents if "good" not in project]
    known = Archives(contents.get)
    project = "postgresql://?service=a&project=good"
    assert known.refusal(project) == known.refusal("postgresql://?project=none") == ""
    contents[project] = bad.read_bytes()
    assert known.refusal(project) == ""
    known.look_again(project)
    assert known.refusal(project), "it is about to be loaded anew"
