# SPDX-License-Identifier: GPL-2.0-or-later
"""Check of the sandbox: does it keep workers from what their projects need? It goes by settings
and by paths in their environment. What workers have written to the journal is only quoted:
clients and authors of projects choose words in it, so it is no ground for any advice."""

import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..adopt.hand_made import assignments
from ..config.names import Package
from ..config.settings import Settings
from ..pool.host import Host
from ..pool.settings import env_variables
from ..system.output import printable
from ..units import sandbox
from ..units.sandbox import CODE, is_allowed, is_in, is_left_by_workers, named, remedy
from ..view.look import Look
from .finding import Finding, error, warning

LINES = 2000
"""So many of the journal's last lines are looked at."""


LONGEST = 1000
"""Characters of each of them."""


MOST, SHOWN = 5, 200
"""So many lines are quoted, and so many characters of each."""


HOUR = 3600.0


READ_ONLY = re.compile(
    r"read-only file system|readonly database|read-only (?:mode|database)"
    # All that QGIS 3.40 says.
    r"|no capabilities to do wfs changes",
    re.I,
)


NO_NETWORK = re.compile(
    r"address family not supported|network is unreachable|could not create socket"
    r"|could not translate host name|host \S+ not found|network error",
    re.I,
)


DENIED = re.compile(r"operation not permitted|\bEPERM\b|bad system call|\bSIGSYS\b", re.I)


LOST = re.compile(
    r"no such file|not found|not exist|cannot open|can't open|unable to open|permission denied"
    r"|not valid|invalid|error",
    re.I,
)


PATH = re.compile(r"(?<![\w.:/<-])/(?:[^\s'\"<>|:;,()]+)")


TIME = re.compile(r"^\d\d:\d\d:\d\d ")
"""Before a line of QGIS's, which it may write again and again."""


def quoted(package: Package, settings: Settings, lines: Iterable[str]) -> tuple[str, ...]:
    """The last lines of the journal that the sandbox may be the cause of, printable. They only
    help somebody who reads them: nothing follows from what they say, and no path in them is
    looked at."""
    folders = sandbox.readable(package, settings)
    found: dict[str, str] = {}
    for line in (one[:LONGEST] for one in lines):
        if (
            READ_ONLY.search(line)
            or DENIED.search(line)
            or (not settings.network and NO_NETWORK.search(line))
            or (LOST.search(line) and any(not is_in(path, folders) for path in PATH.findall(line)))
        ):
            text = TIME.sub("", line)
            found.pop(text, None)
            found[text] = printable(line, SHOWN)
    return tuple(found.values())[-MOST:]


def check_environment(
    package: Package, settings: Settings, variables: Mapping[str, str]
) -> Iterator[Finding]:
    for name, path in named(variables):
        if not is_allowed(package, settings, name, path):
            key, folder = remedy(name, path)
            yield error(
                "sandbox-variable",
                f"{name} names {path}, where workers may not "
                f"{'write' if key == 'writable_folders' else 'look'}",
                f"{package.etc}/env",
                f'add "{folder}" to {key} in {package.etc}/server.toml; {package.command} apply',
            )


def check_code(
    package: Package, settings: Settings, variables: Mapping[str, str], place: str
) -> Iterator[Finding]:
    for name, path in named(variables, CODE):
        if is_left_by_workers(package, settings, path):
            yield error(
                "sandbox-code",
                f"{name} names {path}, where workers can write: one that was taken over can leave "
                "code there that all of them run",
                place,
                f"move it out of writable_folders ({package.etc}/server.toml) and of "
                f"{package.cache}, and change the line; {package.command} apply",
            )


def check_folders(package: Package, settings: Settings) -> Iterator[Finding]:
    """The monitor has workers restarted once a folder is there."""
    for folder in (*settings.data_folders, *settings.writable_folders):
        if not Path(folder).is_dir():
            yield warning(
                "folder-missing",
                "there is no such folder (settings data_folders, writable_folders)",
                folder,
                f"mkdir -p {shlex.quote(folder)}",
            )


def check_system_calls(host: Host, settings: Settings) -> Iterator[Finding]:
    """systemd passes over names that it doesn't know, with a line in the journal."""
    if not settings.system_calls:
        return
    known = host.command("systemd-analyze", "syscall-filter").stdout.split()
    if known and (unknown := sorted({*settings.system_calls} - {*known})):
        yield error(
            "system-call-unknown",
            f"systemd doesn't know {', '.join(unknown)} (setting system_calls)",
            f"{host.package.etc}/server.toml",
            "see systemd-analyze syscall-filter for the names",
        )


def since(package: Package, look: Look) -> float:
    """Seconds ago that the oldest worker started: what was wrong before may have been
    fixed. Without workers, an hour."""
    units = (
        look.units.get(package.service_unit(n), {})
        for n in look.serving | look.server.instances.heavy
    )
    up = [unit for unit in units if int(unit.get("MainPID") or 0)]
    started = (int(unit.get("ExecMainStartTimestampMonotonic") or 0) / 1e6 for unit in up)
    return time.monotonic() - min(started) if up else HOUR


def check(host: Host, look: Look) -> Iterator[Finding]:
    package, settings = host.package, look.settings
    if settings is None:
        return
    yield from check_folders(package, settings)
    yield from check_system_calls(host, settings)
    variables = env_variables(host)
    yield from check_environment(package, settings, variables)
    yield from check_code(package, settings, variables, f"{package.etc}/env")
    if host.live:
        # Of drop-ins, such as one that an adoption has made.
        unit = package.service_unit(1)
        given = assignments(host.show(unit, "Environment").get("Environment", ""))
        rest = {name: value for name, value in given.items() if name not in variables}
        yield from check_code(package, settings, rest, unit)


def said(host: Host, look: Look) -> tuple[str, ...]:
    """What workers have written since the oldest of them started, as `quoted` has it."""
    package, settings = host.package, look.settings
    if settings is None or not look.root:
        return ()
    ask = ("journalctl", f"--unit={package.pool}@*.service", f"--lines={LINES}", "--output=cat")
    start = f"--since=@{time.time() - since(package, look):.0f}"
    done = host.command(*ask, start, "--no-pager", "--quiet")
    return quoted(package, settings, done.stdout.splitlines())
