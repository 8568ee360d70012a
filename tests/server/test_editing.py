# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that edit files by WFS-T, several at a time."""

from __future__ import annotations

import itertools
import json

from shared.paths import SHARED
from shared.pool import ctl, settled, wait_for, workers
from shared.serving import PROJECTS
from testbed import Testbed

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


def test_an_edit_by_the_ogc_api_leaves_no_lock(pool: Testbed) -> None:
    """QGIS Server still reads the file when it changes a feature, which therefore fails."""
    before = workers(pool)
    items = "http://127.0.0.1/qgis/rich/wfs3/collections/places/items"
    feature = '{"type": "Feature", "properties": {"name": "x"}, "geometry": null}'
    put = ("--request", "PUT", "--data", feature, "--header", "Content-Type: application/geo+json")
    edits = (put, ("--request", "DELETE"))
    for edit, query in itertools.product(edits, ("", "?REQUEST=x", "?request=getmap")):
        pool.fetch(f"{items}/3{query}", *edit)
        assert pool.run("ls", f"{EDITED}/rich.gpkg-journal", check=False).returncode != 0
        for _ in range(2 * WORKERS):
            assert pool.fetch(f"{items}/2.json").status == 200
    assert workers(pool) == before
