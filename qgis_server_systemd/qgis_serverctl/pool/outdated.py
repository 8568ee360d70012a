# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a worker still run by the definition that it was started with?

A unit's definition is its files and, for a worker, the env file. It is compared
by content: dpkg gives a file a new time even where it puts the same bytes.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..system.files import read_or_none, write
from .host import Host

Digests = dict[str, str]
"""By unit name: the digest of the definition that the running unit was started by."""


def digest(files: Iterable[str]) -> str:
    texts = ((file, read_or_none(Path(file)) or "") for file in sorted(files))
    return hashlib.sha256(repr(list(texts)).encode()).hexdigest()


def newest_change(files: Iterable[str]) -> float:
    """When one of the files was last put in place, on the clock of time.monotonic()."""
    changes = [os.stat(file).st_ctime for file in files if Path(file).exists()]
    return max(changes, default=0.0) - (time.time() - time.monotonic())


def is_outdated(started: float, changed: float, now: str, known: str | None) -> bool:
    """A unit that started after the last change is current. One that started
    before is so, too, if its definition is what it was started by."""
    return started < changed and known != now


def _store(host: Host) -> Path:
    return host.path(f"{host.package.run}/definitions.json")


def load(host: Host) -> Digests:
    """What is known of running units; nothing after a boot."""
    try:
        found: Digests = json.loads(read_or_none(_store(host)) or "{}")
    except ValueError:
        return {}
    return found


def save(host: Host, digests: Mapping[str, str]) -> None:
    write(_store(host), json.dumps(dict(sorted(digests.items()))) + "\n")
