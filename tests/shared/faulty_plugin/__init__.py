# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin of QGIS Server, for tests: a request can ask its worker to go wrong.

    FAULT=SIGSEGV (or SIGSTOP, …)    the worker gets this signal
    FAULT=sleep&SECONDS=2.5          it takes so much longer, deep in a C function
    FAULT=spin                       it never comes back, busy in Python
    FAULT=leak&MB=300                it keeps so much memory for ever
    HAND=over                        is handed over to the lane for heavy requests, if it may be
    HAND=always                      the same, also by a worker of that lane
    NAME=text                        notes that a worker got this request

The notes are lines "NAME PID" in FILE.
"""

import ctypes
import os
import signal

from qgis.server import QgsServerException, QgsServerFilter, QgsServerInterface

FILE = "/srv/faults/requests"


class Faults(QgsServerFilter):  # type: ignore[misc]
    def __init__(self, iface: QgsServerInterface) -> None:
        super().__init__(iface)
        self.leaked: list[bytes] = []

    def requestReady(self) -> None:  # noqa: N802
        given = self.serverInterface().requestHandler().parameterMap()
        if "NAME" in given:
            with open(FILE, "a", encoding="utf-8") as file:
                file.write(f"{given['NAME']} {os.getpid()}\n")
        lane = self.serverInterface().getEnv("QGIS_SERVER_SYSTEMD_LANE")
        if given.get("HAND") == "always" or (given.get("HAND") == "over" and lane == "light"):
            handler = self.serverInterface().requestHandler()
            handler.setServiceException(QgsServerException("To the lane.", 590))
            return
        match given.get("FAULT"):
            case "SIGSEGV" | "SIGKILL" | "SIGSTOP" as name:
                os.kill(os.getpid(), signal.Signals[name])
            case "sleep":
                ctypes.CDLL(None).usleep(int(float(given["SECONDS"]) * 1e6))
            case "spin":
                while True:
                    pass
            case "leak":
                self.leaked.append(os.urandom(1 << 20) * int(given["MB"]))


def serverClassFactory(iface: QgsServerInterface) -> object:  # noqa: N802
    iface.registerFilter(Faults(iface), 1)
    return object()
