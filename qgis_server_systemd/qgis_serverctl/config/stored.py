# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings as they are kept in files: read, checked, put together by precedence."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..system.files import write
from ..system.output import Failure, die
from .declaration import as_toml, nearest
from .settings import SETTINGS, Settings

_BY_KEY = {s.key: s for s in SETTINGS}


@dataclass(frozen=True)
class Resolved:
    """Settings, and for each key the place that its value came from."""

    settings: Settings
    source: Mapping[str, str]


def parse(key: str, value: object, where: str) -> Any:
    """Check one value; `where` names the file or option for the message."""
    declared = _BY_KEY.get(key)
    if declared is None:
        die(f"{where}: unknown key {key}", hint=nearest(key, _BY_KEY))
    try:
        return declared.parse(value)
    except ValueError:
        die(f"{where}: {key} = {as_toml(value)} is not {declared.allowed}")


class Mistakes(Failure):
    """A settings file in which something is wrong; `told` is a line for each thing."""

    def __init__(self, told: Sequence[str]) -> None:
        super().__init__("; ".join(told))
        self.told = tuple(told)


def read(file: Path) -> dict[str, Any]:
    """The checked values of one settings file; none where it is missing. Raises Failure, which
    tells all mistakes."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        die(f"{file}: can't be read: {error}")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        die(f"{file}: {error}", hint="see the commented examples in that file")
    found, wrong = {}, []
    for key, value in values.items():
        try:
            found[key] = parse(key, value, f"{file}:{line_of(text, key)}")
        except Failure as mistake:
            wrong.append(str(mistake))
    if wrong:
        raise Mistakes(wrong)
    return found


def line_of(text: str, key: str) -> int:
    """The line of a key that the file sets."""
    name = re.escape(key)
    found = re.search(rf"""^[ \t\[]*["']?{name}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def resolve(
    file: Path, auto: Path, given: Mapping[str, object] | None = None, shipped: Path | None = None
) -> Resolved:
    """Settings by precedence: command line (`given`), the administrator's `file`,
    what a command set (`auto`), what the package of a site was made with (`shipped`),
    the default."""
    values: dict[str, Any] = {}
    source = {s.key: "default" for s in SETTINGS}
    places = [(shipped, "package")] if shipped else []
    wrong: list[str] = []
    for path, place in (*places, (auto, str(auto)), (file, str(file))):
        try:
            found = read(path)
        except Mistakes as mistakes:
            wrong += mistakes.told
            continue
        for key, value in found.items():
            values[key] = value
            source[key] = place
    if wrong:
        raise Mistakes(wrong)
    for key, value in (given or {}).items():
        values[key] = parse(key, value, "command line")
        source[key] = "command line"
    settings = Settings(**values)
    if settings.stop_timeout <= settings.request_timeout:
        die(
            f"{source['kill_timeout']}: kill_timeout = {settings.kill_timeout} is not above "
            f"request_timeout = {settings.request_timeout}",
            hint="a request would be tried again while the first worker still has it",
        )
    return Resolved(settings, source)


def remember(auto: Path, key: str, value: object) -> None:
    """Set one key in the file that commands write (never in the administrator's)."""
    values = read(auto) | {key: value}
    lines = [f"{name} = {as_toml(values[name])}" for name in sorted(values)]
    text = "# Written by commands and by the package's configuration; do not edit.\n"
    text += "# A key that is set in server.toml wins over the one here.\n"
    write(auto, text + "\n".join(lines) + "\n")
