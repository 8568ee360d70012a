# SPDX-License-Identifier: GPL-2.0-or-later
"""What NGINX tells of each request, on a server that serves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shared.pool import MAP, ctl, is_served, wait_for
from shared.serving import fetch
from testbed import Testbed

pytestmark = pytest.mark.either

LOG = "/var/log/nginx/qgis-server-requests.log"


def lines(bed: Testbed) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bed.root / LOG[1:]).read_text().splitlines()]


def test_a_line_for_each_request_and_nothing_for_the_client(pool: Testbed) -> None:
    pool.run("sh", "-c", "echo 'request_log = true' >>/etc/qgis-server/server.toml")
    try:
        ctl(pool, "apply")
        reply = fetch(pool, MAP)
        assert not any(name.startswith("x-worker") for name in reply.headers)
        wait_for(lambda: bool(lines(pool)), "the request is told")
        (line,) = lines(pool)
        assert (line["status"], line["service"], line["request"]) == (200, "WMS", "GetMap")
        assert line["bytes"] == len(reply.body)
        assert line["worker"].isdigit()
        assert 0 <= float(line["waited"]) < line["seconds"]
        assert 0 < float(line["drawn"]) <= line["seconds"]
        # Another format of the log stays as it was.
        assert "GetMap" in (pool.root / "var/log/nginx/access.log").read_text()
    finally:
        pool.run("sed", "-i", "/^request_log/d", "/etc/qgis-server/server.toml")
        ctl(pool, "apply")
    is_served(pool)
