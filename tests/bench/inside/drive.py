# SPDX-License-Identifier: GPL-2.0-or-later
"""Send requests, and sample the workers meanwhile.

    python3 -m bench.inside.drive <SPEC >RESULT

SPEC is the JSON of `Spec`, RESULT that of `Result`. Each client is a thread that makes a
connection of its own for each request, and sends the next one when it has the reply: a closed
loop, which asks less of those who are slow. Requests at a rate are an open loop: each is sent at
its time, whatever has become of the others, and what it waits to be sent is a part of its
latency. A request that has begun within the time is waited for, however long it takes.
"""

import contextlib
import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.inside.sample import look, processes, takers

TIMEOUT = 60.0
"""Seconds that a client waits for the next piece of a reply."""
CPU = Path("/sys/fs/cgroup/cpu.stat")
"""Of the whole container; this program does not belong to its control groups."""
COMMAND_AFTER = 0.5
"""Seconds of load before the command."""
EXCHANGE = 30.0
"""Seconds that the workers of before may take to go, once the command has ended."""
READY = 60.0
"""Seconds that workers may take until they wait for requests."""
WARM = 20
"""Requests that tell how long one takes when all is warm."""
FORM = "application/x-www-form-urlencoded"
LIGHT = "light"
"""The kind of request that a load ends after enough of."""


@dataclass(frozen=True)
class Request:
    """What it counts as, the path with its query, the beginning of the reply's Content-Type, and
    the pixels of the map that comes. A POST if it has a `form`, which is its body."""

    kind: str
    path: str
    content: str
    pixels: int = 0
    form: str = ""


@dataclass(frozen=True)
class Group:
    """Clients that send the same requests, each beginning at another one. With a `rate` the
    requests come at so many a second instead, by a Poisson process that has this `seed`; they all
    count as one client's."""

    clients: int
    requests: list[Request]
    rate: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Spec:
    """`port` on 127.0.0.1. `command` runs under the load, which then lasts as long as the
    command at least; with `first` it runs before, and the only request is repeated until there
    is a reply. With `ready` it runs before, too: once so many workers wait for requests, the
    only request is sent to each of them, one after the other, see `run_ready`. `enough`: so many
    light requests end the load before its time. `replaced` is a pattern for the processes that
    the command is to replace. `sockets`, `program` and `apart`: see sample.py."""

    port: int
    groups: list[Group]
    seconds: float
    command: list[str] = field(default_factory=list)
    first: bool = False
    ready: int = 0
    enough: int = 0
    replaced: str = ""
    sockets: list[str] = field(default_factory=list)
    program: str = ""
    apart: str = ""


@dataclass(frozen=True)
class Sent:
    """A request that has ended: the number of its client, when it began (at a rate: when it was
    due) and how long it took from then, in seconds; `problem` is empty if the reply was whole and
    of the kind that was asked for."""

    client: int
    kind: str
    began: float
    took: float
    size: int
    pixels: int
    problem: str


@dataclass(frozen=True)
class Result:
    """`seconds`: of the load, without the wait for the last replies. `wall`: until the last
    reply. Processor time meanwhile, in seconds: `cpu` of the container, `own_cpu` of this
    program, `others_cpu` of everybody else on the machine. `command`: how
    long it took, until the workers of before had gone; `stayed`: how many of them had not.
    `late`: seconds from when a request was due until it was sent, the most of all. `samples`: see
    sample.py."""

    sent: list[Sent]
    seconds: float
    wall: float
    cpu: float
    own_cpu: float
    others_cpu: float
    command: float
    stayed: int
    samples: dict[str, float]
    late: float = 0.0


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """When requests are due, in seconds from the beginning: so many a second on the mean, each
    whenever it likes."""
    dice = random.Random(seed)
    found = []
    at = dice.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += dice.expovariate(rate)
    return found


def verdict(reply: bytes, content: str) -> str:
    """What is wrong with a reply, all that came until the connection was closed."""
    head, end, body = reply.partition(b"\r\n\r\n")
    if not end:
        return "no reply" if not reply else "cut off in the header"
    lines = head.decode("latin-1").split("\r\n")
    status = lines[0].split(" ", 2)[1]
    if status != "200":
        return f"status {status}"
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    if "content-length" in fields and len(body) != int(fields["content-length"]):
        return "cut off"
    if fields.get("transfer-encoding") == "chunked" and not body.endswith(b"0\r\n\r\n"):
        return "cut off"
    if not fields.get("content-type", "").startswith(content):
        return f"Content-Type {fields.get('content-type', '')}"
    return ""


def written(port: int, request: Request) -> bytes:
    """The request as it is sent."""
    head = (
        f"{'POST' if request.form else 'GET'} {request.path} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\nUser-Agent: bench\r\nAccept: */*\r\nConnection: close\r\n"
    )
    if request.form:
        head += f"Content-Type: {FORM}\r\nContent-Length: {len(request.form)}\r\n"
    return f"{head}\r\n{request.form}".encode("ascii")


def ask(port: int, request: Request) -> tuple[int, str]:
    """The size of the reply, and what is wrong with it."""
    pieces = []
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.sendall(written(port, request))
            while piece := connection.recv(262144):
                pieces.append(piece)
    except TimeoutError:
        return 0, f"no reply within {TIMEOUT:g} s"
    except OSError as error:
        return 0, error.strerror or repr(error)
    reply = b"".join(pieces)
    return len(reply), verdict(reply, request.content)


class Load:
    """The clients at work."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.sent: list[Sent] = []
        self.stop = threading.Event()
        self.stayed = 0
        self.late = 0.0
        self.start = time.monotonic()

    def send(self, number: int, request: Request, began: float) -> str:
        """What is wrong with the reply."""
        size, problem = ask(self.spec.port, request)
        took = time.monotonic() - began
        pixels = 0 if problem else request.pixels
        self.sent.append(
            Sent(number, request.kind, began - self.start, took, size, pixels, problem)
        )
        return problem

    def client(self, number: int, requests: list[Request], turn: int) -> None:
        """One request at least."""
        while True:
            request = requests[turn % len(requests)]
            turn += 1
            if self.send(number, request, time.monotonic()):
                # As a client would; else refused connections would be all that is counted.
                self.stop.wait(0.1)
            if self.stop.is_set():
                break

    def arrivals(self, number: int, group: Group) -> None:
        """All requests of a group that has a rate, each by a thread of its own."""
        threads = []
        for turn, at in enumerate(poisson(group.rate, self.spec.seconds, group.seed)):
            due = self.start + at
            left = due - time.monotonic()
            # On a busy machine it may be told to stop late, when the request is due.
            if left > 0 and self.stop.wait(left) and time.monotonic() < due:
                break
            request = group.requests[turn % len(group.requests)]
            thread = threading.Thread(target=self.send, args=(number, request, due))
            thread.start()
            threads.append(thread)
            self.late = max(self.late, time.monotonic() - due)
        for thread in threads:
            thread.join()

    def run(self) -> tuple[float, float]:
        """How long the load and the command lasted, in seconds."""
        threads: list[threading.Thread] = []
        for group in self.spec.groups:
            if group.rate:
                args: tuple[Any, ...] = (len(threads), group)
                threads.append(threading.Thread(target=self.arrivals, args=args))
            for number in range(group.clients):
                turn = number * len(group.requests) // group.clients
                args = (len(threads), group.requests, turn)
                threads.append(threading.Thread(target=self.client, args=args))
        for thread in threads:
            thread.start()
        command = 0.0
        if self.spec.command:
            time.sleep(COMMAND_AFTER)
            begin = time.monotonic()
            pattern = self.spec.replaced
            old = set(processes(pattern)) if pattern else set()
            subprocess.run(self.spec.command, stdout=sys.stderr, check=True)
            deadline = time.monotonic() + EXCHANGE
            while old & set(processes(pattern)) and time.monotonic() < deadline:
                time.sleep(0.1)  # between two looks
            command = time.monotonic() - begin
            self.stayed = len(old & set(processes(pattern))) if old else 0
        left = self.start + self.spec.seconds - time.monotonic()
        self.wait(max(left, 1.0 if self.spec.command else 0.0))
        seconds = time.monotonic() - self.start
        self.stop.set()
        for thread in threads:
            thread.join()
        return seconds, command

    def wait(self, seconds: float) -> None:
        """Until the time is over or there have been enough requests."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            enough = self.spec.enough
            if enough and sum(one.kind == LIGHT for one in self.sent) >= enough:
                break
            time.sleep(min(left, 0.05) if enough else left)

    def run_ready(self) -> tuple[float, float]:
        """The first request of each worker once all wait for one, and then as many as tell how
        long one takes when all is warm. What is free is taken in turns, so that each of the
        first ones goes to another worker; but where each process of NGINX counts for itself,
        some first ones are among the warm."""
        (request,) = self.spec.groups[0].requests
        subprocess.run(self.spec.command, stdout=sys.stderr, check=True)
        deadline = time.monotonic() + READY
        ready = 0
        while ready < 2 and time.monotonic() < deadline:
            there = takers(self.spec.program, self.spec.apart)
            all_wait = len(there) >= self.spec.ready and len(look(there, ()).idle) == len(there)
            ready = ready + 1 if all_wait else 0
            time.sleep(0.2)  # between two looks
        command = time.monotonic() - self.start
        for kind in ["first"] * self.spec.ready + ["warm"] * WARM:
            began = time.monotonic()
            size, problem = ask(self.spec.port, request)
            took = time.monotonic() - began
            self.sent.append(Sent(0, kind, began - self.start, took, size, request.pixels, problem))
        return time.monotonic() - self.start, command

    def run_first(self) -> tuple[float, float]:
        """The time until the command has ended and the first reply has come counts as that
        request's."""
        (request,) = self.spec.groups[0].requests
        subprocess.run(self.spec.command, stdout=sys.stderr, check=True)
        command = time.monotonic() - self.start
        problem = "not asked yet"
        while problem and time.monotonic() < self.start + TIMEOUT:
            began = time.monotonic()
            size, problem = ask(self.spec.port, request)
            if problem:
                took = time.monotonic() - began
                self.sent.append(Sent(0, request.kind, began - self.start, took, size, 0, problem))
                time.sleep(0.05)  # as a client would wait
            else:
                took = time.monotonic() - self.start
                self.sent.append(Sent(0, request.kind, 0.0, took, size, request.pixels, ""))
        return time.monotonic() - self.start, command


def container_cpu() -> float:
    """Processor time of the container so far, in seconds."""
    for line in CPU.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    raise SystemExit(f"drive: {CPU} has no usage_usec")


def machine_cpu() -> float:
    """Processor time of the whole machine so far, in seconds (proc(5), /proc/stat)."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    user, nice, system, _, _, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def drive(spec: Spec) -> Result:
    sampler = subprocess.Popen(
        [sys.executable, "-m", "bench.inside.sample", spec.program, spec.apart, *spec.sockets],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sampler.stdin is not None and sampler.stdout is not None
    # It says when it is ready.
    select.select([sampler.stdout], [], [], 30)
    sampler.stdout.readline()
    load = Load(spec)
    whole, cpu, own = machine_cpu(), container_cpu(), time.process_time()
    if spec.ready:
        seconds, command = load.run_ready()
    else:
        seconds, command = load.run_first() if spec.first else load.run()
    sampler.stdin.write("\n")
    sampler.stdin.flush()
    wall = time.monotonic() - load.start
    cpu, own = container_cpu() - cpu, time.process_time() - own
    whole = machine_cpu() - whole
    samples = json.loads(sampler.communicate()[0])
    others = max(0.0, whole - cpu - own - samples["cpu"])
    return Result(
        load.sent, seconds, wall, cpu, own, others, command, load.stayed, samples, load.late
    )


def main() -> None:
    given = json.load(sys.stdin)
    groups = [
        Group(**{**group, "requests": [Request(**request) for request in group["requests"]]})
        for group in given.pop("groups")
    ]
    # What is measured are the contestants, not how long this program waits for a core.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    json.dump(asdict(drive(Spec(groups=groups, **given))), sys.stdout)


if __name__ == "__main__":
    main()
