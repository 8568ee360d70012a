# SPDX-License-Identifier: GPL-2.0-or-later
"""``notify``: what its timer runs. Looks for findings, and tells somebody of those that are new
and those that are gone (setting notify)."""

import argparse
import json
import socket

from ..checks.finding import Finding, blocks, own_words
from ..checks.run import everything
from ..pool.host import Host, Snapshot
from ..pool.settings import load_settings
from ..system.files import read_or_none, write
from ..system.output import counted, die, note, printable
from ..view.look import look

SENDMAIL = "/usr/sbin/sendmail"

Known = frozenset[tuple[str, str, str]]
"""Of each finding severity, id and where: numbers in its words may differ each time."""

Noted = list[tuple[str, str, str, str, str]]
"""The same, then what it is and what to do, for the status page: everybody may read it, so it has
no line of a log."""


def key(one: Finding) -> tuple[str, str, str]:
    return one.severity, one.id, one.where


def known(findings: tuple[Finding, ...]) -> Known:
    return frozenset(map(key, findings))


def noted(findings: tuple[Finding, ...]) -> Noted:
    return [(*key(one), own_words(one.what), one.remedy) for one in findings]


def read(text: str | None) -> Known:
    """What was told last; nothing for what nobody wrote."""
    try:
        return frozenset((str(a), str(b), str(c)) for a, b, c, *_ in json.loads(text or "[]"))
    except (ValueError, TypeError):
        return frozenset()


def message(before: Known, findings: tuple[Finding, ...], command: str, server: str) -> str | None:
    """Header and text of a mail; None if nothing has changed. Raises nothing."""
    new = tuple(one for one in findings if key(one) not in before)
    gone = sorted(before - known(findings))
    if not new and not gone:
        return None
    parts = [blocks(new)] if new else []
    parts += (
        ["\n".join(f"gone: [{id}] {printable(where)}" for _, id, where in gone)] if gone else []
    )
    errors = sum(one.severity == "error" for one in findings)
    warnings = counted(len(findings) - errors, "warning")
    left = f"Now there are {counted(errors, 'error')}, {warnings}: {command} check"
    subject = f"QGIS Server on {server}: {len(new)} new, {len(gone)} gone"
    return "\n\n".join((f"Subject: {subject}", *parts, left)) + "\n"


def send(host: Host, to: str, text: str) -> None:
    """Raises Failure. Outside of our sandbox: it is the administrator's program, and those of mail
    servers write in places of their own."""
    # What begins with a slash is a program. No address begins with a dash.
    command = [to] if to.startswith("/") else [SENDMAIL, "-i", to]
    head = "" if to.startswith("/") else f"To: {to}\nContent-Type: text/plain; charset=utf-8\n"
    # The name of a file may be no text.
    safe = f"{head}{text}".encode(errors="replace").decode()
    done = host.outside(*command, input=safe)
    if done.returncode:
        words = done.stderr.strip() or f"it has ended with {done.returncode}"
        die(f"notify: {command[0]}: {words}", hint="see the setting notify")


def command(host: Host, args: argparse.Namespace) -> int:
    """The subcommand; returns the exit status. What could not be told is told the next time."""
    to = load_settings(host).settings.notify
    if not to:
        return 0
    file = host.path(host.package.notified)
    findings = everything(host, look(Snapshot.of(host))).findings
    before = read(read_or_none(file))
    text = message(before, findings, host.package.command, socket.gethostname())
    if text is not None:
        send(host, to, text)
        note(f"told {to} of findings that have changed")
    # Each time: the status page tells how old it is.
    write(file, json.dumps(noted(findings)) + "\n")
    return 0
