# SPDX-License-Identifier: GPL-2.0-or-later
"""``restart``, and ``roll`` for the unit that maintainer scripts and the monitor start."""

import argparse
from contextlib import nullcontext

from ..config.names import is_heavy, label
from ..pool import instances, roll_state
from ..pool.host import Host
from ..pool.lock import only_roll
from ..pool.settings import load_settings
from ..reconcile.leave import away
from ..reconcile.roll import Roll, Stopped
from ..system.output import die, note


def command(host: Host, args: argparse.Namespace) -> int:
    """What the unit runs that maintainer scripts and the monitor hand over to."""
    with only_roll(host) as turn:
        assert turn
        asked = roll_state.wishes(host)
        try:
            # One worker that the monitor wants to be restarted is no reason to leave.
            with nullcontext() if asked else away(host, load_settings(host).settings):
                Roll(host).run(asked, turn)
        except Stopped as error:
            # Nothing has failed: no unit shall look as if.
            note(str(error))
        finally:
            roll_state.wish(host, roll_state.wishes(host) - asked)
    return 0


def restart(host: Host, args: argparse.Namespace) -> int:
    """The subcommand restart."""
    host.need_root("restart workers", "restart")
    now = instances.gather(host)
    able = (now.enabled | now.heavy) - now.masked
    asked = frozenset({args.instance}) if args.instance else able
    if not asked or not asked <= able:
        what = f"instance {label(args.instance)}" if args.instance else "any instance"
        state = "does not run" if is_heavy(args.instance or 0) else "is not enabled"
        die(f"{what} {state}, or is masked", hint=f"{host.package.command} status")
    with only_roll(host) as turn:
        assert turn
        with nullcontext() if args.instance else away(host, load_settings(host).settings):
            Roll(host).run(asked, turn)
    note(f"done: restarted {instances.listed(asked)}")
    return 0
