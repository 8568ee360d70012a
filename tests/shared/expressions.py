# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions of QGIS's expressions, as QGIS lists them with their groups."""

from qgis_server_systemd.worker_plugin.rules import allowed

FUNCTIONS = allowed(
    [
        ("file_exists", [], ["Files and Paths"]),
        ("env", [], ["General"]),
        ("with_variable", [], ["General"]),
        ("scale_polynomial", ["scale_exp"], ["Math"]),
        ("raster_value", ["pixel"], ["Rasters"]),
        ("upper", [], ["String"]),
        ("year", [], ["Date and Time", "Conversions"]),
        ("both", [], ["String", "Layout"]),
        ("aggregate", [], ["Aggregates"]),
        ("array_filter", [], ["Arrays"]),
        ("transform", [], ["GeometryGroup"]),
        ("x", [], ["GeometryGroup"]),
        ("overlay_within", [], ["GeometryGroup"]),
        ("own", [], []),
    ]
)
