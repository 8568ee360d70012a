# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings and facts of a server, brought together for the plan."""

import pwd
from collections.abc import Iterator
from dataclasses import dataclass

from ..config.settings import Settings
from ..config.values import MAX_INSTANCES
from ..front import nginx, nginx_config
from ..pool import cores, instances, overrides, roll_state
from ..pool.host import Host
from ..pool.state import State
from ..system import processes
from ..system.files import read_or_none
from ..system.output import die
from ..units.dropins import generated, has_databases, socket_dropins, there
from . import plan


@dataclass(frozen=True)
class Inputs:
    """A server as it is, and as the settings want it."""

    facts: plan.Facts
    wanted: plan.Wanted

    @property
    def steps(self) -> plan.Plan:
        """What is to be done."""
        return plan.make(self.wanted, self.facts)


def look(host: Host, settings: Settings, *, explicit: bool = False) -> Inputs:
    """Both. `explicit`: see plan.Wanted. Raises Failure."""
    facts = gather(host)
    return Inputs(facts, want(host, settings, facts, explicit=explicit))


def gather(host: Host) -> plan.Facts:
    state = State.load(host)
    found = cores.detect(host)
    candidates = state.enabled | state.pending | frozenset(range(1, found.count + 1))
    package = host.package
    files = (
        *nginx_config.generated(package),
        *package.dropins,
        *there(host),
        package.worker_file,
        package.cache_mark,
        package.front_mark,
        package.notify_mark,
    )
    running = _running(host, package.cache_unit, package.front_unit, package.notify_timer_unit)
    return plan.Facts(
        live=host.live,
        cores=min(found.count, MAX_INSTANCES),
        instances=instances.gather(host, candidates),
        state=state,
        nginx=nginx.gather(host),
        files={file: read_or_none(host.path(file)) for file in files},
        loaded=nginx.is_loaded(host),
        caching=package.cache_unit in running,
        lists=package.front_unit in running,
        notifies=package.notify_timer_unit in running,
        counting=host.path(package.facts_socket).exists(),
        cancels=processes.qgis_cancels(host.path(package.mapserv), host.root),
        rolling=roll_state.load(host),
        shadows=overrides.find(host, state),
    )


def _running(host: Host, *units: str) -> frozenset[str]:
    """Also those that systemd starts, or starts again: nothing is left to do."""
    shown = host.show_each(units, "ActiveState") if host.live else {}
    up = ("active", "activating")
    return frozenset(unit for unit, now in shown.items() if now.get("ActiveState") in up)


def want(host: Host, settings: Settings, facts: plan.Facts, *, explicit: bool) -> plan.Wanted:
    user = facts.nginx.user if settings.socket_user == "auto" else settings.socket_user
    if host.live:
        try:
            pwd.getpwnam(user)
        except KeyError:
            die(f"socket_user: there is no user {user}", hint="is NGINX installed completely?")
    http, location, heavy, server, health, metrics = nginx_config.generated(host.package)
    # A file of that name may have been there before the package.
    theirs = facts.files[http] is not None and not nginx_config.is_generated(
        host.package, facts.files[http]
    )

    notes = [f"{http} is not the package's and is left alone: give it another name"] * theirs

    def queues(serving: frozenset[int]) -> tuple[str, ...]:
        now = facts.instances
        return tuple(now.queue(host.package, n, shared=settings.is_shared) for n in sorted(serving))

    def locations() -> Iterator[tuple[str, str]]:
        for file, lane in ((location, False), (heavy, True)):
            yield (
                file,
                nginx_config.location_text(
                    host.package,
                    settings,
                    databases=has_databases(host),
                    cancels=facts.cancels,
                    lane=lane,
                ),
            )

    def at_http(serving: frozenset[int], lane: bool) -> dict[str, str]:
        sockets = queues(serving)
        # Nobody listens to a pool that was made by hand, and NGINX would complain of each request.
        text = nginx_config.http_text(
            host.package, settings, sockets, lane=lane, counted=not facts.shadows.foreign
        )
        return {http: text}

    count = plan.count(settings.instances, facts, explicit=explicit, maintainer=host.maintainer)
    # A pool that was made by hand gets none.
    none = facts.shadows.foreign or facts.instances.lane_masked
    lane = 0 if none else settings.heavy_count(count)
    return plan.Wanted(
        count=settings.instances,
        explicit=explicit,
        maintainer=host.maintainer,
        socket_user=user,
        dropins=socket_dropins(host, user),
        shared=settings.is_shared,
        caches=settings.caches,
        lists=settings.lists,
        notifies=bool(settings.notify),
        nginx_files=lambda serving, lane: {
            **({} if theirs else at_http(serving, lane)),
            **dict(locations()),
            server: nginx_config.server_text(host.package, settings),
            health: nginx_config.health_text(host.package, settings),
            metrics: nginx_config.metrics_text(host.package, settings),
        },
        generated=generated(host, settings, lane),
        heavy=lane,
        stays=not settings.heavy_idle_minutes,
        notes=(*notes, *settings.notes),
    )
