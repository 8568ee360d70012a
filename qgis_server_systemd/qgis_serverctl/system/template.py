# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are generated on a server."""

import string
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "templates"


class _Template(string.Template):
    """NGINX has the dollar for itself."""

    delimiter = "@"


def render(name: str, values: dict[str, str]) -> str:
    return _Template((FOLDER / name).read_text(encoding="utf-8")).substitute(values)
