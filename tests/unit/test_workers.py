# SPDX-License-Identifier: GPL-2.0-or-later
"""Busy and idle, read from a real process's sockets."""

import os
import socket
from pathlib import Path

from qgis_server_systemd.qgis_serverctl.pool import connections
from qgis_server_systemd.worker_plugin import stop


def table() -> str:
    return Path("/proc/net/unix").read_text()


def test_idle_queued_and_busy_are_told_apart(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(8)
        there = connections.connections(table(), path)
        assert there == connections.Connections(frozenset(), 0)
        assert not connections.is_busy(os.getpid(), there)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(path)
            second.connect(path)
            assert connections.connections(table(), path).queued == 2
            accepted, _ = server.accept()
            with accepted:
                there = connections.connections(table(), path)
                assert there.queued == 1
                assert connections.is_busy(os.getpid(), there)
            there = connections.connections(table(), path)
            assert not connections.is_busy(os.getpid(), there)


def test_paths_with_the_same_beginning_are_kept_apart() -> None:
    head = "Num RefCount Protocol Flags Type St Inode Path\n"
    row = "0: 2 0 00000000 0001 03 77 /run/qgis-server-11.sock\n"
    assert connections.connections(head + row, "/run/qgis-server-1.sock").accepted == frozenset()
    assert connections.connections(head + row, "/run/qgis-server-11.sock").accepted == {77}


def test_the_plugin_knows_the_same_system_calls() -> None:
    assert stop.ACCEPT == connections.ACCEPT
