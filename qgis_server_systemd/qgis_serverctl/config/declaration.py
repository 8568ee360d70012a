# SPDX-License-Identifier: GPL-2.0-or-later
"""How a setting is declared: once, with all that the command line, the files that ship,
their validation, the manuals and the schema for editors need."""

import dataclasses
import difflib
import json
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Declaration:
    """What there is to know of one setting; `parse` raises ValueError, with a reason
    where `allowed` does not tell all. `kind`: the type of its values."""

    key: str
    default: Any
    parse: Callable[[object], Any]
    allowed: str
    help: str
    example: str
    option: str
    kind: Any = str


def as_toml(value: object) -> str:
    """Write a string, number or list of strings as a TOML value."""
    # A JSON string is a TOML basic string, but for DEL, which no setting allows.
    return json.dumps(
        list(value) if isinstance(value, tuple) else value, ensure_ascii=False, default=str
    )


def setting(
    default: Any,
    parse: Callable[[object], Any],
    *,
    allowed: str,
    help: str,
    example: str = "",
    option: str = "",
) -> Any:
    """A field of a dataclass whose fields are settings."""
    return dataclasses.field(
        default=default,
        metadata={
            "parse": parse,
            "allowed": allowed,
            "help": help,
            "example": example or as_toml(default),
            "option": option,
        },
    )


def declarations(of: type) -> tuple[Declaration, ...]:
    """The settings that are the fields of a dataclass."""
    kinds = typing.get_type_hints(of)
    return tuple(
        Declaration(key=f.name, default=f.default, kind=kinds[f.name], **f.metadata)
        for f in dataclasses.fields(of)
    )


def nearest(key: str, known: Iterable[str]) -> str:
    """For a key that is not known: which one may have been meant."""
    known = tuple(known)
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


_TYPES = {int: "integer", str: "string", bool: "boolean"}


def schema(declared: Declaration) -> dict[str, Any]:
    """What values a setting takes, in the words of JSON Schema; where its parser does not
    tell, by their type alone."""
    told = getattr(declared.parse, "schema", None)
    if told:
        return dict(told)
    if typing.get_origin(declared.kind) is tuple:
        text = {"type": "string"}
        return {"type": "array", "items": text}
    kinds = typing.get_args(declared.kind) or (declared.kind,)
    names = [_TYPES[kind] for kind in kinds if kind in _TYPES]
    return {"type": names[0] if len(names) == 1 else names} if names else {}
