# SPDX-License-Identifier: GPL-2.0-or-later
"""The roles in contrib/ansible, by ansible-playbook over SSH on two servers at once: one of each
release, or two of the one that is tested. And a third one in front of them. With --all,
three servers behind two fronts that share an address, and what is lost when one is."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from shared.paths import TOP
from shared.pool import (
    MAP,
    ctl,
    fill,
    install,
    is_served,
    listens,
    load,
    main_pid,
    status,
    wait_for,
)
from shared.shop import Shop, signing_keys
from testbed import Snapshot, Testbed
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
NEEDED = ("nginx*", "adduser*", "haproxy*", "libjemalloc*", "liblua*", "libopentracing*")
BY_KEEPALIVED = (
    *("keepalived*", "libnftnl*", "libnl*", "libpci*", "libsnmp*", "pci.ids*"),
    *("libgdbm*", "libperl*", "perl*"),
)
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
    """Servers, what is in front of them, the repository that they take packages from, and the
    inventory. logins: what Ansible needs for each."""

    folder: Path
    shop: Shop
    beds: dict[str, Testbed]
    fronts: dict[str, Testbed]
    variables: dict[str, object] = field(default_factory=dict)
    logins: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def front(self) -> Testbed:
        return next(iter(self.fronts.values()))

    def manage(self, name: str, bed: Testbed) -> None:
        """Boot one that Ansible manages."""
        bed.boot()
        bed.run("sh", "-ec", ADMINISTRATOR, input=(self.folder / "key.pub").read_text())
        bed.serve(self.shop.repo, PORT)
        if name in self.fronts:
            # They are links in the repository.
            key, entry = self.shop.repo / "acme.asc", self.shop.repo / f"acme-{bed.suite}.sources"
            bed.put(key.resolve(), "/etc/apt/keyrings/acme.asc")
            bed.put(entry.resolve(), "/etc/apt/sources.list.d/acme.sources")
        self.logins[name] = {
            "ansible_host": "127.0.0.1",
            "ansible_port": bed.forward("127.0.0.1:22"),
            "ansible_user": "admin",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.folder / "key"),
        }

    def write_inventory(self, without: Collection[str] = ()) -> None:
        hosts = {
            name: self.logins.get(name, {}) | {"qgis_server_address": self.address(name)}
            for name in self.beds
            if name not in without
        }
        fronts = {name: self.logins[name] | {"qgis_front_interface": name} for name in self.fronts}
        inventory = {"qgis_servers": {"hosts": hosts}, "qgis_fronts": {"hosts": fronts}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))

    def address(self, name: str) -> str:
        """Of a server, at its end of the cable."""
        return f"{NETWORK}.{list(self.beds).index(name)}.2"

    def plug_in(self, name: str) -> None:
        """A server that has booted has no cable."""
        there = self.address(name)
        here = f"{there.rpartition('.')[0]}.1/24"
        self.front.connect(self.beds[name], name, here, f"{there}/24")

    def said(self, name: str, lane: str = "light", front: Testbed | None = None) -> dict[str, str]:
        """What the front says of a server; nothing if it knows none of this name."""
        page = (front or self.front).fetch(STATISTICS).body.decode()
        lines = csv.DictReader(page.removeprefix("# ").splitlines())
        return next((one for one in lines if (one["pxname"], one["svname"]) == (lane, name)), {})

    def state(self, name: str) -> str:
        return self.said(name)["status"].split()[0]

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


def debian_packages(bed: Testbed, *names: str) -> list[Path]:
    """Those that servers would have from Debian; there is no network."""
    kept = bed.root / "var/cache/apt/archives"
    return sorted(file for name in names for file in kept.glob(f"{name}.deb"))


def open_shop(folder: Path, stack: ExitStack) -> Shop:
    """And make the administrator's key."""
    home = folder / "gnupg"
    home.mkdir()
    (signer,) = stack.enter_context(signing_keys(home, "gis@acme.example"))
    generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
    subprocess.run(generate, check=True)
    return Shop(folder, signer)


@pytest.fixture
def fleet(suites_chosen: list[str], artifacts: list[Path], tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        shop = open_shop(tmp_path, stack)
        beds = {
            name: stack.enter_context(Testbed(suite, managed=True))
            for name, suite in (("first", suites_chosen[0]), ("second", suites_chosen[-1]))
        }
        front = stack.enter_context(Testbed(suites_chosen[0], managed=True))
        for bed in {bed.suite: bed for bed in beds.values()}.values():
            shop.publish("--suite", bed.suite, *debian_packages(bed, *NEEDED), url=REPOSITORY)
        (given,) = (file for file in artifacts if file.suffix == ".changes")
        shop.publish(given, url=REPOSITORY)
        fleet = Fleet(tmp_path, shop, beds, {"front": front})
        for name, bed in (beds | fleet.fronts).items():
            fleet.manage(name, bed)
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
    # Metrics of HAProxy are for those who are listed. IPv6 is as good.
    assert b"haproxy_server_status" in fleet.front.fetch("http://[::1]:8404/metrics").body
    is_served(fleet.front, MAP.replace("127.0.0.1", "[::1]"))
    refused = fleet.beds["first"].fetch(f"http://{NETWORK}.0.1:8404/metrics")
    assert refused.status == 403


def make_certificate(bed: Testbed) -> None:
    """Of a certificate authority of one's own."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    bed.run(
        "sh",
        "-ec",
        f"""cd /root
        openssl req -x509 {key} -subj /CN=Authority -keyout ca.key -out ca.pem -days 2
        openssl req {key} -subj /CN=maps -addext subjectAltName=DNS:maps.acme.example \\
            -keyout maps.key -out maps.csr
        openssl x509 -req -in maps.csr -CA ca.pem -CAkey ca.key -CAcreateserial \\
            -copy_extensions copy -days 2 -out maps.crt
        cat maps.crt maps.key >/etc/haproxy/maps.pem""",
    )


def is_safe(front: Testbed) -> None:
    """Served by TLS alone, and hosts know of it; and no client gets more than its share."""
    safe = "https://maps.acme.example"
    known = ("--resolve", "maps.acme.example:443:127.0.0.1", "--cacert", "/root/ca.pem")
    reply = front.fetch(f"{safe}/qgis-server?SERVICE=WMS&REQUEST=GetCapabilities", *known)
    assert f'href="{safe}/qgis-server?'.encode() in reply.body, reply.body[:2000]
    assert reply.headers["strict-transport-security"] == "max-age=31536000"
    here = front.fetch("http://127.0.0.1/qgis-server?A=1", "--header", "Host: maps.acme.example")
    assert (here.status, here.headers["location"]) == (301, f"{safe}/qgis-server?A=1")
    old = ("curl", "--silent", "--tls-max", "1.1", *known, safe)
    assert front.run(*old, check=False).returncode == 35  # no version in common
    many = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code} ", *known)
    said = front.out("curl", *many, f"{safe}/qgis-server/health?[1-20]").split()
    assert {"200", "429"} == set(said), said
    # Whoever has one address of IPv6 has a network of them.
    front.run("sh", "-ec", "for n in $(seq 20); do ip address add 2001:db8::$n/128 dev lo; done")
    resolved = ("--resolve", "maps.acme.example:443:2001:db8::1", *known[2:])
    how = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code} ", *resolved)
    calls: list[str] = []
    for number in range(1, 21):
        calls += [
            *how,
            "--interface",
            f"2001:db8::{number}",
            f"{safe}/qgis-server/health",
            "--next",
        ]
    said = front.out("curl", *calls[:-1]).split()
    assert {"200", "429"} == set(said), said


def test_a_roll_out(fleet: Fleet, newer_package: Path) -> None:
    """From nothing to an upgrade, and what a server that goes away costs."""
    first, second = fleet.beds.values()

    # A key that anybody on the way could exchange is not taken.
    refused = fleet.roll_out(repository_key="")
    assert not refused.good and "qgis_server_repository_key_sha256" in refused.said, refused.said

    fleet.write_inventory(without=["second"])
    fresh = fleet.roll_out(version="0.1.0-1")
    assert fresh.good and fresh.changed.keys() == {"first"}, fresh.said

    # One more is a line in the inventory and a run. A front comes before them. The key fetched, and
    # known by its digest, is the same.
    fleet.write_inventory()
    digest = hashlib.sha256((fleet.shop.repo / "acme.asc").read_bytes()).hexdigest()
    again = fleet.roll_out(playbook="fleet.yml", repository_key="", repository_key_sha256=digest)
    assert again.good and again.changed.pop("front") and again.changed.pop("second"), again.said
    assert again.changed == {"first": 0}, again.said
    for bed in (*fleet.beds.values(), fleet.front):
        is_served(bed)
    for bed in fleet.beds.values():
        assert version(bed) == "0.1.0-1"
        assert settings(bed) == SETTINGS
        # As those have it who paste the lines.
        entry = (bed.root / "etc/apt/sources.list.d/acme.sources").read_text()
        assert entry == (fleet.shop.repo / f"acme-{bed.suite}.sources").read_text()

    passed_on(fleet)

    # An upgrade, one after the other. Each is taken out at the front meanwhile.
    fleet.shop.publish(newer_package, url=REPOSITORY)
    before = {name: workers(bed) for name, bed in fleet.beds.items()}
    with load(fleet.front, options=("--posts", "1")) as result:
        upgraded = fleet.roll_out(playbook="fleet.yml")
    assert upgraded.good and upgraded.changed["front"] == 0, upgraded.said
    assert result["posts"]["sent"] > 0 and result["failed"] == []
    for name, bed in fleet.beds.items():
        assert not workers(bed).keys() & before[name].keys()
        assert version(bed) == "0.1.0-2"
        # It would have left by itself, too.
        rolled = bed.out("journalctl", "--output=cat", "--unit=qgis-server-roll.service")
        assert "load balancers are told to send requests here again" in rolled
    assert max(workers(first).values()) < min(workers(second).values())

    # A shutdown loses no request: the server tells the front before it goes.
    with load(fleet.front, options=("--posts", "1")) as result:
        first.shutdown()
    assert result["failed"] == []
    first.boot()
    fleet.plug_in("first")
    wait_for(lambda: fleet.state("first") == "UP", "the front sends requests there again")

    # Nor does a host whose network is gone at once, but for replies of which a part had come:
    # at most one for each client.
    with load(fleet.front, clients=2) as result:
        second.run("ip", "link", "set", "second", "down")
        wait_for(lambda: fleet.state("second") == "DOWN", "the front has noticed")
    assert len(result["failed"]) == result["begun"] <= 2, result["failed"]


@pytest.mark.long
def test_what_stops_a_roll_out(fleet: Fleet) -> None:
    """And what it does to a front besides."""
    first, second = fleet.beds.values()

    planned = fleet.roll_out("--check", "--diff")
    assert planned.good, planned.said
    assert f"+URIs: {REPOSITORY}" in planned.said
    for bed in fleet.beds.values():
        assert not (bed.root / "etc/apt/sources.list.d/acme.sources").exists()

    whole = fleet.roll_out(playbook="fleet.yml")
    assert whole.good, whole.said

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

    # One less is a line, too.
    fleet.write_inventory(without=["second"])
    make_certificate(fleet.front)
    given = "qgis_front_certificate=/etc/haproxy/maps.pem qgis_front_client_rate=1"
    final = fleet.roll_out("--limit", "front", "--extra-vars", given, playbook="fleet.yml")
    assert final.good and not fleet.said("second"), final.said
    is_safe(fleet.front)


LAN = f"{NETWORK}.0"
SHARED = f"{LAN}.200"
"""What the fronts share."""
SHARED_6 = "fd99::200"
TILE = MAP.replace("127.0.0.1", SHARED)
WIDE = TILE.replace("WIDTH=256", "WIDTH=3000").replace("HEIGHT=128", "HEIGHT=30")
"""Soon drawn, but the front sends it to the lane for heavy requests."""
MIXED = ("--posts", "2")


@dataclass
class Lan(Fleet):
    """Three servers, two fronts that share an address, and a client, at one switch: `switch`."""

    client: Testbed = field(kw_only=True)

    def address(self, name: str) -> str:
        """Of a server or a front."""
        return f"{LAN}.{[*self.beds, *self.fronts].index(name) + 2}"

    def plug_in(self, name: str) -> None:
        there = f"{self.address(name)}/24"
        self.client.connect((self.beds | self.fronts)[name], name, "switch", there)

    def pull(self, name: str) -> None:
        """Its cable: neither FIN nor RST comes any more."""
        self.client.run("ip", "link", "set", name, "down")

    def put_back(self, name: str) -> None:
        self.client.run("ip", "link", "set", name, "up")

    def in_use(self, *names: str) -> bool:
        """By both fronts."""
        states = [self.said(n, front=f)["status"] for n in names for f in self.fronts.values()]
        return all(state == "UP" for state in states)

    def in_hand(self, name: str, front: Testbed) -> list[str]:
        """How many requests of each lane a server has of a front."""
        return [self.said(name, lane, front)["scur"] for lane in ("light", "heavy")]

    def holders(self) -> list[str]:
        """Which fronts have the shared address."""
        look = ("ip", "-brief", "address", "show", "to", SHARED)
        return [name for name, bed in self.fronts.items() if bed.out(*look)]

    def signal(self, name: str, signal: str) -> None:
        """To all workers of a server."""
        self.beds[name].run("systemctl", "kill", f"--signal={signal}", "qgis-server@*.service")


@pytest.fixture(scope="module")
def lan(suite: str, installed: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    folder = tmp_path_factory.mktemp("lan")
    with ExitStack() as stack:
        shop = open_shop(folder, stack)
        enter = stack.enter_context
        beds = {f"maps{n}": enter(Testbed(suite, like=installed)) for n in (1, 2, 3)}
        fronts = {f"front{n}": enter(Testbed(suite, managed=True)) for n in (1, 2)}
        needed = debian_packages(fronts["front1"], *NEEDED, *BY_KEEPALIVED)
        shop.publish("--suite", suite, *needed, url=REPOSITORY)
        lan = Lan(folder, shop, beds, fronts, client=enter(Testbed(suite)))
        lan.client.boot()
        lan.client.run("ip", "link", "add", "switch", "type", "bridge")
        lan.client.run("ip", "address", "add", f"{LAN}.1/24", "dev", "switch")
        lan.client.run("ip", "-6", "address", "add", "fd99::1/64", "dev", "switch")
        lan.client.run("ip", "link", "set", "switch", "up")
        for name, bed in beds.items():
            bed.boot()
            lan.plug_in(name)
            (bed.root / "etc/qgis-server/server.toml").write_text(SETTINGS + "instances = 2\n")
            ctl(bed, "apply")
            ctl(bed, "site", "enable")
        for name, bed in fronts.items():
            lan.manage(name, bed)
            lan.plug_in(name)
        lan.write_inventory()
        done = roll_out_fronts(lan)
        assert done.good, done.said
        wait_for(lambda: lan.in_use(*beds) and len(lan.holders()) == 1, "the fronts serve")
        is_served(lan.client, TILE)
        yield lan


def roll_out_fronts(lan: Lan, **more: object) -> Rollout:
    given = {
        "qgis_front_addresses": [f"{SHARED}/24", f"{SHARED_6}/64"],
        "qgis_front_workers": 2,
        "qgis_front_heavy_workers": 1,
        **more,
    }
    options = ("--limit", "qgis_fronts", "--extra-vars", json.dumps(given))
    return lan.roll_out(*options, playbook="fleet.yml")


@pytest.mark.long
def test_work_that_is_planned_costs_no_request(lan: Lan) -> None:
    """No POST either."""
    with load(lan.client, TILE, WIDE, options=MIXED) as result:
        ctl(lan.beds["maps1"], "restart")
        # A line less in the inventory, then one more, each with a run.
        lan.write_inventory(without=["maps2"])
        assert roll_out_fronts(lan).good
        assert not any(lan.said("maps2", front=front) for front in lan.fronts.values())
        lan.write_inventory()
        assert roll_out_fronts(lan).good
        wait_for(lambda: lan.in_use("maps2"), "it serves again")
        lan.beds["maps3"].shutdown()
        for front in lan.fronts.values():
            front.run("systemctl", "reload", "haproxy.service")
    assert result["failed"] == []
    assert result["posts"]["sent"] > 0
    lan.beds["maps3"].boot()
    lan.plug_in("maps3")
    wait_for(lambda: lan.in_use("maps3"), "it serves again")


@pytest.mark.long
def test_workers_that_hang_get_no_more_requests(lan: Lan) -> None:
    """Those that they have end once they go on."""
    with load(lan.client, TILE, WIDE, options=MIXED) as result:
        lan.signal("maps1", "STOP")
        wait_for(lambda: lan.state("maps1") == "DOWN", "the front has noticed")
        lan.signal("maps1", "CONT")
        wait_for(lambda: lan.in_use("maps1"), "it serves again")
    assert result["failed"] == []


@pytest.mark.long
def test_a_server_that_is_cut_off_costs_the_posts_in_its_hands(lan: Lan) -> None:
    """Each gets one clear status. GETs start again on another server."""
    front = lan.fronts[lan.holders()[0]]
    # So that requests are in hand, as they are of maps that take long.
    lan.signal("maps2", "STOP")
    with (
        load(lan.client, WIDE, clients=3) as gets,
        load(front, TILE, clients=0, options=("--posts", "4")) as posts,
    ):
        wait_for(
            lambda: lan.in_hand("maps2", front) == ["2", "1"],
            "it has as much in hand as it can",
        )
        lan.pull("maps2")
        wait_for(lambda: lan.state("maps2") == "DOWN", "the front has noticed")
        wait_for(lambda: lan.in_hand("maps2", front) == ["0", "0"], "nobody waits for it any more")
        lan.signal("maps2", "CONT")
        lan.put_back("maps2")
        wait_for(lambda: lan.in_use("maps2"), "it serves again")
    assert gets["failed"] == []
    assert len(posts["failed"]) == 2
    assert all(re.search(r": 50[24] ", problem) for problem in posts["failed"]), posts


@pytest.mark.long
def test_a_server_without_disk_space_serves(lan: Lan) -> None:
    maps3 = lan.beds["maps3"]
    folders = ("/var/lib/nginx", "/var/log/nginx", "/var/lib/qgis-server", "/var/log/journal")
    maps3.run("mkdir", "--parents", *folders)
    for folder in folders:
        fill(maps3, folder)
    maps3.run("nginx", "-s", "reopen")
    maps3.run("systemctl", "kill", "--signal=USR1", "systemd-journald.service")
    large = WIDE.replace("HEIGHT=30", "HEIGHT=1500")
    try:
        with load(lan.client, TILE, WIDE, large, options=MIXED) as result:
            before = int(lan.said("maps3", "heavy")["stot"])
            wait_for(
                lambda: int(lan.said("maps3", "heavy")["stot"]) > before + 5, "it has had some"
            )
            ctl(maps3, "restart")
    finally:
        for folder in folders:
            maps3.run("umount", "--lazy", folder)
        maps3.run("nginx", "-s", "reopen")
    assert result["failed"] == []


def title(bed: Testbed, project: str) -> str:
    asked = f"http://{SHARED}/qgis-server?MAP={project}&SERVICE=WMS&REQUEST=GetCapabilities"
    found = re.search(r"<Title>(.*?)</Title>", bed.fetch(asked).body.decode())
    return found[1] if found else ""


@pytest.mark.long
def test_a_project_that_changes_on_one_server_after_the_other(lan: Lan) -> None:
    """By rsync, as docs/fleet.md says. While servers differ, clients get one or the other, and no
    other reply."""
    project = "/srv/maps/second.qgs"
    former = (lan.beds["maps1"].root / project[1:]).read_text()
    source = lan.client.root / "srv/source"
    source.mkdir()
    (lan.client.root / "root/rsyncd.conf").write_text("[maps]\npath = /srv/source\n")
    for bed in (lan.client, *lan.beds.values()):
        install(bed, "rsync", package=False)
    serve = ("rsync", "--daemon", "--no-detach", "--config=/root/rsyncd.conf")
    lan.client.run("systemd-run", "--quiet", "--unit=source", *serve)
    wait_for(lambda: listens(lan.client, 873), "rsync listens")
    update = ("rsync", "--archive", "--delay-updates", f"rsync://{LAN}.1/maps/", "/srv/maps/")
    seen: set[str] = set()

    def save(text: str) -> None:
        """At the source, with a time that says nothing."""
        (source / "second.qgs").write_text(text)
        lan.client.run("touch", "--date=2020-01-01", "/srv/source/second.qgs")

    def titles() -> set[str]:
        found = {title(lan.client, project) for _ in range(12)}
        seen.update(found)
        return found

    assert titles() == {"Second"}
    save(former.replace(">Second<", ">Other<"))
    for bed in lan.beds.values():
        bed.run(*update)
        titles()
    wait_for(lambda: titles() == {"Other"}, "all workers of all servers have it")
    assert seen == {"Second", "Other"}
    save(former)
    for bed in lan.beds.values():
        bed.run(*update)
    lan.client.run("systemctl", "stop", "source")


@pytest.mark.long
def test_the_second_front_takes_over(lan: Lan) -> None:
    """Only what the lost front has in hand is lost: it may be one request of each client."""
    (first,) = lan.holders()
    (second,) = lan.fronts.keys() - {first}
    # A mistake is found before keepalived's file counts.
    assert not roll_out_fronts(lan, qgis_front_router="many").good
    options = (*MIXED, "--timeout", "10")
    with load(lan.client, TILE, WIDE, options=options) as result:
        lan.pull(first)
        wait_for(lambda: second in lan.holders(), "the other one has the address")
        is_served(lan.client, TILE)
    assert len(result["failed"]) <= 4, result
    is_served(lan.client, TILE.replace(SHARED, f"[{SHARED_6}]"))
    # It does not take the address back, which would cost requests once more.
    with load(lan.client, TILE, WIDE, options=options) as result:
        lan.put_back(first)
        wait_for(lambda: lan.holders() == [second], "it has noticed that it was away")
    assert result["failed"] == []
    # HAProxy gone is as bad as the whole front.
    lan.fronts[second].run("systemctl", "stop", "haproxy.service")
    wait_for(lambda: lan.holders() == [first], "the first one has it again")
    is_served(lan.client, TILE)
    lan.fronts[second].run("systemctl", "start", "haproxy.service")
