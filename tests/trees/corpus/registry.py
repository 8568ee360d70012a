# SPDX-License-Identifier: GPL-2.0-or-later
"""What a project of the corpus is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgis.core import QgsMapLayer, QgsProject
from styles import COUNTRIES, layer, plain

FOLDER = Path("/srv/corpus")
LAND = {"color": "#c8d8b0", "outline_color": "#606060", "outline_width": 0.2}

# Those that the landing page shows.
LISTED = ("symbols", "virtual")

Layers = list[QgsMapLayer]


@dataclass(frozen=True)
class Maker:
    """How a project is made: its layers, and what else it has."""

    title: str
    layers: Callable[[], Layers]
    more: Callable[[QgsProject], None]
    second: bool
    suffix: str


MAKERS: dict[str, Maker] = {}


def nothing_more(project: QgsProject) -> None:
    pass


def project(
    name: str,
    title: str,
    *,
    more: Callable[[QgsProject], None] = nothing_more,
    second: bool = False,
    suffix: str = ".qgs",
) -> Callable[[Callable[[], Layers]], Callable[[], Layers]]:
    def keep(layers: Callable[[], Layers]) -> Callable[[], Layers]:
        MAKERS[name] = Maker(title, layers, more, second, suffix)
        return layers

    return keep


def land(name: str = "land", **style: Any) -> QgsMapLayer:
    return layer(name, COUNTRIES, renderer=plain("fill", **LAND), **style)
