# SPDX-License-Identifier: GPL-2.0-or-later
"""Do more workers than cores pay? This package with 1, 2 and 4 workers for each core, under
light requests alone, with more clients than any of these has workers."""

from __future__ import annotations

import dataclasses
from typing import Any

from shared.pool import cpus_of_init, ctl, settled, wait_for
from testbed import Testbed
from testbed.layers import say

from bench import workloads
from bench.compare import Options, drive, prepare, warm_up
from bench.contestants import PROJECT, Contestant, ours
from bench.inside.drive import Group, Spec
from bench.report import Round, of_round, summary

FACTORS = (1, 2, 4)
QUEUE = "shared"
"""So that nothing depends on how requests are spread."""
SECONDS = 3.0
EVERY = 5
"""It has a part in the first of so many rounds: it is not compared with anybody."""


def spec(contestant: Contestant, clients: int, seconds: float) -> Spec:
    return Spec(
        contestant.port,
        [Group(clients, workloads.light(contestant.path))],
        seconds,
        sockets=list(contestant.sockets),
        program=contestant.program,
        apart=contestant.apart,
    )


def measure(bed: Testbed, options: Options) -> dict[str, Any]:
    """In a booted container with the package and NGINX. The rounds go through all numbers of
    workers in turns. `single`: one client, which no second worker can help."""
    prepare(bed)
    cores = cpus_of_init(bed)
    ctl(bed, "site", "enable", "--project", PROJECT)
    ctl(bed, "queue", QUEUE)
    clients = 2 * cores * max(FACTORS)
    rounds: dict[str, list[Round]] = {}
    for number in range(1, options.rounds + 1, EVERY):
        for factor in FACTORS:
            workers = factor * cores
            say(f"round {number} of {options.rounds}: {workers} workers on {cores} cores")
            ctl(bed, "scale", str(workers))
            wait_for(lambda: settled(bed), "the number of workers is applied")
            contestant = ours(QUEUE, workers)
            warm_up(bed, contestant, workers)
            for name, several in (("many", clients), ("single", 1)):
                found = of_round(drive(bed, spec(contestant, several, options.seconds or SECONDS)))
                rounds.setdefault(f"{workers} workers, {name}", []).append(found)
    return {
        "cores": cores,
        "clients": clients,
        "rows": {
            name: summary(there) | {"rounds": [dataclasses.asdict(one) for one in there]}
            for name, there in rounds.items()
        },
    }
