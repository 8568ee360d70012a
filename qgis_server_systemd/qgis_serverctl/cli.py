# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line."""

import argparse
import os
import re
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

from .config.names import Package
from .config.names import number as instance
from .config.settings import QUEUES, SETTINGS
from .pool.host import Host
from .system import processes, qgis_log
from .system.output import ERROR, Failure, note, tell


def call(module: str, function: str, host: Host, args: argparse.Namespace) -> int:
    """Run a verb's function. Its module is imported now and no earlier: imports take most of the
    time of a short command, and what the monitor imports stays in memory."""
    status: int = getattr(import_module(f"{__package__}.{module}"), function)(host, args)
    return status


def later(module: str, function: str = "command") -> partial[int]:
    """What a verb does, by the place of its function."""
    return partial(call, module, function)


INTERNAL = {
    "complete": later("commands.complete"),
    "leave": later("commands.leave"),
    "metrics": later("metrics.serve"),
    "monitor": later("monitor.watch"),
    "notify": later("commands.notify"),
    "proposal": later("commands.debconf", "proposal"),
    "roll": later("commands.restart"),
}
"""What verbs for units, maintainer scripts and shells do. People need none of them."""


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


def seconds(text: str) -> float:
    """For argparse: the time between two looks."""
    value = float(text)
    if not 0.1 <= value <= 86400:
        raise ValueError
    return value


def lines(text: str) -> int:
    """For argparse: a number of them."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


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
    verb.set_defaults(run=later("commands.debconf"))

    verb = add("adopt", "move a pool that was made by hand to the package's units")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")
    verb.set_defaults(run=later("adopt.adopt"))

    verb = add(
        "restart",
        "restart workers one after the other, without losing a request",
        "Each new worker loads its projects before the next one is restarted.",
    )
    verb.add_argument("--instance", type=instance, metavar="N", help="only this instance")
    verb.set_defaults(run=later("commands.restart", "restart"))

    verb = add("scale", "set the number of instances, now and for later runs")
    verb.add_argument("count", metavar="N|auto", help="a number, or one for each core")
    verb.set_defaults(run=later("commands.apply", "scale"))

    verb = add("queue", "set where requests wait, now and for later runs, without losing one")
    verb.add_argument(
        "layout", choices=QUEUES, help="a queue for each worker, or one that all workers share"
    )
    verb.set_defaults(run=later("commands.apply", "queue"))

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
        verb.set_defaults(run=later("commands.drain"))

    verb = add(
        "maintenance",
        "answer clients with a page of maintenance, until maintenance off",
        f"The status is 503, that of {package.url_prefix}/health as well. Workers run on.",
    )
    verb.add_argument("state", choices=("on", "off"), help="whether they get it")
    verb.add_argument("--project", metavar="NAME", help="only this project, by its name in the URL")
    verb.set_defaults(run=later("commands.maintenance"))

    verb = add(
        "reload",
        "reload a project in all workers at their next request",
        "Changes of project files are picked up within seconds anyway.",
    )
    verb.add_argument(
        "project", metavar="PROJECT", help="its name in the URL, its path, or its URI as in MAP"
    )
    verb.set_defaults(run=later("commands.reload"))

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
    verb.set_defaults(run=later("commands.projects"))

    add("purge", "empty the reply cache").set_defaults(run=later("commands.reload", "purge"))

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
        type=seconds,
        metavar="SECONDS",
        help="show instances and problems again every SECONDS (2), until Ctrl-C",
    )
    verb.set_defaults(run=later("commands.status"))

    verb = add(
        "top",
        "show what the pool does and for which projects, until Ctrl-C",
        "Rates are of the last seconds; projects that keep workers busy come first.",
    )
    verb.set_defaults(run=later("commands.top"))

    verb = add(
        "check",
        "diagnose problems and show the fixes",
        "Nothing is changed. The exit status is 1 if there is an error.",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=later("commands.check"))

    verb = add("logs", "show the log of the pool from the journal")
    verb.add_argument("--instance", type=instance, metavar="N", help="only of this instance")
    verb.add_argument(
        "--level",
        choices=qgis_log.LEVELS,
        help="only messages of this level or a more serious one, as QGIS says it",
    )
    verb.add_argument("--since", metavar="WHEN", help="a time as journalctl takes it, such as -1h")
    verb.add_argument("--follow", action="store_true", help="wait for more, until Ctrl-C")
    verb.add_argument("--lines", type=lines, metavar="N", help="only the last N lines")
    verb.set_defaults(run=later("commands.logs"))

    verb = add("site", "enable or disable the ready NGINX site")
    verb.add_argument("action", choices=("enable", "disable"), help="what to do with it")
    verb.add_argument(
        "--project",
        metavar="FILE",
        help="the project for requests that name none (setting project)",
    )
    verb.set_defaults(run=later("commands.site"))
    return root


def internal(package: Package) -> argparse.ArgumentParser:
    """What units, maintainer scripts and shells use."""
    root = argparse.ArgumentParser(prog=package.command)
    verbs = root.add_subparsers(dest="verb", required=True)
    made = {}
    for name, run in INTERNAL.items():
        made[name] = verbs.add_parser(name, description="For units, maintainer scripts and shells.")
        made[name].set_defaults(run=run)
    made["complete"].add_argument("kind", choices=("instances", "projects"))
    made["proposal"].add_argument("question", choices=("instances", "site"))
    made["proposal"].add_argument("answer")
    return root


def joined(words: list[str]) -> list[str]:
    """The command line with "--since -1h" as one word: argparse would take -1h for an
    option."""
    found: list[str] = []
    for word in words:
        if found[-1:] == ["--since"] and re.match(r"-\d", word):
            found[-1] = f"--since={word}"
        else:
            found.append(word)
    return found


def main(package_file: Path, argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for a failure, 2 for wrong usage."""
    package = Package.load(package_file)
    root = Path(os.environ.get("DPKG_ROOT") or "/")
    words = joined(sys.argv[1:] if argv is None else argv)
    choose = internal(package) if words[:1] and words[0] in INTERNAL else None
    args = (choose or parser(package, Host(package, root))).parse_args(words)
    maintainer = getattr(args, "maintainer_script", False)
    host = Host(package, root, maintainer)
    try:
        result: int = args.run(host, args)
        sys.stdout.flush()
        if maintainer:
            from .front.site import hint

            hint(host)
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
