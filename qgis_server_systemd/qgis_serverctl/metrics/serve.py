# SPDX-License-Identifier: GPL-2.0-or-later
"""``metrics``: what its unit runs. Receives what NGINX tells, looks at the monitor's file, and
writes both where NGINX and node_exporter find it."""

import argparse
import contextlib
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from ..front import nginx, nginx_config
from ..monitor import record
from ..pool import service
from ..pool.host import Host
from ..system import processes
from ..system.files import inode, read_strangers, write
from ..system.output import die, note

LOOK_EVERY, WRITE_EVERY = 1.0, 5.0
"""Seconds between two looks at what has come and at the monitor's file, and between two texts."""

FIRST_SOCKET = 3
"""The file descriptor of the first socket that systemd hands over (sd_listen_fds(3))."""

MOST = 65536
"""Bytes of a datagram that are read."""

UNREAD = 100_000
"""Datagrams that wait to be counted at most. Later ones wait in the kernel, which drops them, and
NGINX logs that."""

AT_ONCE, PAUSE = 16, 0.0002
"""So many datagrams are counted at once. Then for so many seconds what has come meanwhile is taken:
only one thread at a time has the interpreter."""

Unread = deque[tuple[float, bytes]]
"""Datagrams, each with when it came, in seconds of time.monotonic()."""


def files(host: Host) -> tuple[Path, Path, Path]:
    """In OpenMetrics, for NGINX; in Prometheus's text format, for node_exporter, which reads
    *.prom; and what the status page shows."""
    folder = host.path(host.package.metrics)
    return folder / "openmetrics", folder / f"{host.package.pool}.prom", folder / "status.json"


def receive(listener: socket.socket, unread: Unread) -> None:
    """Take what comes as soon as it does, since the kernel keeps ten datagrams in a container that
    has set no other number (net.unix.max_dgram_qlen). It wakes nobody: a thread that is woken for a
    request costs several times what it then does for it."""
    while datagram := listener.recv(MOST):
        unread.append((time.monotonic(), datagram))
        while len(unread) >= UNREAD:
            time.sleep(LOOK_EVERY)


def count(unread: Unread, one: Callable[[bytes, float], None]) -> None:
    """All that has come until now, each by this function."""
    for number in range(1, len(unread) + 1):
        when, datagram = unread.popleft()
        one(datagram, when)
        if number % AT_ONCE == 0:
            time.sleep(PAUSE)


def broken(host: Host) -> int | None:
    """How many projects are not served; None if nobody tells. Told by the workers' user: may be
    anything."""
    try:
        told = read_strangers(host.path(f"{host.package.listed}/broken"), 16)
    except OSError:
        return None
    return int(told) if re.fullmatch(rb"[0-9]{1,9}\n", told) else None


def changed(host: Host) -> float | None:
    """When apply last wrote one of the files that come of settings, in seconds since 1970."""
    package = host.package
    made = (*nginx_config.generated(package), package.worker_file, *package.dropins)
    times = []
    for file in made:
        with contextlib.suppress(OSError):
            times.append(host.path(file).stat().st_mtime)
    return max(times, default=None)


def versions(host: Host) -> dict[str, str]:
    """Of the package, QGIS and NGINX."""
    package = host.package
    asked = host.command("dpkg-query", "-W", "-f", "${Version}", package.name).stdout
    found = re.search(r"nginx/([0-9.]+)", host.command(nginx.PROGRAM, "-v").stderr)
    return {
        "version": asked or "unknown",
        "qgis": processes.qgis_version(host.path(package.mapserv)) or "unknown",
        "nginx": found[1] if found else "unknown",
    }


def command(host: Host, args: argparse.Namespace) -> int:
    """Ends only to be started again after an upgrade."""
    # Takes a tenth of a second, and no other command needs it.
    from . import page
    from .counts import Metrics

    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        die("metrics: systemd has handed over no socket", hint=f"start {host.package.metrics_unit}")
    metrics = Metrics(host.package.metrics_prefix)
    since = page.Since()
    openmetrics, text, status = files(host)
    programs = host.path(host.package.mapserv), host.path(nginx.PROGRAM)
    written = -1e9
    own, seen = inode(Path(__file__)), [0, 0]
    unread: Unread = deque()
    with socket.socket(fileno=FIRST_SOCKET) as listener:
        Thread(target=receive, args=(listener, unread), daemon=True).start()
        while True:
            count(unread, metrics.requests.count)
            now = time.monotonic()
            watch = record.load_fresh(host)
            if watch:
                since.look(watch.instances, now)
                metrics.requests.recent.wait(sum(watch.queues.values()), now)
            metrics.pool.look(
                watch,
                now,
                able=host.path(host.package.able).exists(),
                maintenance=service.load(host).maintenance,
            )
            if now - written >= WRITE_EVERY:
                written = now
                if own != inode(Path(__file__)):
                    note("the program was replaced: starting again")
                    return 0
                if seen != (seen := [*map(inode, programs)]):
                    metrics.pool.versions = versions(host)
                metrics.pool.broken, metrics.pool.changed = broken(host), changed(host)
                write(openmetrics, metrics.openmetrics())
                write(text, metrics.text())
                write(status, page.text(metrics, since, host, now))
            time.sleep(LOOK_EVERY)
