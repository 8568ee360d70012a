# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders of the checkout."""

from pathlib import Path

SHARED = Path(__file__).resolve().parent
TESTS = SHARED.parent
TOP = TESTS.parent
