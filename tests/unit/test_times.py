# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a request has waited and taken, as its worker tells it."""

from __future__ import annotations

import pytest

from qgis_server_systemd.worker_plugin.times import DRAWN, SLOW, WAITED, WORKER, Times


class Clock:
    """Both clocks, some time apart."""

    now = 1000.0

    def times(self) -> Times:
        return Times("heavy-2", lambda: self.now + 1e9, lambda: self.now)


def test_the_wait_and_the_work_apart() -> None:
    clock = Clock()
    times = clock.times()
    times.begin("1000000999.250")
    clock.now += 0.125
    assert times.headers(whole=True) == {WORKER: "heavy-2", WAITED: "0.750", DRAWN: "0.125"}
    times.begin("1000001000.125")
    assert times.headers(whole=True)[WAITED] == "0.000"


def test_of_a_reply_in_pieces_only_the_wait_is_known() -> None:
    times = Clock().times()
    times.begin("1000000999.250")
    assert times.headers(whole=False) == {WORKER: "heavy-2", WAITED: "0.750"}


def test_a_clock_that_was_set_back_is_no_time_below_zero() -> None:
    times = Clock().times()
    times.begin("1000009999.000")
    assert times.headers(whole=True)[WAITED] == "0.000"


@pytest.mark.parametrize("sent", ["", "x", "1;2"])
def test_nothing_is_said_where_no_nginx_of_ours_asks(sent: str) -> None:
    times = Clock().times()
    times.begin("1000000999.000")
    times.begin(sent)
    assert times.headers(whole=True) == {}


def test_a_line_for_what_failed_or_was_slow_alone() -> None:
    clock = Clock()
    times = clock.times()
    times.begin("1000000999.250")
    assert times.line(200, failed=False) == ""
    assert times.line(500, failed=True) == "status 500, took 0.000 s, waited 0.750 s"
    clock.now += SLOW
    assert times.line(200, failed=False) == "status 200, took 10.000 s, waited 0.750 s"
    times.begin("")
    assert times.line(502, failed=True) == "status 502, took 0.000 s"
