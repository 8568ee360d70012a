# SPDX-License-Identifier: GPL-2.0-or-later
"""What QGIS Server is asked for by the tests of what the sandbox must not break."""
