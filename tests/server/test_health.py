# SPDX-License-Identifier: GPL-2.0-or-later
"""What load balancers are told, and the page of maintenance, on a server that works and one
that does not."""

from __future__ import annotations

import json
import urllib.parse

from shared.pool import MAP, ctl, is_served, wait_for, workers
from shared.serving import fetch
from testbed import Testbed

HERE = "http://127.0.0.1"


def health(bed: Testbed, more: str = "") -> tuple[int, str]:
    """Status and word. `more`: of the URL."""
    reply = fetch(bed, f"{HERE}/qgis-server/health{more}")
    return reply.status, json.loads(reply.body)["status"]


def front(bed: Testbed) -> int:
    """The status for load balancers that take 404 for a word to send no more."""
    return fetch(bed, f"{HERE}/qgis-server/health-front").status


def test_health_from_a_boot_to_a_stop(pool: Testbed) -> None:
    is_served(pool)
    wait_for(lambda: health(pool) == (200, "ok"), "the pool can serve")
    # No worker is asked: all are stopped, and the answer comes.
    pids = [str(pid) for pid in workers(pool)]
    pool.run("kill", "-STOP", *pids)
    try:
        wait_for(lambda: health(pool) == (503, "unable"), "stopped workers are told of")
        assert front(pool) == 503
    finally:
        pool.run("kill", "-CONT", *pids)
    wait_for(lambda: health(pool) == (200, "ok"), "they go on")
    pool.run("systemctl", "stop", "qgis-server.slice")
    wait_for(lambda: health(pool) == (503, "unable"), "a stop is told of")
    pool.run("systemctl", "start", "qgis-server.target")
    wait_for(lambda: health(pool) == (200, "ok"), "a start is told of")


def test_what_an_administrator_takes_out_of_service(pool: Testbed) -> None:
    ctl(pool, "drain")
    assert health(pool) == (503, "drained")
    assert front(pool) == 404
    is_served(pool)
    ctl(pool, "undrain")
    wait_for(lambda: health(pool) == (200, "ok"), "the pool can serve")
    assert front(pool) == 200
    # The server itself does so before it stops.
    pool.run("touch", "/run/qgis-server-systemd/leaving")
    assert health(pool) == (503, "leaving")
    assert front(pool) == 404
    assert pool.out("systemctl", "is-active", "qgis-server-leave.service") == "active"
    pool.run("systemctl", "restart", "qgis-server-leave.service")
    assert health(pool) == (200, "ok")
    pool.run("touch", "/var/lib/qgis-server/projects/city.qgz")
    try:
        assert health(pool, "?project=city") == (200, "ok")
        ctl(pool, "maintenance", "on", "--project", "city")
        assert health(pool, "?project=city") == (503, "maintenance")
        assert health(pool) == (200, "ok")
        reply = fetch(pool, f"{HERE}/qgis/city?SERVICE=WMS&REQUEST=GetCapabilities")
        assert (reply.status, reply.headers["retry-after"]) == (503, "60")
        is_served(pool)
        ctl(pool, "maintenance", "on")
        assert health(pool) == (503, "maintenance")
        assert fetch(pool, MAP).status == 503
        assert "qgis-serverctl maintenance off --project city" in ctl(pool, "check", check=False)
    finally:
        ctl(pool, "maintenance", "off")
        ctl(pool, "maintenance", "off", "--project", "city")
        pool.run("rm", "/var/lib/qgis-server/projects/city.qgz")
    is_served(pool)


def test_projects_of_any_name(pool: Testbed) -> None:
    names = ["Meine Karte", "Straße (alt), 2"]
    for name in names:
        pool.run("touch", f"/var/lib/qgis-server/projects/{name}.qgz")
    try:
        wait_for(lambda: health(pool) == (200, "ok"), "the pool can serve")
        for name in names:
            there = f"/{urllib.parse.quote(name)}"
            assert health(pool, there) == (200, "ok")
            ctl(pool, "maintenance", "on", "--project", name)
            assert health(pool, there) == (503, "maintenance")
            ctl(pool, "maintenance", "off", "--project", name)
        for none in (
            "/town", "/", "/town/", "/Meine%20Karte/x", "/Meine%20Karte%3Fx", "/%0A",
            "/Meine%20Karte?project=town", "?project=town", "?project=%7C",
            # Not decoded by NGINX: told apart from a project that is well.
            "?project=Meine%20Karte",
        ):  # fmt: skip
            assert health(pool, none) == (404, "unknown"), none
    finally:
        for name in names:
            ctl(pool, "maintenance", "off", "--project", name, check=False)
            pool.run("rm", f"/var/lib/qgis-server/projects/{name}.qgz")


def test_somebody_is_told_once_of_each_change_of_findings(pool: Testbed) -> None:
    told = pool.root / "root/told"
    dropin = "/run/systemd/system/qgis-server-notify.service.d/check.conf"
    pool.run("install", "/dev/stdin", "/usr/local/bin/tell", input="#!/bin/sh\ncat >>/root/told\n")
    pool.run("sh", "-c", """echo 'notify = "/usr/local/bin/tell"' >>/etc/qgis-server/server.toml""")

    def look() -> str:
        """What is told by a look at findings."""
        told.unlink(missing_ok=True)
        pool.run("systemctl", "start", "qgis-server-notify.service")
        return told.read_text() if told.exists() else ""

    try:
        ctl(pool, "apply")
        # In the unit's sandbox nothing is found that is not there, and nothing less.
        check = "ExecStart=\nExecStart=/usr/sbin/qgis-serverctl check --json"
        text = f"[Service]\n{check}\nStandardOutput=truncate:/root/found\n"
        pool.run("install", "-D", "/dev/stdin", dropin, input=text)
        pool.run("systemctl", "daemon-reload")
        pool.run("systemctl", "start", "qgis-server-notify.service")
        inside = json.loads(pool.out("cat", "/root/found"))
        outside = pool.run("qgis-serverctl", "check", "--json", check=False).stdout
        assert inside == json.loads(outside)
        pool.run("sh", "-c", f"rm {dropin}; systemctl daemon-reload")
        timer = "qgis-server-notify.timer"
        assert pool.out("systemctl", "is-active", timer) == "active"
        look()
        assert look() == ""
        ctl(pool, "maintenance", "on")
        first = look()
        assert first.startswith("Subject: QGIS Server on ")
        assert "qgis-serverctl maintenance off" in first
        assert look() == ""
        # One that can't be told is told the next time.
        ctl(pool, "maintenance", "off")
        pool.run("chmod", "-x", "/usr/local/bin/tell")
        pool.run("systemctl", "start", "qgis-server-notify.service", check=False)
        pool.run("chmod", "+x", "/usr/local/bin/tell")
        last = look()
        assert ": 0 new, 1 gone" in last
        assert look() == ""
    finally:
        ctl(pool, "maintenance", "off")
        pool.run("sed", "-i", "/^notify/d", "/etc/qgis-server/server.toml")
        ctl(pool, "apply")
        pool.run("sh", "-c", f"rm -f /root/told /root/found {dropin} /usr/local/bin/tell")
        pool.run("sh", "-c", "systemctl daemon-reload; systemctl reset-failed")
    assert pool.out("systemctl", "is-active", timer, check=False) == "inactive"
