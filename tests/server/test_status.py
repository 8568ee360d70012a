# SPDX-License-Identifier: GPL-2.0-or-later
"""``status`` on a server that works, waits, is drained or gets a new QGIS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from shared.pool import MAP, ctl, is_served, load, main_pid, status, wait_for
from testbed import RELEASES, Testbed

SCHEMA = "usr/share/qgis-server-systemd/status.schema.json"
BIG = MAP.replace("WIDTH=256&HEIGHT=128", "WIDTH=6000&HEIGHT=6000")


def checked(bed: Testbed) -> dict[str, Any]:
    """The status, which must be by the schema that is shipped."""
    found = status(bed)
    schema = json.loads((bed.root / SCHEMA).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(found, schema, jsonschema.Draft202012Validator)
    return found


def watch(bed: Testbed, *args: str) -> str:
    """What status --watch prints until somebody presses Ctrl-C, once there are two lines."""
    # What a shell has in the background ignores that key until env has begun, so it must not be
    # sent for lines that an earlier run has left.
    script = (
        ": >/root/watched;"
        ' env --default-signal=INT qgis-serverctl status --watch "$@" >/root/watched &'
        ' while kill -0 $! && [ "$(wc -l </root/watched)" -lt 2 ]; do sleep 0.1; done;'
        " kill -INT $!; wait $!"
    )
    done = bed.run("sh", "-c", script, "sh", *args)
    assert done.stderr == ""
    return (bed.root / "root/watched").read_text()


def release(suite: str) -> str:
    return ".".join(map(str, RELEASES[suite].qgis))


def test_status_of_a_pool_from_idle_to_upgraded(server: Testbed, suite: str) -> None:
    ctl(server, "site", "enable")
    is_served(server)
    wait_for(lambda: status(server)["verdict"]["level"] == "ok", "all is well")
    found = checked(server)
    count = len(found["instances"])
    assert found["qgis"].startswith(release(suite))
    assert (
        found["verdict"]["summary"] == f"{count} of {count} instances serve, 0 busy, nothing waits"
    )
    for line in found["instances"]:
        assert line["work"] == "idle"
        assert 10 < line["memory_mb"] < 2000
        assert 0 < line["age_seconds"] < 3600
        assert line["version"] == "current"
        assert line["busy_seconds"] is None
    said = ctl(server, "status")
    assert said.startswith(f"QGIS Server {found['qgis']}")
    assert f"\nok: {found['verdict']['summary']}\n" in said

    # Another user: no traceback, dashes for what can't be told.
    done = server.run("/usr/sbin/qgis-serverctl", "status", user="nobody")
    assert done.stderr == ""
    row = next(line for line in done.stdout.splitlines() if line.startswith("1 "))
    assert row.split()[-2:] == ["-", "-"]
    (server.root / "etc/qgis-server/server.toml").chmod(0o600)
    done = server.run("/usr/sbin/qgis-serverctl", "status", user="nobody")
    assert "not all can be told to this user" in done.stdout
    (server.root / "etc/qgis-server/server.toml").chmod(0o644)

    # Busy, and for how long: a large map has none of these workers else.
    server.run("sh", "-c", "echo 'heavy_workers = 0' >>/etc/qgis-server/server.toml")
    ctl(server, "apply")
    with load(server, BIG, clients=count + 1):
        wait_for(
            lambda: any(
                (line["busy_seconds"] or 0) > 0.5 and line["queued"] for line in lines(server)
            ),
            "a worker that is busy for a while, and one that waits",
        )
        checked(server)
        done = server.run("/usr/sbin/qgis-serverctl", "status", user="nobody")
        assert "busy" in done.stdout

    ctl(server, "drain", "1")
    found = checked(server)
    assert [line["drained"] for line in found["instances"]][:2] == ["administrator", "no"]
    assert "1 drained" in found["verdict"]["summary"]
    ctl(server, "undrain", "1")

    # A monitor that does not run is told, and no old duration is shown.
    server.run("systemctl", "stop", "qgis-server-monitor.service")
    server.run("rm", "/run/qgis-server-systemd/monitor.json")
    found = checked(server)
    assert found["monitor"] is False
    (problem,) = found["verdict"]["problems"]
    server.run("sh", "-c", problem["remedy"])
    wait_for(lambda: status(server)["verdict"]["level"] == "ok", "the monitor runs")

    # A worker whose program was replaced, then one that is not there.
    program = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
    server.run("sh", "-c", f"cp -p {program} {program}.new && mv {program}.new {program}")
    found = checked(server)
    assert {line["version"] for line in found["instances"]} == {"old"}
    assert found["verdict"]["problems"][0]["remedy"] == "qgis-serverctl apply"
    judged_alike(server)
    ctl(server, "apply")
    assert {line["version"] for line in lines(server)} == {"current"}
    server.run("systemctl", "stop", "qgis-server@1.service")
    judged_alike(server)
    found = checked(server)
    assert found["verdict"]["level"] == "error"
    server.run("sh", "-c", found["verdict"]["problems"][0]["remedy"])
    assert main_pid(server, 1)

    # A mistake in the settings hides nothing of the pool.
    (server.root / "etc/qgis-server/server.toml").write_text("instanzes = 2\n")
    found = checked(server)
    assert len(found["instances"]) == count
    assert found["verdict"]["problems"][0]["id"] == "settings-invalid"
    judged_alike(server)
    assert "instanzes" in ctl(server, "status")
    (server.root / "etc/qgis-server/server.toml").write_text("backlog = 63\n")

    # Stopped as a whole, it is told once.
    ctl(server, "apply")
    assert [line.split() for line in ctl(server, "status").splitlines() if "backlog" in line] == [
        ["backlog", "63", "/etc/qgis-server/server.toml"]
    ]
    numbers = ctl(server, "complete", "instances").split()
    assert numbers == [str(n) for n in range(1, count + 1)]
    version = server.out("dpkg-query", "--show", "--showformat=${Version}", "qgis-server-systemd")
    said = ctl(server, "--version")
    assert said == f"qgis-server-systemd {version}, QGIS Server {found['qgis']}\n"
    assert "image_size_max" not in ctl(server, "status")
    assert "image_size_max" in ctl(server, "status", "--all")
    server.run("systemctl", "stop", "qgis-server.slice")
    problems = checked(server)["verdict"]["problems"]
    assert [problem["id"] for problem in problems] == ["pool-stopped", "pending"]
    judged_alike(server)
    server.run("sh", "-c", problems[0]["remedy"])
    wait_for(lambda: status(server)["verdict"]["level"] == "ok", "the pool runs")


def judged_alike(bed: Testbed) -> None:
    """What `status` tells, `check` tells in the same words."""
    told = status(bed)["verdict"]["problems"]
    done = bed.run("qgis-serverctl", "check", "--json", check=False)
    findings = json.loads(done.stdout)["findings"]
    assert told
    assert [problem for problem in told if problem not in findings] == []


def lines(bed: Testbed) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = status(bed)["instances"]
    return found


@pytest.mark.parametrize("count", [16])
def test_status_can_be_watched(server: Testbed, count: int) -> None:
    ctl(server, "apply", "--instances", str(count))
    assert len(lines(server)) == count
    first, second, *_ = watch(server, "0.2", "--json").splitlines()
    assert len(json.loads(first)["instances"]) == len(json.loads(second)["instances"]) == count
    assert watch(server, "0.2").startswith("QGIS Server 3."), "no terminal, no codes"
    assert "invalid seconds value" in ctl(server, "status", "--watch", "never", check=False)


def test_the_schema_fits_a_tree_that_is_not_booted(ready: Testbed) -> None:
    ready.chroot("apt-get", "--yes", "install", "/root/package.deb")
    found = json.loads(ready.chroot("qgis-serverctl", "status", "--json").stdout)
    jsonschema.validate(found, json.loads(Path(ready.root / SCHEMA).read_text()))
    assert found["verdict"]["summary"] == "systemd does not run here"
