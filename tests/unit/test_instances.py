# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd tells of a unit, without one."""

from __future__ import annotations

from qgis_server_systemd.qgis_serverctl.pool.instances import started


def test_a_worker_has_the_definition_of_when_it_was_forked() -> None:
    """It may be called active only after the next definition was read."""
    forked, active = "1000000", "2500000"
    service = {"ExecMainStartTimestampMonotonic": forked, "ActiveEnterTimestampMonotonic": active}
    assert started(service) == 1.0
    assert started({**service, "ActiveEnterTimestampMonotonic": "0"}) == 1.0


def test_a_socket_has_that_of_when_it_was_opened() -> None:
    assert started({"ActiveEnterTimestampMonotonic": "2500000"}) == 2.5
    assert started({}) == 0.0
