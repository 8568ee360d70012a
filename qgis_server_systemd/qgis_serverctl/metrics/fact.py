# SPDX-License-Identifier: GPL-2.0-or-later
"""What NGINX tells of one request (templates/nginx-http-facts.conf). Pure functions.

NGINX's user alone can send here, but what it sends has been made of what clients send: whatever
has not its form is none, and words that are not listed are "other".
"""

import json
import re
from typing import Any, NamedTuple, Self

from ..config.values import is_name
from ..front.facts import REQUESTS, SERVICES

OTHER = "other"
SECONDS = re.compile(r"[0-9]{1,9}\.[0-9]{1,6}")
ID = re.compile(r"[0-9a-f]{1,32}")
WORKER = re.compile(r"(?:heavy-)?[0-9]{1,3}")
CACHE = ("MISS", "BYPASS", "EXPIRED", "STALE", "UPDATING", "REVALIDATED", "HIT")
"""$upstream_cache_status of NGINX."""


class Fact(NamedTuple):
    """`project`: the name in the URL, which may be no project's; empty for the one of the
    setting project. `lane`: light, heavy, or nginx for a request that no worker got. `waited`
    and `drawn`: seconds, None if no worker told. `refused`: no queue had room. `cache`: empty
    where the reply cache has no say. `seconds`: all that NGINX saw, the client's part included.
    `id`: what the worker got as X-Request-Id. `worker`: that had it, empty if none has told."""

    status: int
    sent: int
    project: str
    service: str
    request: str
    lane: str
    waited: float | None = None
    drawn: float | None = None
    refused: bool = False
    cache: str = ""
    seconds: float = 0.0
    id: str = ""
    worker: str = ""

    @classmethod
    def of(cls, datagram: bytes) -> Self | None:
        """None for what is no fact."""
        try:
            told = json.loads(datagram[datagram.index(b"{") :])
            worker, upstream = _text(told, "worker"), _text(told, "upstream")
            status, sent = int(told["status"]), int(told["bytes"])
            cache = _text(told, "cache")
            project = _text(told, "project")
            # What comes from the cache says what its worker said then.
            answered = bool(worker) and cache not in ("HIT", "STALE", "UPDATING")
            seconds, id = float(told["seconds"]), _text(told, "id")
            waited = _seconds(_text(told, "waited")) if answered else None
            drawn = _seconds(_text(told, "drawn")) if answered else None
            if drawn is None and waited is not None:
                # A reply in pieces: all that NGINX has seen of the worker, but for the wait.
                drawn = max(0.0, _sum(_text(told, "reply")) - waited)
            return cls(
                status=status if 100 <= status <= 599 else 0,
                sent=max(0, sent),
                project=project if not project or is_name(project) else OTHER,
                service=_word(_text(told, "service"), (*SERVICES, "API")),
                request=_word(_text(told, "request"), REQUESTS),
                lane=_lane(worker, upstream) if upstream else "nginx",
                waited=waited,
                drawn=drawn,
                refused=status == 503 and bool(upstream) and not worker,
                cache=cache.lower() if cache in CACHE else "",
                # Not what JSON has no number for, such as NaN.
                seconds=seconds if 0 <= seconds < 1e9 else 0.0,
                id=id if ID.fullmatch(id) else "",
                worker=worker if answered and WORKER.fullmatch(worker) else "",
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _text(told: Any, name: str) -> str:
    value = told[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _word(text: str, known: tuple[str, ...]) -> str:
    return text if not text or text in known else OTHER


def _seconds(text: str) -> float | None:
    return float(text) if SECONDS.fullmatch(text) else None


def _sum(text: str) -> float:
    """Of the workers that were asked, one after the other, since the request was last handed
    over to the lane (the part after the colon)."""
    return sum(_seconds(one) or 0.0 for one in text.rpartition(" : ")[2].split(", "))


def _lane(worker: str, upstream: str) -> str:
    """By the last one that was asked."""
    if worker:
        return "heavy" if worker.startswith("heavy-") else "light"
    return "heavy" if upstream.endswith("-heavy.sock") else "light"
