# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's answers on sockets: those of this machine's, and ones that are made up, broken
or hostile."""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgis_server_systemd.qgis_serverctl.system import unix_sockets
from qgis_server_systemd.qgis_serverctl.system.unix_sockets import Answer, FileId, UnixSocket

FILE = FileId(device=25, inode=1000)
NUMBER, PAIR = struct.Struct("=I"), struct.Struct("=II")


def message(kind: int, content: bytes, *, flags: int = 2, sequence: int = 1) -> bytes:
    length = 16 + len(content)
    return (
        struct.pack("=IHHII", length, kind, flags, sequence, 77) + content + b"\0" * (-length % 4)
    )


def attribute(kind: int, content: bytes) -> bytes:
    length = 4 + len(content)
    return struct.pack("=HH", length, kind) + content + b"\0" * (-length % 4)


def told(inode: int, state: int, *attributes: bytes, **more: int) -> bytes:
    """As the kernel tells a socket; `state`: 1 is connected, 10 listens."""
    content = struct.pack("=BBBBIII", socket.AF_UNIX, 1, state, 0, inode, 5, 0)
    return message(20, content + b"".join(attributes), **more)


def name(text: bytes) -> bytes:
    return attribute(0, text + b"\0")


VFS = attribute(1, PAIR.pack(FILE.inode, FILE.device))
DONE = message(3, struct.pack("=i", 0))


def answer(*datagrams: bytes) -> Answer:
    found = Answer(1)
    for data in datagrams:
        found.add(data)
    return found


def text() -> str:
    return Path("/proc/net/unix").read_text(errors="replace")


def listening_text(path: str) -> list[int]:
    """Inodes of what listens at a path, as the text of /proc/net/unix has it."""
    rows = [line.split(maxsplit=7) for line in text().splitlines()[1:]]
    return [int(row[6]) for row in rows if row[7:] == [path] and row[3] == "00010000"]


# ---- This machine's kernel


def test_the_kernel_tells_what_the_text_tells(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(8)
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for client in clients:
            client.connect(str(path))
        taken = stack.enter_context(server.accept()[0])
        here = [one for one in unix_sockets.dump(clients=True) if one.file == FileId.of(path)]
        listener, accepted = sorted(here, key=lambda one: not one.listening)
        assert listening_text(str(path)) == [listener.inode] == [os.fstat(server.fileno()).st_ino]
        embryos = [line for line in text().splitlines() if line.endswith(f" 0 {path}")]
        waiting = [os.fstat(client.fileno()).st_ino for client in clients[1:]]
        assert (listener.waiting, list(listener.clients)) == (len(embryos), waiting) == (2, waiting)
        assert listener.user == os.geteuid()
        assert accepted == UnixSocket(
            os.fstat(taken.fileno()).st_ino, False, os.fsencode(path), listener.file, os.geteuid()
        )
        # One that has hung up waits as well.
        clients[1].close()
        (listener,) = (one for one in unix_sockets.dump() if one.inode == listener.inode)
        assert listener.waiting == 2
        path.unlink()
        assert {one.file for one in unix_sockets.dump() if one.inode == listener.inode} == {
            listener.file
        }
        assert FileId.of(path) is None


def test_many_sockets_come_in_several_pieces(tmp_path: Path) -> None:
    """At most 32 KiB each, so that is three times as much."""
    with ExitStack() as stack:
        wanted = set()
        for n in range(1000):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.bind(str(tmp_path / str(n)))
            one.listen(1)
            wanted.add(os.fstat(one.fileno()).st_ino)
        assert wanted <= {one.inode for one in unix_sockets.dump()}


def test_names_of_any_kind_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text can be forged by each of these."""
    forged = b"1: 00000002 00000000 00010000 0001 01 77 /run/forged.sock"
    monkeypatch.chdir(tmp_path)
    file = b"\n" + forged.replace(b"/", b"\xff")
    with ExitStack() as stack:
        inodes = set()
        for each in (b"\0/run/forged.sock", b"\0\n" + forged, file):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.bind(each)
            one.listen(1)
            inodes.add(os.fstat(one.fileno()).st_ino)
        assert listening_text("/run/forged.sock") == [77]
        there = unix_sockets.dump()
        assert {one.name for one in there if one.inode in inodes} == {file}
        assert b"/run/forged.sock" not in {one.name for one in there}


# ---- Made up


def test_sockets_that_listen_and_connections() -> None:
    listener = told(
        7, 10, name(b"/run/a.sock"), VFS, attribute(3, NUMBER.pack(90) + NUMBER.pack(91)),
        attribute(4, PAIR.pack(2, 64)), attribute(7, NUMBER.pack(0)), attribute(99, b"new"),
    )  # fmt: skip
    # Of a connection, the same attribute is how many bytes can be read.
    accepted = told(8, 1, name(b"/run/a.sock"), VFS, attribute(4, PAIR.pack(500, 0)))
    unnamed = told(9, 1, attribute(4, PAIR.pack(0, 0)), attribute(7, NUMBER.pack(0)))
    abstract = told(10, 10, attribute(0, b"\0/run/a.sock"), attribute(4, PAIR.pack(1, 5)))
    found = answer(listener + accepted + unnamed, abstract + DONE)
    assert found.complete
    assert list(found.found.values()) == [
        UnixSocket(7, True, b"/run/a.sock", FILE, 0, 2, (90, 91)),
        UnixSocket(8, False, b"/run/a.sock", FILE),
    ]


def test_what_the_kernel_complains_of_is_raised() -> None:
    for kind in (2, 3):
        with pytest.raises(FileNotFoundError):
            answer(message(kind, struct.pack("=i", -errno.ENOENT) + b"\0" * 16))
    with pytest.raises(OSError, match="buffer"):
        answer(message(4, b""))


def test_answers_to_other_requests_do_not_count() -> None:
    found = answer(told(7, 10, name(b"/a"), VFS, sequence=2), message(3, b"\0" * 4, sequence=2))
    assert (found.found, found.complete) == ({}, False)


@pytest.mark.parametrize("good", [1, 2, 99])
def test_where_sockets_change_meanwhile_the_kernel_is_asked_again(good: int) -> None:
    """But not for ever: whoever makes sockets all the time can't blind who asks."""
    asked = []

    def ask(sequence: int) -> Iterator[bytes]:
        asked.append(sequence)
        flags = 2 if sequence == good else 2 | 0x10
        yield told(sequence, 10, name(b"/a"), VFS, flags=flags, sequence=sequence)
        yield message(3, b"\0" * 4, sequence=sequence)
        pytest.fail("the answer was complete")

    last = min(good, unix_sockets.TRIES)
    assert [one.inode for one in unix_sockets.collect(ask)] == [last]
    assert asked == list(range(1, last + 1))


GOOD = told(7, 10, name(b"/run/a.sock"), VFS, attribute(4, PAIR.pack(2, 64)))


@pytest.mark.parametrize("end", range(1, len(GOOD)))
def test_an_answer_that_is_cut_off_is_refused(end: int) -> None:
    with pytest.raises(OSError, match="can't be read"):
        answer(GOOD[:end])


@pytest.mark.parametrize(
    "broken",
    [
        struct.pack("=HH", 3, 0), struct.pack("=HH", 0, 1), struct.pack("=HH", 99, 0), b"\0",
        attribute(1, b"\0" * 4), attribute(4, b"\0" * 4), attribute(7, b"\0"),
    ],
)  # fmt: skip
def test_attributes_of_a_wrong_length_are_refused(broken: bytes) -> None:
    with pytest.raises(OSError, match="can't be read"):
        answer(told(7, 10, VFS, broken))


def test_a_socket_of_another_family_is_refused() -> None:
    content = struct.pack("=BBBBIII", socket.AF_INET, 1, 10, 0, 7, 5, 0) + VFS
    with pytest.raises(OSError, match="can't be read"):
        answer(message(20, content))


@given(st.binary(max_size=200), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_any_bytes_are_read_or_refused(noise: bytes, start: int, end: int) -> None:
    for data in (noise, GOOD[:start] + noise + GOOD[end:], message(20, noise), message(3, noise)):
        with suppress(OSError):
            assert all(len(one.name) <= len(data) for one in answer(data).found.values())
