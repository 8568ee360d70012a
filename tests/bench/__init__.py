# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark: this package beside the other ways to run QGIS Server on Debian."""
