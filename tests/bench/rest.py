# SPDX-License-Identifier: GPL-2.0-or-later
"""A pool as most are: as many workers as cores, little to do. How long after a start of its
services the first tile comes, and what memory it takes once it has drawn some, beside the recipe
with as many workers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from shared.pool import cpus_of_init
from testbed import Testbed
from testbed.layers import say

from bench import contestants, weights, workloads
from bench.compare import Options, drive, install_all, prepare, spec_of
from bench.contestants import PROGRAM, Contestant
from bench.inside.drive import Spec
from bench.inside.sample import processes
from bench.report import Round, of_round, summary
from bench.workloads import OURS, RECIPE, Given
from qgis_server_systemd.qgis_serverctl.system.processes import memory

SECONDS = 2.0
"""Of tiles, so that each worker has drawn some."""


def pss(bed: Testbed, prefix: str) -> tuple[float, float, int]:
    """MiB of all processes of units whose names begin so, what of it is not of workers, and how
    many workers there are: a pool is also what watches over it."""
    workers = set(processes(PROGRAM))
    whole = beside = 0.0
    number = 0
    for unit, pids in weights.units(weights.tree_of(bed)).items():
        for pid in pids if Path(unit).name.startswith(prefix) else ():
            size = memory(pid) or 0.0
            whole += size
            number += pid in workers
            beside += 0 if pid in workers else size
    return whole, beside, number


def start(bed: Testbed, one: Contestant, options: Options, number: int) -> Round:
    """One start of a contestant, as a round."""
    try:
        if one.before:
            contestants.shell(bed, one.before)
        with weights.in_force(bed):
            first = of_round(drive(bed, spec_of(one, workloads.FIRST, options)))
            tiles = workloads.tiles(2 * options.workers)(Given(one.path))
            drive(bed, Spec(one.port, tiles, SECONDS))
            whole, beside, there = pss(bed, "qgis-server" if one.ours else RECIPE)
    finally:
        contestants.shell(bed, one.stop)
    return dataclasses.replace(first, pss=whole, beside=beside, workers=there, number=number)


def measure(bed: Testbed, options: Options) -> dict[str, Any]:
    """In a booted container with the package and NGINX."""
    prepare(bed)
    cores = cpus_of_init(bed)
    wanted = dataclasses.replace(options, workers=cores)
    there = [one for one in contestants.contestants(cores) if one.name in (RECIPE, *OURS)]
    install_all(bed, there, cores, {})
    rounds: dict[str, list[Round]] = {}
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}: a start of each")
        for one in there:
            rounds.setdefault(one.name, []).append(start(bed, one, wanted, number))
    return {
        "workers": cores,
        "rows": {
            name: summary(all_of_it) | {"rounds": [dataclasses.asdict(one) for one in all_of_it]}
            for name, all_of_it in rounds.items()
        },
    }
