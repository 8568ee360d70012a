# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches the replies of a pool of one worker while requests are sent to it, and finds the request
after which one is no longer as it was."""

from __future__ import annotations

import http.client
import json
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from testbed import Reply, Testbed

from shared.paths import SHARED
from shared.pool import ctl, main_pid, wait_for
from shared.serving import PROJECTS, Case, comparable

from .attempts import HUNG_UP
from .replies import CASES, RICH

EDITED = "/srv/edit"
TIMEOUT = 60.0
EACH = 400
"""Requests between two looks at the replies."""
FIRST = 3
"""Differences that are reported at most: each takes a while to be found."""
ENV = "QT_HASH_SEED=0\n"
"""Else Qt orders attributes of XML anew in each process."""
# The list of QGIS Server's landing page is one of the replies.
SETTINGS = f'writable_folders = ["{EDITED}"]\nfront_page = "qgis"\n'


class Sent(Protocol):
    """A request: its name for people, and its bytes."""

    @property
    def name(self) -> str: ...
    @property
    def raw(self) -> bytes: ...


def add_projects(bed: Testbed) -> None:
    """Put the watched projects, and the plugin that tells of the process, into a booted testbed.
    The workers' settings are for the caller."""
    bed.run("cp", "--archive", "/srv/maps/.", PROJECTS)
    bed.run("mkdir", "--parents", EDITED)
    bed.put(Path(__file__).with_name("rich.py"), "/root/rich.py")
    platform = {"QT_QPA_PLATFORM": "offscreen", "QT_HASH_SEED": "0"}
    bed.run("python3", "/root/rich.py", PROJECTS, EDITED, env=platform)
    bed.run("chmod", "--recursive", "a+rX", PROJECTS)
    bed.run("sh", "-c", f"mkdir {EDITED}/as-made && cp {EDITED}/*.gpkg {EDITED}/as-made")
    bed.run("chown", "--recursive", "qgis-server:qgis-server", EDITED)
    bed.put(SHARED / "probing_plugin", "/usr/share/qgis/python/plugins/")
    bed.run("tee", "--append", "/etc/qgis-server/env", input=ENV)


@contextmanager
def watched(bed: Testbed, *settings: str) -> Iterator[Watch]:
    """Make the pool of a booted testbed one worker that serves the watched projects by name."""
    add_projects(bed)
    bed.run("rm", "--force", "/etc/qgis-server/server.auto.toml")
    bed.run(
        "tee",
        "/etc/qgis-server/server.toml",
        input="\n".join((f"{SETTINGS}instances = 1", "heavy_workers = 0", *settings, "")),
    )
    ctl(bed, "site", "enable")
    ctl(bed, "apply")
    ctl(bed, "restart")
    yield Watch(bed)


def ask(port: int, case: Case) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    headers = {"Host": "127.0.0.1"}
    if case.accept:
        headers["Accept"] = case.accept
    try:
        connection.request(case.method, case.target, case.body, headers)
        reply = connection.getresponse()
        found = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, found, reply.read())
    finally:
        connection.close()


def send(port: int, request: Sent) -> None:
    """And wait for the reply, whatever it is; but for those whose client hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as to:
        with suppress(BrokenPipeError, ConnectionResetError):
            to.sendall(request.raw)
        if request.name.startswith(HUNG_UP):
            to.settimeout(0.03)
            with suppress(TimeoutError, ConnectionResetError):
                to.recv(1)
            return
        with suppress(ConnectionResetError):
            while to.recv(65536):
                pass


def kept(reply: Reply) -> bytes:
    """What must not change."""
    kind = reply.headers.get("content-type", "")
    return f"{reply.status} {kind}\n".encode() + comparable(reply.body)


def difference(name: str, before: bytes, after: bytes) -> str:
    pairs = enumerate(zip(before, after, strict=False))
    at = next((number for number, (a, b) in pairs if a != b), len(before))
    part = slice(max(at - 60, 0), at + 60)
    return f"{name}: at byte {at} {before[part]!r} has become {after[part]!r}"


class Watch:
    """`cases`: what is asked for. The pool must have one worker."""

    def __init__(self, bed: Testbed, cases: Sequence[Case] = CASES) -> None:
        self.bed = bed
        self.cases = cases
        self.port = bed.forward()
        self.dice = random.Random(1)
        self.late: list[str] = []
        """Requests without a reply."""

    def pid(self) -> int:
        return main_pid(self.bed, 1)

    def take(self) -> dict[str, bytes]:
        """The replies as they are, asked for in another order each time: they may depend on each
        other, too."""
        found = {}
        for case in self.dice.sample(self.cases, len(self.cases)):
            reply = ask(self.port, case)
            try:
                case.check(reply)
            except AssertionError:
                found[case.name] = f"complaint of {case.name}: ".encode() + reply.body[:400]
                continue
            found[case.name] = kept(reply)
        return found

    def probe(self, what: str, argument: str = "") -> Reply:
        query = f"SERVICE=WMS&REQUEST=GetSchemaExtension&PROBE={what}&WITH={argument}"
        return ask(self.port, Case(what, query, lambda reply: None, project=None, prefix=RICH))

    def state(self) -> dict[str, Any]:
        """What the worker's process is, see probing_plugin."""
        reply = self.probe("state")
        found: dict[str, Any] = json.loads(reply.body)
        return found

    def forget(self) -> None:
        """The next request is the first one of each project."""
        for name in ("rich.qgs", "spare.qgs", "world.qgz"):
            self.probe("forget", f"{PROJECTS}/{name}")

    def renew(self) -> None:
        """The worker is a new process, and its data are as they were."""
        before = self.pid()
        again = (
            f"systemctl stop $0 && cp --archive {EDITED}/as-made/* {EDITED} && systemctl start $0"
        )
        self.bed.run("sh", "-c", again, "qgis-server@1.service")
        wait_for(lambda: self.pid() not in (0, before), "the worker is a new one")

    def differences(self, before: dict[str, bytes]) -> list[str]:
        after = self.take()
        return [
            difference(name, before[name], new)
            for name, new in after.items()
            if before[name] != new
        ]

    def send(self, requests: Sequence[Sent]) -> None:
        for request in requests:
            try:
                send(self.port, request)
            except TimeoutError:
                self.late.append(request.name)

    def send_and_look(
        self,
        requests: Sequence[Sent],
        before: dict[str, bytes],
        each: int = EACH,
        say: Callable[[str], None] = print,
    ) -> list[str]:
        """Send them all, compare from time to time, and find what has changed a reply."""
        wrong: list[str] = []
        for first in range(0, len(requests), each):
            part = requests[first : first + each]
            self.send(part)
            if changed := self.differences(before):
                say("\n".join(changed))
                wrong += self.culprits(part, before, say) or [
                    f"one of the requests {first} to {first + each}, but not by itself: {changed}"
                ]
                if len(wrong) >= FIRST:
                    break
                self.renew()
        return wrong

    def culprits(
        self,
        requests: Sequence[Sent],
        before: dict[str, bytes],
        say: Callable[[str], None] = print,
        most: int = FIRST,
    ) -> list[str]:
        """Those of them after which, in a new process, a reply is another one; first it is asked
        for all, as the reply may depend on what has been read before."""
        self.renew()
        self.take()
        self.send(requests)
        changed = self.differences(before)
        if not changed:
            return []
        if len(requests) == 1:
            name = f"{requests[0].name}\n{requests[0].raw!r}\n" + "\n".join(changed)
            say(name)
            return [name]
        half = len(requests) // 2
        found = self.culprits(requests[:half], before, say, most)
        if len(found) < most:
            found += self.culprits(requests[half:], before, say, most - len(found))
        return found or [f"{[one.name for one in requests]} together: {changed}"]


def shuffled(requests: Sequence[Sent], seed: int) -> list[Sent]:
    mixed = list(requests)
    random.Random(seed).shuffle(mixed)
    return mixed


def complaints(replies: dict[str, bytes]) -> list[str]:
    return [text.decode() for text in replies.values() if text.startswith(b"complaint")]
