# SPDX-License-Identifier: GPL-2.0-or-later
"""``schema``: what an editor needs to check and complete a site.toml, in JSON Schema."""

import argparse
import json
from typing import Any

from .qgis_serverctl.config.declaration import Declaration, schema
from .qgis_variables import VARIABLES
from .site import TABLES


def _key(declared: Declaration) -> dict[str, Any]:
    default = list(declared.default) if isinstance(declared.default, tuple) else declared.default
    told = f"{declared.help}\n\nAllowed: {declared.allowed}."
    return {**schema(declared), "description": told, "default": default}


def site_schema() -> dict[str, Any]:
    """The schema of the whole file. It lets pass what only `validate` can judge."""
    tables: dict[str, Any] = {
        table.name: {
            "type": "object",
            "description": table.help,
            "properties": {one.key: _key(one) for one in table.known},
            "additionalProperties": False,
        }
        for table in TABLES
        if table.known
    }
    simple = {"type": ["string", "number", "boolean"]}
    variables = {
        one.name: {**simple, "description": f"{one.help}\n\nDefault: {one.default or 'unset'}."}
        for one in VARIABLES
    }
    *_, environment, files = TABLES
    tables[environment.name] = {
        "type": "object",
        "description": environment.help,
        "properties": variables,
        "additionalProperties": simple,
    }
    tables[files.name] = {
        "type": "object",
        "description": files.help,
        "additionalProperties": {"type": "string"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "site.toml of qgis-server-systemd",
        "type": "object",
        "properties": tables,
        "additionalProperties": False,
    }


def command(args: argparse.Namespace) -> int:
    """The subcommand."""
    print(json.dumps(site_schema(), ensure_ascii=False, indent=2))
    return 0
