# SPDX-License-Identifier: GPL-2.0-or-later
"""Which generation of replies a project has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from shared.pool import wait_for
from shared.projects import put

from qgis_server_systemd.worker_plugin import fresh, generations
from qgis_server_systemd.worker_plugin.generations import Generations


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project that a worker has loaded, unchanged for long."""
    monkeypatch.setattr(generations, "SURE", 0.3)
    file = tmp_path / "srv/a b.qgs"
    file.parent.mkdir()
    put(file, b"<qgis>1</qgis>")
    listed = tmp_path / "workers/1" / fresh.LISTED
    listed.parent.mkdir(parents=True)
    listed.write_text(
        json.dumps([str(file), "/nowhere.qgs", f"/{file}", f"{tmp_path}/srv/../srv/a b.qgs"])
    )
    yield file


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
    def is_linked() -> bool:
        watcher.look()
        return linked(project) is not None

    wait_for(is_linked, "it has a generation")
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
