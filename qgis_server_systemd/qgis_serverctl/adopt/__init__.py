# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes over a pool that was made by hand."""
