# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark itself still runs, in its shortest form."""

from __future__ import annotations

import json

import pytest
from testbed import Testbed

from bench import cost, document, machine, store
from bench.compare import Options, compare
from bench.report import text, without_nan

WITHOUT = ("this package", "... without its sandbox", "... without QGIS's profile folder")


@pytest.mark.either
def test_a_short_benchmark(server: Testbed) -> None:
    options = Options(2, 1, 2.0, contestants=("ours-per-worker",), workloads=("light", "boot"))
    found = compare(server, options)
    again = store.whole(json.loads(json.dumps(without_nan(store.slim(found)), allow_nan=False)))
    assert again["missing"] == {}
    one = again["workloads"]["light"]["ours-per-worker"]
    light = one["kinds"]["light"]
    assert (light["failed"], one["problems"]) == (0, {})
    assert light["rate"]["median"] > 0
    assert 0 < light["p50"]["median"] <= light["p99"]["median"] <= light["max"]["median"]
    assert one["workers"]["median"] == 2
    assert one["pss"]["median"] > 50, "of two workers, in MiB"
    boot = again["workloads"]["boot"]["ours-per-worker"]["kinds"]
    assert [boot[kind]["replies"]["median"] for kind in ("first", "warm")] == [2, 20]
    assert one["idle_while_waiting"] is not None, "the queue was looked at"
    # The generator must not be what is measured.
    assert again["generator_rate"] > 3 * light["rate"]["most"]
    versions = machine.versions(server)
    assert versions.keys() == {"qgis-server", "nginx", "systemd"}
    release = {"versions": versions, "compare": again}
    assert "ours-per-worker" in text(server.suite, release)
    assert "ours-per-worker" in "".join(document.release(server.suite, release, ()))


@pytest.mark.either
def test_what_a_tile_costs_workers_side_by_side(server: Testbed) -> None:
    chosen = tuple(one for one in cost.VARIANTS if one.name in (cost.BASE, *WITHOUT))
    found = cost.measure(server, number=5, variants=chosen)
    assert list(found) == [one.name for one in chosen]
    assert all(one["median"] > 1 for one in found.values()), "ms of processor time"
    assert len({one["mean"] for one in found.values()}) == len(found), "of each worker its own"
    # What makes a worker another one has reached it.
    show = ("systemctl", "show", "--property=RootDirectory,Environment")
    shown = [server.out(*show, f"qgis-server@{number}") for number in (1, 2, 3)]
    assert ["RootDirectory=/" in one for one in shown] == [True, False, True]
    assert ["=/nonexistent" in one for one in shown] == [False, False, True]
