# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the projects of the corpus, in /srv/corpus, by build.sh: what needs neither a database
nor another server first, the rest second."""

from __future__ import annotations

import sys

# Each adds its projects to MAKERS.
import drawing  # noqa: F401
import layouts  # noqa: F401
import sources  # noqa: F401
from make_projects import fill_project, save
from qgis.core import QgsApplication, QgsProject
from qgis.PyQt.QtCore import QSettings
from registry import FOLDER, LISTED, MAKERS, Maker
from servers import make_editable, store


def make(name: str, maker: Maker) -> None:
    made = QgsProject()
    fill_project(made, maker.title, maker.layers())
    maker.more(made)
    target = FOLDER / f"{name}{maker.suffix}"
    if maker.suffix == ".qgz":
        # As QGIS itself packs it, with its database of labels.
        made.setFileName(str(target))
        if not made.write(str(target)):
            raise SystemExit(f"{target}: can't write it: {made.error()}")
    else:
        save(made, target)
        if name in LISTED:
            save(made, FOLDER / "listed" / target.name)


def main() -> None:
    second = sys.argv[1] == "second"
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    application = QgsApplication([], True)
    application.initQgis()
    for name, maker in MAKERS.items():
        if maker.second == second:
            print(name, flush=True)
            make(name, maker)
    if second:
        make_editable()
        store()
    application.exitQgis()


if __name__ == "__main__":
    main()
