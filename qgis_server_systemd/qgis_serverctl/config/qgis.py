# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between releases of QGIS Server."""

REPLY_WAIT = ("3.40", "3.44")
"""Those that hold back each reply for some milliseconds, in a way that is known: see the
plugin's reply_wait. 3.22 has no such wait."""
