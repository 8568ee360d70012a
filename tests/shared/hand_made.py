# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a pool that was made by hand, by the recipe of QGIS's documentation."""

from __future__ import annotations

SOCKET = """\
[Unit]
Description=QGIS Server Listen Socket (instance %i)

[Socket]
Accept=false
ListenStream=/var/run/qgis-server-%i.sock
SocketUser=www-data
SocketGroup=www-data
SocketMode=0600

[Install]
WantedBy=sockets.target
"""
SERVICE = """\
[Unit]
Description=QGIS Server Service (instance %i)

[Service]
User=www-data
Group=www-data
StandardOutput=null
StandardError=journal
StandardInput=socket
ExecStart=/usr/lib/cgi-bin/qgis_mapserv.fcgi
EnvironmentFile=/etc/qgis-server/env

[Install]
WantedBy=multi-user.target
"""
ENV = """\
QGIS_PROJECT_FILE=/srv/maps/world.qgz
QGIS_SERVER_LOG_STDERR=1
QGIS_SERVER_LOG_LEVEL=3
"""


def site(count: int) -> str:
    numbers = range(1, count + 1)
    servers = "".join(f"    server unix:/var/run/qgis-server-{n}.sock;\n" for n in numbers)
    return (
        f"upstream qgis-server_backend {{\n{servers}}}\n"
        "server {\n    listen 80 default_server;\n    location /qgis-server {\n"
        "        gzip off;\n        include fastcgi_params;\n"
        "        fastcgi_pass qgis-server_backend;\n    }\n}\n"
    )
