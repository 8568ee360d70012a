# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in the emulated machine of test_arm64.py: tells, as lines of JSON, what the pool does
there. Its argument is the URL of a map."""

import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

MAP = sys.argv[1]
WIDE = MAP.replace("WIDTH=256&HEIGHT=128", "WIDTH=3000&HEIGHT=2")
NOTES = Path("/srv/faults/requests")
COMPLAINTS = "could disturb|may fail|no project is|reply stays|cut off|timed out|Failed with result"
PATIENCE = 900
"""Seconds: a start of QGIS Server takes a minute here."""


def ran(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    return done.stdout.strip()


def tell(**found: object) -> None:
    print(json.dumps(found), flush=True)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain: {what}")
        time.sleep(1)  # between two looks; what never comes true ends above


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran("qgis-serverctl", "status", "--json"))
    return found


def works() -> list[str]:
    return sorted(str(line["work"]) for line in status()["instances"])


def are_idle() -> bool:
    return works() == ["idle", "idle"]


def shown(unit: str, name: str) -> list[str]:
    return ran("systemctl", "show", f"--property={name}", "--value", unit).split()


def pids(pattern: str) -> list[str]:
    """The processes of the workers that run."""
    return [pid for pid in shown(f"qgis-server@{pattern}.service", "MainPID") if pid != "0"]


def had(name: str) -> list[str]:
    """The processes of the workers that had the requests of this name."""
    lines = (line.split() for line in NOTES.read_text("utf-8").splitlines())
    return [pid for one, pid in lines if one == name]


def ask(url: str, *options: str) -> subprocess.Popen[bytes]:
    command = ("curl", "--silent", "--max-time", str(PATIENCE), "--write-out", "\n%{http_code}")
    return subprocess.Popen((*command, *options, url), stdout=subprocess.PIPE)


def answer(asked: subprocess.Popen[bytes]) -> list[object]:
    """The status, and by which letters an image tells its format."""
    body, _, code = asked.communicate()[0].rpartition(b"\n")
    return [int(code), body[1:4].decode(errors="replace")]


def fetch(url: str, *options: str) -> list[object]:
    return answer(ask(url, *options))


def probe(what: str, argument: str = "") -> str:
    """What the first worker answers, see probing_plugin."""
    query = f"SERVICE=WMS&REQUEST=GetCapabilities&PROBE={quote(what)}&WITH={quote(argument)}"
    variables = (
        "SCRIPT_NAME=/qgis-server", "REQUEST_METHOD=GET", f"QUERY_STRING={query}",
        f"REQUEST_URI=/qgis-server?{query}", "SERVER_NAME=localhost", "SERVER_PORT=80",
    )  # fmt: skip
    reply = ran("env", *variables, "cgi-fcgi", "-bind", "-connect", "/run/qgis-server-1.sock")
    found = re.search(r"^X-Probed: (.*?)\r?$", reply, re.MULTILINE)
    return found[1] if found else reply


def holding(name: str) -> subprocess.Popen[bytes]:
    """A request in the hand of a worker that has stopped itself; see faulty_plugin."""
    asked = ask(f"{MAP}&FAULT=SIGSTOP&NAME={name}")
    wait_for(lambda: len(had(name)) == 1, "a worker has it")
    return asked


def sockets() -> int:
    return len(re.findall(r"/run/qgis-server-\d+\.sock", ran("ss", "-lxH")))


def serve() -> None:
    wait_for(are_idle, "all workers are up")
    tell(machine=platform.machine(), sockets=sockets(), map=fetch(MAP))
    found = status()
    tell(
        level=found["verdict"]["level"],
        pending=found["pending"],
        qgis=found["qgis"],
        reply_wait=found["reply_wait"],
    )


def be_busy() -> None:
    held = holding("held")
    seen = works()
    ran("kill", "-CONT", *had("held"))
    tell(one_held=seen, held=answer(held))
    wait_for(are_idle, "all workers are idle")


def be_confined() -> None:
    process, other = pids("1")[0], pids("2")[0]
    lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    names = ("NoNewPrivs", "Seccomp", "CapBnd")
    tell(process={name: line.split()[1] for line in lines for name in names if name + ":" in line})
    refused = ("mount", "unshare", "chroot", "personality", "priority", "suid", "packets", "listen")
    tell(refused={what: probe(what) for what in refused}, watch=probe("watch", "/srv/maps"))
    tell(reach=probe("reach", other), own=probe("own"), select=probe("select"))


def take_heavy_ones() -> None:
    tell(lane_before=[line["instance"] for line in status()["heavy"]["workers"]])
    wide = fetch(f"{WIDE}&NAME=wide")
    url, _, query = WIDE.partition("?")
    # By its body, which NGINX does not see: a worker hands it over.
    body = fetch(url, "--data", f"{query}&NAME=body")
    lane, light = set(pids("heavy-*")), set(pids("[0-9]*"))
    tell(wide=wide, body=body)
    tell(had_by=["lane" if pid in lane else "pool" for pid in had("wide") + had("body")[-1:]])
    tell(lane_after=[line["work"] for line in status()["heavy"]["workers"]], light=len(light))


def stop_and_start() -> None:
    held = holding("last")
    (unit,) = (f"qgis-server@{n}.service" for n in (1, 2) if pids(str(n)) == had("last"))
    # systemd has it go on once it is told to stop.
    ran("systemctl", "restart", unit)
    tell(last=answer(held), still_there=shown(unit, "MainPID") == had("last"))
    ran("systemctl", "stop", "qgis-server.slice")
    tell(stopped=[sockets(), pids("*"), fetch(MAP)[0]])
    ran("systemctl", "start", "qgis-server.target")
    wait_for(are_idle, "all workers are up again")
    tell(started=[sockets(), fetch(MAP)])


def look_back() -> None:
    """What the plugin has complained about, what systemd had to kill, and what there is to find."""
    said = ran(
        "journalctl", "--quiet", "--output=cat", "--unit=qgis-server*", f"--grep={COMPLAINTS}"
    )
    found = json.loads(ran("qgis-serverctl", "check", "--json"))
    tell(complaints=said.splitlines(), check=found)


for step in (serve, be_busy, be_confined, take_heavy_ones, stop_and_start, look_back):
    step()
