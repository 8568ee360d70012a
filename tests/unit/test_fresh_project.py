# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a worker's project is still that of the disk: the decision alone."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.pool import wait_for
from shared.projects import put

from qgis_server_systemd.worker_plugin import fresh
from qgis_server_systemd.worker_plugin.fresh import Folder, Fresh

WHOLE = b"<qgis><title>%s</title></qgis>"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project that is settled, with limits that a test can wait for."""
    monkeypatch.setattr(fresh, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(fresh, "SETTLED", 0.2)
    monkeypatch.setattr(fresh, "GONE", 0.3)
    file = tmp_path / "a.qgs"
    put(file, WHOLE % b"1")
    yield file


def test_what_is_unchanged_stays(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    # At first there is no telling what QGIS may have of it.
    assert [watch.is_stale(str(project)) for _ in range(3)] == [True, False, False]


def test_a_change_that_is_settled_is_seen_at_the_first_request(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    watch.is_stale(str(project))
    put(project, WHOLE % b"22")
    assert watch.is_stale(str(project))
    assert not watch.is_stale(str(project))


def test_a_change_of_right_now_has_to_settle(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    watch.is_stale(str(project))
    put(project, WHOLE % b"22", age=0)
    assert not watch.is_stale(str(project))
    wait_for(lambda: watch.is_stale(str(project)), "it settles")


def test_half_a_project_is_left_where_it_is(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    watch.is_stale(str(project))
    put(project, (WHOLE % b"22")[:-3])
    assert not watch.is_stale(str(project))
    assert not watch.is_stale(str(project))
    put(project, WHOLE % b"333")
    assert watch.is_stale(str(project))


def test_the_clock_of_a_file_server_may_be_ahead(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    watch.is_stale(str(project))
    put(project, WHOLE % b"22", age=-300)
    assert watch.is_stale(str(project))


def test_a_file_that_goes_is_forgotten_after_a_while(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    watch.is_stale(str(project))
    project.unlink()
    assert not watch.is_stale(str(project))
    wait_for(lambda: watch.is_stale(str(project)), "it counts as deleted")


def test_an_order_counts_once(project: Path) -> None:
    orders = project.parent / "reload"
    watch = Fresh(orders)
    watch.is_stale(str(project))
    orders.write_text(f'{{"{project}": 1}}')
    assert watch.is_stale(str(project))
    assert not watch.is_stale(str(project))


def test_orders_are_looked_for_when_their_folder_has_changed(project: Path) -> None:
    orders, news = project.parent / "run/reload", Folder(str(project.parent))
    watch = Fresh(orders)
    watch.is_stale(str(project))
    assert news.has_changed()
    long_ago = time.time() - 60
    os.utime(project.parent, (long_ago, long_ago))
    assert news.has_changed()
    assert not news.has_changed()
    watch.look = news.has_changed()
    orders.parent.mkdir()
    orders.write_text(f'{{"{project}": 1}}')
    assert not watch.is_stale(str(project))
    # So soon after a change there may be another one with the same time.
    assert [news.has_changed(), news.has_changed()] == [True, True]
    watch.look = True
    assert watch.is_stale(str(project))


def test_a_first_request_waits_for_a_project_that_is_being_written(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    put(project, (WHOLE % b"1")[:-3], age=0)
    writer = threading.Timer(0.3, put, (project, WHOLE % b"1", 0))
    writer.start()
    watch.is_stale(str(project))
    assert watch.known[str(project)].whole


def test_a_first_request_does_not_wait_for_one_that_is_broken(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "PATIENCE", 100.0)
    watch = Fresh(project.parent / "reload")
    put(project, b"<qgis>")
    start = time.monotonic()
    watch.is_stale(str(project))
    watch.is_stale(str(project))
    assert time.monotonic() - start < fresh.PATIENCE / 2
    put(project, WHOLE % b"1")
    assert watch.is_stale(str(project)), "what QGIS has of it may be nothing"


def test_a_zipped_project_is_read_through(tmp_path: Path) -> None:
    file = tmp_path / "a.qgz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.qgs", WHOLE % b"1")
    assert fresh.is_whole(str(file))
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    assert not fresh.is_whole(str(file))
    file.write_bytes(data.replace(b"<title>", b"<titel>"))
    assert not fresh.is_whole(str(file)), "a wrong checksum"


@pytest.mark.parametrize("name", ["/a\0b", "/dev/null", "/nowhere.qgs", "nonsense"])
def test_what_is_no_project_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    watch = Fresh(tmp_path / "reload")
    watch.is_stale(name)
    assert watch.known == {}


def test_clients_can_not_fill_the_memory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "MOST", 3)
    watch = Fresh(project.parent / "reload")
    for dots in range(10):
        watch.is_stale(str(project.parent) + "/." * dots + f"/{project.name}")
    assert len(watch.known) <= 3


def test_a_project_in_a_database_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "ASK_EVERY", 0.0)
    saved: list[fresh.Signature | None] = [(1,)]
    watch = Fresh(tmp_path / "reload", lambda project: saved[0])
    uri = "postgresql:?service=gis&project=a"
    assert watch.is_stale(uri)
    assert not watch.is_stale(uri)
    saved[0] = None
    assert not watch.is_stale(uri), "a database that is away is no change"
    saved[0] = (2,)
    assert watch.is_stale(uri)
    assert not watch.is_stale(uri)
