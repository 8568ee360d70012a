# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages: one line each, to standard error."""

import sys
from typing import NoReturn


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
