# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line."""

import argparse
import os
import sys
from pathlib import Path

from .adopt import adopt
from .commands import (
    apply,
    check,
    complete,
    debconf,
    drain,
    leave,
    logs,
    maintenance,
    notify,
    projects,
    reload,
    restart,
    site,
    status,
    top,
)
from .config.names import Package
from .config.names import number as instance
from .config.settings import QUEUES, SETTINGS
from .front import site as front_site
from .metrics import serve
from .monitor import watch
from .pool.host import Host
from .system import processes
from .system.output import ERROR, Failure, note, tell

INTERNAL = ("complete", "leave", "metrics", "monitor", "notify", "proposal", "roll")
"""Verbs for units, maintainer scripts and shells. People need none of them."""


class Version(argparse.Action):
    """Prints the package's version and that of QGIS Server, which dpkg and the program know."""

    def __init__(self, option_strings: list[str], dest: str, host: Host) -> None:
        text = "print the versions of the package and of QGIS Server, and exit"
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=text)
        self.host = host

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        package = self.host.package
        asked = self.host.command("dpkg-query", "-W", "-f", "${Version}", package.name)
        qgis = processes.qgis_version(self.host.path(package.mapserv)) or "of an unknown release"
        tell(f"{package.name} {asked.stdout or 'of an unknown version'}, QGIS Server {qgis}")
        parser.exit()


def parser(package: Package, host: Host | None = None) -> argparse.ArgumentParser:
    """What people use. `host`: whose versions are told."""
    root = argparse.ArgumentParser(
        prog=package.command, description="Manage the pool of QGIS Server workers on this machine."
    )
    root.add_argument("--version", action=Version, host=host or Host(package))
    verbs = root.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def add(name: str, help: str, more: str = "") -> argparse.ArgumentParser:
        """A verb; its own help begins with the sentence that the list of verbs has."""
        sentence = f"{help[0].upper()}{help[1:]}."
        return verbs.add_parser(name, help=help, description=f"{sentence} {more}".strip())

    verb = add(
        "apply",
        "apply the settings: start, stop, enable and configure what differs",
        "Can be run at any time; what is as it should be stays as it is.",
    )
    for setting in SETTINGS:
        if setting.option:
            verb.add_argument(
                f"--{setting.key}",
                metavar=setting.option,
                help=f"{setting.allowed}; also used by later runs",
            )
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")
    verb.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="with --dry-run: use this file in place of server.toml, and report mistakes in it",
    )
    verb.add_argument("--maintainer-script", action="store_true", help=argparse.SUPPRESS)
    verb.add_argument("--answer", action="append", default=[], help=argparse.SUPPRESS)
    verb.add_argument("--asked", action="append", default=[], help=argparse.SUPPRESS)
    verb.set_defaults(run=debconf.command)

    verb = add("adopt", "move a pool that was made by hand to the package's units")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")
    verb.set_defaults(run=adopt.command)

    verb = add(
        "restart",
        "restart workers one after the other, without losing a request",
        "Each new worker loads its projects before the next one is restarted.",
    )
    verb.add_argument("--instance", type=instance, metavar="N", help="only this instance")
    verb.set_defaults(run=restart.restart)

    verb = add("scale", "set the number of instances, now and for later runs")
    verb.add_argument("count", metavar="N|auto", help="a number, or one for each core")
    verb.set_defaults(run=apply.scale)

    verb = add("queue", "set where requests wait, now and for later runs, without losing one")
    verb.add_argument(
        "layout", choices=QUEUES, help="a queue for each worker, or one that all workers share"
    )
    verb.set_defaults(run=apply.queue)

    for name, help, more in (
        (
            "drain",
            "send an instance no more requests, until undrain",
            f"Without N, {package.url_prefix}/health tells load balancers to send none here.",
        ),
        ("undrain", "send a drained instance requests again", ""),
    ):
        verb = add(name, help, more)
        verb.add_argument(
            "instance", type=instance, metavar="N", nargs="?", help="its number; else all of them"
        )
        verb.set_defaults(run=drain.command)

    verb = add(
        "maintenance",
        "answer clients with a page of maintenance, until maintenance off",
        f"The status is 503, that of {package.url_prefix}/health as well. Workers run on.",
    )
    verb.add_argument("state", choices=("on", "off"), help="whether they get it")
    verb.add_argument("--project", metavar="NAME", help="only this project, by its name in the URL")
    verb.set_defaults(run=maintenance.command)

    verb = add(
        "reload",
        "reload a project in all workers at their next request",
        "Changes of project files are picked up within seconds anyway.",
    )
    verb.add_argument(
        "project", metavar="PROJECT", help="its name in the URL, its path, or its URI as in MAP"
    )
    verb.set_defaults(run=reload.command)

    verb = add(
        "projects",
        "show each project with its address, and what is wrong with it",
        "Those whose files have not changed are not loaded again. The exit status is 1 if a "
        "project has a problem.",
    )
    verb.add_argument(
        "project", metavar="NAME", nargs="?", help="only this one, and load it in any case"
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=projects.command)

    add("purge", "empty the reply cache").set_defaults(run=reload.purge)

    verb = add(
        "status",
        "show instances, problems, and settings that differ from their default",
        "Nothing is sent to a worker.",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--all", action="store_true", help="show all settings")
    verb.add_argument(
        "--watch",
        nargs="?",
        const=2.0,
        type=status.seconds,
        metavar="SECONDS",
        help="show instances and problems again every SECONDS (2), until Ctrl-C",
    )
    verb.set_defaults(run=status.command)

    verb = add(
        "top",
        "show what the pool does and for which projects, until Ctrl-C",
        "Rates are of the last seconds; projects that keep workers busy come first.",
    )
    verb.set_defaults(run=top.command)

    verb = add(
        "check",
        "diagnose problems and show the fixes",
        "Nothing is changed. The exit status is 1 if there is an error.",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=check.command)

    verb = add("logs", "show the log of the pool from the journal")
    logs.arguments(verb)
    verb.set_defaults(run=logs.command)

    verb = add("site", "enable or disable the ready NGINX site")
    verb.add_argument("action", choices=("enable", "disable"), help="what to do with it")
    verb.add_argument(
        "--project",
        metavar="FILE",
        help="the project for requests that name none (setting project)",
    )
    verb.set_defaults(run=site.command)
    return root


def internal(package: Package) -> argparse.ArgumentParser:
    """What units, maintainer scripts and shells use."""
    root = argparse.ArgumentParser(prog=package.command)
    verbs = root.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("complete", description="Words that a shell may complete to.")
    verb.add_argument("kind", choices=complete.KINDS)
    verb.set_defaults(run=complete.command)
    verb = verbs.add_parser("proposal", description="For debconf's config script.")
    verb.add_argument("question", choices=tuple(debconf.DEFAULTS))
    verb.add_argument("answer")
    verb.set_defaults(run=debconf.proposal)
    verb = verbs.add_parser("leave", description="For its unit alone.")
    verb.set_defaults(run=leave.command)
    verb = verbs.add_parser("roll", description="For its unit alone.")
    verb.set_defaults(run=restart.command)
    verb = verbs.add_parser("metrics", description="For its unit alone.")
    verb.set_defaults(run=serve.command)
    verb = verbs.add_parser("monitor", description="For its unit alone.")
    verb.set_defaults(run=watch.command)
    verb = verbs.add_parser("notify", description="For its unit alone.")
    verb.set_defaults(run=notify.command)
    return root


def main(package_file: Path, argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for a failure, 2 for wrong usage."""
    package = Package.load(package_file)
    root = Path(os.environ.get("DPKG_ROOT") or "/")
    words = logs.joined(sys.argv[1:] if argv is None else argv)
    choose = internal(package) if words[:1] and words[0] in INTERNAL else None
    args = (choose or parser(package, Host(package, root))).parse_args(words)
    maintainer = getattr(args, "maintainer_script", False)
    host = Host(package, root, maintainer)
    try:
        result: int = args.run(host, args)
        sys.stdout.flush()
        if maintainer:
            front_site.hint(host)
    except Failure as error:
        note(f"{package.command}: {error}", ERROR)
        return 1
    except BrokenPipeError:
        # The reader of a pipe, such as head, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        note(f"{package.command}: {place}{error.strerror or error}", ERROR)
        return 1
    except KeyboardInterrupt:
        verb = "adopt" if args.verb == "adopt" else "apply"
        note(f"{package.command}: interrupted; {package.command} {verb} goes on")
        return 130
    return result
