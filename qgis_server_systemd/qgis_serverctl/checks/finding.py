# SPDX-License-Identifier: GPL-2.0-or-later
"""One thing that is wrong, and how people are told of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..system.output import printable


@dataclass(frozen=True)
class Finding:
    """`id`: the same for each thing of a kind. `severity`: error (requests fail, or
    will), or warning. `where`: a file, unit or instance. `remedy`: a command, or
    what to do before one."""

    id: str
    severity: str
    what: str
    where: str
    remedy: str


def error(id: str, what: str, where: str, remedy: str) -> Finding:
    return Finding(id, "error", what, where, remedy)


def warning(id: str, what: str, where: str, remedy: str) -> Finding:
    return Finding(id, "warning", what, where, remedy)


SAYS = "; it says: "


def quoting(what: str, words: str) -> str:
    """With what a program has said, if it said anything: a line of a log, for who may read it."""
    return f"{what}{SAYS}{words}" if words else what


def own_words(what: str) -> str:
    """Without what `quoting` has added: for who may read no logs."""
    return what.partition(SAYS)[0]


def blocks(findings: Iterable[Finding]) -> str:
    """Findings, each in three lines."""
    return "\n\n".join(
        f"{found.severity}: {printable(found.what)} [{found.id}]\n"
        f"  where: {printable(found.where)}\n"
        f"  fix:   {printable(found.remedy)}"
        for found in findings
    )
