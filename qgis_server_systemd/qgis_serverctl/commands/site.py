# SPDX-License-Identifier: GPL-2.0-or-later
"""``site enable`` and ``site disable``."""

import argparse
import os
from pathlib import Path

from ..config.stored import parse, remember
from ..front import nginx
from ..front.site import announce, check_nginx, disable, make_link
from ..pool.host import Host
from ..pool.lock import locked
from ..pool.settings import auto_file, is_overruled, load_settings
from ..reconcile.run import reconcile
from ..system import access
from ..system.access import Question
from ..system.output import die, warn
from ..units import sandbox


def check_project(host: Host, project: str) -> str:
    """The project's absolute path; dies where the workers couldn't read it."""
    if ":" in project.partition("/")[0]:
        return str(parse("project", project, "--project"))
    path = os.path.abspath(project)
    parse("project", path, "--project")
    if not Path(path).is_file():
        die(f"--project {path}: there is no such file")
    if not sandbox.sees(host.package, load_settings(host).settings, path):
        die(
            f"--project {path}: workers see nothing of this folder",
            hint=f"add it to data_folders in {host.package.etc}/server.toml, "
            f"then {host.package.command} apply",
        )
    user = host.package.user
    for obstacle in access.as_user(user, [Question(path, "r")]).values():
        die(f"--project {path}: user {user} can't read it", hint=access.opening(path, obstacle))
    return path


def enable(host: Host, project: str | None) -> None:
    check_nginx(host)
    if project is not None:
        project = check_project(host, project)
        is_overruled(host, "project")
        remember(auto_file(host), "project", project)
    if not reconcile(host, dry_run=False).good:
        die("the pool is not in order, see above", hint="the site was not enabled")
    make_link(host)
    if not nginx.is_running(host):
        warn("NGINX is not running: systemctl start nginx")
    announce(host)


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    host.need_root("change NGINX's sites", "site …")
    with locked(host):
        if args.action == "enable":
            enable(host, args.project)
        else:
            disable(host)
    return 0
