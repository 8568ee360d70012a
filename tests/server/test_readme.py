# SPDX-License-Identifier: GPL-2.0-or-later
"""What the README shows is run as it stands there, the targets that run tests aside, and does
what it says. What the other documents show is at least understood."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.demos import bed_of, get, said_until_served
from shared.documents import README, SHOWN, sections
from shared.paths import TOP
from shared.pool import settled, status, wait_for
from shared.shop import signing_keys
from testbed import Testbed

from qgis_server_systemd import sources


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, for what make leaves behind."""
    folder = tmp_path_factory.mktemp("readme") / "qgis-server-systemd"
    sources.copy(folder)
    shutil.copy2(TOP / "Makefile", folder)
    shutil.copytree(TOP / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(TOP / ".venv")
    return folder


OF_MAKE = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
"""Variables by which a make that runs the tests would give one that they run its own options."""


def environment() -> dict[str, str]:
    """An administrator's, with the tool in the PATH."""
    own = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    return {**own, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def sh(command: str, folder: Path) -> str:
    """A shell's output."""
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, env=environment(),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_try_it(checkout: Path) -> None:
    apt, demo, *tests = SHOWN["Try it and develop"]
    assert apt.startswith("apt install ")
    assert demo == "make demo"
    # This is one of them.
    assert tests == ["make unit", "make test", "make test-all"]
    for test in tests:
        assert "-m pytest" in sh(f"{test} --dry-run", checkout)
    with subprocess.Popen(
        demo.split(), cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(), stdin=subprocess.DEVNULL, start_new_session=True,
    ) as made:  # fmt: skip
        try:
            said = said_until_served(made)
            url = re.search(r"^  a map: +(http\S+)$", said, re.M)
            assert url, said
            assert get(url[1]).startswith(b"\x89PNG")
            (child,) = Path(f"/proc/{made.pid}/task/{made.pid}/children").read_text().split()
            bed = bed_of(int(child))
        finally:
            os.killpg(made.pid, signal.SIGINT)
            rest = made.stdout.read() if made.stdout else ""
    assert "nothing is left behind" in rest
    assert not bed.exists()


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    """Where the first command of the installation has left the package."""
    assert SHOWN["Install"][0] == "make deb"
    sh(SHOWN["Install"][0], checkout)
    return checkout / "dist"


@pytest.fixture(scope="module")
def server(suite: str, built: Path) -> Iterator[Testbed]:
    """A new Debian, on which an administrator has run the rest of them."""
    with Testbed(suite) as bed:
        for file in built.iterdir():
            bed.put(file, f"/root/dist/{file.name}")
        (bed.root / "etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true";\n')
        bed.boot()
        for command in SHOWN["Install"][1:]:
            on(bed, command)
        yield bed


def on(bed: Testbed, command: str) -> str:
    done = bed.run("sh", "-ec", f"cd /root; {command}", env={"DEBIAN_FRONTEND": "noninteractive"})
    return done.stdout


def listed(bed: Testbed, page: str) -> list[str]:
    """Titles of the front page."""
    reply = bed.fetch(f"{page}page/projects.json")
    if reply.status != 200:
        return []
    return [project["title"] for project in json.loads(reply.body)["projects"]]


def test_the_first_map(server: Testbed) -> None:
    text = sections(README)["First map"]
    folder = re.findall(r"`(/var/lib/[^`]*)`", text)[0]
    server.run(
        "sh", "-ec", f"cd /srv/maps; cp *.gpkg *.tif {folder}; cp world.qgz {folder}/city.qgz"
    )
    connection, capabilities, api, landing = (
        url.replace("SERVER", "127.0.0.1") for url in re.findall(r"`(http://SERVER/[^`]*)`", text)
    )
    assert capabilities.startswith(f"{connection}?")
    assert b"<Name>countries</Name>" in server.fetch(capabilities).body
    assert b"/qgis/city/wfs3/" in server.fetch(api).body
    assert b"<html" in server.fetch(landing).body
    wait_for(lambda: listed(server, landing) == ["World"], "the front page shows it")
    other = server.fetch("http://127.0.0.1/qgis-server?MAP=/srv/maps/world.qgz&SERVICE=WMS")
    assert other.status == 403


def test_daily_tasks(server: Testbed) -> None:
    see, check, logs, apply, scale, restart = SHOWN["Daily tasks"]
    assert "site /etc/nginx/sites-enabled/qgis-server" in on(server, see)
    assert on(server, check).startswith("nothing found\n")
    assert "qgis_mapserv" in on(server, logs) or "QGIS" in on(server, logs)
    on(server, "echo 'tasks_max = 77' >>/etc/qgis-server/server.toml")
    on(server, apply)
    wait_for(lambda: settled(server), "the setting is applied")
    shown = server.out("systemctl", "show", "--property=TasksMax", "qgis-server@1.service")
    assert shown == "TasksMax=77"
    on(server, scale)
    wait_for(lambda: settled(server), "the pool has another size")
    assert len(status(server)["instances"]) == int(scale.split()[-1])
    before = pids(server)
    on(server, restart)
    wait_for(lambda: settled(server), "all are restarted")
    assert len(before) == len(pids(server)) and not before & pids(server)


def pids(bed: Testbed) -> set[int]:
    return {line["pid"] for line in status(bed)["instances"]}


def test_a_package_and_a_repository_of_ones_own(tmp_path: Path) -> None:
    init, validate, build, _ = SHOWN["Your own package"]
    for command in (init, validate):
        sh(command, tmp_path)
    assert "maintainer" in (tmp_path / "site.toml").read_text()
    for file in (made := sh(build, tmp_path).split()):
        assert (tmp_path / file).is_file()
    assert {"12", "13"} <= set(re.findall(r"~deb(\d\d)u1_all\.deb", " ".join(made)))
    home = tmp_path / "gnupg"
    home.mkdir()
    with signing_keys(home, "gis@acme.example") as (key,):
        for command in SHOWN["Your own repository"]:
            here = command.replace("KEY", key).replace("/srv/apt", str(tmp_path / "apt"))
            said = sh(here, tmp_path)
    lines = [
        line
        for line in said.splitlines()
        if "https://apt.acme.example/" in line or "apt update" in line
    ]
    assert len(lines) == 3, said
    assert {suite.name for suite in (tmp_path / "apt/dists").iterdir()} >= {"bookworm", "trixie"}
