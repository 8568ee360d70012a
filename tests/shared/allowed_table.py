# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of docs/security.md that tells which form the value of each parameter must have.

    cd tests && python -m shared.allowed_table

puts it into the document, after allowed.py has changed.
"""

from __future__ import annotations

import re
import textwrap

from qgis_server_systemd.worker_plugin.allowed import FORMS
from shared.paths import TOP

DOCUMENT = TOP / "docs/security.md"
HEAD = "| Form of the value | Such as | Parameters |\n|---|---|---|\n"


def table() -> str:
    rows = []
    for form in FORMS.values():
        names = ", ".join(f"`{name}`" for name in f"{form.wms} {form.others}".split())
        # Lintian dislikes lines of more than 512 letters.
        first, *more = textwrap.wrap(names, 300, break_on_hyphens=False)
        for cells in ((form.what, form.example, first), *(("", "", rest) for rest in more)):
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return HEAD + "".join(rows)


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(re.escape(HEAD) + r"(?:\|.*\n)*", text)
    if found is None:
        raise SystemExit(f"{DOCUMENT}: the head of the table is missing: {HEAD}")
    DOCUMENT.write_text(text.replace(found[0], table()), encoding="utf-8")


if __name__ == "__main__":
    main()
