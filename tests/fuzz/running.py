# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends generated requests to a server of its own, and looks at what comes back."""

from __future__ import annotations

import itertools
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from shared.invariants.watch import SETTINGS as WATCHED
from shared.invariants.watch import Watch, add_projects
from shared.pool import ctl, wait_for
from testbed import Snapshot, Testbed

from .making import OTHER, OUTSIDE, SECRET_FILE, Made, comparable, is_left_out, make

CANARY = b"canary-7d1f"
"""In all that must not be told."""

TOLD = (CANARY, b"root:x:0:0:", b"evil.example", b"\r\nX-Split:")
PROJECTS = "/var/lib/qgis-server/projects"
TIMEOUT = 60.0
CLIENTS = 4
SETTINGS = f"{WATCHED}request_timeout = 20\n"
EACH = 500
"""Requests between two looks at the replies that must stay."""
UP = (
    "http://127.0.0.1/qgis/world?SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=countries&STYLES="
    "&CRS=EPSG:4326&BBOX=-60,-120,60,120&WIDTH=64&HEIGHT=32&FORMAT=image/png"
)
ENVIRONMENT = f"[Service]\nEnvironment=SECRET_WORD={CANARY.decode()}\n"


@dataclass
class Outcome:
    """`sent`: requests by the status of their reply; "none" where there was none. `told`:
    requests whose reply had what must not be told. `kept`: what was still there of requests when
    others were sent."""

    sent: Counter[str] = field(default_factory=Counter)
    told: list[Made] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


@contextmanager
def target_bed(installed: Snapshot, instances: int = 1) -> Iterator[Testbed]:
    """A server as after README's way; besides, secrets outside of its folders."""
    with Testbed(installed.suite, like=installed) as bed:
        bed.boot()
        bed.run("rm", "--force", "/etc/qgis-server/server.auto.toml")
        bed.run(
            "tee",
            "/etc/qgis-server/server.toml",
            input=f"{SETTINGS}instances = {instances}\nheavy_workers = 0\n",
        )
        bed.run("mkdir", OUTSIDE)
        add_projects(bed)
        bed.run("cp", "/srv/maps/world_map.gpkg", OUTSIDE)
        bed.run("tee", SECRET_FILE, input=CANARY.decode())
        text = bed.out("cat", "/srv/maps/second.qgs").replace(">Second<", f">{CANARY.decode()}<")
        bed.run("tee", OTHER, input=text)
        dropin = "/etc/systemd/system/qgis-server@.service.d/90-secret.conf"
        bed.run("install", "-D", "/dev/stdin", dropin, input=ENVIRONMENT)
        bed.run("systemctl", "daemon-reload")
        ctl(bed, "site", "enable")
        ctl(bed, "restart")
        yield bed


def send(port: int, made: Made) -> bytes:
    """The whole reply, empty if the connection was only closed."""
    parts = []
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as to:
        with suppress(BrokenPipeError, ConnectionResetError):
            to.sendall(made.raw)
            to.shutdown(socket.SHUT_WR) if made.number % 10 == 0 else None
        with suppress(ConnectionResetError):
            while part := to.recv(65536):
                parts.append(part)
    return b"".join(parts)


def is_up(bed: Testbed) -> bool:
    return bed.fetch(UP, "--max-time", "60").body[:4] == b"\x89PNG"


def run(
    bed: Testbed,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    most: float = math.inf,
) -> Outcome:
    """Send requests for so long, and at most so many. Raises AssertionError if the pool does not
    serve after it."""
    watch, outcome, first = Watch(bed), Outcome(), 0
    watch.take()
    before = watch.take()
    end = time.monotonic() + seconds
    while time.monotonic() < end and first < most:
        many = send_some(watch.port, seed, first, min(first + EACH, most), end, outcome)
        wait_for(lambda: is_up(bed), "the pool serves", 120)
        if watch.differences(before):
            say(f"seed {seed}, numbers {first} to {first + many}: a reply is another one now")
            made = comparable(seed, range(first, first + many))
            outcome.kept += watch.culprits(made, before, say) or [
                f"seed {seed}, numbers {first} to {first + many}, at the same time"
            ]
            watch.renew()
        first += many
        say(f"{outcome.sent.total()} requests: {dict(outcome.sent)}")
    return outcome


def send_some(port: int, seed: int, first: int, until: float, end: float, outcome: Outcome) -> int:
    """Send the requests of these numbers, as long as there is time; returns how many it were."""
    numbers, lock = itertools.count(first), threading.Lock()
    many = 0

    def client() -> None:
        nonlocal many
        while time.monotonic() < end:
            with lock:
                if (number := next(numbers)) >= until:
                    return
                many += 1
                made = make(seed, number)
            if is_left_out(made):
                continue
            try:
                reply = send(port, made)
                status = reply[9:12].decode("ascii", "replace") or "none"
            except TimeoutError:
                reply, status = b"", "timeout"
            with lock:
                outcome.sent[status] += 1
                # What a request itself said may come back; not so what it did not know.
                if any(word in reply and word not in made.raw for word in TOLD):
                    outcome.told.append(made)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return many


def describe(made: Made) -> str:
    return f"seed {made.seed}, number {made.number}:\n{made.raw!r}"
