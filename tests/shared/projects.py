# SPDX-License-Identifier: GPL-2.0-or-later
"""Projects that change, and what workers have of them."""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path
from urllib.parse import quote

from testbed import Testbed

from shared.pool import path, status
from shared.serving import cgi_body

PROJECT = "/srv/maps/changing.qgs"


def put(file: Path, content: bytes, age: float = 100) -> None:
    """Write in place, as if that were some time ago."""
    file.write_bytes(content)
    moment = time.time() - age
    os.utime(file, (moment, moment))


def title(bed: Testbed, instance: int, project: str = PROJECT) -> str:
    """What one worker says the project is called, asked through its own socket."""
    query = f"MAP={quote(project, safe='/')}&SERVICE=WMS&REQUEST=GetCapabilities"
    variables = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": f"/?{query}",
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
    }
    given = shlex.join(f"{name}={value}" for name, value in variables.items())
    command = f"exec env {given} cgi-fcgi -bind -connect {path(instance)}"
    return title_in(cgi_body(bed.run_bytes("sh", "-c", command).stdout))


def title_in(body: bytes) -> str:
    """Of capabilities."""
    found = re.search(rb"<Title>([^<]*)</Title>", body)
    assert found, body[:300]
    return found[1].decode()


def workers(bed: Testbed) -> list[int]:
    return [line["instance"] for line in status(bed)["instances"]]


def titles(bed: Testbed, project: str = PROJECT) -> set[str]:
    return {title(bed, instance, project) for instance in workers(bed)}
