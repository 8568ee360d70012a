# SPDX-License-Identifier: GPL-2.0-or-later
"""A server with the corpus: the package's pool, an unconfined worker beside it, and the server
that some layers come from."""

from __future__ import annotations

import http.client
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed import Reply, Testbed

from shared.pool import ctl, install, put_package, wait_for

from .cases import FOLDER, Request

ENV = "/etc/qgis-server/env"
SETTINGS = "/etc/qgis-server/server.toml"
PER_REQUEST = "/etc/qgis-server/fastcgi_params"
PASSWORD = "/etc/qgis-server/auth-password"
HOME = "/var/lib/qgis-server/home"
PROGRAM = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
USER = "qgis-server"

# Qt orders attributes of XML by a seed that is otherwise each process's own.
VARIABLES = {
    "QT_HASH_SEED": "0",
    "QGIS_PLUGINPATH": f"{FOLDER}/plugins",
    "QGIS_AUTH_PASSWORD_FILE": PASSWORD,
    "QGIS_SERVER_LANDING_PAGE_PROJECTS_DIRECTORIES": f"{FOLDER}/listed",
}
LOOKED_UP = {
    "PGSERVICEFILE": f"{FOLDER}/pg_service.conf",
    "PGPASSFILE": f"{HOME}/pgpass",
}
UNCONFINED = {
    "QT_QPA_PLATFORM": "offscreen",
    "LANG": "C.UTF-8",
    "HOME": HOME,
    "QGIS_SERVER_LANDING_PAGE_PREFIX": "/qgis-server",
}


@dataclass(frozen=True)
class Sides:
    """Who is asked: ports of this machine, by the name of the side."""

    bed: Testbed
    ports: dict[str, int]

    def ask(self, side: str, request: Request) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[side], timeout=120)
        # Both have the same address for QGIS Server, which names it in replies.
        headers = {"Host": "127.0.0.1"}
        if request.accept:
            headers["Accept"] = request.accept
        body = request.content(side) or None
        if body is not None:
            headers["Content-Type"] = request.content_type
        try:
            connection.request(request.method, request.target(side), body, headers)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, found, reply.read())
        finally:
            connection.close()


@contextmanager
def corpus_bed(suite: str, package: Path) -> Iterator[Sides]:
    with Testbed(suite, corpus=True) as bed:
        put_package(bed, package)
        bed.boot()
        install(bed, "nginx")
        # Some requests name a layer of another server.
        (bed.root / "etc/qgis-server/server.toml").write_text(
            'front_page = "qgis"\nremote_references = true\n'
        )
        settle(bed)
        start_beside(bed)
        ctl(bed, "site", "enable")
        ports = {side: bed.forward(f"127.0.0.1:{port}") for side, port in (("a", 80), ("b", 8090))}
        yield Sides(bed, ports)


def settle(bed: Testbed) -> None:
    """What an administrator does: secrets, variables, and folders that requests may change."""
    auth = "/var/lib/qgis-server/auth"
    owned = ("--owner", USER, "--group", USER)
    bed.run("install", *owned, "--mode=0600", f"{FOLDER}/pgpass", LOOKED_UP["PGPASSFILE"])
    bed.run("install", *owned, "--mode=0600", f"{FOLDER}/auth/qgis-auth.db", auth)
    bed.run("install", *owned, "--mode=0400", "/dev/stdin", PASSWORD, input="master")
    bed.run("chown", "--recursive", f"{USER}:{USER}", f"{FOLDER}/edit-a", f"{FOLDER}/edit-b")
    append(bed, ENV, [f"{name}={value}" for name, value in VARIABLES.items()])
    append(
        bed, PER_REQUEST, [f"fastcgi_param {name} {value};" for name, value in LOOKED_UP.items()]
    )
    # A client may name by MAP what a setting names.
    stored = "postgresql:?service=corpus&schema=public&project=stored"
    append(bed, SETTINGS, [f'named_projects = ["stored={stored}"]'])
    append(bed, SETTINGS, [f'writable_folders = ["{FOLDER}/edit-a"]'])
    # Each worker would draw all that has been asked for, for ten seconds, whenever it starts.
    append(bed, SETTINGS, ["warm = []"])
    ctl(bed, "apply")


def append(bed: Testbed, file: str, lines: list[str]) -> None:
    bed.run("tee", "--append", file, input="".join(f"{line}\n" for line in lines))


def start_beside(bed: Testbed) -> None:
    """The unconfined workers, and NGINX's way to them, with the snippet's own parameters."""
    snippet = bed.out("cat", "/etc/nginx/snippets/qgis-server.conf")
    way = "fastcgi_pass unix:/run/corpus/plain.sock;"
    text, changed = re.subn(r"fastcgi_pass qgis-server;", way, snippet)
    assert changed == 2, "the snippet passes requests on in another way"
    bed.run("tee", f"{FOLDER}/beside.conf", input=text)
    bed.run("cp", f"{FOLDER}/nginx.conf", "/etc/nginx/conf.d/corpus.conf")
    bed.run("install", "--directory", "--owner", USER, "/run/corpus", "/run/corpus/auth")
    copy = ("install", "--owner", USER, "--mode=0600", f"{FOLDER}/auth/qgis-auth.db")
    bed.run(*copy, "/run/corpus/auth")
    for name in ("plain", "remote"):
        own = {
            "QGIS_AUTH_DB_DIR_PATH": "/run/corpus/auth",
            "XDG_CACHE_HOME": f"/run/corpus/{name}-cache",
            "QGIS_CUSTOM_CONFIG_PATH": f"/run/corpus/{name}-profile",
        }
        given = UNCONFINED | VARIABLES | own
        variables = [f"--setenv={key}={value}" for key, value in given.items()]
        program = ("python3", f"{FOLDER}/plain_worker.py", f"/run/corpus/{name}.sock", PROGRAM)
        bed.run("systemd-run", f"--unit=corpus-{name}", f"--uid={USER}", *variables, *program)
    for name in ("plain", "remote"):
        await_socket(bed, f"/run/corpus/{name}.sock")


def await_socket(bed: Testbed, path: str) -> None:
    wait_for(lambda: not bed.run("test", "-S", path, check=False).returncode, f"{path} is there")


def tables(bed: Testbed, side: str) -> list[str]:
    """What a side's data are, after all requests: of the GeoPackage and of PostgreSQL."""
    query = f"SELECT id, name, rank, ST_AsText(geom) FROM places_{side} ORDER BY id"
    stored = bed.out("psql", "--dbname=gis", "--no-align", "--command", query, user="postgres")
    file = shlex.quote(f"{FOLDER}/edit-{side}/places.gpkg")
    kept = bed.out("sh", "-c", f"ogrinfo -ro -al -q {file} places")
    return [stored, kept]
