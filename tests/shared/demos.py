# SPDX-License-Identifier: GPL-2.0-or-later
"""A demo that runs: what it says, serves and holds."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path


def get(url: str, accept: str = "*/*") -> bytes:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as reply:
        body: bytes = reply.read()
    return body


def bed_of(demo: int) -> Path:
    """The folder of the container that a demo has started."""
    for child in Path(f"/proc/{demo}/task/{demo}/children").read_text().split():
        for word in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
            if word.startswith("--directory="):
                return Path(word.removeprefix("--directory=")).parent
    raise AssertionError("the demo runs no container")


def said_until_served(demo: subprocess.Popen[str]) -> str:
    """What a demo says until it serves, or ends."""
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if "serving until" in line:
            break
    return said
