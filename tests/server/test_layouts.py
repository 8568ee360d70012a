# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of NGINX and QGIS that are not Debian's. They are made here of Debian's files, in the
layout of those of nginx.org and qgis.org."""

from __future__ import annotations

import json

import pytest
from shared.pool import (
    MAP,
    OFFLINE,
    allow_map,
    apt,
    ctl,
    install,
    is_served,
    main_pid,
    nginx_is_content,
    path,
    quick_workers,
    settled,
    sockets,
    status,
    wait_for,
)
from testbed import Testbed

# ---- NGINX

CONF = """user  nginx;
worker_processes  auto;
error_log  /var/log/nginx/error.log notice;
pid        /run/nginx.pid;
events {
    worker_connections  1024;
}
http {
    include       /etc/nginx/mime.types;
    default_type  application/octet-stream;
    include /etc/nginx/conf.d/*.conf;
}
"""
WELCOME = """server {
    listen       80;
    server_name  localhost;
    location / {
        return 200 "NGINX's own";
    }
}
"""
SERVICE = """[Unit]
Description=nginx - high performance web server

[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStart=/usr/sbin/nginx -c /etc/nginx/nginx.conf
ExecReload=/bin/sh -c "/bin/kill -s HUP $(/bin/cat /run/nginx.pid)"
ExecStop=/bin/sh -c "/bin/kill -s TERM $(/bin/cat /run/nginx.pid)"

[Install]
WantedBy=multi-user.target
"""
CONTROL = """Package: nginx
Version: 99-1
Architecture: all
Maintainer: Test <test@example.org>
Provides: httpd
Conflicts: nginx-common
Replaces: nginx-common
Description: NGINX as nginx.org packages it
"""
PREINST = """#!/bin/sh
set -e
getent passwd nginx >/dev/null || useradd --system --home-dir /nonexistent nginx
"""
POSTINST = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
systemctl daemon-reload
systemctl enable nginx.service
systemctl restart nginx.service
"""
PRERM = """#!/bin/sh
set -e
systemctl stop nginx.service
"""
OWN = "/root/nginx-org.deb"


def pack_nginx(bed: Testbed) -> None:
    """Leave a package in the bed: Debian's program, and around it what nginx.org's has."""
    top = bed.root / "root/nginx-org"
    files = {
        "DEBIAN/control": CONTROL,
        "DEBIAN/conffiles": "/etc/nginx/nginx.conf\n/etc/nginx/conf.d/default.conf\n"
        "/etc/nginx/mime.types\n/etc/nginx/fastcgi_params\n",
        "etc/nginx/nginx.conf": CONF,
        "etc/nginx/conf.d/default.conf": WELCOME,
        "usr/lib/systemd/system/nginx.service": SERVICE,
    }
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    for name, text in (("preinst", PREINST), ("postinst", POSTINST), ("prerm", PRERM)):
        (top / "DEBIAN" / name).write_text(text)
        (top / "DEBIAN" / name).chmod(0o755)
    # nginx.org's program has its folders elsewhere.
    (top / "var/lib/nginx").mkdir(parents=True)
    (top / "var/log/nginx").mkdir(parents=True)
    copied = ("/usr/sbin/nginx", "/etc/nginx/mime.types", "/etc/nginx/fastcgi_params")
    bed.run("sh", "-ec", 'cd "$0"; cp --parents "$@" .', "/root/nginx-org", *copied)
    bed.run("dpkg-deb", "-Znone", "--build", "/root/nginx-org", OWN)


def debians(bed: Testbed) -> list[str]:
    """What apt calls the packages of Debian's NGINX that are installed."""
    version = bed.out("dpkg-query", "--show", "--showformat=${Version}", "nginx")
    return [f"{name}={version}" for name in ("nginx", "nginx-common")]


def serves_as(bed: Testbed, user: str, site: str) -> None:
    """The pool serves, over sockets of that user, by the site that is linked there."""
    wait_for(lambda: settled(bed), "what has changed is in force")
    assert bed.out("stat", "--format=%U %a", path(1)) == f"{user} 600"
    assert status(bed)["nginx"]["site"] == f"/etc/nginx/{site}"
    is_served(bed)
    is_served(bed)
    assert bed.fetch("http://localhost/").status == 302, "no welcome page is in the way"
    nginx_is_content(bed)
    assert "nothing to do" in ctl(bed, "apply")


def test_from_debians_nginx_to_nginx_orgs_and_back(server: Testbed) -> None:
    """With a reply cache, whose files are those of NGINX's user."""
    nginx = server.root / "etc/nginx"
    both = debians(server)
    (server.root / "etc/qgis-server/server.toml").write_text('reply_cache = "50M"\n')
    ctl(server, "site", "enable")
    serves_as(server, "www-data", "sites-enabled/qgis-server")
    pack_nginx(server)
    apt(server, "install", "--no-install-recommends", OWN)
    assert (nginx / "nginx.conf").read_text() == CONF
    serves_as(server, "nginx", "conf.d/qgis-server-site.conf")
    assert not (nginx / "sites-enabled/qgis-server").is_symlink(), "it would be one too many"
    # Debian's is in the way of neither, whichever main file counts.
    pid = main_pid(server, 1)
    apt(server, "install", "--no-install-recommends", "--allow-downgrades", *both)
    assert "include /etc/nginx/sites-enabled/*;" in (nginx / "nginx.conf").read_text()
    serves_as(server, "www-data", "conf.d/qgis-server-site.conf")
    assert main_pid(server, 1) == pid, "sockets change their owner without their workers"
    ctl(server, "site", "disable")
    assert not (nginx / "conf.d/qgis-server-site.conf").is_symlink()
    nginx_is_content(server)


def put_nginx(bed: Testbed) -> list[str]:
    """Boot the bed with nginx.org's NGINX alone, which never had Debian's configuration. Returns
    what apt calls Debian's."""
    bed.boot()
    # For its program alone.
    apt(bed, "install", "--no-install-recommends", "nginx")
    both = debians(bed)
    pack_nginx(bed)
    apt(bed, "purge", "nginx", "nginx-common")
    apt(bed, "install", OWN)
    return both


def test_nginx_orgs_alone(ready: Testbed) -> None:
    """Installed on a server that never had Debian's, and purged."""
    put_nginx(ready)
    nginx = ready.root / "etc/nginx"
    before = {str(file) for file in nginx.rglob("*")}
    assert not (nginx / "sites-enabled").exists()
    allow_map(ready)
    install(ready)
    ctl(ready, "site", "enable")
    serves_as(ready, "nginx", "conf.d/qgis-server-site.conf")
    ready.reboot()
    is_served(ready)
    apt(ready, "purge", "qgis-server-systemd")
    assert sockets(ready) == []
    assert {str(file) for file in nginx.rglob("*")} == before
    nginx_is_content(ready)
    assert ready.fetch("http://localhost/").body == b"NGINX's own"
    assert ready.fetch(MAP).status in (200, 404), "nobody serves maps any more"


def test_debians_nginx_where_only_nginx_orgs_was(ready: Testbed) -> None:
    """As docs/releases.md says: its new welcome page and the site are one too many."""
    quick_workers(ready)
    both = put_nginx(ready)
    install(ready)
    ctl(ready, "site", "enable")
    with pytest.raises(AssertionError, match="a duplicate default server"):
        apt(ready, "install", "--no-install-recommends", "--allow-downgrades", *both)
    ctl(ready, "site", "disable")
    ready.run("dpkg", "--configure", "--pending", env=OFFLINE)
    ctl(ready, "site", "enable")
    assert status(ready)["nginx"]["site"] == "/etc/nginx/sites-enabled/qgis-server"
    assert ready.fetch("http://localhost/").status == 302
    nginx_is_content(ready)


# ---- What NGINX sees of a worker's end

WORKER = """#!/usr/bin/perl
# Speaks FastCGI by itself. As libfcgi does, it waits on a connection that NGINX keeps.
use Socket;
open(my $ready, ">", "$ENV{RUNTIME_DIRECTORY}/ready");
while (accept(my $client, STDIN)) {
    binmode($client);
    my ($request, $head, $body, $type, $length, $padding) = ("");
    do {
        read($client, $head, 8);
        (undef, $type, undef, $length, $padding) = unpack("CCnnC", $head);
        read($client, $body, $length + $padding) if $length + $padding;
        $request .= $body if $length;
    } until $type == 5 && !$length;
    my $text = "Content-Type: text/plain\\r\\n\\r\\nreply\\n";
    syswrite($client, pack("CCnnCC", 1, 6, 1, length($text), 0, 0) . $text);
    exit if $request =~ /DIE/;
    syswrite($client, pack("CCnnCC", 1, 6, 1, 0, 0, 0));
    syswrite($client, pack("CCnnCCNN", 1, 3, 1, 8, 0, 0, 0, 0));
    1 while sysread($client, my $rest, 4096);
    close($client);
}
"""


@pytest.mark.testing
def test_half_a_reply_does_not_look_whole_and_no_connection_is_kept(quick: Testbed) -> None:
    """Whatever NGINX keeps by default."""
    (quick.root / "usr/lib/cgi-bin/qgis_mapserv.fcgi").write_text(WORKER)
    (quick.root / "etc/qgis-server/server.toml").write_text("instances = 1\n")
    ctl(quick, "site", "enable")
    ctl(quick, "restart")
    url = "http://127.0.0.1/qgis-server?SERVICE=WMS&REQUEST=GetCapabilities"
    for _ in range(8):  # more than NGINX has processes, each of which could keep one
        assert quick.fetch(url).body == b"reply\n"
    held = quick.out("ss", "--no-header", "--unix", "state", "established", "src", path(1))
    assert held == ""
    done = quick.run("curl", "--silent", f"{url}&X=DIE", check=False)
    assert (done.stdout, done.returncode) == ("reply\n", 18), "a partial file, says curl"


# ---- QGIS

REPACK = """
name=$1; top=/root/$name
mkdir -p $top/DEBIAN
dpkg-query --listfiles $name | sed 's,^/,,' | while read -r file; do
    if [ -L "/$file" ] || [ ! -d "/$file" ]; then echo "$file"; fi
done | tar --directory / --create --no-recursion --files-from - --transform "$2" |
    tar --directory $top --extract
dpkg-query --status $name | grep -v -e ^Status: -e ^Conffiles: >$top/DEBIAN/control
dpkg-deb -Znone --build $top $top.deb
rm -r $top
"""
PRIVATE = "s,^usr/lib/python3/dist-packages/qgis/,usr/share/qgis/python/qgis/,S"
"""qgis.org's packages keep QGIS's modules to QGIS."""


def test_python_modules_of_qgis_in_its_own_folder(server: Testbed) -> None:
    """The workers' plugin finds them, and what looks at projects beside the workers does."""
    names = ("python3-qgis", "python3-qgis-common", "qgis-server-bin")
    for name in names:
        server.run("sh", "-ec", REPACK, "repack", name, PRIVATE)
    ctl(server, "site", "enable")
    is_served(server)
    pid = main_pid(server, 1)
    server.run("dpkg", "--install", *(f"/root/{name}.deb" for name in names))
    assert server.run("python3", "-c", "import qgis.server", check=False).returncode == 1
    wait_for(lambda: settled(server) and main_pid(server, 1) != pid, "workers of the new one")
    is_served(server)
    assert server.fetch(MAP.replace("world.qgz", "../../etc/passwd")).status == 403, "guarded"
    server.run("cp", "--archive", "/srv/maps/.", "/var/lib/qgis-server/projects")
    found = json.loads(server.out("qgis-serverctl", "projects", "--json"))
    assert {one["name"]: one["problems"] for one in found["projects"]}["world"] == []
