# SPDX-License-Identifier: GPL-2.0-or-later
"""``maintenance``: have clients get a page with status 503, and load balancers be told."""

import argparse

from ..front.site import names, project_of
from ..pool import service
from ..pool.host import Host
from ..pool.settings import load_settings
from ..system.output import die, note


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status. Nothing is reloaded: NGINX looks at each request
    for the file that this makes."""
    package, on, project = host.package, args.state == "on", args.project
    host.need_root("take projects out of service", f"maintenance {args.state}")
    if project is not None and (on or project not in service.load(host).projects):
        settings = load_settings(host).settings
        if project_of(host, settings, project) is None:
            known = ", ".join(names(host, settings)) or "none"
            die(
                f"maintenance: no project is served by the name {project}",
                hint=f"names that are served: {known}",
            )
    service.set_maintenance(host, project, on=on)
    what = f"project {project}" if project else "the pool"
    if on:
        own = f" --project {project}" if project else ""
        note(
            f"{what} is in maintenance: clients get status 503, also after a boot, until"
            f" {package.command} maintenance off{own}"
        )
    else:
        left = service.load(host)
        note(f"{what} is in service")
        if left.maintenance or left.projects:
            more = ["the pool"] if left.maintenance else []
            note(f"still in maintenance: {', '.join([*more, *left.projects])}")
    return 0
