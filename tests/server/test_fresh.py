# SPDX-License-Identifier: GPL-2.0-or-later
"""A project that has changed is served anew by every worker, and never half of it."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shared.pool import apt, ctl, install, wait_for
from shared.projects import PROJECT, put, title, titles, workers
from testbed import Testbed

from qgis_server_systemd.worker_plugin import fresh
from qgis_server_systemd.worker_plugin.fresh import Fresh

# ---- The decision alone

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
    wait_for(lambda: watch.is_stale(str(project)), "it settles", timeout=2)


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
    wait_for(lambda: watch.is_stale(str(project)), "it counts as deleted", timeout=2)


def test_an_order_counts_once(project: Path) -> None:
    orders = project.parent / "reload"
    watch = Fresh(orders)
    watch.is_stale(str(project))
    orders.write_text(f'{{"{project}": 1}}')
    assert watch.is_stale(str(project))
    assert not watch.is_stale(str(project))


def test_a_first_request_waits_for_a_project_that_is_being_written(project: Path) -> None:
    watch = Fresh(project.parent / "reload")
    put(project, (WHOLE % b"1")[:-3], age=0)
    writer = threading.Timer(0.3, put, (project, WHOLE % b"1", 0))
    writer.start()
    watch.is_stale(str(project))
    assert watch.known[str(project)].whole


def test_a_first_request_does_not_wait_for_one_that_is_broken(project: Path) -> None:
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


# ---- Real workers

FOLDER = "/srv/maps"


@pytest.fixture(scope="module")
def template(pool: Testbed) -> str:
    return (pool.root / "srv/maps/second.qgs").read_text()


def titled(template: str, title: str) -> bytes:
    return template.replace(">Second<", f">{title}<").encode()


def write(bed: Testbed, content: bytes, file: str = PROJECT) -> None:
    """In place, at once."""
    bed.run_bytes("sh", "-c", "cat >$0", file, input=content)


@contextmanager
def asked(bed: Testbed) -> Iterator[list[str]]:
    """Every worker is asked for the title again and again; the answers in order."""
    answers: list[str] = []
    stop = threading.Event()
    errors: list[BaseException] = []

    def ask(instance: int) -> None:
        try:
            while not stop.is_set():
                answers.append(title(bed, instance))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in workers(bed)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def by_edit(bed: Testbed, content: bytes) -> None:
    write(bed, content)


def by_rename(bed: Testbed, content: bytes) -> None:
    write(bed, content, f"{PROJECT}.new")
    bed.run("mv", f"{PROJECT}.new", PROJECT)


def by_an_older_file(bed: Testbed, content: bytes) -> None:
    """As when a backup is put back."""
    write(bed, content, f"{PROJECT}.new")
    bed.run("touch", "--date=2020-01-01", f"{PROJECT}.new")
    bed.run("mv", f"{PROJECT}.new", PROJECT)


def by_removal(bed: Testbed, content: bytes) -> None:
    bed.run("rm", PROJECT)
    write(bed, content)


@pytest.mark.parametrize("change", [by_edit, by_rename, by_an_older_file, by_removal])
def test_a_change_is_served_by_every_worker(
    pool: Testbed, template: str, change: Callable[[Testbed, bytes], None]
) -> None:
    write(pool, titled(template, "Old"))
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project", timeout=10)
    with asked(pool) as answers:
        change(pool, titled(template, "New"))
        wait_for(lambda: titles(pool) == {"New"}, "every worker has the change", timeout=10)
    assert set(answers) <= {"Old", "New"}


def test_a_rare_request_gets_a_change_at_once(pool: Testbed, template: str) -> None:
    write(pool, titled(template, "Old"))
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project", timeout=10)
    write(pool, titled(template, "Rare"))
    pool.run("touch", "--date=10 seconds ago", PROJECT)
    # Nobody has asked since; the plugin looks once a second at most.
    last = time.monotonic()
    wait_for(lambda: time.monotonic() - last > fresh.LOOK_EVERY, "it looks again")
    assert titles(pool) == {"Rare"}


def test_half_of_a_project_is_never_served(pool: Testbed, template: str) -> None:
    old, new = titled(template, "Old"), titled(template, "Whole")
    write(pool, old)
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project", timeout=10)
    half = len(new) // 2
    with asked(pool) as answers:
        write(pool, new[:half])
        # Longer than what counts as settled: an upload that stalls.
        stalled = len(answers) + 1
        then = time.monotonic()
        wait_for(lambda: time.monotonic() - then > 3 * fresh.SETTLED, "the upload stalls")
        assert len(answers) > stalled
        assert set(answers) == {"Old"}
        pool.run_bytes("sh", "-c", "cat >>$0", PROJECT, input=new[half:])
        wait_for(lambda: titles(pool) == {"Whole"}, "every worker has the rest", timeout=10)
    assert set(answers) == {"Old", "Whole"}


def test_reload_is_at_once(pool: Testbed, template: str) -> None:
    write(pool, titled(template, "Old"))
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project", timeout=10)
    # As NFS may do: nothing about the file tells that it has changed.
    before = pool.out("stat", "--format=%y", PROJECT)
    write(pool, titled(template, "Odd"))
    pool.run("touch", f"--date={before}", PROJECT)
    assert titles(pool) == {"Old"}
    ctl(pool, "reload", PROJECT)
    assert titles(pool) == {"Odd"}


def test_reload_of_what_is_no_project_is_refused(pool: Testbed) -> None:
    done = pool.run("qgis-serverctl", "reload", "maps/world.qgz", check=False)
    assert done.returncode == 1
    assert 'reload: project = "maps/world.qgz" is not an absolute path' in done.stderr


STORE = """
import sys
from qgis.core import QgsApplication, QgsProject
application = QgsApplication([], False)
application.initQgis()
project = QgsProject.instance()
assert project.read("/srv/maps/second.qgs")
project.writeEntry("WMSServiceTitle", "/", sys.argv[2])
assert project.write(sys.argv[1]), project.error()
"""


def is_served_from_a_store(bed: Testbed, uri: str, user: str) -> None:
    def save(name: str) -> None:
        environment = {"QT_QPA_PLATFORM": "offscreen", "HOME": "/tmp"}
        bed.run("python3", "-c", STORE, uri, name, env=environment, user=user)

    settings = bed.root / "etc/qgis-server/server.toml"
    before = settings.read_text()
    # A client may name by MAP what a setting names.
    settings.write_text(f'{before}named_projects = ["stored={uri}"]\n')
    ctl(bed, "apply")
    try:
        save("Old")
        assert titles(bed, uri) == {"Old"}
        save("Stored")
        wait_for(lambda: titles(bed, uri) == {"Stored"}, "every worker has the change", timeout=10)
        save("Ordered")
        ctl(bed, "reload", uri)
        assert titles(bed, uri) == {"Ordered"}
    finally:
        settings.write_text(before)
        ctl(bed, "apply")


def test_a_project_in_a_geopackage(pool: Testbed) -> None:
    pool.run("cp", f"{FOLDER}/world_map.gpkg", f"{FOLDER}/store.gpkg")
    is_served_from_a_store(pool, f"geopackage:{FOLDER}/store.gpkg?projectName=stored", "root")


def test_a_project_in_postgresql(pool: Testbed) -> None:
    install(pool, "postgresql", package=False)
    pool.run("createuser", "qgis-server", user="postgres")
    pool.run("createdb", "--owner=qgis-server", "gis", user="postgres")
    # What was not there when a worker started is not there for it.
    ctl(pool, "restart")
    uri = "postgresql:?host=/run/postgresql&dbname=gis&schema=public&project=stored"
    try:
        is_served_from_a_store(pool, uri, "qgis-server")
    finally:
        # Its workers would hold connections to it for the rest of the tests.
        ctl(pool, "restart")
        apt(pool, "purge", "postgresql*")
