# SPDX-License-Identifier: GPL-2.0-or-later
"""The texts of the files generated for NGINX. Pure functions."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ..config.names import Package
from ..config.settings import Settings
from ..config.values import NAME, UNIX
from ..system.template import render
from . import facts, heavy


def quoted(value: str) -> str:
    """A string for places where NGINX expands no variables, such as geo."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def expanded(value: str, var: str) -> str:
    """The same for places where it does: a dollar is the value of one variable for all, since
    each takes room in a table of NGINX's, which warns when that is short."""
    return value.replace("$", f"${{{var}_dollar}}")


TILE = 1024
"""Pixels that a side of a map may have for the reply cache."""


LEAST_IDLE = 60
"""Seconds for which a reply that nobody asks for stays in the cache at least."""


def servers(package: Package, sockets: Sequence[str]) -> str:
    """The server lines of the upstream, for the socket of each worker.

    One that is all there is, the only worker's or the shared one, is listed twice,
    since NGINX tries no other server than those listed: a request whose worker
    crashed waits for its successor, or goes to another worker. While workers move
    from one queue to the other, the shared one weighs as much as it has workers.
    With no instance at all there is a dead line, since an empty upstream is an error.
    """
    workers = Counter(sockets)
    if not workers:
        return f"    server unix:{package.socket('none')};  # no instance is enabled"
    if len(workers) == 1:
        return "\n".join([f"    server unix:{sockets[0]} max_fails=0;"] * 2)
    return "\n".join(
        f"    server unix:{path} max_fails=0{f' weight={count}' if count > 1 else ''};"
        for path, count in workers.items()
    )


def http_text(
    package: Package,
    settings: Settings,
    sockets: Sequence[str],
    *,
    lane: bool = True,
    counted: bool = True,
) -> str:
    """The generated file at http level, over the sockets of workers. `lane`: heavy requests go
    to their lane, if the settings want one. `counted`: somebody listens to the facts of each."""
    origins = (
        f'    "~^{re.escape(origin)}$" $http_origin;'
        for origin in settings.cors_origins
        if origin != "*"
    )
    everyone = ['    "~." "*";'] if "*" in settings.cors_origins else []
    lines = servers(package, sockets)
    values = {
        "command": package.command,
        "etc": package.etc,
        "pool": package.pool,
        "var": package.nginx_variable,
        "servers": lines,
        "trusted": "\n".join(
            f"    {network} 1;" for network in settings.trusted_proxies if network != UNIX
        ),
        "unix": "1" if UNIX in settings.trusted_proxies else "0",
        "landing": re.escape(package.url_prefix),
        "page": settings.front_page,
        **_hosts_texts(settings),
        "project": quoted(settings.project),
        "origins": "\n".join(everyone or origins),
    }
    parts = [render("nginx-http.conf", values), _projects_text(package, settings)]
    if settings.client_rate or settings.client_connections:
        parts.append(_clients_text(package, settings))
    parts.append(heavy.http_text(package, settings, lines, lane=lane and settings.has_lane))
    if settings.caches:
        parts.append(_cache_text(package, settings))
    if counted or settings.request_log:
        parts.append(facts.http_text(package, settings, counted=counted))
    return "\n".join(parts)


def _hosts_texts(settings: Settings) -> dict[str, str]:
    """Lines of maps by the host name that the client used: which page it has, which list and
    which logo."""
    hosts = settings.hosts if settings.lists else {}

    def lines(values: Mapping[str, str]) -> str:
        return "\n".join(f'    "~*^{re.escape(host)}$" {value};' for host, value in values.items())

    logos = {host: quoted(own["logo"]) for host, own in hosts.items() if "logo" in own}
    return {
        "logo": quoted(settings.front_logo),
        "logos": lines(logos),
        "hidden": lines({host: "off" for host, own in hosts.items() if "page" in own}),
        "lists": lines({host: f'"-{host}"' for host, own in hosts.items() if "page" not in own}),
    }


def _clients_text(package: Package, settings: Settings) -> str:
    """The part at http level that tells clients apart."""
    pool, client = package.pool, f"${package.nginx_variable}_client"
    zones = []
    if rate := settings.client_rate:
        zones.append(f"limit_req_zone {client} zone={pool}-rate:10m rate={rate}r/s;")
    if settings.client_connections:
        zones.append(f"limit_conn_zone {client} zone={pool}-connections:10m;")
    return render(
        "nginx-http-clients.conf", {"var": package.nginx_variable, "zones": "\n".join(zones)}
    )


def server_text(package: Package, settings: Settings) -> str:
    """The generated file that the ready site's server includes."""
    values = {"command": package.command, "header": settings.request_header_max.lower()}
    return render("nginx-server.conf", values)


def coded(word: str) -> str:
    """A regular expression for a word of capitals, each perhaps written as a code, to be
    matched without regard to case."""
    return "".join(f"(?:{c}|%{ord(c):02x}|%{ord(c.lower()):02x})" for c in word)


def _projects_text(package: Package, settings: Settings) -> str:
    """The part at http level that tells the project of a request."""
    var, named = package.nginx_variable, settings.named
    allow = settings.map_parameter
    return render(
        "nginx-http-projects.conf",
        {
            "var": var,
            "below": re.escape(package.projects_prefix),
            "landing": re.escape(package.url_prefix),
            "name": NAME,
            # There is no other way to write one in a map.
            "dollar": f'geo ${var}_dollar {{ default "$"; }}\n'
            if any("$" in project for project in named.values())
            else "",
            "names": "\n".join(
                f'    "~^{re.escape(name)}$" {expanded(quoted(project), var)};'
                for name, project in named.items()
            ),
            "map": coded("MAP"),
            "refused": "." if allow else "",
            "mode": "allow" if allow else "refuse",
        },
    )


def _cache_text(package: Package, settings: Settings) -> str:
    """The part that is at http level of the reply cache."""
    plain = settings.project.startswith("/") and "$" not in settings.project
    default = settings.project if plain else ""
    return render(
        "nginx-http-cache.conf",
        {
            "pool": package.pool,
            "var": package.nginx_variable,
            "replies": package.replies,
            "generations": package.generations,
            "size": settings.reply_cache.lower(),
            "idle": str(max(LEAST_IDLE, settings.reply_cache_seconds)),
            "coded": heavy.CODED,
            "tile": heavy.at_most(TILE),
            "default": quoted(default),
        },
    )


def is_generated(package: Package, text: str | None) -> bool:
    """Is this a file that http_text made? Read by postrm as well."""
    return (text or "").startswith(f"# Written by {package.command};")


def location_text(
    package: Package,
    settings: Settings,
    *,
    databases: bool = False,
    cancels: bool = False,
    lane: bool = False,
) -> str:
    """The generated file that the snippet's location includes; with `lane`, the one that the
    location of the lane for heavy requests does. `databases`: there is a service file, which
    libpq looks up at each connection. `cancels`: QGIS Server ends a request whose client hangs
    up."""
    values = {
        "command": package.command,
        "pool": package.pool,
        "var": package.nginx_variable,
        "name": "heavy_timeout" if lane else "request_timeout",
        "timeout": str(settings.lane_timeout if lane else settings.request_timeout),
        "seconds": str(settings.reply_cache_seconds),
        "generations": package.generations,
        "http": package.nginx_http,
        "service_file": package.service_file,
        "body": settings.request_body_max.lower(),
        "rate": str(settings.client_rate),
        "burst": str(5 * settings.client_rate),
        "connections": str(settings.client_connections),
        "ignore": "off" if cancels and not settings.client_connections else "on",
    }
    values["files"] = _files_text(package, settings)
    parts = ["nginx-location.conf", "nginx-location-map.conf", "nginx-location-projects.conf"]
    if databases:
        parts.append("nginx-location-databases.conf")
    if settings.client_rate:
        parts.append("nginx-location-rate.conf")
    if settings.client_connections:
        parts.append("nginx-location-connections.conf")
    if settings.cors_origins:
        parts.append("nginx-location-cors.conf")
    if settings.caches:
        parts.append("nginx-location-cache.conf")
    if settings.has_lane and not lane:
        # The last "if" that holds is the one whose directives count.
        kind = "heavy" if heavy.judges(settings) else "judged"
        parts.append(f"nginx-location-{kind}.conf")
    return "\n".join(render(part, values) for part in parts)


def _files_text(package: Package, settings: Settings) -> str:
    """Find the file of a project's name. The first folder and .qgz win: they come last."""
    var = package.nginx_variable
    files = (
        f"{folder.rstrip('/')}/${var}_named.{end}"
        for folder in reversed(settings.project_folders)
        for end in ("qgs", "qgz")
    )
    return "\n".join(
        f'if (-f "{file}") ' + "{\n" + f'    set ${var}_file "{file}";\n' + "}" for file in files
    )


def health_text(package: Package, settings: Settings) -> str:
    """The generated file that the location of health includes."""
    return render(
        "nginx-health.conf",
        {
            "command": package.command,
            "var": package.nginx_variable,
            "landing": re.escape(package.url_prefix),
            "files": _files_text(package, settings),
            "maintenance_projects": package.maintenance_projects,
        },
    )


def metrics_text(package: Package, settings: Settings) -> str:
    """The generated file that the location of metrics includes."""
    allow = "\n".join(f"allow {network};" for network in settings.monitoring_clients)
    return render("nginx-metrics.conf", {"command": package.command, "allow": allow})


def generated(package: Package) -> tuple[str, str, str, str, str, str]:
    """The files at http level, of both locations, of the ready site's server, of health and of
    metrics."""
    return (
        package.nginx_http,
        package.nginx_location,
        package.nginx_heavy,
        package.nginx_server,
        package.nginx_health,
        package.nginx_metrics,
    )
