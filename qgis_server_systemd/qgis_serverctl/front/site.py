# SPDX-License-Identifier: GPL-2.0-or-later
"""The ready NGINX site: its link, and the welcome page that it takes the place of. Never
unasked."""

import hashlib
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ..config.names import Package
from ..config.settings import Settings
from ..config.values import is_name
from ..pool.host import Forbidden, Host
from ..pool.lock import locked
from ..pool.settings import load_settings
from ..system.files import read_or_none, write
from ..system.output import Failure, die, note, tell, warn
from . import nginx

SHOWN = 3
"""Projects whose URL is told."""


def _read_links(host: Host) -> list[Path]:
    """Those places for the site's link that NGINX reads."""
    return [host.path(link) for link in host.package.nginx_links if nginx.reads(host, link)]


def enabled_link(host: Host) -> Path | None:
    """Where the site is enabled, if it is."""
    return next((link for link in _read_links(host) if os.path.lexists(link)), None)


def lost_links(host: Host) -> list[Path]:
    """The site's links that have no effect, because NGINX, or its main file, was exchanged for
    one that reads another folder, or of which one is enough."""
    links = [host.path(link) for link in host.package.nginx_links]
    enabled = enabled_link(host)
    return [link for link in links if link != enabled and _is_own(host, link)]


def _is_own(host: Host, link: Path) -> bool:
    return link.is_symlink() and os.readlink(link) == host.package.nginx_site


def wanted_file(host: Host) -> Path:
    """There as long as somebody asked for the site, but it is not enabled yet."""
    return host.path(f"{host.package.state}/site-wanted")


def is_wanted(host: Host) -> bool:
    return wanted_file(host).exists()


def hint(host: Host) -> None:
    """Tell a new administrator the one step that is left to a map."""
    if enabled_link(host) is None:
        package = host.package
        if is_wanted(host):
            note(
                f"{package.name}: the NGINX site is not enabled yet; an installation of "
                f"NGINX, or {package.command} apply, tries it again"
            )
            return
        note(
            f"{package.name}: to serve maps through NGINX, run: "
            f"{package.command} site enable [--project FILE]"
        )


def is_pristine(host: Host, file: Path) -> bool:
    """Is this a conffile as its package shipped it (dpkg-query(1), Conffiles)?"""
    target = file.resolve()
    owner = host.command("dpkg-query", "-S", str(target)).stdout.partition(":")[0]
    listed = host.command("dpkg-query", "-W", "-f", "${Conffiles}", owner).stdout
    shipped = {line.split()[0]: line.split()[1] for line in listed.splitlines() if line.strip()}
    digest = hashlib.md5(target.read_bytes(), usedforsecurity=False).hexdigest()
    return shipped.get(str(target)) == digest


def swapped_file(host: Host) -> Path:
    """Two lines for each package of NGINX: its welcome page, and the target of that link or,
    where it was a file, its name now. Read by postrm as well."""
    return host.path(f"{host.package.state}/swapped-site")


def swap_out(host: Host) -> None:
    """Take the stock welcome page out of the way, for it claims port 80 too."""
    for stock in map(host.path, nginx.STOCK):
        if not stock.exists() or not is_pristine(host, stock):
            continue
        target = os.readlink(stock) if stock.is_symlink() else f"{stock}.replaced"
        before = read_or_none(swapped_file(host)) or ""
        if (entry := f"{stock}\n{target}\n") not in before:
            write(swapped_file(host), before + entry)
        if stock.is_symlink():
            stock.unlink()
        else:
            stock.rename(target)
        note(f"disabled NGINX's welcome page {stock}")


def swap_in(host: Host) -> None:
    """Undo swap_out, unless somebody put something there since."""
    text = read_or_none(swapped_file(host))
    if text is None:
        return
    lines = text.splitlines()
    for stock, target in zip(lines[::2], lines[1::2], strict=True):
        file = os.path.join(os.path.dirname(stock), target)
        if os.path.lexists(stock) or not os.path.exists(file):
            continue
        if target == f"{stock}.replaced":
            if host.command("dpkg-query", "-S", stock).returncode:
                Path(target).unlink()  # its package has been purged
                continue
            Path(target).rename(stock)
        else:
            Path(stock).symlink_to(target)
        note(f"enabled NGINX's welcome page {stock} again")
    swapped_file(host).unlink()


def check_nginx(host: Host) -> None:
    """Dies where NGINX couldn't serve the site."""
    if not nginx.is_installed(host):
        die("NGINX is not installed", hint="apt install nginx")
    if not host.path(host.package.nginx_site).exists():
        die(f"{host.package.nginx_site} is missing", hint="reinstall with --force-confmiss")
    if not nginx.has_conf_d(host) or not _read_links(host):
        file = host.package.nginx_http
        die(f"{nginx.MAIN}: does not include {file}", hint=nginx.INCLUDE)


def make_link(host: Host) -> None:
    """Enable the site; nginx -t decides whether it stays. Raises Failure."""
    link, lost = enabled_link(host), lost_links(host)
    made = link is None
    if link is None:
        link = _read_links(host)[0]
    else:
        _remove(lost)
    if made:
        if problem := nginx.test(host):
            die(f"nginx -t: {problem}", hint="fix this first; the site was not enabled")
        swap_out(host)
        link.symlink_to(host.package.nginx_site)
    if problem := nginx.test(host):
        if made:
            link.unlink()
            swap_in(host)
        die(
            f"nginx -t: {problem}",
            hint=f"the site was not enabled; adapt listen in {host.package.nginx_site}",
        )
    _remove(lost)
    wanted_file(host).unlink(missing_ok=True)
    if nginx.is_running(host):
        nginx.reload(host, wait=False)
    elif host.live:
        for one in nginx.taken(host):
            warn(f"{one}: stop that program, or adapt listen in {host.package.nginx_site}")
        warn(f"NGINX does not run: systemctl start {nginx.SERVICE}")


def _remove(links: Iterable[Path]) -> None:
    for link in links:
        link.unlink()


def want(host: Host) -> None:
    """Have the site enabled as soon as NGINX can serve it."""
    write(wanted_file(host), "")


def enable_wanted(host: Host, *, again: bool) -> None:
    """Enable the site if it is wanted and NGINX is there; else it stays wanted. Its link moves
    where NGINX looks for it now.

    `again`: dpkg shall call once more when it has set up what it unpacked.
    """
    if host.root != Path("/") or not nginx.is_installed(host):
        return
    if not is_wanted(host) and not lost_links(host):
        return
    if not nginx.is_set_up(host):
        # Its own post-installation script still has to make the welcome page's link.
        if again:
            host.command("dpkg-trigger", "--no-await", nginx.PROGRAM)
        return
    with locked(host):
        try:
            check_nginx(host)
            make_link(host)
        except Forbidden as error:
            note(f"{error}: the site is enabled, but NGINX has not read it yet")
        except (Failure, OSError) as error:
            warn(f"NGINX site: {error}")
            return
        announce(host)


def names(host: Host, settings: Settings) -> list[str]:
    """The names by which projects are served now."""
    files = (
        file
        for folder in settings.project_folders
        for end in ("qgs", "qgz")
        for file in host.path(folder).glob(f"*.{end}")
    )
    # As NGINX decides: by the name, and by what a link leads to.
    served = (file.stem for file in files if is_name(file.stem) and os.path.isfile(file))
    return sorted({*settings.named, *served})


def project_of(host: Host, settings: Settings, name: str) -> str | None:
    """The project that is served by a name, None if there is none. Where there are several,
    an entry of named_projects wins, then the first folder, then .qgz."""
    if name in settings.named:
        return settings.named[name]
    files = (
        f"{folder.rstrip('/')}/{name}.{end}"
        for folder in settings.project_folders
        for end in ("qgz", "qgs")
    )
    return next((file for file in files if host.path(file).is_file()), None)


def address(host: Host) -> str:
    """By which the site is reached: its first name, if it has any."""
    text = read_or_none(host.path(host.package.nginx_site)) or ""
    names = re.findall(r"^\s*server_name\s+([\w.-]*[\w-])[\s;]", text, re.M)
    named = next((name for name in names if name != "_"), "")
    scheme = "https" if re.search(r"^\s*listen\s[^;#]*\bssl\b", text, re.M) else "http"
    return f"{scheme}://{named or socket.getfqdn() or 'localhost'}"


def path_of(package: Package, name: str) -> str:
    """Of the URL of a project: of its name, or of requests without one."""
    return f"{package.projects_prefix}/{quote(name)}" if name else package.url_prefix


def announce(host: Host) -> None:
    package, settings = host.package, load_settings(host).settings
    server = address(host)
    query = "SERVICE=WMS&REQUEST=GetCapabilities"
    if settings.front_page != "off":
        tell(f"front page:   {server}{package.url_prefix}/")
    if settings.project:
        tell(f"WMS:          {server}{package.url_prefix}?{query}")
    named = names(host, settings)
    for name in named[:SHOWN]:
        tell(f"WMS:          {server}{path_of(package, name)}?{query}")
    if not named and not settings.project and settings.project_folders:
        tell(f"WMS:          {server}{package.projects_prefix}/NAME?{query}")
        note(f"put a project into {settings.project_folders[0]} as NAME.qgz to serve it")


def disable(host: Host) -> None:
    wanted_file(host).unlink(missing_ok=True)
    link = enabled_link(host)
    if link is not None and not _is_own(host, link):
        die(
            f"{link} is not the link that site enable makes",
            hint="remove it by hand if it is to go",
        )
    _remove([*lost_links(host), *([link] if link else [])])
    # Also without a link: an earlier run may have been cut off after its removal.
    swap_in(host)
    if problem := nginx.test(host):
        warn(f"nginx -t: {problem}; NGINX was not reloaded")
    elif nginx.is_running(host):
        nginx.reload(host, wait=False)
    note("the site is not enabled" if link is None else "the site is disabled")
