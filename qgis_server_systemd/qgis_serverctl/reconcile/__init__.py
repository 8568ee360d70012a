# SPDX-License-Identifier: GPL-2.0-or-later
"""Wanted against found: the plan, and how it is carried out."""
