# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and settings: what there is, how it is checked, and where it is kept."""
