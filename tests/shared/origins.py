# SPDX-License-Identifier: GPL-2.0-or-later
"""The URLs that replies name: at which origin they are, and that no client chooses it."""

from __future__ import annotations

import re

from testbed import Reply

from shared.serving import PREFIX, Case, own_urls, shown

EVIL = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "evil",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Server": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-Host": "evil.example",
    "X-Host": "evil.example",
    "X-Rewrite-URL": "/evil",
    "Forwarded": "for=1.2.3.4;host=evil.example;proto=evil",
    "X-Qgis-Service-Url": "http://evil.example/",
    "X-Qgis-WMS-Service-Url": "http://evil.example/",
    "X-Qgis-WFS-Service-Url": "http://evil.example/",
    "X-Qgis-WCS-Service-Url": "http://evil.example/",
    "X-Qgis-WMTS-Service-Url": "http://evil.example/",
}


def headers(values: dict[str, str]) -> list[str]:
    return [argument for item in values.items() for argument in ("--header", ": ".join(item))]


def is_not_fooled(reply: Reply, case: Case) -> None:
    case.check(reply)
    seen = [*reply.headers.values(), reply.body.decode()]
    assert not [text for text in seen if "evil" in text or ":666" in text]


def names_only(reply: Reply, origin: str, prefix: str = PREFIX) -> None:
    """All URLs of the server that a reply names begin with the origin."""
    urls = own_urls(reply)
    assert urls, f"no URL in {shown(reply)}"
    wrong = [url for url in urls if not re.match(re.escape(origin + prefix) + r"(?:[/?.]|$)", url)]
    assert not wrong, f"not at {origin}: {sorted(wrong)[:5]}"
