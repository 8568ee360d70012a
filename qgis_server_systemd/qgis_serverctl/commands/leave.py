# SPDX-License-Identifier: GPL-2.0-or-later
"""``leave``: what the unit runs that is stopped before the pool and NGINX, as at a shutdown."""

import argparse

from ..pool.host import Host
from ..pool.settings import load_settings
from ..reconcile.leave import leave


def command(host: Host, args: argparse.Namespace) -> int:
    """Returns the exit status."""
    leave(host, load_settings(host).settings)
    return 0
