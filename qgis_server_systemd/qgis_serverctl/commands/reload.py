# SPDX-License-Identifier: GPL-2.0-or-later
"""``reload``: have all workers reload a project at their next request for it; and
``purge``: empty the reply cache."""

import argparse
import json
import os
import time
from pathlib import Path

from ..config.stored import parse
from ..config.values import is_name
from ..front.site import names, project_of
from ..pool.host import Host
from ..pool.lock import locked
from ..pool.settings import load_settings
from ..system.files import read_or_none, write
from ..system.output import die, note, warn

KEPT = 1000
"""Projects that the file names at most; a worker that was told once forgets nothing."""


CACHE_TIMEOUT = 10.0
"""Seconds within which the watch over the reply cache looks at the projects; it does so
once a second."""


def generation(host: Host, project: str) -> str | None:
    """What the replies that are kept of a project belong to; None: nothing is kept."""
    try:
        return os.readlink(f"{host.package.generations}/projects/{project.lstrip('/')}")
    except OSError:
        return None


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status.

    Each worker's plugin looks at the file's time at each request, and at its
    content when that has changed: a number above the one that it knows means again.
    """
    package = host.package
    host.need_root("reload a project", "reload …")
    project = _named(host, args.project)
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
        before = {name: generation(host, name) for name in names}
        write(file, json.dumps(kept | dict.fromkeys(sorted(names), turn)) + "\n")
    _wait_for_cache(host, before)
    note(f"each worker reloads {project} at its next request for it")
    return 0


def _named(host: Host, word: str) -> str:
    """The project that is meant by a name, path or URI. Raises Failure."""
    if not is_name(word):
        # As in the setting: what a request could name.
        return str(parse("project", word, "reload"))
    settings = load_settings(host).settings
    if found := project_of(host, settings, word):
        return found
    known = ", ".join(names(host, settings)) or "none"
    die(f"reload: no project is served by the name {word}", hint=f"names that are served: {known}")


def _wait_for_cache(host: Host, before: dict[str, str | None]) -> None:
    """Wait until nothing is sent any more of what was kept before the order."""
    deadline = time.monotonic() + CACHE_TIMEOUT
    while any(old and generation(host, name) == old for name, old in before.items()):
        if time.monotonic() > deadline:
            unit = host.package.cache_unit
            die(f"{unit}: does not answer", hint=f"systemctl restart {unit}")
        time.sleep(0.05)


def purge(host: Host, args: argparse.Namespace) -> int:
    """The subcommand purge. The unit's folder goes with it, and with that all that tells
    NGINX of what it has kept."""
    host.need_root("empty the reply cache", "purge")
    if not load_settings(host).settings.caches:
        die("there is no reply cache", hint="it is the setting reply_cache")
    host.systemctl("restart", host.package.cache_unit)
    note("NGINX sends nothing any more of what it has kept; its space is used again")
    return 0
