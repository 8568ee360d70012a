# SPDX-License-Identifier: GPL-2.0-or-later
"""The report's files: benchmarks.md, benchmarks.json and benchmarks/*.svg."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import store
from bench.document import document
from bench.plots import overview, pictures

NAME = "benchmarks"


def contents(found: Mapping[str, Any]) -> dict[str, str]:
    """Texts by their paths in the report's folder. All is made from what the JSON holds, so
    that it comes out the same when it is made again."""
    results = store.dump(found)
    again = store.parse(results)
    files: dict[str, str] = {}
    plots: dict[str, list[str]] = {}
    for suite, one in again["suites"].items():
        for name, svg in pictures(suite, one["compare"]) if "compare" in one else ():
            plots.setdefault(suite, []).append(f"{NAME}/{name}")
            files[f"{NAME}/{name}"] = svg
    first = None
    if (picture := overview(again["suites"])) is not None:
        first = f"{NAME}/overview.svg"
        files[first] = picture
    return files | {f"{NAME}.json": results, f"{NAME}.md": document(again, plots, first)}


def write(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Put the files into a folder. They belong to its owner, whom sudo may have hidden."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).mkdir(exist_ok=True)
    texts = contents(found)
    for old in (folder / NAME).glob("*.svg"):
        if f"{NAME}/{old.name}" not in texts:
            old.unlink()
    owner = folder.stat()
    for path, text in texts.items():
        (folder / path).write_text(text, encoding="utf-8")
    written = [folder / path for path in texts]
    for file in (folder / NAME, *written):
        if os.geteuid() == 0:
            os.chown(file, owner.st_uid, owner.st_gid)
    return written
