# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that do harm, see faulty_plugin, and clients beside them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from pool import MAP, load
from testbed import Reply, Testbed

SERVICE = MAP.partition("&SERVICE=")[0]
IMAGE = (
    f"{SERVICE}&SERVICE=WCS&VERSION=1.0.0&REQUEST=GetCoverage&COVERAGE=relief&CRS=EPSG:4326"
    "&BBOX=-180,-90,180,90&WIDTH=1500&HEIGHT=1000&FORMAT=GTiff"
)
FEATURES = (
    f"{SERVICE}&SERVICE=WFS&VERSION=1.1.0&REQUEST=GetFeature&TYPENAME=countries"
    "&OUTPUTFORMAT=application/json"
)
QUICK = f"{SERVICE}&SERVICE=WMS&VERSION=1.3.0&REQUEST=GetCapabilities"


def faulty(fault: str, name: str = "", **more: object) -> str:
    """A request that makes its worker go wrong; see faulty_plugin."""
    named = {"NAME": name} if name else {}
    return QUICK + "".join(
        f"&{key}={value}" for key, value in ({"FAULT": fault} | named | more).items()
    )


def sleeping(seconds: float, name: str = "") -> str:
    return faulty("sleep", name, SECONDS=seconds)


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
    """Both kinds of clients, so many of each, large replies among those that they get."""
    options = ("--same", "--kept", str(clients))
    with load(bed, *(urls or (MAP, IMAGE, FEATURES)), clients=clients, options=options) as result:
        yield result


def unharmed(result: dict[str, Any]) -> None:
    assert result["failed"] == []
    assert all(result[kind]["sent"] > 0 for kind in ("single", "kept"))
