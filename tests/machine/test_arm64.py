# SPDX-License-Identifier: GPL-2.0-or-later
"""The package on 64-bit ARM: numbers of system calls and types of relocations differ there, and
with them how a worker is seen to be idle, how it is woken to stop, its filters, and how QGIS
Server's wait before a reply is taken away. Debian's programs of that architecture run in emulators,
so this is done once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shared.harm import let_go_wrong
from shared.paths import SHARED
from shared.pool import DEB, MAP, OFFLINE, allow_map, put_package
from testbed import Snapshot, Testbed
from testbed.emulation import PROCESSOR, arm_programs
from testbed.snapshots import cached_snapshot
from testbed.vm import ARCHITECTURES, Machine

INSIDE = Path(__file__).with_name("on_arm64.py")
FOLDER = "/usr/local/lib/looks"

# What takes seconds elsewhere.
SETTINGS = "instances = 2\nheavy_workers = 1\nrequest_timeout = 900\n"
SLOW = "[Service]\nTimeoutStartSec=30min\n"

SCRIPT = f"""
python3 {FOLDER}/{INSIDE.name} '{MAP}' && exit
qgis-serverctl status
journalctl --boot --quiet --no-pager --output=cat --lines=200
exit 1
"""


@contextmanager
def arm64_server(suite: str, package: Path) -> Iterator[Snapshot]:
    """One with the package and NGINX, at rest."""

    def fill(bed: Testbed) -> None:
        put_package(bed, package)
        allow_map(bed)
        command = ("apt-get", "--yes", "install", "--no-install-recommends", DEB)
        done = bed.chroot(*command, env=OFFLINE | PROCESSOR, timeout=1800)
        assert "not complete" not in done.stdout + done.stderr, done.stdout + done.stderr

    recipe = package.read_bytes(), Path(__file__).read_bytes()
    with cached_snapshot("installed", suite, fill, *recipe, architecture="arm64") as snapshot:
        yield snapshot


@pytest.mark.long
@pytest.mark.only("trixie")
def test_a_server_of_another_architecture(suite: str, package: Path) -> None:
    with (
        arm_programs(),
        arm64_server(suite, package) as installed,
        Testbed(suite, like=installed) as bed,
    ):
        bed.put(SHARED / "probing_plugin", "/usr/share/qgis/python/plugins/")
        let_go_wrong(bed)
        bed.put(INSIDE, f"{FOLDER}/")
        (bed.root / "etc/qgis-server/server.toml").write_text(SETTINGS)
        bed.chroot("qgis-serverctl", "site", "enable", env=PROCESSOR)
        slow = bed.root / "etc/systemd/system/qgis-server-apply.service.d/slow.conf"
        slow.parent.mkdir()
        slow.write_text(SLOW)
        machine = Machine(bed.root, cpus=2, of=ARCHITECTURES["aarch64"])
        status, output = machine.run_script(SCRIPT, timeout=7200)
    assert status == 0, output
    found: dict[str, Any] = {}
    for line in output.splitlines():
        found |= json.loads(line)
    serves(found)
    is_confined(found)
    stops(found)
    assert (found["complaints"], found["check"]["findings"], found["check"]["log"]) == ([], [], [])


MAP_IS_SERVED = [200, "PNG"]


def serves(found: dict[str, Any]) -> None:
    """What is busy and what is idle is told by the numbers of accept."""
    assert (found["machine"], found["sockets"], found["map"]) == ("aarch64", 2, MAP_IS_SERVED)
    assert (found["level"], found["pending"]) == ("ok", [])
    assert (found["one_held"], found["held"]) == (["busy", "idle"], MAP_IS_SERVED)
    assert found["lane_before"] == []
    assert (found["wide"], found["body"]) == (MAP_IS_SERVED, MAP_IS_SERVED)
    assert found["had_by"] == ["lane", "lane"]
    assert found["lane_after"] == ["idle"]
    # The wait before a reply, by the type of relocation.
    assert found["reply_wait"] == "removed"
    changed, others, waited = json.loads(found["select"].removeprefix("ok "))
    assert changed == ["libqgis_server"]
    assert others
    assert waited


def is_confined(found: dict[str, Any]) -> None:
    """By systemd's filter of system calls, and by the plugin's own."""
    assert found["process"] == {"NoNewPrivs": "1", "Seccomp": "2", "CapBnd": "0" * 16}
    errors = dict.fromkeys(found["refused"], "EPERM") | {"packets": "EAFNOSUPPORT"}
    assert found["refused"] == errors
    assert found["watch"] == "ENOENT"
    reached = json.loads(found["reach"].removeprefix("ok "))
    assert reached.keys() <= {"EPERM", "ESRCH", "EACCES", "ENOENT"}, reached
    assert found["own"] == "ok "


def stops(found: dict[str, Any]) -> None:
    """A request in hand is finished, and a worker that waits for one is woken."""
    assert (found["last"], found["still_there"]) == (MAP_IS_SERVED, False)
    assert found["stopped"] == [0, [], 503]
    assert found["started"] == [2, MAP_IS_SERVED]
