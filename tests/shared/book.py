# SPDX-License-Identifier: GPL-2.0-or-later
"""The book of recipes, docs/recipes.md, as steps that a test carries out: each block between
fences, with what the paragraph before it says of it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from testbed import Testbed

from shared.documents import sections
from shared.paths import TOP
from shared.pool import wait_for

BOOK = TOP / "docs/recipes.md"

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
FILE = re.compile(r"\b(?P<kind>Write|[Aa]dd to)\s+`(?P<path>/[^`]+)`")

Kind = Literal["write", "add", "run", "see", "undo", "elsewhere"]


@dataclass(frozen=True)
class Step:
    """`write`: the whole of the file at `path`. `add`: lines for it. `run`, `see`, `undo`:
    commands. `elsewhere`: what is for another machine or program."""

    kind: Kind
    path: str
    text: str

    def replace(self, old: str, new: str) -> Step:
        """With what the administrator puts in the place of an example."""
        assert old in self.text, old
        return Step(self.kind, self.path, self.text.replace(old, new))


def step(lead: str, language: str, text: str) -> Step:
    """`lead`: the paragraph before the block; empty if it follows another one."""
    if language == "sh":
        if re.match(r"(?:\d+\. )?See\b", lead):
            return Step("see", "", text)
        return Step("undo" if re.match(r"(?:To undo|Undo)\b", lead) else "run", "", text)
    if found := list(FILE.finditer(lead)):
        return Step("write" if found[-1]["kind"] == "Write" else "add", found[-1]["path"], text)
    return Step("elsewhere", "", text)


def recipe(name: str) -> list[Step]:
    """The steps of a recipe, in their order."""
    body, at, found = sections(BOOK)[name], 0, []
    for block in BLOCK.finditer(body):
        lead = re.split(r"\n\n|\n(?=\d+\. )", body[at : block.start()].strip())[-1]
        found.append(step(lead, block["language"], textwrap.dedent(block["text"])))
        at = block.end()
    return found


def only(steps: Iterable[Step], *kinds: Kind) -> list[Step]:
    return [one for one in steps if one.kind in kinds]


def shell(commands: str) -> list[str]:
    """Arguments: as root, in its folder."""
    return ["bash", "-ec", f"cd /root\n{commands}"]


def carry_out(bed: Testbed, steps: Iterable[Step]) -> None:
    """Write files and run commands."""
    for one in steps:
        if one.kind in ("write", "add"):
            bed.run("mkdir", "--parents", one.path.rpartition("/")[0])
            options = ("--append",) if one.kind == "add" else ()
            bed.run("tee", *options, one.path, input=one.text)
        elif one.kind in ("run", "undo"):
            bed.run(*shell(one.text))


def seen(bed: Testbed, steps: Iterable[Step]) -> str:
    """What the commands print by which one sees that it works; NGINX needs a moment for its new
    files."""
    (one,) = only(steps, "see")
    command = shell(one.text)
    wait_for(lambda: bed.run(*command, check=False).returncode == 0, one.text, timeout=60)
    return bed.out(*command)
