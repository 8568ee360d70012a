# SPDX-License-Identifier: GPL-2.0-or-later
"""A project that has changed is served anew by every worker, and never half of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from shared.pool import apt, ctl, install, main_pid, wait_for, works
from shared.projects import PROJECT, title, titles, workers
from testbed import Testbed

from qgis_server_systemd.worker_plugin import fresh

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


@pytest.mark.spread
@pytest.mark.parametrize("change", [by_edit, by_rename, by_an_older_file, by_removal])
def test_a_change_is_served_by_every_worker(
    pool: Testbed, template: str, change: Callable[[Testbed, bytes], None]
) -> None:
    write(pool, titled(template, "Old"))
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project")
    with asked(pool) as answers:
        change(pool, titled(template, "New"))
        wait_for(lambda: titles(pool) == {"New"}, "every worker has the change")
    assert set(answers) <= {"Old", "New"}


def test_a_rare_request_gets_a_change_at_once(pool: Testbed, template: str) -> None:
    write(pool, titled(template, "Old"))
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project")
    write(pool, titled(template, "Rare"))
    pool.run("touch", "--date=10 seconds ago", PROJECT)
    # Nobody has asked since; the plugin looks once a second at most.
    last = time.monotonic()
    wait_for(lambda: time.monotonic() - last > fresh.LOOK_EVERY, "it looks again")
    assert titles(pool) == {"Rare"}


@pytest.mark.either
def test_half_of_a_project_is_never_served(pool: Testbed, template: str) -> None:
    old, new = titled(template, "Old"), titled(template, "Whole")
    write(pool, old)
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project")
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
        wait_for(lambda: titles(pool) == {"Whole"}, "every worker has the rest")
    assert set(answers) == {"Old", "Whole"}


@pytest.mark.either
def test_reload_is_at_once(pool: Testbed, template: str) -> None:
    write(pool, titled(template, "Old"))
    wait_for(lambda: titles(pool) == {"Old"}, "every worker has the project")
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


def all_see_the_database(bed: Testbed) -> None:
    """Without a hand: the monitor has those restarted that don't."""
    same = "test $(stat -c %d:%i /run/postgresql) = $(stat -c %d:%i /proc/$0/root/run/postgresql)"

    def sees(instance: int) -> bool:
        pid = str(main_pid(bed, instance))
        return bed.run("sh", "-c", same, pid, check=False).returncode == 0

    wait_for(lambda: all(map(sees, workers(bed))), "all workers see the database")
    wait_for(lambda: works(bed) == {"idle"}, "they are up")


def comes_again(bed: Testbed) -> None:
    """The database goes away, and comes back in a folder that is new."""
    bed.run("systemctl", "stop", "postgresql")
    bed.run("mv", "/run/postgresql", "/run/old")
    mine = ("-o", "postgres", "-g", "postgres", "-m", "2775")
    bed.run("install", "-d", *mine, "/run/postgresql")
    bed.run("systemctl", "start", "postgresql")
    all_see_the_database(bed)


def is_served_from_a_store(
    bed: Testbed, uri: str, user: str, comes_again: Callable[[Testbed], None] | None = None
) -> None:
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
        wait_for(lambda: titles(bed, uri) == {"Stored"}, "every worker has the change")
        save("Ordered")
        ctl(bed, "reload", uri)
        assert titles(bed, uri) == {"Ordered"}
        if comes_again:
            comes_again(bed)
            assert titles(bed, uri) == {"Ordered"}
    finally:
        settings.write_text(before)
        ctl(bed, "apply")


@pytest.mark.either
def test_a_project_in_a_geopackage(pool: Testbed) -> None:
    pool.run("cp", f"{FOLDER}/world_map.gpkg", f"{FOLDER}/store.gpkg")
    is_served_from_a_store(pool, f"geopackage:{FOLDER}/store.gpkg?projectName=stored", "root")


@pytest.mark.either
def test_a_project_in_postgresql(pool: Testbed) -> None:
    install(pool, "postgresql", package=False)
    pool.run("createuser", "qgis-server", user="postgres")
    pool.run("createdb", "--owner=qgis-server", "gis", user="postgres")
    # It was not there when the workers started.
    all_see_the_database(pool)
    uri = "postgresql:?host=/run/postgresql&dbname=gis&schema=public&project=stored"
    try:
        is_served_from_a_store(pool, uri, "qgis-server", comes_again)
    finally:
        # Its workers would hold connections to it for the rest of the tests.
        ctl(pool, "restart")
        apt(pool, "purge", "postgresql*")
