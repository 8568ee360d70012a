# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong with a testbed itself."""

from __future__ import annotations


class TestbedError(RuntimeError):
    """The testbed itself cannot do its work."""

    __test__ = False
