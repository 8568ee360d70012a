# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole machine goes to the next release of Debian, with the pool installed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from shared.pool import (
    OFFLINE,
    binary,
    ctl,
    install,
    is_served,
    nginx_is_content,
    nothing_is_found,
    put_package,
    settled,
    status,
    wait_for,
)
from testbed import SUITES, Testbed

from qgis_server_systemd.build import build

SETTINGS = 'map_parameter = true\ninstances = 2\nreply_cache = "50M"\n'
# As docs/releases.md says: without the names, apt removes them on the way to Debian 13.
UPGRADE = ("full-upgrade", "qgis-server", "python3-qgis")
KEEP = ("-o", "Dpkg::Options::=--force-confold")
FILES = ("etc/qgis-server", "etc/nginx", "etc/systemd", "usr/share/qgis-server-systemd")


def offer(bed: Testbed, package: Path, folder: str) -> None:
    """Have apt know a package."""
    bed.put(package, f"{folder}/")
    fields = bed.chroot("dpkg-deb", "--field", f"{folder}/{package.name}").stdout
    data = package.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    more = f"Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {digest}"
    (bed.root / folder.lstrip("/") / "Packages").write_text(f"{fields.strip()}\n{more}\n")
    source = bed.root / "etc/apt/sources.list.d/own.list"
    source.write_text(f"deb [trusted=yes] file:{folder} ./\n")


def next_release(bed: Testbed, suite: str, target: str) -> None:
    """Have apt know the next release, and fetch what an upgrade to it needs."""
    sources = bed.root / "etc/apt/sources.list"
    sources.write_text(sources.read_text().replace(suite, target))
    # Debian testing may be older than apt likes.
    (bed.root / "etc/apt/apt.conf.d/99late").write_text('Acquire::Check-Valid-Until "false";\n')
    for lists in (bed.root / "var/lib/apt/lists").glob("*_*"):
        lists.unlink()
    shutil.copyfile("/etc/resolv.conf", bed.root / "etc/resolv.conf")
    bed.chroot("apt-get", "update")
    bed.chroot("apt-get", "--yes", "--download-only", *UPGRADE, timeout=3000)
    (bed.root / "etc/resolv.conf").unlink()


@pytest.mark.long
@pytest.mark.parametrize("suite", SUITES[:-1])
def test_the_pool_goes_with_the_machine(suite: str, tmp_path: Path) -> None:
    target = SUITES[SUITES.index(suite) + 1]
    old, new = (binary(build(tmp_path / name, name)) for name in (suite, target))
    with Testbed(suite) as bed:
        put_package(bed, old)
        bed.boot()
        install(bed, "nginx")
        ctl(bed, "site", "enable")
        toml = bed.root / "etc/qgis-server/server.toml"
        toml.write_text(SETTINGS)
        ctl(bed, "apply")
        is_served(bed)
        bed.shutdown()
        offer(bed, new, "/srv/own")
        next_release(bed, suite, target)
        bed.boot()
        options = ("--yes", *KEEP)
        bed.run("apt-get", *options, *UPGRADE, env=OFFLINE, timeout=3000)
        bed.run("apt-get", *options, "autoremove", env=OFFLINE, timeout=600)
        bed.shutdown()
        bed.boot()

        assert f"VERSION_CODENAME={target}\n" in bed.out("cat", "/etc/os-release")
        kept = bed.out("dpkg-query", "--show", "--showformat=${Version}", "qgis-server-systemd")
        assert new.name.split("_")[1] == kept
        assert bed.out("dpkg", "--audit") == ""
        wait_for(lambda: settled(bed), "the pool is up")
        is_served(bed)
        nginx_is_content(bed)
        assert toml.read_text() == SETTINGS
        assert status(bed)["settings"]["reply_cache"]["value"] == "50M"
        nothing_is_found(bed)
        assert "nothing to do" in ctl(bed, "apply")
        # Nothing that dpkg puts beside a file, and no module of the former Python.
        python = bed.out("python3", "-c", "import sys; print(sys.implementation.cache_tag)").strip()
        for file in (file for top in FILES for file in (bed.root / top).rglob("*")):
            assert ".dpkg-" not in file.name, file
            assert file.suffix != ".pyc" or python in file.name, file
