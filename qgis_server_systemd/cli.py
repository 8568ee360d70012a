# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of the build tool."""

import argparse
import sys
from pathlib import Path

import shtab

from . import __version__, build, completion, explain, init, schema, tree, validate
from .qgis_serverctl.system.output import Failure
from .repository import publish
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
        help="print the completion script for a shell and exit",
        preamble={"bash": f"_{KEYS}() {{ compgen -W '{keys}' -- \"$1\"; }}"},
    )
    verbs = root.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def add(name: str, does: str, more: str = "") -> argparse.ArgumentParser:
        """A subcommand, with what it does in the list of all and first in its own help."""
        sentence = f"{does[0].upper()}{does[1:]}."
        return verbs.add_parser(name, help=does, description=f"{sentence} {more}".strip())

    verb = add("build", "build the source package and the binary package")
    verb.add_argument(
        "--output",
        type=Path,
        default=Path("dist"),
        metavar="DIR",
        help="folder for the packages (default: dist)",
    )
    verb.set_defaults(run=build.command)

    verb = add("render", "write the files of the package without building it")
    verb.add_argument(
        "--output",
        type=Path,
        default=Path("rendered"),
        metavar="DIR",
        help="folder for the files; an earlier output in it is replaced (default: rendered)",
    )
    verb.add_argument(
        "--diff", action="store_true", help="print what the site changes, and write nothing"
    )
    verb.set_defaults(run=tree.command)

    for verb in verbs.choices.values():
        verb.add_argument(
            "--site",
            type=Path,
            metavar="FILE",
            help="a site.toml that describes the package (default: this project's own package)",
        )
    verbs.choices["build"].add_argument(
        "--suite",
        action="append",
        choices=(*SUITES, ALL),
        help="release of Debian to build for, can be given more than once "
        "(default: one package for all releases)",
    )
    verbs.choices["render"].add_argument(
        "--suite",
        choices=tuple(SUITES),
        help="release of Debian (default: the files of the package for all releases)",
    )

    verb = add(
        "init",
        "write a new site.toml with every setting, commented out",
        "It describes a package of your own, for build --site.",
    )
    verb.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=Path(FILE),
        metavar="FILE",
        help=f"the file to write (default: {FILE})",
    )
    verb.set_defaults(run=init.command)

    verb = add("validate", "report all mistakes in a site.toml")
    verb.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=Path(FILE),
        metavar="FILE",
        help=f"the file to read (default: {FILE})",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=validate.command)

    verb = add("explain", "explain a setting of site.toml, or list all settings")
    key = verb.add_argument(
        "key", nargs="?", metavar="KEY", help="the setting (default: list all settings)"
    )
    key.complete = {"bash": f"_{KEYS}", "zsh": f"({keys})"}  # type: ignore[attr-defined]
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=explain.command)

    verb = add(
        "schema",
        "print the JSON schema of site.toml",
        "Editors use it to check and complete the file.",
    )
    verb.set_defaults(run=schema.command)

    verb = add(
        "publish",
        "add packages to a signed APT repository",
        "The repository is a folder, which is created if there is none. Without FILE its "
        "packages stay as they are and are signed again.",
    )
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
