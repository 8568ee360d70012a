# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line."""

import argparse
import os
import sys
from pathlib import Path

from . import adopt, debconf, roll, site, status
from .host import Host
from .log import Failure
from .package import Package
from .settings import SETTINGS


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
    verb.add_argument("--maintainer-script", action="store_true", help=argparse.SUPPRESS)
    verb.add_argument("--answer", action="append", default=[], help=argparse.SUPPRESS)
    verb.add_argument("--asked", action="append", default=[], help=argparse.SUPPRESS)
    verb.set_defaults(run=debconf.command)

    verb = verbs.add_parser("proposal")  # for debconf's config script, not listed either
    verb.add_argument("question", choices=tuple(debconf.DEFAULTS))
    verb.add_argument("answer")
    verb.set_defaults(run=debconf.proposal)

    verb = verbs.add_parser("roll")  # for the unit alone: no help, so it is not listed
    verb.set_defaults(run=roll.command)

    verb = verbs.add_parser("adopt", help="move a pool made by hand over to the package's units")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")
    verb.set_defaults(run=adopt.command)

    verb = verbs.add_parser("status", help="show instances, settings and where they came from")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=status.command)

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
            site.hint(host)
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
