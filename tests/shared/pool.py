# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed package in a testbed: how it gets there and how it is looked at."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed import RELEASES, Snapshot, Testbed
from testbed.snapshots import cached_snapshot

from qgis_server_systemd.qgis_serverctl.pool.cores import count_list

DEB = "/root/package.deb"
HEAVY = "/run/qgis-server-heavy.sock"
OFFLINE = {"DEBIAN_FRONTEND": "noninteractive"}
MAP = (
    "http://127.0.0.1/qgis-server?MAP=/srv/maps/world.qgz&SERVICE=WMS&VERSION=1.3.0"
    "&REQUEST=GetMap&LAYERS=countries&STYLES=&CRS=EPSG:4326&BBOX=46,6,48,10"
    "&WIDTH=256&HEIGHT=128&FORMAT=image/png"
)

# Comes up at once, accepts on standard input as QGIS Server does, and answers nothing.
WORKER = """#!/usr/bin/perl
use Socket;
# As the package's plugin does in QGIS Server.
open(my $ready, ">", "$ENV{RUNTIME_DIRECTORY}/ready");
while (accept(my $client, STDIN)) { close $client }
"""


def binary(files: Iterable[Path]) -> Path:
    """The package itself, of what a build has made."""
    (deb,) = (file for file in files if file.suffix == ".deb")
    return deb


def assert_lintian_finds_nothing(bed: Testbed, changes: str, suite: str | None) -> None:
    """Of no severity, by the lintian of a testbed; not even an override too many. `suite`: what
    the packages were made for."""
    options = ["-EvIL", "+pedantic", "--allow-root"]
    options.append("--fail-on=error,warning,info,pedantic,experimental")
    if suite is None and (tags := RELEASES[bed.suite].own_tags):
        options.append(f"--suppress-tags={','.join(tags)}")
    command = f"lintian {' '.join(options)} {changes} 2>&1"
    done = bed.chroot("sh", "-c", command, check=False)
    said = [line for line in done.stdout.splitlines() if not line.startswith("N:")]
    assert (done.returncode, said) == (0, []), done.stdout


def put_package(bed: Testbed, package: Path) -> None:
    bed.put(package, DEB)


def allow_map(bed: Testbed) -> None:
    """Requests of most tests name their project by MAP, which is a choice."""
    file = bed.root / "etc/qgis-server/server.auto.toml"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text("map_parameter = true\n")


def install(bed: Testbed, *more: str, package: bool = True, maps: bool = True) -> str:
    """apt install, in a booted testbed; returns what it said. `maps`: with the setting
    map_parameter."""
    if maps and package:
        allow_map(bed)
    names = [DEB, *more] if package else list(more)
    return apt(bed, "install", "--no-install-recommends", *names)


@contextmanager
def nginx_server(suite: str) -> Iterator[Snapshot]:
    """A server with NGINX alone, at rest."""

    def fill(bed: Testbed) -> None:
        bed.boot()
        install(bed, "nginx", package=False)
        bed.shutdown()

    with cached_snapshot("nginx", suite, fill, Path(__file__).read_bytes()) as snapshot:
        yield snapshot


@contextmanager
def installed_server(suite: str, package: Path) -> Iterator[Snapshot]:
    """A server with the package and NGINX, at rest: what others begin with."""

    def fill(bed: Testbed) -> None:
        put_package(bed, package)
        bed.boot()
        install(bed, "nginx")
        bed.shutdown()

    recipe = package.read_bytes(), Path(__file__).read_bytes()
    with cached_snapshot("installed", suite, fill, *recipe) as snapshot:
        yield snapshot


@contextmanager
def serving_bed(installed: Snapshot, *before: Callable[[Testbed], object]) -> Iterator[Testbed]:
    """A booted server with the package, NGINX and the ready site, made of one without. `before`:
    what is done before the boot, so that no worker has to be started again for it."""
    with Testbed(installed.suite, like=installed) as bed:
        bed.chroot("qgis-serverctl", "site", "enable")
        for step in before:
            step(bed)
        bed.boot()
        yield bed


def quick_workers(bed: Testbed) -> None:
    """For tests of what happens around workers, many times, or on a slow machine: nothing
    is rendered, and nobody waits for QGIS Server to come up."""
    worker = bed.root / "usr/lib/cgi-bin/qgis_mapserv.fcgi"
    worker.unlink()
    worker.write_text(WORKER)
    worker.chmod(0o755)


def apt(bed: Testbed, verb: str, *args: str) -> str:
    done = bed.run("apt-get", "--yes", verb, *args, env=OFFLINE)
    return done.stdout + done.stderr


def status(bed: Testbed, command: str = "qgis-serverctl") -> dict[str, Any]:
    """`command`: that of another pool."""
    found: dict[str, Any] = json.loads(bed.out(command, "status", "--json"))
    return found


def works(bed: Testbed) -> set[str | None]:
    """What the workers do, by the word of status: idle, busy, starting. Those for heavy requests
    are among them where they run."""
    found = status(bed)
    heavy = found["heavy"]["workers"] if found["heavy"] else []
    return {line["work"] for line in [*found["instances"], *heavy]}


def settled(bed: Testbed) -> bool:
    """Is nothing left to apply, and no roll under way? In this order: a roll that has not
    begun yet is inactive, too."""
    # To ask systemd first is quick, and enough while one is under way.
    return has_rolled(bed) and status(bed)["pending"] == [] and has_rolled(bed)


def has_rolled(bed: Testbed) -> bool:
    """Is no roll under way that was handed over to its unit?"""
    unit = ("systemctl", "show", "--property=ActiveState", "--value", "qgis-server-roll")
    return bed.out(*unit) == "inactive"


def sockets(bed: Testbed) -> list[str]:
    """The sockets of instances that listen, by the kernel's word; that of the lane for heavy
    requests is none, nor is one for datagrams."""
    lines = (line.split() for line in bed.out("ss", "-lxH").splitlines())
    paths = (words[4] for words in lines if words[0] == "u_str")
    return sorted(path for path in paths if path.startswith("/run/qgis-server-") and path != HEAVY)


def enabled(bed: Testbed) -> list[int]:
    """Instances whose socket is wanted by sockets.target; systemd, if up, must agree."""
    links = (bed.root / "etc/systemd/system/sockets.target.wants").glob("qgis-server@*.socket")
    found = sorted(int(link.name.split("@")[1].split(".")[0]) for link in links)
    for instance in found if bed.booted else ():
        assert bed.out("systemctl", "is-enabled", f"qgis-server@{instance}.socket") == "enabled"
    return found


def upstream(bed: Testbed, *, lane: bool = False) -> list[str]:
    """Paths that NGINX's upstream names, each once; that for heavy requests with `lane`."""
    text = (bed.root / "etc/nginx/conf.d/qgis-server.conf").read_text()
    name = "qgis-server-heavy" if lane else "qgis-server"
    block = text.partition(f"upstream {name} {{")[2].partition("\n}")[0]
    lines = (line.split() for line in block.splitlines())
    return sorted({words[1][5:].rstrip(";") for words in lines if words[:1] == ["server"]})


def path(instance: int) -> str:
    return f"/run/qgis-server-{instance}.sock"


def nginx_is_content(bed: Testbed) -> None:
    done = bed.run("nginx", "-t", check=False)
    assert done.returncode == 0, done.stderr


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 120) -> None:
    start = looked = time.monotonic()
    while not condition():
        now = time.monotonic()
        waited = now - start
        assert waited < timeout, f"waited {timeout} s in vain: {what}"
        # Between two looks, for as long as one takes: others need the time. What never comes true
        # fails above.
        time.sleep(max(0.1, min(waited / 10, 0.5), now - looked))
        looked = time.monotonic()


def main_pid(bed: Testbed, instance: int | str) -> int:
    unit = f"qgis-server@{instance}.service"
    return int(bed.out("systemctl", "show", "--property=MainPID", "--value", unit))


def cpus_of_init(bed: Testbed) -> int:
    done = subprocess.run(
        ["grep", "Cpus_allowed_list", f"/proc/{bed.pid}/status"],
        check=True,
        capture_output=True,
        text=True,
    )
    return count_list(done.stdout.split()[1])


def ctl(bed: Testbed, *args: str, check: bool = True) -> str:
    done = bed.run("qgis-serverctl", *args, check=check)
    return done.stdout + done.stderr


def nothing_is_found(bed: Testbed) -> None:
    """But for what a container lacks, which is no finding."""
    found, *notes = ctl(bed, "check").splitlines()
    assert found == "nothing found", (found, notes)
    assert all(line.startswith("note: there is no cpu controller") for line in notes)


def is_served(bed: Testbed, url: str = MAP) -> None:
    reply = bed.fetch(url)
    assert (reply.status, reply.body[:4]) == (200, b"\x89PNG"), reply.body[:300]


@contextmanager
def load(
    bed: Testbed, *urls: str, clients: int = 2, options: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Send requests while the context lasts; the result is filled in at its end. The
    options are those of load.py."""
    bed.put(Path(__file__).with_name("load.py"), "/root/load.py")
    bed.run("rm", "-f", "/root/stop", "/root/stop.started")
    result: dict[str, Any] = {}
    replies: list[subprocess.CompletedProcess[str]] = []

    def send() -> None:
        replies.append(
            bed.run(
                "python3", "/root/load.py", *options, str(clients), "/root/stop", *(urls or (MAP,))
            )
        )

    thread = threading.Thread(target=send)
    thread.start()
    try:
        wait_for((bed.root / "root/stop.started").exists, "the load begins")
        yield result
    finally:
        bed.run("touch", "/root/stop")
        thread.join()
    result |= json.loads(replies[0].stdout)


def workers(bed: Testbed) -> list[int]:
    """The workers' process IDs, 0 for one that isn't running; without those for heavy requests."""
    pattern = "qgis-server@[0-9]*.service"
    shows = ("systemctl", "show", "--property=MainPID", "--value", pattern)
    return [int(pid) for pid in bed.out(*shows).split()]


def listens(bed: Testbed, port: int) -> bool:
    return bool(bed.out("ss", "-ltnH", f"sport = :{port}"))


def fill(bed: Testbed, folder: str) -> None:
    """Put a file system in the place of a folder, with the files that it has, that is
    full: the filler must not fit."""
    script = (
        "set -e; cp -a $0 /root/kept; size=$(du -sk /root/kept | cut -f 1);"
        "mount -t tmpfs -o size=$((size + 64))k tmpfs $0; cp -a /root/kept/. $0/;"
        "rm -r /root/kept; ! head -c 1M /dev/zero >$0/filler"
    )
    bed.run("sh", "-c", script, folder)


def reload_nginx(bed: Testbed) -> None:
    """And wait until only processes of its new configuration are left."""

    def processes() -> set[str]:
        master = bed.out("systemctl", "show", "--property=MainPID", "--value", "nginx")
        return set(bed.out("pgrep", "--parent", master).split())

    old = processes()
    bed.run("nginx", "-s", "reload")
    wait_for(lambda: not old & processes(), "NGINX's old processes are gone")
