# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the workers every second."""
