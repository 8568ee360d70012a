# SPDX-License-Identifier: GPL-2.0-or-later
"""``validate``: report all mistakes in a site.toml at once."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from .qgis_serverctl.system.output import Failure
from .render import render_debian
from .site import Mistake, examine


def mistakes_in(file: Path) -> tuple[Mistake, ...]:
    """Also those that show only when the package's files are made. Raises Failure where
    the file can't be read."""
    site, mistakes = examine(file)
    if not mistakes:
        with tempfile.TemporaryDirectory(prefix="qgis-server-systemd-") as folder:
            try:
                render_debian(Path(folder) / "debian", site)
            except Failure as error:
                return (Mistake(str(file), 1, "", str(error)),)
    return mistakes


def command(args: argparse.Namespace) -> int:
    """The subcommand: a line for each mistake; the exit status is 1 if there is one."""
    found = mistakes_in(args.file)
    if args.json:
        print(json.dumps([asdict(mistake) for mistake in found], ensure_ascii=False, indent=2))
    else:
        for mistake in found:
            print(mistake, file=sys.stderr)
        if not found:
            print(f"{args.file}: no mistakes")
    return 1 if found else 0
