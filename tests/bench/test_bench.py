# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark itself still runs, in its shortest form."""

from __future__ import annotations

import json

import pytest
from shared.pool import wait_for
from testbed import Testbed
from testbed.folders import cpu_group_of

from bench import cost, document, machine, own, store, watched, weights
from bench.compare import Options, compare
from bench.inside.drive import poisson
from bench.report import text, without_nan

WITHOUT = ("this package", "... without its sandbox", "... without QGIS's profile folder")


@pytest.mark.long
def test_a_short_benchmark(server: Testbed) -> None:
    rows = ("light", "open+prints", "boot")
    options = Options(2, 1, 1.5, contestants=("ours-per-worker",), workloads=rows)
    found = compare(server, options)
    again = store.whole(json.loads(json.dumps(without_nan(store.slim(found)), allow_nan=False)))
    assert again["missing"] == {}
    one = again["workloads"]["light"]["ours-per-worker"]
    light = one["kinds"]["light"]
    assert (light["failed"], one["problems"]) == (0, {})
    assert light["rate"]["median"] > 0
    assert 0 < light["p50"]["median"] <= light["p99"]["median"] <= light["max"]["median"]
    # On a busy machine a tile may take as long as a heavy request, and go to the lane of those.
    assert one["workers"]["median"] in (2, 4)
    assert one["pss"]["median"] > 50, "of two workers, in MiB"
    beside = again["workloads"]["open+prints"]["ours-per-worker"]
    assert beside["problems"] == {}
    due = len(poisson(again["light_rate"], 1.5, 1))
    assert beside["kinds"]["light"]["replies"]["median"] == due
    assert beside["kinds"]["heavy"]["replies"]["median"] >= 3 * 2
    assert beside["late"]["most"] < 1
    assert again["weights"].keys() == {"ours-per-worker"}
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


def test_weights_of_units_count_also_of_those_that_start_later(bed: Testbed) -> None:
    bed.boot()
    group = cpu_group_of(bed.bed.name)
    with weights.in_force(bed) as state:
        start = ("systemd-run", "--unit=low", "--slice=test-low.slice", "--property=CPUWeight=10")
        bed.run(*start, "sleep", "infinity")
        if state.text != weights.INSIDE:
            assert group is not None
            there = group / "test.slice/test-low.slice/low.service"
            wait_for(lambda: weights.of(str(there)) != [], "the process is in a group")
            assert (there / "cpu.shares").read_text() == "102\n"
            assert (group / "system.slice/cpu.shares").read_text() == "1024\n"
            (pid,) = weights.of(str(there))
    if state.text != weights.INSIDE:
        assert (state.text, group is not None and group.exists()) == (weights.OUTSIDE, False)
        assert weights.own_group(pid, "cpu") == weights.own_group(bed.pid, "cpu")


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
    # The same server: what it costs that somebody watches it. What a scrape costs is a difference,
    # less than nothing where the machine is busy; that it was one shows in who answers it.
    before = own.used(server, "nginx.service")
    assert isinstance(own.scrape(server, 20), float)
    assert own.used(server, "nginx.service") > before
    priced = watched.measure(server, pairs=2, seconds=0.5)
    assert priced["pairs"] == 2
    assert {"rate_more_percent", "p99_more_error", "cpu_more_percent"} <= priced.keys()
    assert server.out("systemctl", "is-active", "qgis-server-metrics.service") == "active"
