# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that do harm, see faulty_plugin, and clients beside them."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from testbed import Reply, Testbed

from qgis_server_systemd.qgis_serverctl.pool import connections as workers
from shared.pool import MAP, load, main_pid

NOTES = "/srv/faults/requests"
"""Where faulty_plugin notes requests that have a name."""

SERVICE = MAP.partition("&SERVICE=")[0]
IMAGE = (
    f"{SERVICE}&SERVICE=WCS&VERSION=1.0.0&REQUEST=GetCoverage&COVERAGE=relief&CRS=EPSG:4326"
    "&BBOX=-180,-90,180,90&WIDTH=1500&HEIGHT=1000&FORMAT=GTiff"
)
FEATURES = (
    f"{SERVICE}&SERVICE=WFS&VERSION=1.1.0&REQUEST=GetFeature&TYPENAME=countries"
    "&OUTPUTFORMAT=application/json"
)
FEW = f"{FEATURES}&MAXFEATURES=9"
QUICK = f"{SERVICE}&SERVICE=WMS&VERSION=1.3.0&REQUEST=GetCapabilities"


def let_go_wrong(bed: Testbed) -> None:
    """Have workers that start from now on do harm on request, and note it in a folder that they
    may write to, whatever the settings say. Also before the server is booted."""
    bed.put(Path(__file__).with_name("faulty_plugin"), "/usr/share/qgis/python/plugins/")
    notes = bed.root / NOTES.lstrip("/")
    notes.parent.mkdir()
    notes.parent.chmod(0o777)
    notes.touch()
    notes.chmod(0o666)
    dropin = bed.root / "usr/local/lib/systemd/system/qgis-server@.service.d/faults.conf"
    dropin.parent.mkdir(parents=True)
    dropin.write_text(f"[Service]\nBindPaths=/{notes.parent.relative_to(bed.root)}\n")
    if bed.booted:
        bed.run("systemctl", "daemon-reload")


def noted(bed: Testbed) -> list[tuple[str, str]]:
    """Name and worker's process of the requests that reached one, once for each time."""
    lines = (bed.root / NOTES.lstrip("/")).read_text().splitlines()
    return [(name, pid) for name, pid in map(str.split, lines)]


def table(bed: Testbed) -> workers.Table:
    """Its Unix sockets, as the kernel tells them to a thread that is in its network."""

    def ask() -> workers.Table:
        with open(f"/proc/{bed.pid}/ns/net") as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")
        return workers.table(Path(f"/proc/{bed.pid}/root"))

    with ThreadPoolExecutor(1) as inside:
        return inside.submit(ask).result()


def connections(bed: Testbed, socket: str) -> workers.Connections:
    return workers.connections(table(bed), socket)


def faulty(fault: str, name: str = "", **more: object) -> str:
    """A request that makes its worker go wrong; see faulty_plugin."""
    named = {"NAME": name} if name else {}
    return QUICK + "".join(
        f"&{key}={value}" for key, value in ({"FAULT": fault} | named | more).items()
    )


def sleeping(seconds: float, name: str = "") -> str:
    return faulty("sleep", name, SECONDS=seconds)


def holding(url: str, name: str) -> str:
    """A request that stops its worker, until `release`."""
    return f"{url}&FAULT=SIGSTOP&NAME={name}"


def held(bed: Testbed, count: int, kind: str = "") -> set[str]:
    """The processes of the workers that are stopped, of so many instances. `kind`: "heavy-" for
    those of heavy requests."""
    pids = (main_pid(bed, f"{kind}{n}") for n in range(1, count + 1))
    state = ("ps", "-o", "state=", "-p")
    return {str(pid) for pid in pids if pid and bed.out(*state, str(pid), check=False) == "T"}


def release(bed: Testbed, count: int, kind: str = "") -> None:
    bed.run("kill", "-CONT", *held(bed, count, kind))


def in_background(*calls: Callable[[], Any]) -> Callable[[], list[Any]]:
    """Start calls at once, each in a thread; the result waits for what they return."""
    results: list[Any] = [None] * len(calls)

    def run(at: int) -> None:
        results[at] = calls[at]()

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()

    def wait() -> list[Any]:
        for thread in threads:
            thread.join()
        return results

    return wait


def timed(bed: Testbed, url: str, *curl_args: str) -> tuple[Reply, float]:
    start = time.monotonic()
    reply = bed.fetch(url, "--max-time", "120", *curl_args)
    return reply, time.monotonic() - start


@contextlib.contextmanager
def steady(bed: Testbed, *urls: str, clients: int = 2) -> Iterator[dict[str, Any]]:
    """Both kinds of clients, so many of each; two replies of three are large, 0.6 and 3 MB."""
    options = ("--same", "--kept", str(clients))
    with load(bed, *(urls or (MAP, IMAGE, FEW)), clients=clients, options=options) as result:
        yield result


def unharmed(result: dict[str, Any]) -> None:
    assert result["failed"] == []
    assert all(result[kind]["sent"] > 0 for kind in ("single", "kept"))


def taking(path: str, head: str = "", inner: str = "") -> str:
    """A project that takes a layer from another one."""
    layer = f'<maplayer embedded="1" project="{path}" id="a"/>'
    return f"{head}<qgis>{inner}<projectlayers>{layer}</projectlayers></qgis>"
