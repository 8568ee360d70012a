# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of the build tool."""

import argparse
import sys
from pathlib import Path

import shtab

from . import __version__, build, completion, explain, init, publish, schema, tree, validate
from .qgis_serverctl.system.output import Failure
from .site import FILE
from .suites import ALL, SUITES

KEYS = "qgis_server_systemd_keys"
"""The function that completes them."""


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="qgis-server-systemd",
        description="Build the Debian package that runs QGIS Server with systemd behind NGINX.",
    )
    root.add_argument("--version", action="version", version=__version__)
    keys = " ".join(explain.names())
    shtab.add_argument_to(
        root,
        "--print-completion",
        help="print the completion of this command for a shell",
        preamble={"bash": f"_{KEYS}() {{ compgen -W '{keys}' -- \"$1\"; }}"},
    )
    verbs = root.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    verb = verbs.add_parser("build", help="make the source and the binary package")
    verb.add_argument(
        "--output", type=Path, default=Path("dist"), metavar="DIR", help="default: dist"
    )
    verb.set_defaults(run=build.command)

    verb = verbs.add_parser("render", help="write the rendered package tree alone")
    verb.add_argument(
        "--output", type=Path, default=Path("rendered"), metavar="DIR", help="default: rendered"
    )
    verb.add_argument(
        "--diff", action="store_true", help="print what the site changes, and write nothing"
    )
    verb.set_defaults(run=tree.command)

    for verb in verbs.choices.values():
        verb.add_argument(
            "--site", type=Path, metavar="FILE", help="make the package that this file describes"
        )
    verbs.choices["build"].add_argument(
        "--suite",
        action="append",
        choices=(*SUITES, ALL),
        help="make it for this release of Debian alone, may be given more than once "
        "(default: one package for all)",
    )
    verbs.choices["render"].add_argument(
        "--suite",
        choices=tuple(SUITES),
        help="make it for this release of Debian alone (default: one package for all)",
    )

    verb = verbs.add_parser("init", help="write a site.toml with every setting, commented out")
    verb.add_argument("file", type=Path, nargs="?", default=Path(FILE), metavar="FILE")
    verb.set_defaults(run=init.command)

    verb = verbs.add_parser("validate", help="report all mistakes in a site.toml")
    verb.add_argument("file", type=Path, nargs="?", default=Path(FILE), metavar="FILE")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=validate.command)

    verb = verbs.add_parser("explain", help="tell what a setting of site.toml means")
    key = verb.add_argument("key", nargs="?", metavar="KEY", help="without it: list all of them")
    key.complete = {"bash": f"_{KEYS}", "zsh": f"({keys})"}  # type: ignore[attr-defined]
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=explain.command)

    verb = verbs.add_parser("schema", help="print a JSON schema of site.toml, for editors")
    verb.set_defaults(run=schema.command)

    verb = verbs.add_parser("publish", help="put packages into a signed APT repository")
    publish.add_arguments(verb)
    return completion.with_words(root)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for a failure, 2 for wrong usage."""
    args = parser().parse_args(argv)
    try:
        result: int = args.run(args)
    except Failure as error:
        print(f"qgis-server-systemd: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"qgis-server-systemd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return result
