# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that edit files by WFS-T, several at a time."""

from __future__ import annotations

import itertools
import json

from shared.paths import SHARED
from shared.pool import ctl, settled, wait_for, workers
from shared.serving import PROJECTS
from testbed import Reply, Testbed

EDITED = "/srv/edit"
CLIENTS, EACH, WORKERS = 8, 10, 4
ADDED = (
    "import sqlite3; print(*[name for name, in sqlite3.connect('file:{}/rich.gpkg?mode=ro', "
    "uri=True).execute(\"select name from scratch where name like 'added-%'\")])"
)


def test_no_edit_is_lost_with_several_workers(pool: Testbed) -> None:
    pool.run("sh", "-ec", f"cp --archive /srv/maps/. {PROJECTS}; mkdir --parents {EDITED}")
    pool.put(SHARED / "invariants/rich.py", "/root/rich.py")
    pool.run("python3", "/root/rich.py", PROJECTS, EDITED, env={"QT_QPA_PLATFORM": "offscreen"})
    pool.run("chmod", "--recursive", "a+rX", PROJECTS)
    pool.run("chown", "--recursive", "qgis-server:qgis-server", EDITED)
    settings = f'instances = {WORKERS}\nwritable_folders = ["{EDITED}"]\nheavy_workers = 0\n'
    (pool.root / "etc/qgis-server/server.toml").write_text(settings)
    ctl(pool, "apply")
    wait_for(lambda: settled(pool) and len(workers(pool)) == WORKERS, "all workers are up")
    pool.put(SHARED / "edit.py", "/root/edit.py")
    refused = json.loads(pool.out("python3", "/root/edit.py", str(CLIENTS), str(EACH)))
    assert refused == []
    names = pool.out("python3", "-c", ADDED.format(EDITED)).split()
    assert sorted(names) == sorted(f"added-{c}-{n}" for c in range(CLIENTS) for n in range(EACH))
    left = pool.out("ls", EDITED).split()
    assert [name for name in left if name.startswith("rich.gpkg")] == ["rich.gpkg"]


# Another one edits: an edit waits, until it is done.
WAITS = """
flock /var/lib/qgis-server/home \\
    sh -c 'touch /root/held; until [ -e /root/go ]; do sleep 0.1; done' &
until [ -e /root/held ]; do sleep 0.1; done
python3 /root/edit.py 1 1 >/root/edited &
until qgis-serverctl status --json | grep -q '"busy_seconds": [1-9]'; do kill -0 $!; done
kill -0 $!
touch /root/go
wait $!
cat /root/edited
"""


def test_edits_of_files_come_one_after_the_other(pool: Testbed) -> None:
    assert pool.out("sh", "-ec", WAITS) == "[]"


ITEMS = "http://127.0.0.1/qgis/rich/wfs3/collections/places/items"
# Reads, until it is told to end.
READS = f"""
import signal, sqlite3
connection = sqlite3.connect("file:{EDITED}/rich.gpkg?mode=ro", uri=True)
rows = connection.execute("select * from places")
rows.fetchone()
open("/root/reads", "w").close()
signal.pause()
"""


def changed(bed: Testbed, item: str, *how: str) -> Reply:
    return bed.fetch(f"{ITEMS}{item}", *how, "--header", "Content-Type: application/geo+json")


def with_feature(method: str, name: str) -> tuple[str, ...]:
    geometry = {"type": "Point", "coordinates": [1, 2]}
    feature = {"type": "Feature", "properties": {"name": name}, "geometry": geometry}
    return "--request", method, "--data", json.dumps(feature)


def test_the_ogc_api_edits_files(pool: Testbed) -> None:
    """QGIS Server still reads the file when it changes a feature."""
    put = changed(pool, "/3", *with_feature("PUT", "other"))
    assert put.status == 200, put.body
    for _ in range(2 * WORKERS):
        found = json.loads(pool.fetch(f"{ITEMS}/3.json").body)
        assert found["properties"]["name"] == "other"
    assert changed(pool, "/4", "--request", "DELETE").status == 200
    for _ in range(2 * WORKERS):
        assert pool.fetch(f"{ITEMS}/4.json").status == 500  # QGIS Server's for none
    posted = changed(pool, "", *with_feature("POST", "one more"))
    assert posted.status == 201
    added = pool.fetch(f"{posted.headers['location']}.json")
    assert json.loads(added.body)["properties"]["name"] == "one more"


def test_an_edit_by_the_ogc_api_leaves_no_lock(pool: Testbed) -> None:
    before = workers(pool)
    edits = (with_feature("PUT", "x"), ("--request", "DELETE"))
    for edit, query in itertools.product(edits, ("", "?REQUEST=x", "?request=getmap")):
        for item in ("/3", "/9999"):
            changed(pool, f"{item}{query}", *edit)
            assert pool.run("ls", f"{EDITED}/rich.gpkg-journal", check=False).returncode != 0
            for _ in range(2 * WORKERS):
                assert pool.fetch(f"{ITEMS}/2.json").status == 200
    assert workers(pool) == before


# Longer than the five seconds for which GDAL has SQLite wait.
WAITS_FOR_A_READER = f"""
python3 /root/reads.py &
reader=$!
until [ -e /root/reads ]; do kill -0 $reader; sleep 0.1; done
curl --silent --output /root/reply --write-out '%{{http_code}}' -X DELETE {ITEMS}/5 >/root/done &
until qgis-serverctl status --json | grep -q '"busy_seconds": [6-9]'; do kill -0 $!; done
kill $reader
wait
cat /root/done
"""


def test_an_edit_waits_for_who_reads_the_file(pool: Testbed) -> None:
    pool.run("tee", "/root/reads.py", input=READS)
    assert pool.out("sh", "-ec", WAITS_FOR_A_READER) == "200"
