# SPDX-License-Identifier: GPL-2.0-or-later
"""Send the same requests to several workers, each request to all of them before the next one,
and read what processor time each took.

    python3 -m bench.inside.turns <SPEC >RESULT

SPEC is the JSON of `Spec`; RESULT is, by the workers' names, a list of the ms of processor time
that each request took the worker's control group. So close together, whatever else the machine
does falls on all of them alike.
"""

import json
import random
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgis_server_systemd.qgis_serverctl.system import fastcgi

WARM = 20
"""Requests for each worker that are not counted."""


@dataclass(frozen=True)
class Worker:
    """`socket`: its path. `group`: the folder of its control group. `variables`: come with each
    request."""

    name: str
    socket: str
    group: str
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Spec:
    workers: list[Worker]
    queries: list[str]
    number: int


def used(worker: Worker) -> float:
    """Its processor time so far, in ms."""
    lines = Path(worker.group, "cpu.stat").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("usage_usec"))) / 1000


def ask(worker: Worker, query: str) -> None:
    """Until the worker has closed the connection, and so is done with the request."""
    variables = fastcgi.get(query, "/qgis-server") | dict(worker.variables)
    reply = fastcgi.Reply()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(worker.socket)
        connection.sendall(fastcgi.request(variables))
        while piece := connection.recv(65536):
            reply.feed(piece)
    if reply.status != 200 or b"image/png" not in reply.written[:500]:
        sys.exit(f"{worker.name}: no image: {reply.written[:500]!r}")


def run(spec: Spec) -> dict[str, list[float]]:
    dice = random.Random(1)
    found: dict[str, list[float]] = {worker.name: [] for worker in spec.workers}
    for number in range(WARM + spec.number):
        query = spec.queries[number % len(spec.queries)]
        for worker in dice.sample(spec.workers, len(spec.workers)):
            before = used(worker)
            ask(worker, query)
            if number >= WARM:
                found[worker.name].append(round(used(worker) - before, 3))
    return found


def main() -> None:
    given: dict[str, Any] = json.load(sys.stdin)
    workers = [Worker(**one) for one in given.pop("workers")]
    json.dump(run(Spec(workers=workers, **given)), sys.stdout)


if __name__ == "__main__":
    main()
