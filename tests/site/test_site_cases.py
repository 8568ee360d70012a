# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated site packages on a server: installed, served from, and purged. Some of them each time,
all with --all."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from shared.pool import MAP, apt, install, nginx_is_content, status, wait_for
from shared.site_cases import CASES, PROGRAM, put
from shared.site_checks import build_quickly
from testbed import Snapshot, Testbed

from qgis_server_systemd.site import Site, load
from qgis_server_systemd.suites import SUITES

SAMPLES = dict(zip(SUITES, cycle([(1, 10), (7, 12)]), strict=False))
"""By suite, numbers of cases: of both queues, with and without TLS, of all names."""

HOST = "maps.acme.example"
QGIS = "/opt/qgis-ltr/bin/qgis_mapserv.fcgi"
STAND_IN = """Package: acme-stand-in
Version: 1
Architecture: all
Maintainer: ACME <gis@acme.example>
Provides: acme-qgis-ltr, fonts-noto-core, postgresql-client (= 15)
Description: what sites' packages depend on
"""
CERTIFICATE = (
    "openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", f"/CN={HOST}",
    "-keyout", "/etc/ssl/maps.key", "-out", "/etc/ssl/maps.pem",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """A server with all that the examples of settings name, but without a pool."""
    folder = tmp_path_factory.mktemp("stand-in")
    (folder / "root/DEBIAN").mkdir(parents=True)
    (folder / "root/DEBIAN/control").write_text(STAND_IN)
    made = ["dpkg-deb", "--build", f"{folder}/root", f"{folder}/stand-in.deb"]
    subprocess.run(made, check=True, capture_output=True)
    with Testbed(suite) as bed:
        bed.put(folder / "stand-in.deb", "/root/")
        bed.boot()
        install(bed, "/root/stand-in.deb", "nginx", package=False)
        bed.run("install", "-D", "/dev/stdin", QGIS, input=PROGRAM)
        bed.run("tee", "--append", "/etc/hosts", input=f"127.0.0.1 {HOST}\n")
        bed.run(*CERTIFICATE)
        bed.run("sh", "-ec", "mkdir -p /srv/qgis/editable /home/gis/projects; cd /srv/maps;"
                "cp *.gpkg *.tif /srv/qgis; cp world.qgz /srv/qgis/city.qgz")  # fmt: skip
        bed.shutdown()
        yield bed.snapshot()


@pytest.fixture
def bed(suite: str, prepared: Snapshot) -> Iterator[Testbed]:
    with Testbed(suite, like=prepared) as testbed:
        testbed.boot()
        yield testbed


def address(site: Site) -> str:
    """Of a project in the package's own folder, or in that of the settings."""
    scheme = "https" if site.web.tls_certificate else "http"
    host = HOST if site.web.server_names else "127.0.0.1"
    query = MAP.partition("world.qgz&")[2]
    return f"{scheme}://{host}{site.package.projects_prefix}/city?{query}"


def when(number: int) -> pytest.MarkDecorator:
    suites = [suite for suite, numbers in SAMPLES.items() if number in numbers]
    return pytest.mark.only(*suites) if suites else pytest.mark.long


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=when(number)) for number in range(len(CASES))]
)
def test_a_site_is_installed_serves_and_goes(
    bed: Testbed, suite: str, number: int, tmp_path: Path
) -> None:
    case = {key: value for key, value in CASES[number].items() if key != "suite"}
    site = load(put(case, tmp_path))
    package = site.package
    folder = site.defaults.project_folders[0]
    if folder != package.projects:
        bed.run("mkdir", "--parents", folder)
    before = bed.out("find", "/etc", "/var/lib", "/usr", "/run/systemd", "-xdev")
    bed.put(build_quickly(site, tmp_path / "build", SUITES[suite]), "/root/site.deb")
    said = apt(bed, "install", "--no-install-recommends", "/root/site.deb")
    assert "not complete" not in said, said
    bed.run("sh", "-ec", f"cp /srv/qgis/*.* {folder}")
    bed.run(package.command, "site", "enable")
    nginx_is_content(bed)
    wait_for(lambda: status(bed, package.command)["pending"] == [], "all is applied")
    reply = bed.fetch(address(site), "--insecure")
    assert (reply.status, reply.body[:4]) == (200, b"\x89PNG"), (address(site), reply.body[:300])
    found = json.loads(bed.out(package.command, "check", "--json", check=False))["findings"]
    errors = [one for one in found if one["severity"] == "error"]
    # Of projects in a database, which the server has none of.
    assert [one for one in errors if not one["where"].startswith("postgresql://")] == []
    bed.run("sh", "-ec", f"rm {folder}/*")
    apt(bed, "purge", package.name)
    after = bed.out("find", "/etc", "/var/lib", "/usr", "/run/systemd", "-xdev")
    left = set(after.splitlines()) - set(before.splitlines())
    assert [one for one in left if package.pool in one or "acme" in one] == []
    nginx_is_content(bed)
