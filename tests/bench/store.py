# SPDX-License-Identifier: GPL-2.0-or-later
"""The results as JSON: what was found in each round, from which all else follows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report import OfKind, Round, summary, without_nan

DIGITS = 5
"""That count of a number; with all of them the file would be twice as large."""


class Unreadable(Exception):
    """No results are in the file; the text says why."""


def slim(value: Any) -> Any:
    """Without what `whole` makes again."""
    if isinstance(value, Mapping):
        if isinstance(value.get("rounds"), list):
            return {"rounds": slim(value["rounds"])}
        return {key: slim(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [slim(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def round_of(found: Mapping[str, Any]) -> Round:
    """From JSON, where None stands for what is no number."""
    kinds: dict[str, OfKind] = {}
    for kind, values in found["kinds"].items():
        known: dict[str, Any] = {
            key: math.nan if one is None else one for key, one in values.items()
        }
        kinds[kind] = OfKind(**known)
    return Round(**{**found, "kinds": kinds})


def whole(value: Any) -> Any:
    """With summaries of the rounds."""
    if isinstance(value, dict):
        if isinstance(value.get("rounds"), list):
            return summary([round_of(one) for one in value["rounds"]]) | value
        return {key: whole(one) for key, one in value.items()}
    return value


def dump(found: Mapping[str, Any]) -> str:
    return json.dumps(without_nan(slim(found)), separators=(",", ":"), allow_nan=False) + "\n"


def parse(text: str) -> dict[str, Any]:
    found: dict[str, Any] = whole(json.loads(text))
    if "suites" not in found:
        raise ValueError("no results of a benchmark")
    return found


def load(file: Path) -> dict[str, Any]:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{file}: {error}") from None
