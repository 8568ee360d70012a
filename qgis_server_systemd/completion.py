# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion of command lines, made from their parsers by shtab."""

import argparse
from collections.abc import Iterator

import shtab

COMPLETE = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
"""What an argument with such a metavar is completed to."""


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def with_paths(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Mark the arguments that are paths. The parsers themselves know nothing of it:
    one of them runs on servers, which have no shtab."""
    for each in parsers(parser):
        for action in each._actions:
            if isinstance(action.metavar, str) and action.metavar in COMPLETE:
                action.complete = COMPLETE[action.metavar]  # type: ignore[attr-defined]
    return parser


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion of a command for "bash" or "zsh"."""
    return str(shtab.complete(with_paths(parser), shell))
