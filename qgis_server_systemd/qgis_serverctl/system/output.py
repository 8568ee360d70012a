# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages, one line each, to standard error; and tables."""

import sys
from typing import Any, NoReturn


class Failure(Exception):
    """An ordinary mistake or a missing part: shown as one line, no traceback."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)


def die(message: str, *, hint: str = "") -> NoReturn:
    """Raise `Failure`: say what is wrong and where, and in `hint` what to do."""
    raise Failure(message, hint)


def note(message: str) -> None:
    """Report progress or a result."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Report something that the administrator should look at."""
    note(f"warning: {message}")


# ---- For people


def table(rows: list[dict[str, Any]]) -> str:
    """Columns of equal width, headed by the keys."""
    heads = list(rows[0])
    cells = [
        [head.upper() for head in heads],
        *([str(row[head]) for head in heads] for row in rows),
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
