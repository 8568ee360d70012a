# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line."""

import argparse
import os
import sys
from pathlib import Path

from .adopt import adopt
from .commands import apply, check, debconf, drain, logs, reload, restart, site, status
from .config.names import Package
from .config.settings import QUEUES, SETTINGS
from .front import site as front_site
from .monitor import watch
from .pool.host import Host
from .system.output import Failure


def parser(package: Package) -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog=package.command, description="Manage the pool of QGIS Server workers on this machine."
    )
    verbs = root.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    verb = verbs.add_parser("apply", help="bring the pool to its wanted state")
    for setting in SETTINGS:
        if setting.option:
            verb.add_argument(
                f"--{setting.key}",
                metavar=setting.option,
                help=f"{setting.allowed}; kept for later runs",
            )
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")
    verb.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="with --dry-run: as if this were server.toml; a mistake in it is told",
    )
    verb.add_argument("--maintainer-script", action="store_true", help=argparse.SUPPRESS)
    verb.add_argument("--answer", action="append", default=[], help=argparse.SUPPRESS)
    verb.add_argument("--asked", action="append", default=[], help=argparse.SUPPRESS)
    verb.set_defaults(run=debconf.command)

    verb = verbs.add_parser("proposal")  # for debconf's config script, not listed either
    verb.add_argument("question", choices=tuple(debconf.DEFAULTS))
    verb.add_argument("answer")
    verb.set_defaults(run=debconf.proposal)

    verb = verbs.add_parser("roll")  # for the unit alone: no help, so it is not listed
    verb.set_defaults(run=restart.command)

    verb = verbs.add_parser("adopt", help="move a pool made by hand over to the package's units")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")
    verb.set_defaults(run=adopt.command)

    verb = verbs.add_parser(
        "restart", help="restart workers one after the other, losing no request"
    )
    verb.add_argument("--instance", type=int, metavar="N", help="this one alone")
    verb.set_defaults(run=restart.restart)

    verb = verbs.add_parser("scale", help="set the number of instances")
    verb.add_argument("count", metavar="N|auto", help="kept for later runs")
    verb.set_defaults(run=apply.scale)

    verb = verbs.add_parser("queue", help="set where requests wait, losing none")
    verb.add_argument("layout", choices=QUEUES, help="kept for later runs")
    verb.set_defaults(run=apply.queue)

    for name, help in (
        ("drain", "have NGINX send an instance no more requests"),
        ("undrain", "have NGINX send it requests again"),
    ):
        verb = verbs.add_parser(name, help=help)
        verb.add_argument("instance", type=int, metavar="N")
        verb.set_defaults(run=drain.command)

    verb = verbs.add_parser("reload", help="have all workers read a project anew")
    verb.add_argument("project", metavar="PROJECT", help="as in MAP: a path or a project URI")
    verb.set_defaults(run=reload.command)

    verb = verbs.add_parser("purge", help="empty the reply cache")
    verb.set_defaults(run=reload.purge)

    verb = verbs.add_parser("monitor")  # for its unit alone
    verb.set_defaults(run=watch.command)

    verb = verbs.add_parser("status", help="show instances, settings and where they came from")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument(
        "--watch",
        nargs="?",
        const=2.0,
        type=status.seconds,
        metavar="SECONDS",
        help="show it anew every SECONDS (2), until Ctrl-C",
    )
    verb.add_argument("--all", action="store_true", help="all settings, also unchanged ones")
    verb.set_defaults(run=status.command)

    verb = verbs.add_parser("check", help="look for whatever may be wrong, and say what to do")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=check.command)

    verb = verbs.add_parser("logs", help="show what the journal has of the pool")
    logs.arguments(verb)
    verb.set_defaults(run=logs.command)

    verb = verbs.add_parser("site", help="enable or disable the ready NGINX site")
    verb.add_argument("action", choices=("enable", "disable"))
    verb.add_argument("--project", metavar="FILE", help="serve this project where no MAP is given")
    verb.set_defaults(run=site.command)
    return root


def main(package_file: Path, argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for a failure, 2 for wrong usage."""
    package = Package.load(package_file)
    args = parser(package).parse_args(argv)
    maintainer = getattr(args, "maintainer_script", False)
    host = Host(package, Path(os.environ.get("DPKG_ROOT") or "/"), maintainer)
    try:
        result: int = args.run(host, args)
        sys.stdout.flush()
        if maintainer:
            front_site.hint(host)
    except Failure as error:
        print(f"{package.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe, such as head, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{package.command}: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        verb = "adopt" if args.verb == "adopt" else "apply"
        print(f"{package.command}: interrupted; {package.command} {verb} goes on", file=sys.stderr)
        return 130
    return result
