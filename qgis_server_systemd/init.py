# SPDX-License-Identifier: GPL-2.0-or-later
"""``init``: write a commented site.toml."""

import argparse
from pathlib import Path

from .qgis_serverctl.system import files
from .qgis_serverctl.system.output import die
from .qgis_variables import VARIABLES
from .render import environment
from .site import TABLES
from .sources import HERE

TEMPLATE = HERE / "templates" / "site.toml"


def site_toml(file: Path) -> str:
    """Every setting, commented out, for a file of that name."""
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(file=file.name, tables=TABLES, variables=VARIABLES)


def command(args: argparse.Namespace) -> int:
    """The subcommand. Raises Failure where there is such a file already."""
    file: Path = args.file
    if file.exists():
        die(f"{file}: is there already", hint="choose another name, or remove it")
    files.write(file, site_toml(file))
    print(file)
    return 0
