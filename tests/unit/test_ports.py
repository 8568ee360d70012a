# SPDX-License-Identifier: GPL-2.0-or-later
"""Ports that another program has, and files that NGINX includes."""

import os
import socket
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.front import nginx
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.system import ports
from qgis_server_systemd.qgis_serverctl.system.ports import Endpoint, address

PACKAGE = Package()


def at(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    (found,) = nginx.endpoints(f"listen {host}:{port};")
    return found


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "AF_INET"), ("::1", "AF_INET6")])
def test_the_kernel_tells_where_this_process_listens(host: str, family: str) -> None:
    with socket.socket(getattr(socket, family)) as one:
        one.bind((host, 0))
        one.listen()
        port, inode = one.getsockname()[1], os.fstat(one.fileno()).st_ino
        found = ports.listening()[inode]
        assert (str(found.address), found.port) == (host, port)
        holder = ports.holder(inode)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert inode not in ports.listening()


def test_nobody_holds_a_socket_that_is_not_there() -> None:
    assert ports.holder(2**40) is None


def test_what_nginx_is_told_to_listen_on() -> None:
    text = (
        "server { server_name listen; }\n  listen 80 default_server;\nlisten [::]:80 ipv6only=on;\n"
        "listen *:8080;\nlisten 127.0.0.1:81;\nlisten 192.0.2.1;\nlisten [::1];\n"
        "listen localhost:82;\nlisten unix:/run/x.sock;\nlisten 443 quic reuseport;\n"
        "listen maps.example:83;\n# listen 99;\nlisten 80;\n"
    )
    assert list(map(str, nginx.endpoints(text))) == [
        "0.0.0.0:80", "[::]:80", "0.0.0.0:8080", "127.0.0.1:81", "192.0.2.1:80", "[::1]:80",
        "127.0.0.1:82",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("there", "wanted", "is_in_the_way"),
    [
        ("0.0.0.0:80", "0.0.0.0:80", True),
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("127.0.0.2:80", "127.0.0.1:80", False),
        ("0.0.0.0:81", "0.0.0.0:80", False),
        ("[::]:80", "0.0.0.0:80", True),  # Apache listens so for both
        ("0.0.0.0:80", "[::]:80", False),
        ("[::1]:80", "0.0.0.0:80", False),
    ],
)
def test_who_is_in_the_way(there: str, wanted: str, is_in_the_way: bool) -> None:
    found = nginx.blocked([at(wanted)], {7: at(there)}, own=set())
    assert found == ({at(wanted): 7} if is_in_the_way else {})


def test_nginx_is_not_in_its_own_way() -> None:
    wanted = [at("0.0.0.0:80"), at("[::]:80"), at("0.0.0.0:443")]
    there = {1: at("0.0.0.0:80"), 2: at("[::]:80"), 3: at("127.0.0.1:443")}
    assert nginx.blocked(wanted, there, own={1, 2}) == {wanted[2]: 3}
    assert nginx.blocked(wanted[:2], there, own={1, 2}) == {}


def test_an_address_is_in_the_order_of_the_machine() -> None:
    assert str(address("0100007F")) in ("127.0.0.1", "1.0.0.127")
    assert str(address("00000000000000000000000000000000")) == "::"


# ---- Files that NGINX's main file includes


@pytest.mark.parametrize(
    ("main", "is_read"),
    [
        ("http {\n    include /etc/nginx/conf.d/*.conf;\n}", True),
        ("http { include conf.d/*.conf; }", True),
        ("http { include /etc/nginx/conf.d/qgis-server.conf; }", True),
        ("http { include conf.d/[a-q]*; }", True),
        ("http { include own.conf; }", True),
        ("http { include again.conf; }", False),
        ("http { include /etc/nginx/sites-enabled/*; }", False),
        ("http {\n    # include /etc/nginx/conf.d/*.conf;\n}", False),
        ("http { include conf.d/*.inc; }", False),
    ],
)
def test_whether_nginx_reads_the_file_of_the_package(
    tmp_path: Path, main: str, is_read: bool
) -> None:
    folder = tmp_path / "etc/nginx"
    folder.mkdir(parents=True)
    (folder / "nginx.conf").write_text(main)
    (folder / "own.conf").write_bytes(b"# \xff\ninclude conf.d/*.conf;\n")
    (folder / "again.conf").write_text("include again.conf;\n")
    assert nginx.has_conf_d(Host(PACKAGE, tmp_path)) is is_read


def test_what_certificates_nginx_keeps() -> None:
    text = """
        # ssl_certificate /etc/not.pem;
        ssl_certificate     "/etc/ssl/private/maps.pem";
        ssl_certificate_key own.key;
    server { listen 443 ssl; ssl_client_certificate /etc/ca.pem; ssl_crl /etc/crl.pem; }
        ssl_certificate /etc/$ssl_server_name.pem;
        ssl_certificate_cache off;
    """
    found = sorted(nginx.certificates(text))
    assert found == [
        "/etc/ca.pem", "/etc/crl.pem", "/etc/nginx/own.key", "/etc/ssl/private/maps.pem",
    ]  # fmt: skip
