# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of sites on a server: one beside this project's own, one in its place."""

from __future__ import annotations

from pathlib import Path

from shared.pool import MAP, ctl, install, is_served, nginx_is_content, status
from shared.site_cases import PROGRAM
from shared.site_checks import build_quickly
from testbed import Testbed

from qgis_server_systemd.site import load

BESIDE = """
[package]
name = "qgis-server-city"
url_prefix = "/maps"
qgis_binary = "/opt/city/bin/qgis_mapserv.fcgi"
sockets = "/run/city"
group = "gis"
[settings]
instances = 1
backlog = 7
map_parameter = true
[nginx]
server_names = ["maps.acme.example"]
"""
INSTEAD = '[package]\nbinary = "acme-server"\n[settings]\nbacklog = 9\n'
CITY = MAP.replace("127.0.0.1/qgis-server", "maps.acme.example/maps")


def packed(folder: Path, text: str) -> Path:
    folder.mkdir()
    file = folder / "site.toml"
    file.write_text(text)
    return build_quickly(load(file), folder / "build")


def backlog(bed: Testbed, command: str) -> tuple[int, str]:
    """Its value, and where it comes from."""
    found = status(bed, command)["settings"]["backlog"]
    return found["value"], found["from"]


def is_active(bed: Testbed, unit: str) -> bool:
    return bed.run("systemctl", "is-active", unit, check=False).returncode == 0


def test_two_pools_at_once_and_a_package_in_the_place_of_ours(
    server: Testbed, tmp_path: Path
) -> None:
    ctl(server, "site", "enable")
    ctl(server, "scale", "1")
    env = server.root / "etc/qgis-server/env"
    env.write_text(env.read_text() + "MINE=1\n")

    # ---- One more pool.
    server.run("install", "-D", "/dev/stdin", "/opt/city/bin/qgis_mapserv.fcgi", input=PROGRAM)
    server.run("tee", "--append", "/etc/hosts", input="127.0.0.1 maps.acme.example\n")
    server.put(packed(tmp_path / "beside", BESIDE), "/root/beside.deb")
    said = install(server, "/root/beside.deb", package=False)
    assert "not complete" not in said, said
    assert backlog(server, "qgis-server-cityctl") == (7, "package")
    assert (server.root / "etc/nginx/conf.d").joinpath("qgis-server-city.conf").is_file()
    said = server.out("qgis-server-cityctl", "site", "enable")
    assert "http://maps.acme.example/maps/" in said
    nginx_is_content(server)
    is_served(server)
    is_served(server, CITY)
    listening = " ".join(server.out("ss", "-lxH").split())
    assert " 7 /run/city/qgis-server-city-1.sock " in listening
    server.run("qgis-server-cityctl", "check")
    # Neither stops with the other.
    server.run("systemctl", "stop", "qgis-server.slice")
    assert is_active(server, "qgis-server-city@1.service")
    is_served(server, CITY)
    server.run("systemctl", "start", "qgis-server.target", "qgis-server@1.socket")
    is_served(server)

    # ---- Another package for the same pool.
    server.put(packed(tmp_path / "instead", INSTEAD), "/root/instead.deb")
    said = install(server, "/root/instead.deb", package=False)
    assert "REMOVED" in said
    assert "not complete" not in said, said
    assert backlog(server, "qgis-serverctl") == (9, "package")
    assert env.read_text().endswith("MINE=1\n")
    assert not list((server.root / "etc/qgis-server").glob("*.dist"))
    is_served(server)
    server.run("dpkg", "--purge", "qgis-server-systemd")
    assert env.read_text().endswith("MINE=1\n")
    nginx_is_content(server)
    server.run("systemctl", "restart", "qgis-server.target", "nginx")
    is_served(server)
    is_served(server, CITY)
    assert server.out("systemctl", "is-enabled", "qgis-server-apply.service") == "enabled"

    # ---- Gone, without taking the other along.
    server.run("apt-get", "--yes", "purge", "qgis-server-city-systemd")
    left = server.out("find", "/etc", "/var/lib", "/usr/lib", "/run", "-name", "*qgis-server-city*")
    assert [line for line in left.splitlines() if "dpkg" not in line] == []
    is_served(server)
