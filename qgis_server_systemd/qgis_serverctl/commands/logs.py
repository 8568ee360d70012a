# SPDX-License-Identifier: GPL-2.0-or-later
"""``logs``: what the journal has of the pool: workers, sockets, and the package's
own units. What anybody wrote is printed as text, each entry in one line: journalctl itself
leaves characters that change the order of others."""

import argparse
import json
import subprocess
import time
from collections import deque
from collections.abc import Iterator

from ..pool import instances
from ..pool.host import Host
from ..pool.state import State
from ..system.output import Failure, note, printable, tell
from ..system.qgis_log import Entry, Reader

LINES = 200
"""Lines shown where the administrator says neither how many nor since when."""


BEFORE = 10
"""The same where new ones are waited for, as with journalctl."""


SINCE = "-24h"
"""How far back lines of a level are looked for, unless said otherwise."""


FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,SYSLOG_PID,_COMM,_HOSTNAME,_PID"


def units(host: Host, instance: int | None) -> tuple[str, ...]:
    """Names are given one by one: a pattern means units that the journal has
    already, and would miss one that is new while one follows. The slice stands for
    all processes in it, those of instances made later, too."""
    package = host.package
    if instance is not None:
        return package.units(instance)
    loaded = instances.units(host)
    known = instances.enabled(host) | State.load(host).enabled
    for kind in ("socket", "service"):
        known |= instances.numbers(loaded, package.pool, kind)
    numbers = known | frozenset(range(1, max(known, default=0) + 1))
    heavy = instances.numbers(loaded, package.pool, "service", heavy=True)
    own = (
        f"{package.pool}-apply.service",
        package.roll_unit,
        package.leave_unit,
        package.monitor_unit,
        package.metrics_unit,
        package.cache_unit,
        package.front_unit,
        package.notify_unit,
        package.catalogue_unit,
        package.shared_unit,
        package.heavy_unit,
        *map(package.service_unit, sorted(heavy)),
    )
    whole = (package.slice, package.heavy_slice, f"{package.pool}.target", *own)
    return (*whole, *(unit for n in sorted(numbers) for unit in package.units(n)))


def query(host: Host, instance: int | None, since: str | None) -> list[str]:
    when = [] if since is None else [f"--since={since}"]
    return ["journalctl", *when, *(f"--unit={unit}" for unit in units(host, instance))]


def short(entry: Entry) -> str:
    """As `journalctl --output=short` shows it, in one line."""
    when = time.strftime("%b %d %H:%M:%S", time.localtime(entry.time / 1e6))
    pid = f"[{entry.pid}]" if entry.pid else ""
    return printable(f"{when} {entry.host} {entry.identifier}{pid}: {entry.message}")


def read(command: list[str]) -> Iterator[tuple[Entry, str]]:
    """Entries with their cursors."""
    output = ["--output=json", f"--output-fields={FIELDS}", "--all"]
    with subprocess.Popen(
        [*command, *output], stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                try:
                    fields = json.loads(line)
                except ValueError:
                    continue  # such as a line that a full disk has cut off
                yield Entry.parse(fields), fields["__CURSOR"]
        except BaseException:
            process.terminate()  # else it would be waited for, though it follows for ever
            raise
    if process.returncode:
        raise Failure(f"journalctl ended with exit status {process.returncode}")


def show(command: list[str], level: str | None, lines: int | None, *, follow: bool) -> None:
    """Print the entries, of a level if there is one: the last `lines` of them, and then new
    ones."""
    reader, cursor = Reader(), ""
    found: deque[Entry] = deque(maxlen=lines)
    last = [f"--lines={lines}"] if level is None and lines is not None else []
    for entry, place in read([*command, *last]):
        cursor = place
        if level is None or reader.passes(entry, level):
            found.append(entry)
    for entry in found:
        tell(short(entry), flush=follow)
    if not found and not follow:
        note("there is no such entry")
    if follow:
        start = [f"--after-cursor={cursor}"] if cursor else ["--lines=0"]
        plain = [word for word in command if not word.startswith("--since=")]
        for entry, _ in read([*plain, "--follow", *start]):
            if level is None or reader.passes(entry, level):
                tell(short(entry), flush=True)


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status."""
    since, lines = args.since, args.lines
    if args.level is None and since is None and lines is None:
        lines = BEFORE if args.follow else LINES
    if args.level is not None and since is None:
        since = SINCE
    words = query(host, args.instance, since)
    try:
        show(words, args.level, lines, follow=args.follow)
    except KeyboardInterrupt:
        pass
    return 0
