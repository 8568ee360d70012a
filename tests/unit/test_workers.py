# SPDX-License-Identifier: GPL-2.0-or-later
"""Busy and idle, read from a real process's sockets."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.pool import connections
from qgis_server_systemd.qgis_serverctl.pool.connections import Connections, Table, table
from qgis_server_systemd.qgis_serverctl.system import unix_sockets
from qgis_server_systemd.qgis_serverctl.system.output import Failure
from qgis_server_systemd.qgis_serverctl.system.unix_sockets import FileId, UnixSocket
from qgis_server_systemd.worker_plugin import stop


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


# ---- Whose sockets count

PATH = "/run/a.sock"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def here(root: Path, name: str = "a.sock") -> FileId:
    """What is at a path below /run, made if nothing is there."""
    file = root / "run" / name
    file.touch()
    found = FileId.of(file)
    assert found
    return found


def listener(inode: int, file: FileId, user: int | None = 0, name: str = PATH) -> UnixSocket:
    return UnixSocket(inode, True, os.fsencode(name), file, user, waiting=3)


def accepted(inode: int, file: FileId) -> UnixSocket:
    return UnixSocket(inode, False, os.fsencode(PATH), file, 990)


def test_another_path_or_none_has_nothing(root: Path) -> None:
    file = here(root)
    there = Table([listener(1, file), accepted(2, file)], root)
    assert connections.connections(there, PATH) == Connections(frozenset({2}), 3)
    for other in ("/run/a.soc", "/run/a.sock1", "/run", "/nowhere/a.sock"):
        assert connections.connections(there, other) == Connections(frozenset(), 0)
        assert not connections.is_reachable(there, other)


@pytest.mark.parametrize(
    "change",
    [
        {"device": 1, "inode": 0},  # another container, or a folder that its user has put there
        {"inode": 1, "user": 1000},
        {"inode": 1, "user": None},
        {"inode": 1, "name": "/run/b.sock"},
        {"user": 1000},  # an inode whose lower half is the same
    ],
)
def test_what_others_have_bound_by_that_name_is_not_the_pools(
    root: Path, change: dict[str, Any]
) -> None:
    """Two containers in one network may have pools of the same name."""
    file = here(root)
    theirs = FileId(file.device + change.get("device", 0), file.inode + change.get("inode", 0))
    other = listener(7, theirs, change.get("user", 0), change.get("name", PATH))
    there = Table([listener(1, file), other, accepted(2, file)], root)
    assert [one.inode for one in there.listeners(PATH)] == [1]
    assert connections.is_reachable(there, PATH)
    both = Table([listener(1, file), other, accepted(2, file), accepted(8, theirs)], root)
    if theirs != file:
        assert connections.connections(both, PATH) == Connections(frozenset({2}), 3)
    (root / PATH.lstrip("/")).unlink()
    gone = Table([other, accepted(8, theirs)], root)
    assert connections.connections(gone, PATH) == Connections(frozenset(), 0)
    assert connections.queue_of(Package(), 1, gone) == Package().shared_socket


def test_a_socket_that_has_lost_its_file_is_found_by_its_name(root: Path) -> None:
    lost = here(root)
    before = Table([listener(1, lost), accepted(2, lost)], root)
    assert connections.is_reachable(before, PATH)
    (root / PATH.lstrip("/")).rename(root / "run/away")
    # Its requests are the pool's as before, but nobody can connect.
    assert connections.connections(before, PATH) == Connections(frozenset({2}), 3)
    assert not connections.is_reachable(before, PATH)
    new = here(root)
    assert not connections.is_reachable(Table([listener(1, lost)], root), PATH)
    both = Table([listener(1, lost), listener(5, new)], root)
    assert not connections.is_reachable(both, PATH)
    assert connections.connections(both, PATH).queued == 6


def test_the_queue_is_an_instances_own_if_it_has_one(root: Path) -> None:
    package = Package()
    own = here(root, "qgis-server-2.sock")
    there = Table([listener(1, own, name=package.socket(2))], root)
    assert connections.queue_of(package, 2, there) == package.socket(2)
    assert connections.queue_of(package, 1, there) == package.shared_socket


def test_without_the_kernels_word_there_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(unix_sockets, "dump", refuse)
    with pytest.raises(
        Failure, match=r"No such file or directory \(sock_diag.7., module unix_diag"
    ):
        connections.table()


def test_the_plugin_knows_the_same_system_calls() -> None:
    assert stop.ACCEPT == connections.ACCEPT
