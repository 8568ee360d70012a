# SPDX-License-Identifier: GPL-2.0-or-later
"""How heavy requests are told, and what share of the workers they have."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.pool import path

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.front import heavy

SHARED = "/run/qgis-server.sock"


@given(st.integers(2, 10**7), st.integers(0, 10**8))
def test_a_number_is_told_by_its_digits(least: int, number: int) -> None:
    found = re.fullmatch(heavy.at_least(least), str(number))
    assert (found is not None) == (number >= least)


@pytest.mark.parametrize(
    ("limit", "count", "share"),
    [(0, 4, 0), (1, 4, 1), (4, 4, 3), (9, 1, 1), ("25%", 8, 2), ("25%", 2, 1), ("99%", 4, 3)],
)
def test_the_share_leaves_a_worker_to_others(limit: int | str, count: int, share: int) -> None:
    assert Settings(heavy_workers=limit).heavy_share(count) == share


def test_while_workers_move_to_the_shared_queue_each_counts_where_it_is() -> None:
    lines = heavy.servers(Package(), [SHARED, path(2), SHARED, SHARED]).splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        f"unix:{SHARED} max_fails=0 max_conns=2;",
        f"unix:{SHARED} max_fails=0 max_conns=1;",
        f"unix:{path(2)} max_fails=0;",
    ]
