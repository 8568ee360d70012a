# SPDX-License-Identifier: GPL-2.0-or-later
"""A project that has changed is served anew by every worker, and never half of it. So is what it
depends on."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shared.pool import apt, ctl, install, listens, main_pid, settled, status, wait_for, works
from shared.projects import PROJECT, title, titles, workers
from testbed import RELEASES, SUITES, Testbed

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


def test_a_project_in_a_geopackage(pool: Testbed) -> None:
    pool.run("cp", f"{FOLDER}/world_map.gpkg", f"{FOLDER}/store.gpkg")
    is_served_from_a_store(pool, f"geopackage:{FOLDER}/store.gpkg?projectName=stored", "root")


@pytest.fixture(scope="module")
def database(pool: Testbed) -> Iterator[Testbed]:
    """The server, with PostgreSQL, which was not there when its workers started."""
    install(pool, "postgresql", package=False)
    pool.run("createuser", "qgis-server", user="postgres")
    pool.run("createdb", "--owner=qgis-server", "gis", user="postgres")
    try:
        yield pool
    finally:
        # Its workers would hold connections to it for the rest of the tests.
        ctl(pool, "restart")
        apt(pool, "purge", "postgresql*")


def test_a_project_in_postgresql(database: Testbed) -> None:
    all_see_the_database(database)
    uri = "postgresql:?host=/run/postgresql&dbname=gis&schema=public&project=stored"
    is_served_from_a_store(database, uri, "qgis-server", comes_again)


# ---- What else a project depends on


CREDENTIALS = "/etc/qgis-server/credentials"
MASTER = f"{CREDENTIALS}/master-password"
SERVICES = f"{CREDENTIALS}/pg_service.conf"
SECRET = ("install", "--group=qgis-server", "--mode=640")
MAP = (
    "SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=a&STYLES=&CRS=EPSG:4326&BBOX=46,6,48,10"
    "&WIDTH=256&HEIGHT=128&FORMAT=image/png"
)
FEATURES = "SERVICE=WFS&VERSION=1.1.0&REQUEST=GetFeature&TYPENAME=a"
TABLE = 'key=\'id\' type=None table="public"."words"'
REMOTE = "crs=EPSG:4326&format=image/png&layers=a&styles=&url=https://maps.test:8443/"
LAYERS = {
    "https": ("wms", REMOTE),
    "service": ("postgres", f"service='city' {TABLE}"),
    "stored": ("postgres", f"dbname='gis' host=db.test authcfg=outside {TABLE}"),
}
"""By project: where its layer comes from."""

MAKE = """
import json, sys
from qgis.core import (QgsApplication, QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer,
    QgsVectorLayer)
application = QgsApplication([], False)
application.initQgis()
for name, (provider, source) in json.loads(sys.argv[1]).items():
    project = QgsProject()
    project.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    kind = QgsRasterLayer if provider == "wms" else QgsVectorLayer
    layer = kind(source, "a", provider)
    assert layer.isValid(), (name, layer.error().summary())
    project.addMapLayer(layer)
    project.writeEntry("WFSLayers", "/", [layer.id()])
    assert project.write(f"/srv/maps/{name}.qgs"), project.error()
"""

STORE_PASSWORD = """
import sys
from qgis.core import QgsApplication, QgsAuthMethodConfig
application = QgsApplication([], False)
application.initQgis()
manager = QgsApplication.authManager()
assert manager.setMasterPassword(sys.argv[1], True)
one = QgsAuthMethodConfig("Basic")
one.setId("outside")
one.setName("of the database")
one.setConfig("username", "gis")
one.setConfig("password", sys.argv[2])
found = manager.storeAuthenticationConfig(one)
assert found[0] if isinstance(found, tuple) else found
"""


def is_red(png: bytes) -> bool:
    """Its first pixel."""
    data = png.partition(b"IDAT")[2]
    return bool(data) and zlib.decompressobj().decompress(data)[1:4] == b"\xff\0\0"


class Outside:
    """What projects depend on, beside the pool."""

    def __init__(self, bed: Testbed) -> None:
        self.bed = bed
        bed.put(Path(__file__).parents[1] / "shared/outside.py", "/root/outside.py")

    def shell(self, script: str, *words: str, input: str | None = None) -> None:
        self.bed.run("sh", "-ec", script, *words, input=input)

    def python(self, script: str, *words: str, **variables: str) -> None:
        environment = {"QT_QPA_PLATFORM": "offscreen", "HOME": "/tmp", **variables}
        self.bed.run("python3", "-c", script, *words, env=environment)

    def start(self, what: str, word: str, there: tuple[str, ...]) -> None:
        program = ("python3", "/root/outside.py", what, word)
        self.bed.run("systemd-run", f"--unit=outside-{what}", *program)
        wait_for(lambda: self.bed.run(*there, check=False).returncode == 0, f"{what} answer")

    def stop(self, what: str) -> None:
        self.bed.run("systemctl", "stop", f"outside-{what}")

    def names(self, address: str) -> None:
        """A name server, and no other one."""
        self.shell("echo nameserver $0 >/etc/new; mv /etc/new /etc/resolv.conf", address)
        self.start("names", address, ("getent", "hosts", "maps.test"))

    def maps(self, authority: str) -> None:
        """A server of maps, whose certificate is by that authority."""
        self.shell(
            "cd /root; new='openssl req -newkey rsa:2048 -nodes -batch'\n"
            "$new -x509 -subj /CN=$0 -keyout ca.key -out ca.crt\n"
            "$new -subj /CN=maps.test -keyout maps.pem -out maps.csr\n"
            "echo subjectAltName=DNS:maps.test >names\n"
            "openssl x509 -req -in maps.csr -CA ca.crt -CAkey ca.key -CAcreateserial"
            " -extfile names >>maps.pem",
            authority,
        )
        listens = ("sh", "-c", "ss -ltnH | grep -q :8443")
        self.start("maps", "/root/maps.pem", listens)

    def trust(self) -> None:
        folder = "/usr/local/share/ca-certificates"
        self.shell(f"cp /root/ca.crt {folder}/outside.crt; update-ca-certificates")

    def password(self, word: str) -> None:
        """The database takes no other one from now on."""
        self.bed.run("psql", "-c", f"ALTER USER gis PASSWORD '{word}'", user="postgres")
        # Who has a connection keeps it.
        self.bed.run("systemctl", "restart", "postgresql")

    def service(self, word: str) -> None:
        text = f"[city]\nhost=db.test\ndbname=gis\nuser=gis\npassword={word}\n"
        self.bed.run(*SECRET, "/dev/stdin", SERVICES, input=text)

    def store(self, master: str, word: str) -> None:
        """QGIS's authentication database, with another master password."""
        self.shell("rm -rf /root/auth; mkdir /root/auth")
        self.python(STORE_PASSWORD, master, word, QGIS_AUTH_DB_DIR_PATH="/root/auth")
        self.master(master)
        self.bed.run(*SECRET, "/root/auth/qgis-auth.db", "/var/lib/qgis-server/auth")

    def master(self, password: str) -> None:
        self.bed.run(*SECRET, "/dev/stdin", MASTER, input=password)

    def served(self, *projects: str) -> bool:
        """By each worker: NGINX has them take turns."""

        def has(project: str) -> bool:
            url = f"http://127.0.0.1/qgis-server?MAP={FOLDER}/{project}.qgs"
            if project == "https":
                return is_red(self.bed.fetch(f"{url}&{MAP}").body)
            return b">hello<" in self.bed.fetch(f"{url}&{FEATURES}").body

        return all(has(project) for project in projects for _ in range(6))


@pytest.fixture
def outside(database: Testbed) -> Iterator[Outside]:
    """All is there, and each worker has served all of it."""
    one = Outside(database)
    listens = "echo \"listen_addresses = '*'\" >$(ls -d /etc/postgresql/*/main/conf.d)/all.conf"
    one.shell(listens)
    one.names("127.0.0.1")
    one.maps("first")
    one.trust()
    own = (
        "CREATE TABLE words (id int PRIMARY KEY, word text); INSERT INTO words VALUES (1, 'hello')"
    )
    user = "CREATE USER gis; GRANT SELECT ON words TO gis"
    database.run("psql", "-c", f"{own}; {user}", "gis", user="postgres")
    one.password("one")
    one.service("one")
    one.store("first", "one")
    layers = json.dumps(LAYERS)
    stored = {"QGIS_AUTH_DB_DIR_PATH": "/root/auth", "QGIS_AUTH_PASSWORD_FILE": MASTER}
    one.python(MAKE, layers, PGSERVICEFILE=SERVICES, **stored)
    # That there is a file with services is a setting of the unit.
    ctl(database, "apply")
    wait_for(lambda: one.served(*LAYERS), "all is served")
    yield one
    one.stop("names")
    one.stop("maps")


def test_what_a_project_depends_on_comes_late_goes_away_and_is_replaced(outside: Outside) -> None:
    """Without a hand at the pool."""
    # Late.
    outside.stop("names")
    outside.bed.run("systemctl", "restart", "qgis-server.target")
    assert not any(map(outside.served, LAYERS))
    outside.names("127.0.0.1")
    wait_for(lambda: outside.served(*LAYERS), "the name server has come late")
    # Gone in between; then there is another one.
    outside.stop("names")
    outside.bed.run("systemctl", "restart", "postgresql")
    assert not any(map(outside.served, ("service", "stored")))
    outside.names("127.0.0.2")
    wait_for(lambda: outside.served(*LAYERS), "there is another name server")
    # Replaced.
    outside.password("two")
    assert not any(map(outside.served, ("service", "stored")))
    outside.service("two")
    wait_for(lambda: outside.served("service"), "the password of the service is replaced")
    outside.store("second", "two")
    wait_for(lambda: outside.served("stored"), "the authentication database is replaced")
    outside.stop("maps")
    outside.maps("second")
    assert not outside.served("https")
    outside.trust()
    wait_for(lambda: outside.served(*LAYERS), "the machine trusts the other authority")


LOCKED = """
from qgis.core import QgsApplication, QgsProject, QgsVectorLayer
application = QgsApplication([], False)
application.initQgis()
source = "dbname='gis' host=127.0.0.1 port=9 authcfg=outside key='id' table=\\"words\\""
project = QgsProject()
project.addMapLayer(QgsVectorLayer(source, "a", "postgres"))
assert project.write("/srv/maps/locked.qgs"), project.error()
"""


@pytest.mark.only(*(suite for suite in SUITES if RELEASES[suite].qgis >= (3, 40)))
def test_no_worker_waits_for_another_master_password(pool: Testbed) -> None:
    """QGIS would, for ever, in the wallet of a desktop."""
    one = Outside(pool)
    one.store("first", "one")
    one.master("second")
    one.python(LOCKED)
    pool.run("systemctl", "restart", "qgis-server.target")
    url = f"http://127.0.0.1/qgis-server?MAP={FOLDER}/locked.qgs&SERVICE=WMS&REQUEST=GetMap"
    try:
        assert {pool.fetch(url).status for _ in range(4)} == {500}
        assert titles(pool, f"{FOLDER}/second.qgs") == {"Second"}
    finally:
        pool.run("rm", MASTER, "/var/lib/qgis-server/auth/qgis-auth.db", f"{FOLDER}/locked.qgs")
        pool.run("systemctl", "restart", "qgis-server.target")


# ---- A file server

SHARED = "/mnt/shared"
ON_SERVER = "/srv/store"
SFTP = "/usr/lib/openssh/sftp-server"
SERVE = ("systemd-socket-activate", "--inetd", "--accept", "--listen=2222", SFTP)
# What the client keeps of a file would only hide the server for a while.
MOUNT = "directport=2222,allow_other,reconnect,dir_cache=no,attr_timeout=0,entry_timeout=0"


def test_a_file_server_hangs_goes_away_and_comes_back(pool: Testbed, template: str) -> None:
    """Without a hand at the pool. FUSE stands for each network file system: who reads waits in the
    kernel for as long as the server does not answer."""
    install(pool, "sshfs", "openssh-sftp-server", package=False)
    project, other = f"{SHARED}/second.qgs", f"{FOLDER}/second.qgs"
    serve = ("systemd-run", "--quiet", "--unit=outside-files", *SERVE)
    settings = pool.root / "etc/qgis-server/server.toml"
    before = settings.read_text()

    def save(name: str) -> None:
        """On the server, as another host would."""
        write(pool, titled(template, name), f"{ON_SERVER}/second.qgs")

    def all_have(name: str) -> bool:
        """Through NGINX, by each worker in turn."""
        url = f"http://127.0.0.1/qgis-server?MAP={project}&SERVICE=WMS&REQUEST=GetCapabilities"
        replies = [pool.fetch(url) for _ in range(6)]
        return all(f"<Title>{name}</Title>".encode() in reply.body for reply in replies)

    settings.write_text(f'{before}data_folders = ["/srv", "{SHARED}"]\n')
    ctl(pool, "apply")
    try:
        # It comes late.
        pool.run("mkdir", SHARED)
        pool.run("cp", "--archive", FOLDER, ON_SERVER)
        save("Late")
        pool.run(*serve)
        wait_for(lambda: listens(pool, 2222), "the file server listens")
        pool.run("sh", "-c", "test -e /dev/fuse || mknod --mode=666 /dev/fuse c 10 229")
        mount = ("sshfs", "-f", "-o", MOUNT, f"127.0.0.1:{ON_SERVER}", SHARED)
        pool.run("systemd-run", "--quiet", "--unit=outside-mount", *mount)
        wait_for(lambda: all_have("Late"), "the file system has come late")
        save("Changed")
        wait_for(lambda: all_have("Changed"), "what another host has changed")
        # Those that had started before the file system came are restarted.
        wait_for(lambda: settled(pool), "no worker is restarted any more")
        wait_for(lambda: titles(pool, project) == {"Changed"}, "each worker has it")
        # It does not answer.
        pids = {n: main_pid(pool, n) for n in workers(pool)}
        freeze = ("systemctl", "kill", "outside-files")
        pool.run(*freeze, "--signal=STOP")
        save("Waited for")

        def all_wait() -> bool:
            """Those for heavy requests, which an earlier test may have started, are not asked."""
            return {line["work"] for line in status(pool)["instances"]} == {"busy"}

        def ask(instance: int) -> None:
            """Again and again: a worker does not look at the file for each request."""
            while title(pool, instance, project) != "Waited for":
                pass

        waiting = [threading.Thread(target=ask, args=(n,)) for n in pids]
        for thread in waiting:
            thread.start()
        wait_for(all_wait, "all workers wait for it")
        done = pool.run("qgis-serverctl", "check", "--json", check=False)
        found = [(one["id"], one["where"]) for one in json.loads(done.stdout)["findings"]]
        assert ("folder-silent", SHARED) in found
        assert [where for id, where in found if id == "folder-silent"] == [SHARED]
        pool.run(*freeze, "--signal=CONT")
        for thread in waiting:
            thread.join()
        wait_for(lambda: all_have("Waited for"), "it answers again")
        assert {n: main_pid(pool, n) for n in workers(pool)} == pids
        # It is gone, and with it its connections.
        pool.run("systemctl", "stop", "outside-files")
        save("Back")
        assert not all_have("Back")
        assert titles(pool, other) == {"Second"}
        pool.run(*serve)
        wait_for(lambda: all_have("Back"), "it is there again")
    finally:
        pool.run("systemctl", "stop", "outside-mount", "outside-files", check=False)
        settings.write_text(before)
        ctl(pool, "apply")
        pool.run("rm", "-r", ON_SERVER)
        pool.run("rmdir", SHARED)
