# SPDX-License-Identifier: GPL-2.0-or-later
"""stub"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    name: str
    kind: str
    default: str
    since: str
    help: str
    group: str
    example: str = ""
    per_request: bool = False
    until: str = ""


VARIABLES: tuple[Variable, ...] = (
    Variable("QGIS_SERVER_LOG_STDERR", "bool", "false", "3.4", "Log to stderr.", "Recipe", "1"),
    Variable("QGIS_SERVER_LOG_LEVEL", "int", "0", "2.18", "Level.", "Recipe", "1"),
    Variable(
        "PGSERVICEFILE",
        "path",
        "",
        "3.0",
        "libpq service file.",
        "PostgreSQL",
        "/etc/pg_service.conf",
        True,
    ),
)
