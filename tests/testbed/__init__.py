# SPDX-License-Identifier: GPL-2.0-or-later
"""
UNPACK = 'mkdir -p -- "$0" && exec tar --extract --directory "$0"'


class TestbedError(RuntimeError):
"""

from .bed import Reply, Testbed
from .errors import TestbedError
from .recipes import SUITES

__all__ = ["SUITES", "Reply", "Testbed", "TestbedError"]
