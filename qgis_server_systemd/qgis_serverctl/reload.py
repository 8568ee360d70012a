# SPDX-License-Identifier: GPL-2.0-or-later
"""``reload``: have all workers read a project anew at their next request for it."""

import argparse
import json
from pathlib import Path

from .files import read_or_none, write
from .host import Host
from .lock import locked
from .log import note, warn
from .settings import parse

KEPT = 1000
"""Projects that the file names at most; a worker that was told once forgets nothing."""


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status.

    Each worker's plugin looks at the file's time at each request, and at its
    content when that has changed: a number above the one that it knows means anew.
    """
    package = host.package
    host.need_root("reload a project", "reload …")
    # As in the setting: what a request could name.
    project: str = parse("project", args.project, "reload")
    if project.startswith("/") and not host.path(project).is_file():
        warn(f"{project}: there is no such file on this machine")
    with locked(host):
        file = host.path(package.reload_file)
        try:
            known: dict[str, int] = json.loads(read_or_none(file) or "{}")
        except ValueError:
            known = {}
        names = {project, str(Path(project).resolve())} if project.startswith("/") else {project}
        turn = max(known.values(), default=0) + 1
        kept = dict(sorted(known.items(), key=lambda item: item[1])[-KEPT:])
        write(file, json.dumps(kept | dict.fromkeys(sorted(names), turn)) + "\n")
    note(f"each worker reads {project} anew at its next request for it")
    return 0
