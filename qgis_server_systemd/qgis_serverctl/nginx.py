# SPDX-License-Identifier: GPL-2.0-or-later
"""NGINX: what of it is on this machine, the files generated for it, and how it
is brought to read them."""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import foreign_upstreams, heavy
from .files import read_or_none, write
from .host import STOP_TIMEOUT, Host
from .log import Failure, die, warn
from .package import Package
from .settings import NAME, Settings
from .template import render

SERVICE = "nginx.service"
PROGRAM = "/usr/sbin/nginx"
NEW_WORKERS_TIMEOUT = 10
"""Seconds that NGINX may take to read its configuration."""


@dataclass(frozen=True)
class Nginx:
    """`user`: whom its workers run as. `uses`: some location may lead to the
    package's upstream. `checks_end`: see `checks_end`."""

    installed: bool
    running: bool
    user: str
    uses: bool = True
    checks_end: bool = False


def _config(host: Host) -> str:
    """NGINX's main file, read as text, since `nginx -T` fails wherever any included
    file has a mistake."""
    return re.sub(r"#.*", "", read_or_none(host.path("/etc/nginx/nginx.conf")) or "")


def has_sites(host: Host) -> bool:
    """Does it read sites-enabled, as with Debian's package? nginx.org's doesn't."""
    return bool(re.search(r"\binclude\s+\S*sites-enabled/", _config(host)))


def has_conf_d(host: Host) -> bool:
    return bool(re.search(r"\binclude\s+\S*conf\.d/\*", _config(host)))


def is_installed(host: Host) -> bool:
    return host.path(PROGRAM).exists()


def is_running(host: Host) -> bool:
    up = ("active", "reloading")
    return host.live and host.show(SERVICE, "ActiveState").get("ActiveState") in up


def gather(host: Host) -> Nginx:
    """All that the plan needs to know; runs `nginx -T` where NGINX runs."""
    installed, running = is_installed(host), is_running(host)
    user = re.search(r"^\s*user\s+([^\s;]+)", _config(host), re.MULTILINE)
    return Nginx(
        installed=installed,
        running=running,
        user=user[1] if user and installed else "www-data",
        uses=not running or _uses(host),
        checks_end=installed and checks_end(host.outside(PROGRAM, "-v").stderr),
    )


def checks_end(version: str) -> bool:
    """Can this NGINX be told to notice that a worker died in the middle of a reply?

    It looks for the end of a FastCGI reply only with fastcgi_keep_conn. Since 1.29.7
    that alone makes it keep connections, too, and one that is kept blocks its worker.
    """
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)", version)
    return found is not None and tuple(map(int, found.groups())) < (1, 29, 7)


def is_set_up(host: Host) -> bool:
    """Has dpkg configured NGINX's package? True where it came another way."""
    owner = host.command("dpkg-query", "-S", PROGRAM).stdout.partition(":")[0]
    asked = host.command("dpkg-query", "-W", "-f", "${db:Status-Status}", owner)
    return not owner or asked.stdout in ("installed", "triggers-awaited", "triggers-pending")


def _uses(host: Host) -> bool:
    """Without such a location there is nothing to reload for, and a reload is not
    free: with buffers of their default size, Debian 12's NGINX cuts replies off."""
    done = host.outside(PROGRAM, "-T", "-q")
    passes = rf"^[^#\n]*\bfastcgi_pass\s+({re.escape(host.package.pool)}\s*;|\S*\$)"
    return done.returncode != 0 or bool(re.search(passes, done.stdout, re.MULTILINE))


def foreign(host: Host) -> dict[str, frozenset[int]]:
    """The instances that NGINX knows by files of the administrator's own."""
    dump = host.outside(PROGRAM, "-T", "-q").stdout
    return foreign_upstreams.named(host.package, dump)


def quoted(value: str) -> str:
    """A string for places where NGINX expands no variables, such as geo."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


TILE = 1024
"""Pixels that a side of a map may have for the reply cache."""

LEAST_IDLE = 60
"""Seconds for which a reply that nobody asks for stays in the cache at least."""

LAST = 1000
"""How much more the other workers weigh than those that may have heavy requests."""


def servers(package: Package, sockets: Sequence[str], share: int = 0) -> str:
    """The server lines of the upstream, for the socket of each worker.

    One that is all there is, the only worker's or the shared one, is listed twice,
    since NGINX tries no other server than those listed: a request whose worker
    crashed waits for its successor, or goes to another worker. While workers move
    from one queue to the other, the shared one weighs as much as it has workers.
    The first `share` workers are for heavy requests as well, of which this upstream
    does not know: among workers that are free they come last.
    With no instance at all there is a dead line, since an empty upstream is an error.
    """
    workers = Counter(sockets)
    if not workers:
        return f"    server unix:{package.socket('none')};  # no instance is enabled"
    if len(workers) == 1:
        return "\n".join([f"    server unix:{sockets[0]} max_fails=0;"] * 2)
    last = {path for path in sockets[:share] if path != package.shared_socket}
    weights = {
        path: count * (LAST if last and path not in last else 1) for path, count in workers.items()
    }
    return "\n".join(
        f"    server unix:{path} max_fails=0{f' weight={weight}' if weight > 1 else ''};"
        for path, weight in weights.items()
    )


def http_text(package: Package, settings: Settings, sockets: Sequence[str]) -> str:
    """The generated file at http level."""
    origins = (
        f'    "~^{re.escape(origin)}$" $http_origin;'
        for origin in settings.cors_origins
        if origin != "*"
    )
    everyone = ['    "~." "*";'] if "*" in settings.cors_origins else []
    share = settings.heavy_share(len(sockets))
    values = {
        "command": package.command,
        "etc": package.etc,
        "pool": package.pool,
        "var": package.nginx_variable,
        "servers": servers(package, sockets, share),
        "trusted": "\n".join(f"    {network} 1;" for network in settings.trusted_proxies),
        "project": quoted(settings.project),
        "origins": "\n".join(everyone or origins),
    }
    parts = [render("nginx-http.conf", values), _projects_text(package, settings)]
    if settings.heavy_workers:
        parts.append(heavy.http_text(package, settings, sockets[:share]))
    if settings.caches:
        parts.append(_cache_text(package, settings))
    return "\n".join(parts)


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
            "name": NAME,
            "projects": "\n".join(
                f"geo ${var}_named_{at} {{ default {quoted(project)}; }}"
                for at, project in enumerate(named.values())
            ),
            "names": "\n".join(
                f'    "~^{re.escape(name)}$" ${var}_named_{at};' for at, name in enumerate(named)
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
    package: Package, settings: Settings, *, checks_end: bool, databases: bool = False
) -> str:
    """The generated file that the snippet's location includes. `databases`: there is a
    service file, which libpq looks up at each connection."""
    values = {
        "command": package.command,
        "pool": package.pool,
        "var": package.nginx_variable,
        "timeout": str(settings.request_timeout),
        "seconds": str(settings.reply_cache_seconds),
        "generations": package.generations,
        "http": package.nginx_http,
        "service_file": package.service_file,
        "keep": "on" if checks_end else "off",
    }
    # The first folder and .qgz win: they come last.
    files = (
        f"{folder.rstrip('/')}/${package.nginx_variable}_named.{end}"
        for folder in reversed(settings.project_folders)
        for end in ("qgs", "qgz")
    )
    values["files"] = "\n".join(
        f'if (-f "{file}") {{\n    set ${package.nginx_variable}_file "{file}";\n}}'
        for file in files
    )
    parts = ["nginx-location.conf", "nginx-location-projects.conf"]
    if databases:
        parts.append("nginx-location-databases.conf")
    if settings.cors_origins:
        parts.append("nginx-location-cors.conf")
    if settings.caches:
        parts.append("nginx-location-cache.conf")
    if settings.heavy_workers:
        # The last "if" that holds is the one whose directives count.
        parts.append("nginx-location-heavy.conf")
    return "\n".join(render(part, values) for part in parts)


def test(host: Host) -> str:
    """What `nginx -t` has to complain about, else an empty string."""
    done = host.outside(PROGRAM, "-t", "-q")
    if done.returncode == 0:
        return ""
    lines = [
        line for line in done.stderr.splitlines() if "[emerg]" in line
    ] or done.stderr.splitlines()
    return lines[0].removeprefix("nginx: [emerg] ") if lines else f"exit status {done.returncode}"


def _digest(host: Host) -> str:
    """Over all files of the package that NGINX reads, also those shipped in it."""
    package = host.package
    params = f"{package.etc}/fastcgi_params"
    files = (*generated(package), package.nginx_snippet, package.nginx_site, params)
    texts = (read_or_none(host.path(file)) or "" for file in files)
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def generated(package: Package) -> tuple[str, str]:
    return package.nginx_http, package.nginx_location


def _loaded_mark(host: Host) -> Path:
    return host.path(f"{host.package.run}/nginx-loaded")


def is_loaded(host: Host) -> bool:
    """Has every running NGINX read the package's files as they are now?

    The mark holds their digest as of the last reload. It lies in /run: after a
    boot there is none.
    """
    return read_or_none(_loaded_mark(host)) == _digest(host)


def mark_loaded(host: Host) -> None:
    write(_loaded_mark(host), _digest(host))


def _worker_pids(master: int) -> frozenset[int]:
    """NGINX's worker processes, also those that are shutting down."""
    try:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    except OSError:
        return frozenset()
    return frozenset(map(int, children))


def _is_leaving(pid: int) -> bool:
    """Has a worker of NGINX closed its listening sockets? Its title then says so."""
    try:
        return b"shutting down" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def put(host: Host, files: Mapping[str, str]) -> None:
    """Write generated files; should nginx -t dislike them, put the old ones back
    and raise Failure. Where it complained before, it has no say."""
    old = {file: read_or_none(host.path(file)) for file in files}
    testable = host.root == Path("/") and is_installed(host)
    broken_before = test(host) if testable else ""
    for file, text in files.items():
        write(host.path(file), text)
    if testable and not broken_before and (problem := test(host)):
        for file, before in old.items():
            if before is None:
                host.path(file).unlink()
            else:
                write(host.path(file), before)
        raise Failure(f"nginx -t: {problem}", "the former files are back")


def reload(host: Host, *, wait: bool, patience: float = STOP_TIMEOUT) -> frozenset[int]:
    """Make NGINX read its configuration and return once every new request is
    served by it; with `wait`, once no process is left that knows the old one,
    for at most `patience` seconds.

    Returns the processes that knew the old one. Raises Failure; NGINX then runs
    as before, or an old process still serves.
    """
    if problem := test(host):
        die(f"nginx -t: {problem}", hint="NGINX was not reloaded")
    master = host.main_pid(SERVICE)
    old = _worker_pids(master)
    # Cut off from here on, nobody knows what NGINX has read.
    _loaded_mark(host).unlink(missing_ok=True)
    host.systemctl("reload", SERVICE)
    deadline = time.monotonic() + NEW_WORKERS_TIMEOUT
    while not all(map(_is_leaving, old)):
        if time.monotonic() > deadline:
            die(
                "NGINX did not take up its new configuration",
                hint="/var/log/nginx/error.log tells why",
            )
        time.sleep(0.02)
    mark_loaded(host)
    if wait:
        wait_until_gone(host, old, patience)
    return old


def wait_until_gone(host: Host, old: frozenset[int], patience: float) -> None:
    """Wait for processes of NGINX to end. Raises Failure after `patience` seconds."""
    master = host.main_pid(SERVICE)
    start = time.monotonic()
    told = False
    while left := old & _worker_pids(master):
        if time.monotonic() > start + patience:
            die(
                f"NGINX's old processes {sorted(left)} still serve requests",
                hint=f"no instance was stopped; run {host.package.command} apply later",
            )
        if not told and time.monotonic() > start + 3:
            warn(f"waiting for requests that NGINX's old processes {sorted(left)} still serve")
            told = True
        time.sleep(0.05)
