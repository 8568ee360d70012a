# SPDX-License-Identifier: GPL-2.0-or-later
"""Heavy requests, for NGINX: how they are told by their URL, and which workers they may
have (settings heavy_...). Pure functions."""

from collections import Counter
from collections.abc import Sequence

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


def servers(package: Package, sockets: Sequence[str]) -> str:
    """The server lines of the upstream for heavy requests, for the queues of the workers
    that may have them.

    In a queue of a worker's own they wait. In the shared one they would wait before
    the others, so NGINX sends no more of them than workers may have. To be tried again
    on another worker, a request needs a second line, which then has a part of them.
    """
    lines = []
    for path, count in Counter(sockets).items():
        if path == package.shared_socket:
            parts = [part for part in ((count + 1) // 2, count // 2) if part]
            lines += [f"    server unix:{path} max_fails=0 max_conns={part};" for part in parts]
        else:
            lines.append(f"    server unix:{path} max_fails=0;")
    if len(lines) == 1 and sockets[0] != package.shared_socket:
        lines *= 2
    return "\n".join(lines) or f"    server unix:{package.socket('none')};"


def http_text(package: Package, settings: Settings, sockets: Sequence[str]) -> str:
    """The part of NGINX's file at http level."""
    return render(
        "nginx-http-heavy.conf",
        {
            "pool": package.pool,
            "var": package.nginx_variable,
            "servers": servers(package, sockets),
            "coded": CODED,
            "pixels": at_least(settings.heavy_pixels),
            "features": at_least(settings.heavy_features),
        },
    )
