# SPDX-License-Identifier: GPL-2.0-or-later
"""``render``: write the rendered package tree, or show what a site changes in it."""

import argparse
import shutil
from pathlib import Path

from .diff import changes
from .qgis_serverctl.system.output import die
from .render import render_debian
from .site import load
from .suites import ANY, SUITES


def command(args: argparse.Namespace) -> int:
    """The subcommand: write the tree beside, then put it in the place of an older one."""
    site, suite = load(args.site), SUITES[args.suite] if args.suite else ANY
    if args.diff:
        for line in changes(site, suite):
            print(line)
        return 0
    target: Path = args.output
    if target.exists() and not (target / "debian" / "control").is_file() and any(target.iterdir()):
        die(f"{target}: is not empty, and holds no earlier output", hint="choose another --output")
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        render_debian(beside / "debian", site, suite)
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(target)
    return 0
