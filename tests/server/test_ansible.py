# SPDX-License-Identifier: GPL-2.0-or-later
"""The roles in contrib/ansible, by ansible-playbook over SSH on two servers at once: one of each
release, or two of the one that is tested. And a third one in front of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from shared.paths import TOP
from shared.pool import MAP, is_served, load, main_pid, status, wait_for
from shared.shop import Shop, signing_keys
from testbed import Testbed
from testbed.processes import start_time

CONTRIB = TOP / "contrib/ansible"
PORT = 8099
REPOSITORY = f"http://127.0.0.1:{PORT}"
NETWORK = "10.99"
SETTINGS = f"""map_parameter = true
project = "/srv/maps/world.qgz"
request_log = true
trusted_proxies = ["{NETWORK}.0.0/16"]
leave_seconds = 4
"""
STATISTICS = "http://127.0.0.1:8404/;csv"
# An administrator who is not root, as on most servers.
ADMINISTRATOR = """
useradd --create-home admin
echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
install -d -m 700 -o admin -g admin ~admin/.ssh
cat >~admin/.ssh/authorized_keys
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
"""


@dataclass(frozen=True)
class Rollout:
    """What ansible-playbook said. changed: for each server that it came to, how many tasks
    changed something."""

    good: bool
    said: str
    changed: dict[str, int]


@dataclass
class Fleet:
    """Two servers, one for their front, the repository that they take packages from, and the
    inventory."""

    folder: Path
    shop: Shop
    beds: dict[str, Testbed]
    front: Testbed
    variables: dict[str, object] = field(default_factory=dict)

    def write_inventory(self) -> None:
        login = {
            "ansible_host": "127.0.0.1",
            "ansible_user": "admin",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.folder / "key"),
        }
        hosts = {
            name: login
            | {"ansible_port": bed.forward("127.0.0.1:22"), "qgis_server_address": address(number)}
            for number, (name, bed) in enumerate(self.beds.items())
        }
        fronts = {"front": login | {"ansible_port": self.front.forward("127.0.0.1:22")}}
        inventory = {"qgis_servers": {"hosts": hosts}, "qgis_fronts": {"hosts": fronts}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))

    def plug_in(self, name: str) -> None:
        """A server that has booted has no cable."""
        number = list(self.beds).index(name)
        here = f"{NETWORK}.{number}.1/24"
        self.front.connect(self.beds[name], cable(number), here, f"{address(number)}/24")

    def state(self, name: str) -> str:
        """What the front says of a server."""
        lines = self.front.fetch(STATISTICS).body.decode().splitlines()
        (line,) = (line for line in lines if line.startswith(f"light,{name},"))
        return line.split(",")[17].split()[0]

    def roll_out(self, *options: str, playbook: str = "site.yml", **variables: object) -> Rollout:
        given = {f"qgis_server_{name}": v for name, v in (self.variables | variables).items()}
        known = f"-o UserKnownHostsFile={self.folder}/known -o StrictHostKeyChecking=accept-new"
        kept = "-o ControlMaster=auto -o ControlPersist=60s"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook"),
                *("--inventory", self.folder / "inventory.json"),
                *("--extra-vars", json.dumps(given)),
                *options,
                CONTRIB / playbook,
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_LOG_PATH": str(self.folder / "log"),
                "ANSIBLE_PIPELINING": "true",
                "ANSIBLE_SSH_ARGS": f"{kept} {known}",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        said = done.stdout + done.stderr
        recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) ", said, re.M)
        return Rollout(done.returncode == 0, said, {name: int(n) for name, n in recap})


def address(number: int) -> str:
    """Of a server, at its end of the cable."""
    return f"{NETWORK}.{number}.2"


def cable(number: int) -> str:
    return f"cable{number}"


def debian_packages(bed: Testbed) -> list[Path]:
    """NGINX and HAProxy, which servers would have from Debian; there is no network."""
    kept = bed.root / "var/cache/apt/archives"
    names = ("nginx*", "haproxy*", "libjemalloc*", "liblua*", "libopentracing*")
    return sorted(file for name in names for file in kept.glob(f"{name}.deb"))


@pytest.fixture
def fleet(suites_chosen: list[str], artifacts: list[Path], tmp_path: Path) -> Iterator[Fleet]:
    home = tmp_path / "gnupg"
    home.mkdir()
    with ExitStack() as stack:
        (signer,) = stack.enter_context(signing_keys(home, "gis@acme.example"))
        shop = Shop(tmp_path, signer)
        beds = {
            name: stack.enter_context(Testbed(suite, managed=True))
            for name, suite in (("first", suites_chosen[0]), ("second", suites_chosen[-1]))
        }
        front = stack.enter_context(Testbed(suites_chosen[0], managed=True))
        for bed in {bed.suite: bed for bed in beds.values()}.values():
            shop.publish("--suite", bed.suite, *debian_packages(bed), url=REPOSITORY)
        (given,) = (file for file in artifacts if file.suffix == ".changes")
        shop.publish(given, url=REPOSITORY)
        generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
        subprocess.run(generate, check=True)
        for bed in (*beds.values(), front):
            bed.boot()
            bed.run("sh", "-ec", ADMINISTRATOR, input=(tmp_path / "key.pub").read_text())
            bed.serve(shop.repo, PORT)
        # They are links in the repository.
        key, entry = shop.repo / "acme.asc", shop.repo / f"acme-{front.suite}.sources"
        front.put(key.resolve(), "/etc/apt/keyrings/acme.asc")
        front.put(entry.resolve(), "/etc/apt/sources.list.d/acme.sources")
        fleet = Fleet(tmp_path, shop, beds, front)
        for name in beds:
            fleet.plug_in(name)
        fleet.write_inventory()
        fleet.variables = {
            "repository": REPOSITORY,
            "repository_name": "acme",
            "repository_key": (shop.repo / "acme.asc").read_text(),
            "settings": SETTINGS,
            "probe": MAP,
            "probe_type": "image/png",
        }
        yield fleet


def workers(bed: Testbed) -> dict[int, int]:
    """When each worker was started, in clock ticks since the host was, by its process ID."""
    pids = (main_pid(bed, one["instance"]) for one in status(bed)["instances"])
    return {pid: int(start_time(bed.out("cat", f"/proc/{pid}/stat"))[1]) for pid in pids}


def version(bed: Testbed) -> str:
    return bed.out("dpkg-query", "-W", "-f", "${Version}", "qgis-server-systemd")


def settings(bed: Testbed) -> str:
    return (bed.root / "etc/qgis-server/server.toml").read_text()


def passed_on(fleet: Fleet) -> None:
    """What the hosts believe of their front, and nothing of its clients."""
    lie = ("--header", "X-Request-Id: 0123456789abcdef", "--header", "X-Forwarded-Prefix: /evil")
    asked = "http://127.0.0.1/qgis-server?SERVICE=WMS&REQUEST=GetCapabilities"
    reply = fleet.front.fetch(asked, "--header", "Host: maps.acme.example", *lie)
    assert b'href="http://maps.acme.example/qgis-server?' in reply.body, reply.body[:2000]
    assert b"evil" not in reply.body
    # The number is the same everywhere.
    number = reply.headers["x-request-id"]
    assert number in fleet.front.out("journalctl", "--identifier=haproxy")
    logs = [bed.root / "var/log/nginx/qgis-server-requests.log" for bed in fleet.beds.values()]
    wait_for(
        lambda: any(number in log.read_text() for log in logs if log.exists()),
        "a host has written down the request",
    )
    # Metrics of HAProxy are for those who are listed.
    assert b"haproxy_server_status" in fleet.front.fetch("http://127.0.0.1:8404/metrics").body
    refused = fleet.beds["first"].fetch(f"http://{NETWORK}.0.1:8404/metrics")
    assert refused.status == 403


def test_a_roll_out(fleet: Fleet, newer_package: Path) -> None:
    """From nothing to an upgrade, and what stops one."""
    first, second = fleet.beds.values()

    # A key that anybody on the way could exchange is not taken.
    refused = fleet.roll_out(repository_key="")
    assert not refused.good and "qgis_server_repository_key_sha256" in refused.said, refused.said

    planned = fleet.roll_out("--check", "--diff")
    assert planned.good, planned.said
    assert f"+URIs: {REPOSITORY}" in planned.said
    for bed in fleet.beds.values():
        assert not (bed.root / "etc/apt/sources.list.d/acme.sources").exists()

    fresh = fleet.roll_out(version="0.1.0-1")
    assert fresh.good, fresh.said
    for bed in fleet.beds.values():
        is_served(bed)
        assert version(bed) == "0.1.0-1"
        assert settings(bed) == SETTINGS
        # As those have it who paste the lines.
        entry = (bed.root / "etc/apt/sources.list.d/acme.sources").read_text()
        assert entry == (fleet.shop.repo / f"acme-{bed.suite}.sources").read_text()

    # A front comes before them. The key fetched, and known by its digest, is the same.
    digest = hashlib.sha256((fleet.shop.repo / "acme.asc").read_bytes()).hexdigest()
    again = fleet.roll_out(playbook="fleet.yml", repository_key="", repository_key_sha256=digest)
    assert again.good and again.changed.pop("front"), again.said
    assert again.changed == {"first": 0, "second": 0}, again.said
    is_served(fleet.front)
    passed_on(fleet)

    # An upgrade, one after the other. Each is taken out at the front meanwhile.
    fleet.shop.publish(newer_package, url=REPOSITORY)
    before = {name: workers(bed) for name, bed in fleet.beds.items()}
    with load(fleet.front) as result:
        upgraded = fleet.roll_out(playbook="fleet.yml")
    assert upgraded.good and upgraded.changed["front"] == 0, upgraded.said
    assert result["sent"] > 0 and result["failed"] == []
    for name, bed in fleet.beds.items():
        assert not workers(bed).keys() & before[name].keys()
        assert version(bed) == "0.1.0-2"
        # It would have left by itself, too.
        rolled = bed.out("journalctl", "--output=cat", "--unit=qgis-server-roll.service")
        assert "load balancers are told to send requests here again" in rolled
    assert max(workers(first).values()) < min(workers(second).values())

    # A mistake is found before the file is written; what is no mistake by itself, once the pool
    # is looked at. Either way nobody comes to the second server.
    wrong = fleet.roll_out(settings=SETTINGS + 'request_timeout = "soon"\n')
    assert not wrong.good and wrong.changed == {"first": 0}, wrong.said
    assert 'request_timeout = \\"soon\\" is not a number of seconds' in wrong.said
    assert settings(first) == SETTINGS
    unwell = fleet.roll_out(playbook="fleet.yml", settings=SETTINGS.replace("world", "missing"))
    assert not unwell.good and unwell.changed.keys() == {"front", "first"}, unwell.said
    assert "there is no such project" in unwell.said
    assert settings(second) == SETTINGS
    # The one that failed stays out.
    assert (fleet.state("first"), fleet.state("second")) == ("NOLB", "UP")
    is_served(fleet.front)
    assert fleet.roll_out("--limit", "first", playbook="fleet.yml").good
    assert fleet.state("first") == "UP"

    # HAProxy's mistakes are found before its file counts.
    mistake = ("--limit", "front", "--extra-vars", "qgis_front_reply_timeout=soon")
    broken = fleet.roll_out(*mistake, playbook="fleet.yml")
    assert not broken.good
    is_served(fleet.front)

    # A shutdown loses no request: the server tells the front before it goes.
    with load(fleet.front) as result:
        first.shutdown()
    assert result["failed"] == []
    first.boot()
    fleet.plug_in("first")
    wait_for(lambda: fleet.state("first") == "UP", "the front sends requests there again")

    # Nor does a host whose network is gone at once.
    with load(fleet.front) as result:
        second.run("ip", "link", "set", cable(1), "down")
        wait_for(lambda: fleet.state("second") == "DOWN", "the front has noticed")
    assert result["failed"] == []
