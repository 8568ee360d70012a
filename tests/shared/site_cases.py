# SPDX-License-Identifier: GPL-2.0-or-later
"""Site files, so that any two values of two settings are in one of them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allpairspy import AllPairs

from qgis_server_systemd.qgis_serverctl.config.declaration import as_toml
from qgis_server_systemd.site import TABLES
from qgis_server_systemd.suites import SUITES

Values = Mapping[str, Any]
"""Values by table and key, with a dot between them."""

TOGETHER: dict[str, tuple[Values, ...]] = {
    "nginx": (
        {},
        {"nginx.server_names": ["maps.acme.example", "*.acme.example"]},
        {
            "nginx.server_names": ["maps.acme.example"],
            "nginx.tls_certificate": "/etc/ssl/maps.pem",
            "nginx.tls_key": "/etc/ssl/maps.key",
        },
    ),
    "times": (
        {},
        {"settings.request_timeout": 120},
        {"settings.request_timeout": 120, "settings.kill_timeout": 150},
        {"settings.kill_timeout": 400},
    ),
    "package.name": (
        {},
        {"package.name": "acme-maps"},
        {"package.name": "qgis-server-city"},
        {"package.name": "a-bbbbbbbbbbbbbbbbbb"},
    ),
    "environment": (
        {},
        {"environment.GDAL_CACHEMAX": 64, "environment.HOME": "/srv/a b"},
        {"environment.QGIS_SERVER_LOG_LEVEL": 0, "environment.ACME": '"`$x`" \\ # ;'},
    ),
    "files": (
        {},
        {"files./usr/share/acme/site.toml": "site.toml", "files./etc/acme.bin": "binary"},
    ),
}
"""Settings that depend on each other, and tables whose keys are free."""

DECLARED = {f"{table.name}.{one.key}": one for table in TABLES for one in table.known}


def parameters() -> list[list[Values]]:
    """For each setting the values to try: none, and the example of its declaration."""
    bundled = {key for cases in TOGETHER.values() for values in cases for key in values}
    single: list[list[Values]] = [
        [{}, {key: tomllib.loads(f"x = {one.example}")["x"]}]
        for key, one in DECLARED.items()
        if key not in bundled
    ]
    return [*map(list, TOGETHER.values()), *single]


def cases() -> list[dict[str, Any]]:
    """So that any two values of two settings are in one of them."""
    return [
        {key: value for values in row for key, value in values.items()}
        for row in AllPairs([*parameters(), [{"suite": name} for name in (*SUITES, "")]])
    ]


CASES = cases()


def text_of(case: Values) -> str:
    """The case as a file."""
    lines = []
    for table in TABLES:
        lines.append(f"[{table.name}]")
        for key, value in case.items():
            name, _, inner = key.partition(".")
            if name == table.name:
                lines.append(f"{json.dumps(inner)} = {as_toml(value)}")
    return "\n".join(lines) + "\n"


def put(case: Values, folder: Path) -> Path:
    (folder / "binary").write_bytes(b"\0\xff")
    file = folder / "site.toml"
    file.write_text(text_of(case))
    return file


PROGRAM = "#!/bin/sh\nexec /usr/lib/cgi-bin/qgis_mapserv.fcgi\n"
"""A QGIS Server in another place."""
