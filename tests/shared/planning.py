# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts of a machine, and what is wanted of it, for tests of the plan."""

from collections.abc import Mapping

from qgis_server_systemd.qgis_serverctl.front.nginx import Nginx
from qgis_server_systemd.qgis_serverctl.pool import instances as front_instances
from qgis_server_systemd.qgis_serverctl.pool.instances import Instances
from qgis_server_systemd.qgis_serverctl.pool.state import State
from qgis_server_systemd.qgis_serverctl.reconcile import plan

UPSTREAM, DROPIN = "/upstream", "/dropin"


def upstream(instances: frozenset[int], lane: bool = False) -> Mapping[str, str]:
    return {UPSTREAM: front_instances.listed(instances) + (" and the lane" if lane else "")}


WANTED = plan.Wanted(
    count="auto",
    explicit=False,
    maintainer=False,
    socket_user="www-data",
    dropins=((DROPIN, None),),
    nginx_files=upstream,
)
NGINX = Nginx(installed=True, running=True, user="www-data")


def numbers(*values: int) -> frozenset[int]:
    return frozenset(values)


def machine(
    enabled: frozenset[int] = numbers(),
    *,
    ours: frozenset[int] | None = None,
    cores: int = 2,
    masked: frozenset[int] = numbers(),
    stale: frozenset[int] = numbers(),
    old_sockets: frozenset[int] = numbers(),
    pending: frozenset[int] = numbers(),
    live: bool = True,
    nginx: Nginx = NGINX,
) -> plan.Facts:
    """A machine at rest: what is enabled runs, and NGINX knows it."""
    up = enabled - masked
    return plan.Facts(
        live=live,
        cores=cores,
        instances=Instances(
            enabled,
            masked,
            up if live else numbers(),
            stale,
            old_sockets,
            by_socket=enabled,
        ),
        state=State(enabled if ours is None else ours, pending),
        nginx=nginx,
        files={UPSTREAM: front_instances.listed(up), DROPIN: None},
        loaded=True,
    )
