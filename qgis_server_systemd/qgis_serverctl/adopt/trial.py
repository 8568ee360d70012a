# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a worker serve? It is asked, through its own socket, as NGINX would ask it."""

import shutil
import time
from collections.abc import Callable

from ..config.settings import Settings
from ..pool.host import STOP_TIMEOUT, Host
from ..pool.instances import FAILED_STARTS
from ..system import fastcgi
from ..system.output import die

INSTANCE = "adopt"
"""The trial worker's instance: no number, so it is never taken for one of the pool."""


QUERY = "SERVICE=WMS&REQUEST=GetCapabilities"


REPLY_TIMEOUT = Settings().request_timeout


def _patience(host: Host, unit: str) -> Callable[[], None]:
    """Gives up on a worker that crashes again and again, or takes longer than any
    request may."""
    deadline = time.monotonic() + REPLY_TIMEOUT

    def wait() -> None:
        if int(host.show(unit, "NRestarts").get("NRestarts") or 0) >= FAILED_STARTS:
            die(f"{unit} does not come up")
        if time.monotonic() > deadline:
            die(f"{unit} did not answer within {REPLY_TIMEOUT} s")

    return wait


def ask(host: Host, instance: int | str, expected: int | None) -> int:
    """The status of a worker's answer. Raises Failure if it fails where `expected`
    is no failure."""
    unit = host.package.service_unit(instance)
    status = fastcgi.ask(host.package.socket(instance), QUERY, patience=_patience(host, unit))
    if expected is not None and expected < 400 <= status:
        die(f"{unit} answers {status} where the former worker answered {expected}")
    return status


def run(host: Host, expected: int | None) -> None:
    """Let a worker that NGINX does not know show that the package's units serve."""
    units = host.package.units(INSTANCE)
    try:
        host.systemctl("start", units[0])
        ask(host, INSTANCE, expected)
    finally:
        host.command("systemctl", "stop", *units, timeout=STOP_TIMEOUT)
        host.command("systemctl", "reset-failed", *units)
        shutil.rmtree(f"{host.package.cache}/{INSTANCE}", ignore_errors=True)
