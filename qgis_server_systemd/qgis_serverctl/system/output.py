# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is written for people: results to standard output, messages to standard error, one
line each. What is quoted in them is text: clients choose names of layers, authors those of
files."""

import json
import os
import sys
import unicodedata
from typing import Any, NoReturn


class Failure(Exception):
    """An ordinary mistake or a missing part: shown as one line, no traceback."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)


def printable(text: str, most: int | None = None) -> str:
    """The text as a part of one line that no terminal obeys or shows in another order: control
    and format characters, ends of lines, and what is no character at all, as escapes such as
    \\x1b. `most`: characters; the rest is cut off."""
    if most is not None and len(text) > most:
        text = f"{text[:most]}…"
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    # Spaces of all widths are no danger, and some languages write them before a colon.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


def die(message: str, *, hint: str = "") -> NoReturn:
    """Raise `Failure`: say what is wrong and where, and in `hint` what to do."""
    raise Failure(message, hint)


ERROR, WARNING, INFO = 3, 4, 6
"""Priorities of syslog(3)."""


def _in_journal() -> bool:
    """Is standard error a stream to journald (systemd.exec(5), $JOURNAL_STREAM)?"""
    told = os.environ.get("JOURNAL_STREAM")
    if not told:
        return False
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{stream.st_dev}:{stream.st_ino}"


def note(message: str, priority: int = INFO) -> None:
    """Report progress or a result, in one line. Its priority is for the journal alone."""
    prefix = f"<{priority}>" if _in_journal() else ""  # sd-daemon(3)
    print(f"{prefix}{printable(message)}", file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Report something that the administrator should look at."""
    note(f"warning: {message}", WARNING)


# ---- Results


CLEAR = "\033[H\033[J"
"""Cursor to the top, and erase what is below (console_codes(4))."""


def tell(text: str, *, flush: bool = False, clear: bool = False) -> None:
    """Print a result: lines, in which all that was quoted is printable already where an end of a
    line would matter. `clear`: a terminal, before it."""
    text = "\n".join(map(printable, text.split("\n")))
    # A terminal that does not know a character must not end the command.
    encoding = sys.stdout.encoding
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(f"{CLEAR if clear and sys.stdout.isatty() else ''}{text}", flush=flush)


def tell_json(value: object, *, indent: int | None = None, flush: bool = False) -> None:
    """Print JSON, in which every character is as it was: as a code if it is not ASCII."""
    print(json.dumps(value, indent=indent), flush=flush)


def table(rows: list[dict[str, Any]]) -> str:
    """Columns of equal width, headed by the keys."""
    heads = list(rows[0])
    cells = [
        [head.upper() for head in heads],
        *([printable(str(row[head])) for head in heads] for row in rows),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 error, 2 errors."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """A duration as people write it: 0.4s, 12s, 3m05s, 2h10m, 5d3h."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{left:02}s" if minutes else f"{left}s"
