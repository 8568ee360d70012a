# SPDX-License-Identifier: GPL-2.0-or-later
"""The model of many hosts behind fronts."""

import pytest
from shared.paths import TOP

from bench.fleet import row, waits


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that wait, where all wait in one queue (Erlang's formula C)."""
    offered = servers * load
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1 - load * (1 - blocked))


@pytest.mark.parametrize("hosts, load", [(1, 0.7), (3, 0.7), (3, 0.9), (10, 0.95)])
def test_behind_one_front_it_is_one_queue(hosts: int, load: float) -> None:
    found = waits(hosts, 8, 1, load, 50_000)
    share = sum(wait > 0 for wait in found) / len(found)
    wanted = erlang_c(hosts * 8, load)
    assert share == pytest.approx(wanted, rel=0.15)
    # Those that wait do for so long.
    mean = wanted / (hosts * 8 * (1 - load))
    assert sum(found) / len(found) == pytest.approx(mean, rel=0.25)


def test_the_table_is_in_the_documents() -> None:
    text = (TOP / "docs/fleet.md").read_text()
    assert row(10) in text
    assert row(100) in text
