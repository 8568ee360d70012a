# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin of QGIS Server, for tests: tells what its worker may do.

A request with PROBE=name and, for some, WITH=argument is answered with "ok" and what was found,
or with the name of the error. PROBE=state is answered with what the process is, as JSON;
PROBE=forget makes the worker forget the project WITH.
"""

import ctypes
import errno
import fcntl
import json
import locale
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsExpressionContextUtils,
    QgsNetworkAccessManager,
    QgsProject,
    QgsSettings,
)
from qgis.PyQt.QtCore import QDateTime, QLocale
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
    ran = os.path.join(os.environ["CACHE_DIRECTORY"], "ran")
    Path(path).write_text(f"open({ran!r}, 'a').write(__file__)\n", "utf-8")
    return ""


def pipe(path: str) -> str:
    """Whoever opens it waits for ever."""
    Path(path).unlink(missing_ok=True)
    os.mkfifo(path)
    return ""


def memory_of(pid: str) -> str:
    """The first bytes of what another process has mapped."""
    start = Path(f"/proc/{pid}/maps").read_text(encoding="ascii").partition("-")[0]
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(int(start, 16))
        return memory.read(4).hex()


def reach(pid: str) -> str:
    """Each way to another process of the same user, and what became of it."""
    other = int(pid)
    information = ctypes.create_string_buffer(128)
    own = socket.socketpair()
    limit = resource.RLIMIT_NOFILE
    numbers = {"x86_64": (200, 234, 129, 297), "aarch64": (130, 131, 138, 240)}
    tkill, tgkill, queue, thread_queue = numbers[platform.machine()]

    def by_pidfd(process: int) -> None:
        signal.pidfd_send_signal(os.pidfd_open(process), 0)

    def asked(process: int) -> bytes:
        return struct.pack("@ii", 1, process)

    ways: dict[str, Callable[[], object]] = {
        "kill": lambda: os.kill(other, 0),
        "group": lambda: os.kill(-other, 0),
        "all": lambda: os.kill(-1, 0),
        "tkill": lambda: call("syscall", tkill, other, 0),
        "tgkill": lambda: call("syscall", tgkill, other, other, 0),
        "queue": lambda: call("syscall", queue, other, 0, information),
        "thread queue": lambda: call("syscall", thread_queue, other, other, 0, information),
        "pidfd": lambda: by_pidfd(other),
        "limits": lambda: resource.prlimit(other, limit),
        "owner": lambda: fcntl.fcntl(own[0], fcntl.F_SETOWN, other),
        "owner by a long number": lambda: call(
            "fcntl", own[0].fileno(), ctypes.c_long(fcntl.F_SETOWN | 1 << 32), other
        ),
        "other owner": lambda: fcntl.fcntl(own[0], 15, asked(other)),
        "which signal": lambda: fcntl.fcntl(own[0], 10, 9),
        "owner of a socket": lambda: fcntl.ioctl(own[0], 0x8902, struct.pack("@i", other)),
        "owner of a file": lambda: fcntl.ioctl(own[0], 0x8901, struct.pack("@i", other)),
        "trace": lambda: call("ptrace", 16, other, None, None),
        "memory": lambda: memory_of(pid),
        "score": lambda: Path(f"/proc/{pid}/oom_score_adj").write_text("1000", "ascii"),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, other, 19),
    }
    found: dict[str, list[str]] = {}
    for name, way in ways.items():
        try:
            way()
            error = "ok"
        except OSError as problem:
            error = errno.errorcode[problem.errno or 0]
        found.setdefault(error, []).append(name)
    return json.dumps(found)


def own(_: str) -> str:
    """What a worker does to itself."""
    pid = os.getpid()
    os.kill(pid, 0)
    signal.pthread_kill(threading.get_ident(), 0)
    resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as file:
        fcntl.fcntl(file, fcntl.F_SETFD, fcntl.fcntl(file, fcntl.F_GETFD))
    subprocess.run(["/bin/true"], check=True)
    return ""


def heard(_: str) -> str:
    """Takes connections on a port of its own."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
    return ""


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


def select_of(_: str) -> str:
    """The libraries of this process whose calls of select lead elsewhere, those whose don't, and
    whether Python's still waits."""
    reply_wait = sys.modules["qgis_server_systemd.reply_wait"]
    elsewhere = ctypes.cast(LIBC.sched_yield, ctypes.c_void_p).value
    kind = reply_wait.JUMP_SLOT[platform.machine()]
    changed: set[str] = set()
    others: set[str] = set()
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or not fields[5].startswith("/") or int(fields[2], 16):
            continue
        try:
            slots = list(reply_wait.slots(Path(fields[5]).read_bytes(), kind, b"select"))
        except (OSError, reply_wait.Unknown):
            continue
        base = int(fields[0].partition("-")[0], 16)
        for slot in slots:
            leads = ctypes.c_void_p.from_address(base + slot).value
            name = Path(fields[5]).name.partition(".so")[0]
            (changed if leads == elsewhere else others).add(name)
    before = time.monotonic()
    select.select([], [], [], 0.3)
    waited = time.monotonic() - before >= 0.3
    return json.dumps([sorted(changed), sorted(others), waited])


PROBES: dict[str, Callable[[str], str]] = {
    "read": lambda path: Path(path).read_text(encoding="utf-8"),
    "list": lambda path: " ".join(sorted(os.listdir(path))),
    "write": write,
    "leave": leave,
    "pipe": pipe,
    "memory": memory_of,
    "processes": lambda _: " ".join(name for name in os.listdir("/proc") if name.isdigit()),
    "signal": lambda pid: call("kill", int(pid), 0),
    "reach": reach,
    "own": own,
    "listen": heard,
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
    "select": select_of,
    "at start": lambda name: os.environ[name],
    "forget": lambda _: "",
    "python": lambda _: " ".join(path for path in sys.path if os.access(path, os.W_OK)),
}


# Its connection, its number, and when NGINX sent it.
OF_ONE_REQUEST = ("REMOTE_PORT=", "HTTP_X_REQUEST_ID=", "QGIS_SERVER_SYSTEMD_SENT=")


def environment() -> list[str]:
    """As C and QGIS see it: libfcgi puts that of the request in its place."""
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(LIBC, "environ")
    found: list[str] = []
    while environ[len(found)] is not None:
        found.append(os.fsdecode(environ[len(found)] or b""))
    return sorted(text for text in found if not text.startswith(OF_ONE_REQUEST))


def open_files() -> list[str]:
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # that of the list itself
        if name.startswith("/") and not name.startswith("/proc/"):
            found.add(name)
    return sorted(found)


def state() -> dict[str, object]:
    """Whatever of the process a reply could depend on."""
    mask = os.umask(0o077)
    os.umask(mask)
    scope = QgsExpressionContextUtils.globalScope()
    settings = QgsSettings()
    network = QgsNetworkAccessManager.instance()
    auth = QgsApplication.authManager()
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {
        "environment": environment(),
        "environment at start": dict(os.environ),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "Qt's locale": [QLocale().name(), QLocale.system().name(), QgsApplication.locale()],
        "mask": mask,
        "variables": {
            name: str(scope.variable(name))
            for name in scope.variableNames()
            if not callable(scope.variable(name))
        },
        "settings": {key: str(settings.value(key)) for key in sorted(settings.allKeys())},
        "threads at most": QgsApplication.maxThreads(),
        "network": [
            network.cache().cacheDirectory(),
            network.cache().maximumCacheSize(),
            QgsNetworkAccessManager.timeout(),
            network.fallbackProxy().hostName(),
        ],
        "authentication": [
            auth.isDisabled(),
            auth.masterPasswordIsSet(),
            auth.configIds(),
            sorted(auth.authMethodsKeys()),
        ],
        "GDAL": {
            name: gdal.GetConfigOption(name)
            for name in ("GDAL_HTTP_PROXY", "GDAL_PAM_ENABLED", "OGR_SQLITE_PRAGMA", "CPL_DEBUG")
        },
        "signals": [line for line in status if line.startswith(("Sig", "Shd"))],
        "limits": Path("/proc/self/limits").read_text(encoding="ascii"),
        "modules from": sys.path,
        "project": QgsProject.instance().fileName(),
        "files": open_files(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


class Probing(QgsServerFilter):  # type: ignore[misc]
    def requestReady(self) -> None:  # noqa: N802
        given = self.serverInterface().requestHandler().parameterMap()
        if given.get("PROBE") == "forget":
            self.serverInterface().removeConfigCacheEntry(given["WITH"])

    def responseComplete(self) -> None:  # noqa: N802
        """Whatever QGIS itself has to say of the request."""
        handler = self.serverInterface().requestHandler()
        given = handler.parameterMap()
        if "PROBE" not in given:
            return
        if given["PROBE"] == "state":
            handler.clear()
            handler.setResponseHeader("Content-Type", "application/json")
            handler.appendBody(json.dumps(state()).encode())
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
