# SPDX-License-Identifier: GPL-2.0-or-later
"""Who takes part. All are in one container, started in turns, each on a port of its own;
NGINX is one for all that need it. The files of each are in rivals/NAME, as they lie on the
server, with Jinja2 for values."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from shared.hand_made import ENV, SERVICE, SOCKET, site
from shared.pool import ctl
from testbed import RELEASES, Testbed

from bench.workloads import CACHE

FILES = Path(__file__).with_name("rivals")
MAPSERV = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
PROJECT = "/srv/maps/world.qgz"
PROGRAM = r"/usr/lib/cgi-bin/qgis_mapserv\.fcgi"
PY_QGIS_SERVER = "py-qgis-server==1.9.6"


class Unavailable(Exception):
    """A contestant can't run here; the text says why."""


@dataclass(frozen=True)
class Contestant:
    """`path`: the beginning of its URLs, up to the query. `start`, `stop` and `restart` are
    commands; `restart` exchanges all workers, by the best way that it has to do so. `before`
    comes before a start, and is not measured. `rounds`: no more than so many, where so much
    more processor time goes into a request that more rounds would only tell it again; `only`: no
    other workloads, if any is named. `sockets`: paths that its workers accept on; empty where
    requests wait elsewhere, so that they can't be seen from outside. `apart`: the control group of
    workers that accept on other ones. `needs`: a program without
    which it can't run. `replaced`: the processes that a restart replaces, as a pattern; empty
    where they can't be told from others."""

    name: str
    title: str
    port: int
    start: str
    stop: str
    restart: str
    before: str = ""
    path: str = "/qgis-server?"
    sockets: tuple[str, ...] = ()
    apart: str = ""
    program: str = PROGRAM
    replaced: str = PROGRAM
    needs: str = ""
    prepare: Callable[[Testbed, int], None] | None = None
    rounds: int = 1000
    only: tuple[str, ...] = ()
    ours: bool = False


def put(bed: Testbed, file: str, text: str) -> None:
    here = bed.root / file.lstrip("/")
    here.parent.mkdir(parents=True, exist_ok=True)
    # A package may have left a link there, which leads the host elsewhere.
    here.unlink(missing_ok=True)
    here.write_text(text)


def put_files(bed: Testbed, name: str, workers: int) -> None:
    """The files of a rival."""
    jinja = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    folder = FILES / name
    for file in folder.rglob("*"):
        if file.is_file():
            text = jinja.from_string(file.read_text()).render(
                workers=workers, mapserv=MAPSERV, project=PROJECT, folder=str(Path(PROJECT).parent)
            )
            put(bed, f"/{file.relative_to(folder)}", text)


def put_recipe(bed: Testbed, workers: int) -> None:
    """The recipe of QGIS's documentation to the letter, but for the names and the port."""
    units = "/etc/systemd/system"
    put(bed, f"{units}/recipe@.socket", SOCKET.replace("/qgis-server-", "/recipe-"))
    put(bed, f"{units}/recipe@.service", SERVICE.replace("/etc/qgis-server/", "/etc/recipe/"))
    put(bed, "/etc/recipe/env", ENV)
    text = site(workers).replace("/run/qgis-server-", "/run/recipe-")
    text = text.replace("listen 80 default_server", "listen 8101")
    put(bed, "/etc/nginx/sites-enabled/recipe", text)


def has_py_qgis_server(suite: str) -> bool:
    """Does it run with this release's QGIS?"""
    return RELEASES[suite].qgis >= (3, 28)


def put_py_qgis_server(bed: Testbed, workers: int) -> None:
    """From PyPI; what it depends on is from Debian."""
    if not has_py_qgis_server(bed.suite):
        raise Unavailable(f"{PY_QGIS_SERVER} needs QGIS 3.28, {bed.suite} has an older one")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*command, "--wheel-dir", folder, PY_QGIS_SERVER], capture_output=True, text=True
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise Unavailable(f"pip can't get it: {lines[0] if lines else 'no wheel'}")
        bed.put(wheels[0], "/opt/py-qgis-server.zip")
    bed.run("python3", "-m", "zipfile", "-e", "/opt/py-qgis-server.zip", "/opt/py-qgis-server")
    put_files(bed, "py-qgis-server", workers)


def put_ours(bed: Testbed, workers: int) -> None:
    ctl(bed, "site", "enable", "--project", PROJECT)
    ctl(bed, "scale", str(workers))


def each(pattern: str, workers: int) -> str:
    return " ".join(pattern.replace("N", str(number + 1)) for number in range(workers))


def unit(name: str, restart: str = "") -> dict[str, Any]:
    """Commands for a contestant that is one unit. The end of its turn is not measured, and
    some take all of TimeoutStopSec= for a stop."""
    return {
        "start": f"systemctl start {name}",
        "stop": f"systemctl kill --signal=KILL {name} || true; systemctl stop {name}",
        "restart": restart or f"systemctl restart {name}",
    }


def ours(queue: str, workers: int) -> Contestant:
    paths = [f"/run/qgis-server-{number + 1}.sock" for number in range(workers)]
    return Contestant(
        f"ours-{queue}",
        f"this package, queue = {queue}",
        80,
        # It starts what it finds stopped.
        before=f"qgis-serverctl queue {queue}; systemctl stop qgis-server.target qgis-server.slice",
        start="systemctl start qgis-server.target",
        stop="systemctl stop qgis-server.target qgis-server.slice",
        restart="qgis-serverctl restart",
        sockets=tuple(paths) if queue == "per-worker" else ("/run/qgis-server.sock",),
        apart="/qgis-server-heavy.slice/",
        prepare=put_ours,
        ours=True,
    )


def cached(workers: int) -> Contestant:
    """This package with its reply cache, for requests that are repeated."""
    toml = "/etc/qgis-server/server.toml"
    plain = ours("per-worker", workers)
    return dataclasses.replace(
        plain,
        name=CACHE,
        title="this package, queue = per-worker, with a reply cache",
        before=f"echo 'reply_cache = \"100M\"' >>{toml}; qgis-serverctl apply; {plain.before}",
        stop=f"sed -i '/^reply_cache = /d' {toml}; qgis-serverctl apply; {plain.stop}",
        only=("repeat",),
    )


def contestants(workers: int) -> tuple[Contestant, ...]:
    """All, with so many workers each; the first is what the others are compared with."""
    services = each("recipe@N.service", workers)
    recipe = Contestant(
        "recipe",
        "the recipe of QGIS's documentation",
        8101,
        start=f"systemctl start {each('recipe@N.socket', workers)} {services}",
        stop=f"systemctl stop {each('recipe@N.socket', workers)} {services}",
        restart=f"for unit in {services}; do systemctl restart $unit; done",
        sockets=tuple(f"/run/recipe-{number + 1}.sock" for number in range(workers)),
        prepare=put_recipe,
    )
    return (
        recipe,
        ours("per-worker", workers),
        ours("shared", workers),
        cached(workers),
        Contestant(
            "multiwatch",
            "spawn-fcgi and multiwatch",
            8104,
            **unit("rival-multiwatch"),
            sockets=("/run/multiwatch/socket",),
            needs="/usr/bin/multiwatch",
        ),
        Contestant(
            "mod_fcgid",
            "Apache with mod_fcgid",
            8105,
            **unit("apache2", "systemctl reload apache2"),
            rounds=3,
            needs="/usr/lib/apache2/modules/mod_fcgid.so",
        ),
        Contestant(
            "uwsgi",
            "uWSGI with a shared FastCGI socket",
            8106,
            **unit("rival-uwsgi", "systemctl reload rival-uwsgi"),
            sockets=("/run/uwsgi-qgis/socket",),
            needs="/usr/bin/uwsgi-core",
        ),
        Contestant(
            "fcgiwrap",
            "fcgiwrap: a process for each request",
            8107,
            **unit("rival-fcgiwrap"),
            sockets=("/run/fcgiwrap-qgis/socket",),
            program=r"/usr/sbin/fcgiwrap",
            rounds=1,
            # At a rate its requests would be more each second than it can answer in a minute.
            only=("first", "light"),
            needs="/usr/sbin/fcgiwrap",
        ),
        # It looks at the file every 3 s.
        Contestant(
            "py-qgis-server",
            "py-qgis-server, without NGINX",
            8108,
            **unit("rival-py-qgis-server", "touch /run/py-qgis-server/restart; sleep 8"),
            path="/ows/?MAP=world.qgz&",
            program=r"/usr/bin/python3 -c from pyqgisserver",
            replaced="",
            rounds=3,
            prepare=put_py_qgis_server,
        ),
    )


def install(bed: Testbed, contestant: Contestant, workers: int) -> None:
    """Put a contestant into a booted container; it does not run yet. Raises Unavailable."""
    if contestant.needs and bed.run("test", "-e", contestant.needs, check=False).returncode:
        raise Unavailable(f"{contestant.needs} is not there: Debian's package is missing")
    if contestant.prepare is not None:
        contestant.prepare(bed, workers)
    else:
        put_files(bed, contestant.name, workers)


def shell(bed: Testbed, command: str) -> None:
    bed.run(*quoted(command))


def described(contestant: Contestant) -> dict[str, str]:
    """What a report says of it."""
    return {key: str(dataclasses.asdict(contestant)[key]) for key in ("title", "restart")}


def quoted(command: str) -> list[str]:
    """The command as arguments."""
    return ["sh", "-ec", command]
