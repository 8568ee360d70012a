# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a PostgreSQL database does not let a layer have its table: by the code of the error
(SQLSTATE), since its words are in the server's language, with names that others chose. Speaks
through libpq, as QGIS does, with the same settings, services and passwords."""

import ctypes
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .sources import Reason, of_server

SECONDS = 6.0
"""Within which a connection is made."""

STATEMENT = 5000
"""Milliseconds that a question may take."""

BAD, READING, WRITING, OK = 1, 1, 2, 3
"""ConnStatusType and PostgresPollingStatusType (libpq-fe.h)."""
ONLY_CODES = 3
"""PQERRORS_SQLSTATE"""
SQLSTATE = ord("C")
"""PG_DIAG_SQLSTATE"""

KINDS = {
    "28P01": "password",
    "28000": "password",
    "3D000": "database-missing",
    "3F000": "table-missing",
    "42P01": "table-missing",
    "42501": "table-denied",
    "53300": "database-full",
    "57P01": "database-down",
    "57P02": "database-down",
    "57P03": "database-down",
}
"""What a code means (PostgreSQL's documentation, appendix A)."""


def library() -> ctypes.CDLL:
    """Raises OSError where libpq is missing; then QGIS can't reach a database either."""
    found = ctypes.CDLL("libpq.so.5")
    for name in ("PQconnectStart", "PQexec"):
        getattr(found, name).restype = ctypes.c_void_p
    for name in ("PQerrorMessage", "PQhost", "PQport", "PQresultErrorField"):
        getattr(found, name).restype = ctypes.c_char_p
    return found


def text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace").strip()


def code_of(message: str) -> str:
    """The code at the end of what libpq says, of which all else is a client's or server's."""
    found = re.search(r":\s+([0-9A-Z]{5})\Z", message)
    return found[1] if found else ""


def services() -> Iterator[str]:
    """Files with services, in the order in which libpq looks for one."""
    yield os.environ.get("PGSERVICEFILE") or os.path.expanduser("~/.pg_service.conf")
    folder = os.environ.get("PGSYSCONFDIR") or "/etc/postgresql-common"
    yield f"{folder}/pg_service.conf"


def has_service(name: str) -> bool:
    for file in services():
        try:
            with open(file, encoding="utf-8", errors="replace") as stream:
                if any(line.strip() == f"[{name}]" for line in stream):
                    return True
        except OSError:
            continue
    return False


class Connection:
    """`reason`: why there is none; its detail is what libpq says."""

    def __init__(self, info: str, service: str) -> None:
        self.pq = library()
        self.service = service
        self.handle = ctypes.c_void_p(self.pq.PQconnectStart(info.encode()))
        self.reason = self._connect()

    def close(self) -> None:
        self.pq.PQfinish(self.handle)

    def _connect(self) -> Reason | None:
        pq, handle = self.pq, self.handle
        deadline = time.monotonic() + SECONDS
        state = WRITING if pq.PQstatus(handle) != BAD else 0
        pq.PQsetErrorVerbosity(handle, ONLY_CODES)
        while state in (READING, WRITING):
            left = deadline - time.monotonic()
            at = [pq.PQsocket(handle)]
            ready = select.select(at if state == READING else [], at if state == WRITING else [],
                                  [], max(0.0, left))  # fmt: skip
            if not any(ready):
                return Reason("silent", self._place())
            state = pq.PQconnectPoll(handle)
        return None if state == OK else self._failed()

    def _place(self) -> str:
        return f"{text(self.pq.PQhost(self.handle))}:{text(self.pq.PQport(self.handle))}"

    def _failed(self) -> Reason:
        pq, handle = self.pq, self.handle
        said = text(pq.PQerrorMessage(handle))
        host, port = text(pq.PQhost(handle)), text(pq.PQport(handle))
        if self.service and not has_service(self.service):
            return Reason("service-unknown", self.service)
        if kind := KINDS.get(code_of(said)):
            return Reason(kind, self._place(), detail=said)
        if pq.PQconnectionNeedsPassword(handle):
            return Reason("password", self._place(), detail=said)
        if host.startswith("/"):
            path = f"{host}/.s.PGSQL.{port}"
            if not os.path.exists(path):
                return Reason("database-down", path, detail=said)
        elif port.isdigit() and (reason := of_server(host, int(port))):
            return reason
        return Reason("invalid", self._place(), detail=said)

    def table(self, name: str) -> Reason | None:
        """Why its user can't read a table, whose name is quoted as SQL has it."""
        pq, handle = self.pq, self.handle
        for statement in (f"SET statement_timeout = {STATEMENT}", f"SELECT 1 FROM {name} LIMIT 0"):
            result = ctypes.c_void_p(pq.PQexec(handle, statement.encode()))
            code = text(pq.PQresultErrorField(result, SQLSTATE))
            pq.PQclear(result)
        if kind := KINDS.get(code):
            return Reason(kind, name, detail=code)
        return Reason("invalid", name, detail=code) if code else None


@contextmanager
def connection(info: str, service: str) -> Iterator[Connection]:
    made = Connection(info, service)
    try:
        yield made
    finally:
        made.close()
