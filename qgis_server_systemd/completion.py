# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion of command lines, made from their parsers by shtab."""

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

COMPLETE = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
"""What an argument with such a metavar is completed to."""

SERVER = {"instance": "instances", "project": "projects"}
"""Arguments that a server itself knows the words of: by the name of the argument, what its
command calls them."""


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def _function(command: str, kind: str) -> str:
    return f"_{command.replace('-', '_')}_{kind}"


def _preamble(command: str) -> dict[str, str]:
    """Functions of the shells that ask the command."""
    asked = {kind: f"{command} complete {kind} 2>/dev/null" for kind in SERVER.values()}
    return {
        "bash": "\n".join(
            f'{_function(command, kind)}() {{ compgen -W "$({ask})" -- "$1"; }}'
            for kind, ask in asked.items()
        ),
        "zsh": "\n".join(
            f'{_function(command, kind)}() {{ compadd -- ${{(f)"$({ask})"}} }}'
            for kind, ask in asked.items()
        ),
    }


def with_words(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Mark what arguments are completed to. The parsers themselves know nothing of it:
    one of them runs on servers, which have no shtab."""
    for each in parsers(parser):
        for action in each._actions:
            found: Any = None
            if isinstance(action.metavar, str) and action.metavar in COMPLETE:
                found = COMPLETE[action.metavar]
            elif action.dest in SERVER:
                name = _function(parser.prog, SERVER[action.dest])
                found = {"bash": name, "zsh": name}
            if found:
                action.complete = found  # type: ignore[attr-defined]
    return parser


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion of a command for "bash" or "zsh"."""
    marked = with_words(parser)
    server = any(action.dest in SERVER for each in parsers(marked) for action in each._actions)
    return str(
        shtab.complete(marked, shell, preamble=_preamble(parser.prog)[shell] if server else "")
    )
