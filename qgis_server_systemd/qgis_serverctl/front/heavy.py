# SPDX-License-Identifier: GPL-2.0-or-later
"""Heavy requests, for NGINX: how they are told by their URL, and where they go (settings
heavy_...). Pure functions."""

from ..config.names import Package
from ..config.settings import Settings
from ..system.template import render

CODED = "%(?:3[0-9]|[46][1-9A-F]|[57][0-9A])"
"""A regular expression for a letter or digit that is written as a code, in any case."""


def at_least(number: int) -> str:
    """A regular expression for whole numbers from `number` on, in decimal digits."""
    digits = str(number)
    longer = f"[1-9]{'[0-9]' * len(digits)}[0-9]*"
    above = (
        f"{digits[:at]}[{int(digit) + 1}-9]{'[0-9]' * (len(digits) - at - 1)}"
        for at, digit in enumerate(digits)
        if digit != "9"
    )
    return f"0*(?:{'|'.join((longer, *above, digits))})(?![0-9])"


def at_most(number: int) -> str:
    """A regular expression for whole numbers up to `number`, in decimal digits."""
    return f"(?!{at_least(number + 1)})[0-9]+"


def judges(settings: Settings) -> bool:
    """Does NGINX send requests to the lane by their URL? It does so in an "if", where no
    timeout can be set: where the lane's is another one, workers judge alone."""
    return settings.has_lane and settings.lane_timeout == settings.request_timeout


def http_text(package: Package, settings: Settings, servers: str, *, lane: bool) -> str:
    """The part of NGINX's file at http level. `servers`: the lines of the other upstream, for
    the time in which there is no `lane`."""
    var = package.nginx_variable
    # Listed twice as the shared queue is, so that a lost request is tried again.
    own = [f"    server unix:{package.heavy_socket} max_fails=0;"] * 2
    values = {
        "pool": package.pool,
        "var": var,
        "servers": "\n".join(own) if lane else servers,
        "told": f"${var}_heavy" if judges(settings) else '""',
        "mode": "light" if lane else '""',
        "coded": CODED,
        "pixels": at_least(settings.heavy_pixels),
        "features": at_least(settings.heavy_features),
    }
    parts = ["nginx-http-lane.conf", *(["nginx-http-heavy.conf"] if judges(settings) else [])]
    return "\n".join(render(part, values) for part in parts)
