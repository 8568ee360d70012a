# SPDX-License-Identifier: GPL-2.0-or-later
"""Several workers that edit one file: none loses an edit of another one.

QGIS switches a GeoPackage that it may write to a write-ahead log, and back when it closes the file.
While several workers do so, SQLite has them fail at once ("database is locked"). With the journal
that SQLite has by itself they wait for each other. Other formats have no locks: a Shapefile or
GeoJSON that two workers write keeps the edits of one. So requests that edit files come one
after the other.
"""

import ctypes
import fcntl
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from .forms import readings
from .journal import say

if TYPE_CHECKING:
    from qgis.core import QgsVectorLayer

WAL = "qgis/walForSqlite3"
"""QGIS's setting. One in the administrator's own profile stays."""

BUSY = 60
"""Seconds for which SQLite waits for a reader of the same file; GDAL has it wait for 5."""

PATIENCE = 60.0
"""Seconds for which an edit waits for those before it. A worker that was taken over could keep
the lock for ever, and stops no other one."""

PAUSE = 0.02
"""Seconds between two tries."""

ITEMS = ("POST", "PUT", "PATCH", "DELETE")
"""Methods by which the OGC API edits."""


def keep_journals() -> None:
    """Before anything is opened."""
    from qgis.core import QgsSettings

    settings = QgsSettings()
    if not settings.contains(WAL):
        settings.setValue(WAL, False)
    # In the environment it would be gone with the first request, which brings its own.
    ctypes.CDLL(None).CPLSetConfigOption(b"SQLITE_BUSY_TIMEOUT", str(BUSY * 1000).encode())


MAPS = ("GetMap", "GetFeatureInfo")
"""Requests that QGIS Server takes for WMS on any path, if they are written so."""


def is_transaction(request: str) -> bool:
    """Does a request edit data by WFS, if it may? `request`: the parameter."""
    return any(word.lower().rpartition(":")[2] == "transaction" for word in readings(request))


def is_change(service: str, request: str, path: str, method: Callable[[], str]) -> bool:
    """Does it by the OGC API, which gets what names no service? `service` and `request`: the
    parameters; `method`: asked for only where it tells. What could be a map would have edits wait
    for as long as it takes."""
    return not service and request not in MAPS and "/items" in path and method() in ITEMS


class Turn:
    """Of one worker. `folder`: that all workers see as it is, and nobody else can open: whoever
    can, may hold the lock."""

    def __init__(self, folder: str, patience: float = PATIENCE) -> None:
        self.folder = folder
        self.patience = patience
        self.held: int | None = None

    def take(self) -> None:
        """Wait until no other worker edits; for at most as long as there is patience."""
        self.give()
        end = time.monotonic() + self.patience
        try:
            held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            say(f"{self.folder}: {error.strerror}: an edit waits for no other one")
            return
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.held = held
                return
            if time.monotonic() > end:
                os.close(held)
                say(f"another worker has edited for {self.patience:.0f} s: an edit does not wait")
                return
            time.sleep(PAUSE)

    def give(self) -> None:
        """The next one may edit."""
        held, self.held = self.held, None
        if held is not None:
            os.close(held)


class Change:
    """What a request of the OGC API changes in a file. QGIS Server still reads the feature, by a
    connection of its own, when it changes it: with the journal that SQLite has by itself the one
    locks out the other. In a transaction of QGIS's both have one connection.

    `layers`: those that may be changed, of one file; of others nothing is begun."""

    def __init__(self, layers: "Collection[QgsVectorLayer]") -> None:
        from qgis.core import QgsTransaction

        self.providers = [
            layer.dataProvider()
            for layer in layers
            if layer.providerType() == "ogr"
            and QgsTransaction.supportsTransaction(layer)
            and layer.dataProvider().enterUpdateMode()
        ]
        self.transaction = None
        if len(self.providers) == len(layers) > 0:
            transaction = QgsTransaction.create(set(layers))
            if transaction and transaction.begin()[0]:
                # Debian 13's GDAL has SQLite wait for five seconds, whatever its options say.
                transaction.executeSql(f"PRAGMA busy_timeout = {BUSY * 1000}")
                self.transaction = transaction

    def end(self, *, keep: bool) -> str:
        """Why it could not be kept; empty if it was, or was not to be."""
        transaction, self.transaction = self.transaction, None
        reason = ""
        if transaction:
            done, said = transaction.commit() if keep else transaction.rollback()
            if not done:
                reason = str(said) if keep else ""
                transaction.rollback()
        for provider in self.providers:
            provider.leaveUpdateMode()
        self.providers = []
        return reason
