# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin of QGIS Server, for tests: tells what its worker may do.

A request with PROBE=name and, for some, WITH=argument is answered with "ok" and what was found,
or with the name of the error.
"""

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from qgis.PyQt.QtCore import QDateTime
from qgis.server import QgsServerFilter, QgsServerInterface

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000


def call(name: str, *args: object) -> str:
    """A function of the C library that returns -1 for an error."""
    if getattr(LIBC, name)(*args) == -1:
        raise OSError(ctypes.get_errno(), name)
    return ""


def write(path: str) -> str:
    file = Path(path, "written-by-a-worker")
    file.touch()
    file.unlink()
    return ""


def leave(path: str) -> str:
    """A program that tells where it has been run."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("open('/var/lib/qgis-server/home/ran', 'a').write(__file__)\n", "utf-8")
    return ""


def memory_of(pid: str) -> str:
    """The first bytes of what another process has mapped."""
    start = Path(f"/proc/{pid}/maps").read_text(encoding="ascii").partition("-")[0]
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(int(start, 16))
        return memory.read(4).hex()


def connect(address: str) -> str:
    if address.startswith("/"):
        with socket.socket(socket.AF_UNIX) as to:
            to.connect(address)
    else:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    return ""


def listen(_: str) -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return ""


PROBES: dict[str, Callable[[str], str]] = {
    "read": lambda path: Path(path).read_text(encoding="utf-8"),
    "list": lambda path: " ".join(sorted(os.listdir(path))),
    "write": write,
    "leave": leave,
    "memory": memory_of,
    "processes": lambda _: " ".join(name for name in os.listdir("/proc") if name.isdigit()),
    "signal": lambda pid: call("kill", int(pid), 0),
    "connect": connect,
    "packets": listen,
    "mount": lambda _: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare": lambda _: call("unshare", CLONE_NEWUSER),
    "chown": lambda _: call("chown", os.fsencode(os.environ["HOME"]), 0, 0),
    "chroot": lambda _: call("chroot", b"/tmp"),
    "priority": lambda _: call("setpriority", 0, 0, 5),
    "personality": lambda _: call("personality", 8),
    "suid": lambda _: call("chmod", bytes(Path(os.environ["HOME"])), 0o4755),
    "watch": lambda path: call("inotify_add_watch", LIBC.inotify_init(), path.encode(), 2),
    "limits": lambda _: Path("/proc/self/limits").read_text(encoding="ascii"),
    # libfcgi, and not Python, has changed the environment since: QGIS sees what C sees.
    "hour": lambda _: str(QDateTime.currentDateTime().time().hour()),
    "at start": lambda name: os.environ[name],
    "python": lambda _: " ".join(path for path in sys.path if os.access(path, os.W_OK)),
}


class Probing(QgsServerFilter):  # type: ignore[misc]
    def responseComplete(self) -> None:  # noqa: N802
        """Whatever QGIS itself has to say of the request."""
        handler = self.serverInterface().requestHandler()
        given = handler.parameterMap()
        if "PROBE" not in given:
            return
        try:
            if given["PROBE"] == "at request":
                found = f"ok {self.serverInterface().getEnv(given['WITH'])}"
            else:
                found = f"ok {PROBES[given['PROBE']](given.get('WITH', ''))}"
        except OSError as error:
            found = errno.errorcode.get(error.errno or 0, type(error).__name__)
        handler.setResponseHeader("X-Probed", found.replace("\n", "|"))


def serverClassFactory(iface: QgsServerInterface) -> object:  # noqa: N802
    iface.registerFilter(Probing(iface), 2)
    return object()
