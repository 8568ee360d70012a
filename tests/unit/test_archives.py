# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archives of projects QGIS may unpack."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

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
        ("/srv/a.b/c", ""),
        ("postgresql:?service=a", ""),
        ("", ""),
    ],
)
def test_where_the_archive_of_a_project_is(project: str, archive: str) -> None:
    assert archive_of(project) == archive


EMBEDDING = (
    '<qgis><projectlayers><maplayer embedded="1" project="%s" id="a"/></projectlayers></qgis>'
)


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
        assert "takes a layer from a project that has a member" in refusal(EMBEDDING % path)
    assert refusal(EMBEDDING % "far/middle.qgz") == ""
    # The other one changes later, and is itself in an archive.
    with zipfile.ZipFile(middle, "w") as archive:
        archive.writestr("m.qgs", EMBEDDING % "bad.qgz")
    known.look_again(str(first))
    assert "takes a layer" in known.refusal(str(first))
    assert refusal(EMBEDDING % "first.qgs") == ""
    assert refusal(EMBEDDING % "far/none.qgz") == ""
