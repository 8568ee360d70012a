# SPDX-License-Identifier: GPL-2.0-or-later
"""``projects``: real projects that are broken in each way, on a booted server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import jsonschema
import pytest
from shared.pool import ctl, serving_bed, wait_for
from testbed import Snapshot, Testbed

FOLDER = "/var/lib/qgis-server/projects"
SCHEMA = "usr/share/qgis-server-systemd/projects.schema.json"
SETTINGS = "/etc/qgis-server/server.toml"
UNIT = "qgis-server@catalogue.service"
EVIL = "T\x9b31m\u202e]0;forged\x85"

# Says that a password is wrong, in German; on the other port it accepts, and says nothing.
DATABASE = """
import socket, struct, threading
def serve(port, answers):
    with socket.create_server(("127.0.0.1", port)) as server:
        kept = []
        while True:
            client, _ = server.accept()
            kept.append(client)
            if answers:
                threading.Thread(target=answer, args=(client,)).start()
def answer(client):
    with client:
        while True:
            length, kind = struct.unpack(">II", client.recv(8, socket.MSG_WAITALL))
            client.recv(length - 8, socket.MSG_WAITALL)
            if kind not in (80877103, 80877104):
                break
            client.sendall(b"N")
        words = "Passwort-Authentifizierung für »gis« fehlgeschlagen"
        text = f"SFATAL\\0C28P01\\0M{words}\\0\\0".encode()
        client.sendall(b"E" + struct.pack(">I", len(text) + 4) + text)
threading.Thread(target=serve, args=(5999, False)).start()
serve(5998, True)
"""


class Projects:
    """The folder of projects of a server."""

    def __init__(self, bed: Testbed) -> None:
        self.bed = bed
        self.folder = bed.root / FOLDER.lstrip("/")
        self.second = (bed.root / "srv/maps/second.qgs").read_text()

    def put(self, name: str, old: str = "", new: str = "") -> Path:
        """One with two words exchanged in its file."""
        assert old in self.second
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(self.second.replace(old, new) if old else self.second)
        return file

    def on_postgres(self, name: str, connection: str) -> Path:
        """One whose layer is a table."""
        source = f'{connection} key=\'id\' type=Polygon table="public"."t" (geom)'
        text = re.sub(
            r"<datasource>[^<]*</datasource>", f"<datasource>{escape(source)}</datasource>",
            self.second,
        )  # fmt: skip
        text = re.sub(r"<provider([^>]*)>ogr</provider>", r"<provider\1>postgres</provider>", text)
        assert "postgres" in text
        file = self.folder / name
        file.write_text(text)
        return file

    def look(self, *words: str) -> dict[str, Any]:
        done = self.bed.run("qgis-serverctl", "projects", "--json", *words, check=False)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        schema = json.loads((self.bed.root / SCHEMA).read_text())
        jsonschema.validate(found, schema)
        assert done.returncode == any(one["problems"] for one in found["projects"])
        return found

    def problems(self, *words: str) -> dict[str, list[tuple[str, str | None]]]:
        """By project: what is wrong, and with which layer."""
        return {
            one["name"]: [(problem["id"], problem["layer"]) for problem in one["problems"]]
            for one in self.look(*words)["projects"]
        }


@pytest.fixture(scope="module")
def bed(installed: Snapshot) -> Iterator[Testbed]:
    with serving_bed(installed) as bed:
        yield bed


@pytest.fixture
def projects(bed: Testbed) -> Iterator[Projects]:
    """The folder, with the data of the maps and nothing else."""
    # Not the folder itself: workers would go on seeing the old one.
    empty = f"find {FOLDER} -mindepth 1 -delete; cp -r /srv/maps/*.gpkg /srv/maps/*.tif {FOLDER}"
    bed.run("sh", "-ec", empty)
    yield Projects(bed)
    bed.run("find", FOLDER, "-mindepth", "1", "-delete")


def findings(bed: Testbed) -> dict[str, Any]:
    """Of check, by what they are about."""
    report = json.loads(bed.run("qgis-serverctl", "check", "--json", check=False).stdout)
    assert report["unchecked"] == []
    return {one["where"].removeprefix(f"{FOLDER}/"): one for one in report["findings"]}


LAYER = "Land"


@pytest.mark.each
def test_what_is_in_order_has_its_address_and_no_problem(projects: Projects) -> None:
    bed = projects.bed
    assert "no project has an address" in ctl(bed, "projects")
    bed.run("cp", "/srv/maps/world.qgz", FOLDER)
    projects.put("second.qgs")
    found = projects.look()
    second, world = found["projects"]
    assert (world["name"], world["state"], world["problems"]) == ("world", "ok", [])
    assert (second["state"], second["problems"]) == ("ok", [])
    assert world["path"] == f"{FOLDER}/world.qgz"
    assert world["size"] == (projects.folder / "world.qgz").stat().st_size
    assert world["layers"] > 1
    assert {"WMS", "WFS", "OGC API Features"} <= {*world["services"]}
    assert world["title"]
    assert found["without"] == []
    url = world["url"].partition("/qgis/")[2]
    reply = bed.fetch(f"http://127.0.0.1/qgis/{url}?SERVICE=WMS&REQUEST=GetCapabilities")
    assert reply.status == 200
    # What has not changed is not read again, unless it is named.
    assert [one["looked"] for one in projects.look()["projects"]] == [
        second["looked"], world["looked"],
    ]  # fmt: skip
    (again,) = projects.look("world")["projects"]
    assert again["looked"] > world["looked"]
    for name in ("world", "second") * 3:
        assert projects.problems(name) == {name: []}
    assert "no project is served by the name nobody" in ctl(bed, "projects", "nobody", check=False)
    shown = ctl(bed, "projects")
    assert re.search(r"^ok +world +http://\S+/qgis/world +\S+ kB +\d{4}-\d\d-\d\d ", shown, re.M)
    assert findings(bed) == {}


@pytest.mark.each
def test_files_that_are_broken(projects: Projects) -> None:
    bed, folder = projects.bed, projects.folder
    projects.put("good.qgs")
    projects.put("gone.qgs", "./world_map.gpkg", "./gone.gpkg")
    projects.put("away.qgs", "./world_map.gpkg", "/data/away.gpkg")
    projects.put("secret.qgs", "./world_map.gpkg", "./secret.gpkg")
    bed.run("install", "-m", "600", f"{FOLDER}/world_map.gpkg", f"{FOLDER}/secret.gpkg")
    projects.put("private.qgs").chmod(0o600)
    projects.put("half.qgs").write_text(projects.second[:-100])
    whole = (bed.root / "srv/maps/world.qgz").read_bytes()
    (folder / "half2.qgz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.qgz").touch()
    (folder / "text.qgs").write_text("hello")
    (folder / "garbage.gpkg").write_text("garbage")
    projects.put("garbage.qgs", "./world_map.gpkg", "./garbage.gpkg")
    bed.run("install", "-m", "644", f"{FOLDER}/good.qgs", "/usr/share/out.qgs")
    (folder / "out.qgs").symlink_to("/usr/share/out.qgs")
    with zipfile.ZipFile(folder / "slip.qgz", "w") as archive:
        archive.writestr("../slip.qgs", projects.second)
    found = projects.problems()
    garbage = next(one for one in projects.look()["projects"] if one["name"] == "garbage")
    assert garbage["problems"][0]["what"].startswith('layer "'), garbage
    assert found == {
        "good": [],
        "gone": [("layer-missing", LAYER)],
        "away": [("layer-outside", LAYER)],
        "secret": [("layer-unreadable", LAYER)],
        "private": [("project-unreadable", None)],
        "half": [("project-broken", None)],
        "half2": [("project-broken", None)],
        "empty": [("project-broken", None)],
        "text": [("project-broken", None)],
        "garbage": [("layer-invalid", LAYER)],
        "out": [("project-outside", None)],
        "slip": [("project-broken", None)],
    }
    # What it says is what a client sees.
    for name, problems in found.items():
        url = f"http://127.0.0.1/qgis/{name}?SERVICE=WMS&REQUEST=GetCapabilities"
        assert (bed.fetch(url).status != 200) == bool(problems), name
    told = findings(bed)
    assert set(told) == {f"{name}.{'qgz' if name in ('half2', 'empty', 'slip') else 'qgs'}"
                         for name, problems in found.items() if problems}  # fmt: skip
    for name in ("secret.qgs", "private.qgs"):
        bed.run("sh", "-ec", told[name]["remedy"])
    bed.run("cp", f"{FOLDER}/world_map.gpkg", f"{FOLDER}/gone.gpkg")
    mended = projects.problems()
    assert [mended[name] for name in ("secret", "private", "gone")] == [[], [], []]
    bed.run("rm", "/usr/share/out.qgs")


def test_check_works_and_is_quick_with_all_stopped(projects: Projects) -> None:
    bed = projects.bed
    projects.put("gone.qgs", "./world_map.gpkg", "./gone.gpkg")
    bed.run("systemctl", "stop", "qgis-server.slice")
    assert findings(bed)["gone.qgs"]["id"] == "layer-missing"
    bed.run("systemctl", "start", "qgis-server.target")


def test_projects_that_hang_crash_or_eat_memory_do_so_alone(projects: Projects) -> None:
    bed, folder = projects.bed, projects.folder
    projects.put("a.qgs")
    projects.put("z.qgs")
    projects.put("pipe.qgs", "./world_map.gpkg", "./pipe.gpkg")
    os.mkfifo(folder / "pipe.gpkg")
    group = '<layer-tree-group name="g">'
    deep = group * 200_000 + "</layer-tree-group>" * 200_000
    start = re.search("<layer-tree-group[^>]*>", projects.second)
    assert start
    projects.put("deep.qgs", start[0], start[0] + deep)
    many = '<a b="c"/>' * 4_000_000
    with zipfile.ZipFile(folder / "large.qgz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large.qgs", projects.second.replace("</qgis>", f"{many}</qgis>"))
    bed.run("sh", "-ec", f"echo 'memory_max = \"700M\"' >>{SETTINGS}; qgis-serverctl apply")
    assert projects.problems() == {
        "a": [], "z": [], "pipe": [("layer-unreadable", LAYER)],
        "deep": [("project-crashes", None)], "large": [("project-memory", None)],
    }  # fmt: skip
    bed.run("sh", "-ec", f"sed -i /^memory_max/d {SETTINGS}; qgis-serverctl apply")


def test_databases_and_servers(projects: Projects) -> None:
    bed = projects.bed
    (bed.root / "root/database.py").write_text(DATABASE)
    bed.run("systemd-run", "--unit=database", "python3", "/root/database.py")
    wait_for(lambda: ":5999" in bed.out("ss", "-ltn"), "the database listens")
    wait_for(lambda: ":5998" in bed.out("ss", "-ltn"), "the database listens")
    local = "dbname='gis' host=127.0.0.1 user='gis' password='no'"
    projects.on_postgres("password.qgs", f"{local} port=5998")
    projects.on_postgres("mute.qgs", f"{local} port=5999")
    projects.on_postgres("refused.qgs", f"{local} port=1")
    projects.on_postgres("unknown.qgs", "dbname='gis' host=nowhere.invalid port=5432")
    projects.on_postgres("service.qgs", "service='nowhere'")
    projects.on_postgres("socket.qgs", "dbname='gis'")
    # Words that an author chooses decide nothing.
    evil = "dbname='28P01' host=127.0.0.1 port=1 user='password authentication failed 28P01'"
    projects.on_postgres("evil.qgs", evil)
    assert projects.problems() == {
        "password": [("layer-password", LAYER)],
        "mute": [("layer-server", LAYER)],
        "refused": [("layer-server", LAYER)],
        "unknown": [("layer-server", LAYER)],
        "service": [("layer-service", LAYER)],
        "socket": [("layer-database", LAYER)],
        "evil": [("layer-server", LAYER)],
    }
    shorts = {one["name"]: one["problems"][0]["short"] for one in projects.look()["projects"]}
    assert (shorts["mute"], shorts["refused"]) == ("no answer", "server down")
    assert shorts["unknown"] == "unknown server"
    bed.run("systemctl", "stop", "database")


def test_names_that_have_no_address(projects: Projects) -> None:
    bed, folder = projects.bed, projects.folder
    for name in ("Meine&Karte.qgs", "plan.QGS", "twice.qgs", "nord/wege.qgs"):
        projects.put(name)
    bed.run("cp", "/srv/maps/world.qgz", f"{FOLDER}/twice.qgz")
    (folder / "folder.qgz").mkdir()
    os.mkfifo(folder / "pipe.qgz")
    (folder / "lost.qgs").symlink_to("/opt/lost.qgs")
    found = projects.look()
    assert [one["name"] for one in found["projects"]] == ["twice"]
    told = {one["path"].removeprefix(f"{FOLDER}/"): one["id"] for one in found["without"]}
    assert told == {
        "Meine&Karte.qgs": "project-name", "plan.QGS": "project-name",
        "twice.qgs": "project-hidden", "nord/wege.qgs": "project-below",
        "folder.qgz": "project-name", "pipe.qgz": "project-name", "lost.qgs": "project-missing",
    }  # fmt: skip
    reported = findings(bed)
    assert {where: one["id"] for where, one in reported.items()} == told
    for name in ("Meine&Karte.qgs", "plan.QGS"):
        bed.run("sh", "-ec", reported[name]["remedy"])
    names = [one["name"] for one in projects.look()["projects"]]
    assert names == ["Meine_Karte", "plan", "twice"]


USED = (
    "Meine Karte", "U\u0308bersicht", "a+b", "Plan d'eau (2)", "карта", "地図", "Wasser, Süd",
    "(alt) Plan \u2013 Nord", "wfs3",
)  # fmt: skip
"""Names of files that people use; one is decomposed, as from macOS."""

ODD = (
    "a;b", "a%41", "a%", "a|b", 'a"b', "a$b", "a\\b", "a:b", "a#b", "a?b", "a=b", "a\tb", "a\nb",
    "a&b", "a ", " a", "-a", ",a", "a{b}", "a<b>", "a@b", "a*", "a\x7fb", "a\x85b",
    "a\u202eb", "a\u2028b", "a\ufeffb", "a\udcffb", "a\udcc3b",
)  # fmt: skip
"""Names that no project is served by."""

CAPABILITIES = "SERVICE=WMS&REQUEST=GetCapabilities"

CACHED = 8192
CACHED_SITE = f"""
server {{
    listen {CACHED};
    add_header X-Cache $upstream_cache_status always;
    include snippets/qgis-server.conf;
}}
"""


def encoded(name: str) -> str:
    return quote(name, errors="surrogateescape")


def test_names_that_people_use_are_served(projects: Projects) -> None:
    bed = projects.bed
    for name in (*USED, *ODD):
        projects.put(f"{name}.qgs")
    found = projects.look()
    assert sorted(one["name"] for one in found["projects"]) == sorted(USED)
    assert {one["id"] for one in found["without"]} == {"project-name"}
    assert len(found["without"]) == len(ODD)
    for name in (*ODD, "a+b\n", "a+b\nc", "a+b\n/x"):
        url = f"http://127.0.0.1/qgis/{encoded(name)}?{CAPABILITIES}"
        assert bed.fetch(url).status == 404, name
    for one in found["projects"]:
        name = one["name"]
        assert (one["state"], one["problems"]) == ("ok", [])
        path = urlsplit(one["url"]).path
        assert path == f"/qgis/{quote(name)}"
        base = f"http://127.0.0.1{path}"
        # The URLs in replies, as a client sends them, which encodes what is not ASCII.
        links = []
        for service in ("WMS", "WFS"):
            reply = bed.fetch(f"{base}?SERVICE={service}&REQUEST=GetCapabilities")
            assert reply.status == 200, (name, service, reply.body)
            told = [value for element in ElementTree.fromstring(reply.body).iter()
                    for key, value in element.attrib.items() if key.endswith("}href")]  # fmt: skip
            links += [link for link in told if link.startswith("http://127.0.0.1/")]
        reply = bed.fetch(f"{base}/wfs3/collections.json")
        assert reply.status == 200, (name, reply.body)
        collections = json.loads(reply.body)
        links += [link["href"] for link in collections["links"]]
        assert len(set(links)) > 2
        for link in sorted(set(links)):
            assert not re.search(r"[\s<>\"]", link), link
            assert unquote(urlsplit(link).path).startswith(f"/qgis/{name}"), link
            whole = "/wfs3/" in link or "REQUEST=" in link
            more = "" if whole else f"?{CAPABILITIES}"
            # As curl sends what is not ASCII, and as browsers do.
            for sent in {link, quote(link, safe="%:/?#[]@!$&'()*+,;=~")}:
                assert bed.fetch(f"{sent.rstrip('?')}{more}").status == 200, sent
    assert "reloads" in bed.run("qgis-serverctl", "reload", USED[-2]).stderr
    assert projects.problems(USED[-2]) == {USED[-2]: []}


def test_a_client_puts_nothing_into_replies_by_the_way_it_writes_a_name(
    projects: Projects,
) -> None:
    bed = projects.bed
    projects.put("Meine Karte.qgs")
    for way in ("{}%20/../Meine%20Karte", "{}%2F..%2FMeine%20Karte", "{}%20/%2e%2e/Meine%20Karte",
                "Meine%20Karte/{}/..", "./Meine%20Karte", "/Meine%20Karte"):  # fmt: skip
        path = way.replace("{}", '"><evil>')
        reply = bed.fetch(
            f"http://127.0.0.1/qgis/{path}?{CAPABILITIES}", "--path-as-is", "--globoff"
        )
        assert b"<evil>" not in reply.body, way
        if reply.status == 200:
            ElementTree.fromstring(reply.body)
    reply = bed.fetch(f"http://127.0.0.1/qgis/M%65ine%20Karte?{CAPABILITIES}")
    assert b"127.0.0.1/qgis/Meine%20Karte?" in reply.body
    assert int(reply.headers["content-length"]) == len(reply.body)
    number = hashlib.md5(f"{FOLDER}/Meine Karte.qgs".encode()).hexdigest()
    second = bed.fetch(f"http://127.0.0.1/qgis-server/project/{number}/?{CAPABILITIES}")
    assert second.headers["location"] == f"/qgis/Meine%20Karte?{CAPABILITIES}"


def test_what_is_kept_of_names_that_people_use(projects: Projects) -> None:
    bed = projects.bed
    (bed.root / "etc/nginx/conf.d/cached.conf").write_text(CACHED_SITE)
    bed.run("sh", "-ec", f"echo 'reply_cache = \"20M\"' >>{SETTINGS}; qgis-serverctl apply")
    names = USED[-3:-1]
    for name in names:
        projects.put(f"{name}.qgs")

    def ask(name: str) -> tuple[int, str, bool]:
        url = f"http://127.0.0.1:{CACHED}/qgis/{quote(name)}?{CAPABILITIES}"
        reply = bed.fetch(url)
        return reply.status, reply.headers.get("x-cache", ""), b"Changed" in reply.body

    def are(wanted: tuple[int, str, bool]) -> bool:
        return all(ask(name) == wanted for name in names)

    wait_for(lambda: are((200, "HIT", False)), "replies are kept")
    for name in names:
        projects.put(f"{name}.qgs", ">Second<", ">Changed<")
    wait_for(lambda: are((200, "HIT", True)), "new replies are kept")
    bed.run("rm", "/etc/nginx/conf.d/cached.conf")
    bed.run("sh", "-ec", f"sed -i /^reply_cache/d {SETTINGS}; qgis-serverctl apply")


WAL = """
import binascii, io, os, sqlite3, sys, zipfile
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("x.qgs", open("/srv/maps/second.qgs").read().replace("./", "/srv/maps/"))
database = sqlite3.connect(sys.argv[1])
database.execute("CREATE TABLE qgis_projects (name TEXT PRIMARY KEY, metadata BLOB, content BLOB)")
row = ("x", "{}", binascii.hexlify(archive.getvalue()))
database.execute("INSERT INTO qgis_projects VALUES (?, ?, ?)", row)
database.commit()
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE later (x)")
database.commit()
os.remove(f"{sys.argv[1]}-shm")
os._exit(0)
"""


def test_a_geopackage_that_was_left_in_wal_mode(projects: Projects) -> None:
    """As by somebody who copied it and what lies beside it while it was edited: nobody can open it
    without writing there."""
    bed = projects.bed
    file = "/srv/left/it's.gpkg"
    bed.run("install", "-D", "-m", "644", "-o", "nobody", "/srv/maps/world_map.gpkg", file)
    bed.run("chown", "nobody", "/srv/left")
    bed.run("python3", "-c", WAL, file)
    # Its data are read all the same, but without the edits beside them.
    projects.put("data.qgs", "./world_map.gpkg", escape(file))
    line = f'named_projects = ["left=geopackage:{file}?projectName=x"]'
    bed.run("tee", "-a", SETTINGS, input=f"{line}\n")
    ctl(bed, "apply")
    try:
        url = f"http://127.0.0.1/qgis/left?{CAPABILITIES}"
        reply = bed.fetch(url)
        assert reply.status == 500
        # Nobody is asked for what would be refused.
        assert b"MAP" not in reply.body
        assert b"the log of the server says why" in reply.body
        data = f"http://127.0.0.1/qgis/data?{CAPABILITIES}"
        assert bed.fetch(data).status == 200
        problems = {"left": [("project-wal", None)], "data": [("layer-wal", LAYER)]}
        assert projects.problems() == problems
        told = findings(bed)
        assert {one["severity"] for one in told.values()} == {"warning", "error"}
        for one in told.values():
            assert file in one["what"]
            bed.run("sh", "-ec", one["remedy"])
        assert bed.fetch(url).status == 200
        assert projects.problems() == {"left": [], "data": []}
        bed.run("chmod", "600", file)
        assert projects.problems("left") == {"left": [("project-unreadable", None)]}
    finally:
        bed.run("sh", "-ec", f"sed -i /^named_projects/d {SETTINGS}; rm -r /srv/left")
        ctl(bed, "apply")


def test_a_name_in_the_settings(projects: Projects) -> None:
    bed = projects.bed
    projects.put("x.qgs")
    line = f'named_projects = ["Süd (neu) d\'eau={FOLDER}/x.qgs"]'
    old = (bed.root / SETTINGS.lstrip("/")).read_text()
    (bed.root / SETTINGS.lstrip("/")).write_text(f"{old}\n{line}\n")
    ctl(bed, "apply")
    name = "Süd (neu) d'eau"
    assert projects.problems() == {"x": [], name: []}
    assert bed.fetch(f"http://127.0.0.1/qgis/{quote(name)}?{CAPABILITIES}").status == 200
    assert bed.fetch(f"http://127.0.0.1/qgis/{quote(name)}x?{CAPABILITIES}").status == 404
    (bed.root / SETTINGS.lstrip("/")).write_text(old)
    ctl(bed, "apply")


def test_what_authors_write_is_text(projects: Projects) -> None:
    bed = projects.bed
    projects.put("title.qgs", ">Second<", f">{EVIL}<")
    projects.put("layer.qgs", "./world_map.gpkg", f"./{EVIL}.gpkg")
    (projects.folder / f"{EVIL.replace('/', '')}.qgs").touch()
    (projects.folder / "$(touch forged).qgs").touch()
    projects.look()
    for words in (("projects",), ("check",)):
        shown = bed.run("qgis-serverctl", *words, check=False).stdout
        assert "forged" in shown
        assert all(c == "\n" or c.isprintable() for c in shown)
    assert projects.look("title")["projects"][0]["title"].startswith("T")


def test_a_result_of_somebody_else_is_refused(projects: Projects) -> None:
    bed = projects.bed
    file = "/var/cache/qgis-server/catalogue/catalogue.json"
    projects.look()
    # It is replaced at the next look: so the unit must not run.
    bed.run("sh", "-ec", f"echo '{{\"format\": 1}}' >{file}; systemctl mask --runtime {UNIT}")
    done = bed.run("qgis-serverctl", "check", check=False)
    assert "not checked: projects: " in done.stdout
    bed.run("systemctl", "unmask", "--runtime", UNIT)
    assert projects.look()["projects"] == []


def test_hundreds_of_projects(projects: Projects) -> None:
    """Most of them need no QGIS, which takes its time."""
    bed = projects.bed
    make = "cp /srv/maps/second.qgs good$n.qgs"
    half = "head -c 9999 /srv/maps/second.qgs >half$n.qgs"
    bed.run(
        "sh", "-ec",
        f"cd {FOLDER}; for n in 1 2 3 4 5; do {make}; done; for n in $(seq 295); do {half}; done",
    )  # fmt: skip
    found = projects.look()["projects"]
    assert sorted(one["state"] for one in found) == ["error"] * 295 + ["ok"] * 5
    good = [one for one in found if one["state"] == "ok"]
    assert [one for one in projects.look()["projects"] if one["state"] == "ok"] == good
    shown = bed.run("qgis-serverctl", "check", check=False).stdout
    assert "276 more of these [project-broken]" in shown


def test_it_is_no_worker_in_either_layout(projects: Projects) -> None:
    bed = projects.bed

    def has_no_socket() -> None:
        projects.look()
        shown = bed.out("systemctl", "show", UNIT, "--property=Requires,TriggeredBy,Wants,After")
        assert ".socket" not in shown.replace("systemd-journald.socket", ""), shown
        numbers = [one["instance"] for one in json.loads(ctl(bed, "status", "--json"))["instances"]]
        assert all(isinstance(one, int) for one in numbers)
        assert findings(bed) == {}

    has_no_socket()
    bed.run("qgis-serverctl", "queue", "shared")
    has_no_socket()
    bed.run("qgis-serverctl", "queue", "per-worker")
    has_no_socket()
    exposure = bed.run("systemd-analyze", "security", "--no-pager", UNIT, check=False).stdout
    worker = bed.run(
        "systemd-analyze", "security", "--no-pager", "qgis-server@1.service", check=False
    ).stdout
    level = re.compile(r"exposure level for \S+: ([0-9.]+)")
    assert level.findall(exposure) == level.findall(worker) != []
