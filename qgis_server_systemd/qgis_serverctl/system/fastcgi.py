# SPDX-License-Identifier: GPL-2.0-or-later
"""One FastCGI request, sent to a worker's socket as NGINX would send it."""

import re
import socket
import struct
from collections.abc import Callable, Mapping

from .output import die

# Record types and role (FastCGI specification, chapter 8).
BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6


RESPONDER = 1


def _record(kind: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content


def request(parameters: Mapping[str, str]) -> bytes:
    """A GET, all of it."""
    pairs = b""
    for name, value in parameters.items():
        key, text = name.encode(), value.encode()
        pairs += struct.pack(">II", len(key) | 1 << 31, len(text) | 1 << 31) + key + text
    begin = _record(BEGIN, struct.pack(">HB5x", RESPONDER, 0))
    return begin + _record(PARAMS, pairs) + _record(PARAMS) + _record(STDIN)


def get(query: str, script: str = "") -> dict[str, str]:
    """The variables of a GET (RFC 3875). `script`: the path of its URL."""
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": f"{script or '/'}?{query}",
        "QUERY_STRING": query,
        "SCRIPT_NAME": script,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
    }


class Reply:
    """Records as they come in. `complete`: the last one was there. `written`:
    what the program wrote, of which the body is of no interest here."""

    def __init__(self) -> None:
        self.complete = False
        self.written = b""
        self._rest = bytearray()

    def feed(self, piece: bytes) -> None:
        self._rest += piece
        while len(self._rest) >= 8 and not self.complete:
            _, kind, _, length, padding = struct.unpack(">BBHHBx", self._rest[:8])
            if kind == END:
                self.complete = True
            if len(self._rest) < 8 + length + padding:
                break
            if kind == STDOUT and len(self.written) < 65536:
                self.written += self._rest[8 : 8 + length]
            del self._rest[: 8 + length + padding]

    @property
    def status(self) -> int:
        """The HTTP status by the CGI header Status, without which it is 200."""
        head = re.split(rb"\r?\n\r?\n", self.written, maxsplit=1)[0]
        found = re.search(rb"^Status:\s*(\d{3})", head, re.MULTILINE | re.IGNORECASE)
        return int(found[1]) if found else 200


def ask(path: str, query: str, *, patience: Callable[[], None]) -> int:
    """Send a GET through a socket and return the status of the reply.

    `patience` is called each second that the reply takes, and raises Failure to
    give up. Raises Failure if the worker breaks the connection, OSError if
    nothing listens.
    """
    reply = Reply()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(path)
        connection.sendall(request(get(query)))
        while not reply.complete:
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                patience()
                continue
            if not piece:
                die(f"{path}: the worker broke off in the middle of a request")
            reply.feed(piece)
    return reply.status
