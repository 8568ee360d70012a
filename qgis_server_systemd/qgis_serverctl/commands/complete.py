# SPDX-License-Identifier: GPL-2.0-or-later
"""Words that a shell completes a command line to."""

import argparse
import re
from collections.abc import Iterable

from ..config.names import label
from ..front import site
from ..pool import instances
from ..pool.host import Host
from ..pool.settings import load_settings
from ..system.output import tell

PLAIN = r"[^\s'()]+"
"""A regular expression for a word that is one to a shell, too."""


def words(host: Host, kind: str) -> Iterable[str]:
    """The enabled instances and those for heavy requests that run, or names of the projects
    that are served, but for those that would have to be quoted."""
    if kind == "instances":
        shown = instances.units(host)
        up = (name for name, unit in shown.items() if unit.get("ActiveState") == "active")
        heavy = instances.numbers(up, host.package.pool, "service", heavy=True)
        return map(label, sorted(instances.enabled(host) | heavy))
    served = site.names(host, load_settings(host).settings)
    return (name for name in served if re.fullmatch(PLAIN, name))


def command(host: Host, args: argparse.Namespace) -> int:
    """Print them, a line each; returns the exit status."""
    for word in words(host, args.kind):
        tell(word)
    return 0
