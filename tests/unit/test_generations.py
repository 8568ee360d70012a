# SPDX-License-Identifier: GPL-2.0-or-later
"""Which generation of replies a project has."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from shared.projects import put

from qgis_server_systemd.worker_plugin import fresh, generations
from qgis_server_systemd.worker_plugin.generations import Generations


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that a worker has loaded, unchanged for long."""
    file = tmp_path / "srv/a b.qgs"
    file.parent.mkdir()
    put(file, b"<qgis>1</qgis>")
    listed = tmp_path / "workers/1" / fresh.LISTED
    listed.parent.mkdir(parents=True)
    listed.write_text(
        json.dumps([str(file), "/nowhere.qgs", f"/{file}", f"{tmp_path}/srv/../srv/a b.qgs"])
    )
    return file


def watch(project: Path) -> Generations:
    top = project.parents[1]
    return Generations(top / "run", top / "workers", top / "orders")


def linked(project: Path) -> str | None:
    """The generation that both names of the project lead to."""
    links = project.parents[1] / "run/projects"
    found = {
        os.readlink(link) if link.is_file() else None
        for link in (links / str(project).lstrip("/"), links / quote(str(project), safe=""))
    }
    (generation,) = found
    return generation


def settle(watcher: Generations, project: Path) -> str:
    """As if all had been as it is for long, by both clocks."""
    if fresh.age(fresh.of_file(str(project))) < generations.SURE:
        put(project, project.read_bytes())
    watcher.look()
    for known in watcher.known.values():
        known.since -= generations.SURE
    watcher.look()
    generation = linked(project)
    assert generation
    return generation


def test_a_project_gets_a_generation_once_it_is_sure(project: Path) -> None:
    watcher = watch(project)
    watcher.look()
    assert linked(project) is None
    first = settle(watcher, project)
    watcher.look()
    assert linked(project) == first
    assert len(list((project.parents[1] / "run/generations").iterdir())) == 1


def test_what_has_changed_has_none_until_it_is_whole_and_settled(project: Path) -> None:
    watcher = watch(project)
    first = settle(watcher, project)
    put(project, b"<qgis>22", age=0)
    watcher.look()
    assert linked(project) is None
    put(project, b"<qgis>22")
    watcher.look()
    known = watcher.known[str(project)]
    known.since -= 10
    watcher.look()
    assert (linked(project), known.whole) == (None, False)
    put(project, b"<qgis>333</qgis>", age=0)
    watcher.look()
    watcher.known[str(project)].since -= 10
    watcher.look()
    assert linked(project) is None, "by its own clock it has just changed"
    assert settle(watcher, project) != first


def test_an_order_makes_a_new_one_at_once(project: Path) -> None:
    watcher = watch(project)
    first = settle(watcher, project)
    (project.parents[1] / "orders").write_text(json.dumps({str(project): 1}))
    watcher.look()
    assert linked(project) not in (None, first)


def test_what_is_gone_has_none(project: Path) -> None:
    watcher = watch(project)
    settle(watcher, project)
    project.unlink()
    watcher.look()
    assert linked(project) is None
    put(project, b"<qgis>1</qgis>")
    settle(watcher, project)


def test_what_no_worker_has_loaded_is_watched_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watch(project)
    generation = settle(watcher, project)
    (project.parents[1] / "workers/1" / fresh.LISTED).write_text("[]")
    watcher.look()
    watcher.look()
    assert (linked(project), list(watcher.known)) == (generation, [str(project)])
    monkeypatch.setattr(generations, "MOST", 0)
    watcher.look()
    assert (linked(project), watcher.known) == (None, {})


HOSTILE = (
    b"",
    b"\xff\xfe",
    b"{",
    b"7",
    b"null",
    b'{"/srv/a.qgs": 1}',
    b"[1, null, [], {}, true]",
    b"[" * 1_000_000,
    b'["\\ud800.qgs", "/\\ud800.qgs", "/a\\u0000.qgs", "", "a.qgs", "/../a.qgs", "/a/"]',
    b'["/' + b"a" * 5_000_000 + b'"]',
)


@pytest.mark.parametrize("note", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_hostile_worker_notes_ends_nothing(project: Path, note: bytes) -> None:
    watcher = watch(project)
    file = project.parents[1] / "workers/2" / fresh.LISTED
    file.parent.mkdir()
    file.write_bytes(note)
    assert generations.noted(file) == []
    settle(watcher, project)
    assert watcher.known.keys() == {str(project), "/nowhere.qgs"}


def test_what_a_hostile_worker_has_in_the_place_of_its_note_ends_nothing(project: Path) -> None:
    watcher = watch(project)
    listed = project.parents[1] / "workers/1" / fresh.LISTED
    for number in range(2, 6):
        (project.parents[1] / f"workers/{number}").mkdir()
    places = [project.parents[1] / f"workers/{number}" / fresh.LISTED for number in range(2, 6)]
    os.mkfifo(places[0])
    places[1].symlink_to(listed)
    places[2].mkdir()
    places[3].symlink_to("/dev/zero")
    assert [generations.noted(place) for place in places] == [[]] * 4
    settle(watcher, project)


def test_more_than_most_projects_are_no_note(project: Path) -> None:
    listed = project.parents[1] / "workers/1" / fresh.LISTED
    listed.write_text(json.dumps([f"/srv/{n}.qgs" for n in range(fresh.MOST + 5)]))
    assert len(generations.noted(listed)) == fresh.MOST


def test_projects_of_an_author_who_means_ill_are_not_whole(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.qgs")
    (tmp_path / "long.qgs").write_bytes(b"<qgis>" + b" " * 10_000 + b"</qgis>")
    good = tmp_path / "good.qgz"
    with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.qgs", "<qgis>" + "<a/>" * 1000 + "</qgis>")
    # The first byte of what is compressed, and the mark of what is encrypted.
    data = good.read_bytes()
    (tmp_path / "broken.qgz").write_bytes(data[:35] + b"\xff\xff" + data[37:])
    central = data.index(b"PK\x01\x02")
    (tmp_path / "closed.qgz").write_bytes(
        data[:6] + b"\x01" + data[7 : central + 8] + b"\x01" + data[central + 9 :]
    )
    found = {
        file.name: (fresh.is_whole(str(file)), fresh.is_whole(str(file), 5000))
        for file in tmp_path.iterdir()
    }
    assert found == {
        "pipe.qgs": (False, False), "long.qgs": (True, False), "good.qgz": (True, True),
        "broken.qgz": (False, False), "closed.qgz": (False, False),
    }  # fmt: skip
    assert fresh.is_whole(str(good), sys.maxsize)


def test_what_takes_long_to_read_makes_no_other_change_unseen(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watch(project)
    settle(watcher, project)
    monkeypatch.setattr(generations, "READ_FOR", -1)
    put(project, b"<qgis>22</qgis>")
    other = project.with_name("b.qgs")
    put(other, b"<qgis>1</qgis>")
    listed = project.parents[1] / "workers/1" / fresh.LISTED
    listed.write_text(json.dumps([str(project), str(other)]))
    watcher.look()
    watcher.known[str(project)].since -= 10
    watcher.look()
    assert (linked(project), watcher.known[str(project)].whole) == (None, None)
    monkeypatch.setattr(generations, "READ_FOR", 2.0)
    settle(watcher, project)
