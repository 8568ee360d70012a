# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of NGINX: does it run, and do its requests reach the pool?"""

import re
from collections.abc import Generator, Iterator

from ..front import foreign, nginx
from ..pool.host import Host
from ..reconcile import plan
from ..system import access
from ..system.access import Question
from ..view.look import Look
from .finding import Finding, error, quoting, warning
from .units import listens_at


def check_service(host: Host, look: Look) -> Iterator[Finding]:
    found = look.server.nginx
    if not found.installed:
        yield error("nginx-missing", "NGINX is not installed", nginx.PROGRAM, "apt install nginx")
    elif not found.running and not (yield from check_ports(host, look)):
        yield error(
            "nginx-stopped", "NGINX does not run", nginx.SERVICE, f"systemctl start {nginx.SERVICE}"
        )


def check_ports(host: Host, look: Look) -> Generator[Finding, None, bool]:
    """Does another program listen where NGINX is to? Returns whether one does."""
    found = nginx.taken(host)
    for one in found:
        unit = one.holder.unit if one.holder else ""
        yield error(
            "port-taken",
            f"{one} (address already in use)",
            f"port {one.endpoint.port}",
            f"stop that program{f' (systemctl disable --now {unit})' if unit else ''}, or change "
            f"listen in {host.package.nginx_site}; then systemctl restart {nginx.SERVICE}",
        )
    return bool(found)


def check_ports_of_running(host: Host, look: Look) -> Iterator[Finding]:
    """The same of an NGINX that serves all the same, by what it had read before."""
    if look.server.nginx.running:
        yield from check_ports(host, look)


def check_use(host: Host, look: Look) -> Iterator[Finding]:
    """Has NGINX a way to the pool, by its present files?"""
    package, found = host.package, look.server.nginx
    if not found.running:
        return
    if not found.uses:
        # A pool made by hand has an upstream of its own.
        own = {listens_at(package, look, n) for n in look.server.instances.listening}
        if look.server.shadows.foreign and foreign.leads_to(host, own):
            return
        yield warning(
            "location-missing",
            "no location of NGINX leads to the pool",
            "/etc/nginx",
            f"{package.command} site enable",
        )
    elif look.wanted and not look.server.loaded and not look.server.rolling.alive:
        # A roll writes them, and has NGINX read them, for each worker in turn.
        yield warning(
            "nginx-not-reloaded",
            "NGINX has not read the package's files as they are now",
            package.nginx_http,
            f"{package.command} apply",
        )


def check_certificates(host: Host, look: Look) -> Iterator[Finding]:
    """Does NGINX serve the certificates that are there now? It reads them when it is started or
    reloaded."""
    if not look.server.nginx.running:
        return
    for file in nginx.unread_certificates(host):
        yield warning(
            "certificate-not-read",
            "has changed since NGINX has read it: clients still get the former one",
            file,
            f"systemctl reload {nginx.SERVICE}",
        )


def check_configuration(host: Host, look: Look) -> Iterator[Finding]:
    """What `nginx -t` says, and why if it is the package's own file that is missing."""
    if not look.server.nginx.installed:
        return
    file = host.package.nginx_http
    if not (look.server.shadows.foreign or nginx.has_conf_d(host)):
        yield error(
            "conf-d-missing",
            f"does not include {file}: NGINX knows no upstream {host.package.pool}",
            nginx.MAIN,
            f"{nginx.INCLUDE} && systemctl reload-or-restart {nginx.SERVICE}",
        )
        return
    if problem := nginx.test(host):
        place = re.search(r" in (/\S+:\d+)$", problem)
        yield error(
            "nginx-config",
            quoting("NGINX can't read its configuration (nginx -t)", problem),
            place[1] if place else "/etc/nginx",
            f"fix that file, then systemctl reload {nginx.SERVICE}",
        )


def upstream(text: str) -> frozenset[str]:
    """The sockets that the generated file names."""
    return frozenset(re.findall(r"^\s*server\s+unix:([^\s;]+)", text, re.MULTILINE))


def check_upstream(host: Host, look: Look) -> Iterator[Finding]:
    if look.wanted is None:
        return
    package = host.package
    file = package.nginx_http
    wanted = plan.nginx_files(look.wanted, look.server).get(file)
    if wanted is None:
        yield error(
            "upstream-foreign",
            f"is not the package's, so NGINX knows no upstream {package.pool}",
            file,
            f"mv {file} {file}.old && {package.command} apply",
        )
        return
    there, due = upstream(look.server.files.get(file) or ""), upstream(wanted)
    # A roll takes one after the other out of it.
    if there != due and not look.server.rolling.alive:
        lacks, surplus = sorted(due - there), sorted(there - due)
        parts = [
            *([f"lacks {', '.join(lacks)}"] if lacks else []),
            *([f"names {', '.join(surplus)} in vain"] if surplus else []),
        ]
        yield error(
            "upstream-differs", f"the upstream {'; '.join(parts)}", file, f"{package.command} apply"
        )


def check_socket_access(host: Host, look: Look) -> Iterator[Finding]:
    """May NGINX's user use the sockets that listen?"""
    if look.wanted is None:
        return
    user = look.wanted.socket_user
    now = look.server.instances
    queues = {now.queue(host.package, n, shared=look.wanted.shared) for n in now.listening}
    queues |= {host.package.heavy_socket} if now.lane_open else set()
    there = sorted(path for path in queues if host.path(path).exists())
    found = access.as_user(user, (Question(path, "rw") for path in there))
    for question in found:
        yield error(
            "socket-owner",
            f"NGINX's user {user} may not use the socket",
            question.path,
            f"chown {user} {question.path} && chmod u+rw {question.path}",
        )
