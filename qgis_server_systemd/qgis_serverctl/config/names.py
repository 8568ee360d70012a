# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and paths of the package: what the templates are filled with, and what
the server side reads back from ``package.toml``."""

import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

POOL = "qgis-server"
"""The pool that keeps the names that were published before there could be others."""

HEAVY = 1_000_000
"""The worker heavy-N of the lane for heavy requests has the number HEAVY + N, which is above that
of any other (MAX_INSTANCES)."""

HEAVY_WORD = "heavy-"


def is_heavy(instance: int) -> bool:
    """Is it a worker of the lane for heavy requests?"""
    return instance > HEAVY


def label(instance: int | str) -> str:
    """What an instance is called in names of units, and by people: "3", or "heavy-3"."""
    if isinstance(instance, int) and is_heavy(instance):
        return f"{HEAVY_WORD}{instance - HEAVY}"
    return str(instance)


def number(label: str) -> int:
    """The instance that is called so. Raises ValueError for other words (also 0, 01, x)."""
    found = re.fullmatch(rf"({HEAVY_WORD})?([1-9][0-9]{{0,5}})", label, re.ASCII)
    if not found:
        raise ValueError(label)
    return int(found[2]) + (HEAVY if found[1] else 0)


@dataclass(frozen=True)
class Package:
    """The names that all others follow from.

    name: the Debian package's; nothing on a server is called by it but what dpkg and
        debconf keep, so that a package may take the place of one with the same pool.
    pool: begins the names of units, files and folders; see `poolname` for its rules.
    """

    name: str = "qgis-server-systemd"
    pool: str = POOL
    user: str = "qgis-server"
    mapserv: str = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
    url_prefix: str = "/qgis-server"
    group: str = "qgis-server"
    sockets: str = "/run"
    projects_prefix: str = "/qgis"

    @classmethod
    def of(cls, pool: str) -> Self:
        """One whose other names all follow from the pool's."""
        usual = cls()
        if pool == usual.pool:
            return usual
        return cls(
            name=f"{pool}-systemd",
            pool=pool,
            user=pool,
            group=pool,
            url_prefix=f"/{pool}",
            projects_prefix=f"/{pool}-projects",
        )

    @classmethod
    def load(cls, file: Path) -> Self:
        return cls(**tomllib.loads(file.read_text(encoding="utf-8")))

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    @property
    def stem(self) -> str:
        """What the names of the folders begin with that the command alone writes to."""
        return f"{self.pool}-systemd"

    @property
    def replaces(self) -> str:
        """The package whose place this one takes; empty where it is that one."""
        return "" if self.name == self.stem else self.stem

    @property
    def command(self) -> str:
        return f"{self.pool}ctl"

    @property
    def program_folder(self) -> str:
        """Where the program and its libraries are, if that is no part of the system, such as
        /opt/qgis for /opt/qgis/bin/qgis_mapserv.fcgi; else empty. Workers must see it."""
        parts = self.mapserv.split("/")
        system = ("bin", "etc", "lib", "lib64", "sbin", "usr")
        return "" if parts[1] in system else "/".join(parts[: min(3, len(parts) - 1)])

    @property
    def etc(self) -> str:
        return f"/etc/{self.pool}"

    @property
    def data(self) -> str:
        return f"/var/lib/{self.pool}"

    @property
    def home(self) -> str:
        """The home folder of the workers' user; workers read it alone."""
        return f"{self.data}/home"

    @property
    def auth(self) -> str:
        """For QGIS's authentication database, of which each worker gets a copy."""
        return f"{self.data}/auth"

    @property
    def projects(self) -> str:
        """Projects in this folder appear on QGIS Server's landing page."""
        return f"{self.data}/projects"

    @property
    def cache(self) -> str:
        return f"/var/cache/{self.pool}"

    @property
    def share(self) -> str:
        return f"/usr/share/{self.stem}"

    @property
    def state(self) -> str:
        """What the helper remembers; the pool's user can't write there."""
        return f"/var/lib/{self.stem}"

    @property
    def state_file(self) -> str:
        """Which instances the package has enabled."""
        return f"{self.state}/state.json"

    @property
    def defaults(self) -> str:
        """The settings that the package of a site was made with; none in this project's."""
        return f"{self.share}/defaults.toml"

    @property
    def auto_settings(self) -> str:
        """What commands set, beside the administrator's server.toml."""
        return f"{self.etc}/server.auto.toml"

    @property
    def run(self) -> str:
        return f"/run/{self.stem}"

    @property
    def nginx_http(self) -> str:
        """Generated: upstream and maps, included by NGINX at http level."""
        return f"/etc/nginx/conf.d/{self.pool}.conf"

    @property
    def nginx_location(self) -> str:
        """Generated: what the settings add to the snippet's location."""
        return f"{self.state}/nginx-location.conf"

    @property
    def nginx_heavy(self) -> str:
        """Generated: the same for the location of requests that a worker has handed over."""
        return f"{self.state}/nginx-heavy.conf"

    @property
    def nginx_server(self) -> str:
        """Generated: what the settings add to the ready site's server."""
        return f"{self.state}/nginx-server.conf"

    @property
    def nginx_health(self) -> str:
        """Generated: what the settings add to the snippet's location of health."""
        return f"{self.state}/nginx-health.conf"

    @property
    def able(self) -> str:
        """There as long as the pool can serve. The monitor keeps it, and NGINX looks whether it
        is there."""
        return f"{self.run}/able"

    @property
    def maintenance(self) -> str:
        """There while clients get the page of maintenance."""
        return f"{self.state}/maintenance"

    @property
    def maintenance_projects(self) -> str:
        """A folder: for each project in maintenance it has a file of the project's name."""
        return f"{self.state}/maintenance-projects"

    @property
    def out(self) -> str:
        """There while load balancers shall send nothing here; requests are served."""
        return f"{self.state}/drained"

    @property
    def leaving(self) -> str:
        """As that one, while this server takes itself out; no boot leaves it there."""
        return f"{self.run}/leaving"

    @property
    def nginx_snippet(self) -> str:
        return f"/etc/nginx/snippets/{self.pool}.conf"

    @property
    def nginx_request(self) -> str:
        """What the snippet's locations have in common."""
        return f"{self.etc}/nginx-request.conf"

    @property
    def nginx_site(self) -> str:
        return f"/etc/nginx/sites-available/{self.pool}"

    @property
    def nginx_links(self) -> tuple[str, str]:
        """Where a link to that is a site that NGINX serves: with Debian's package, and with that
        of nginx.org."""
        return f"/etc/nginx/sites-enabled/{self.pool}", f"/etc/nginx/conf.d/{self.pool}-site.conf"

    @property
    def socket_dropin(self) -> str:
        return f"/etc/systemd/system/{self.pool}@.socket.d/10-nginx-user.conf"

    @property
    def shared_socket_dropin(self) -> str:
        return f"/etc/systemd/system/{self.shared_unit}.d/10-nginx-user.conf"

    @property
    def heavy_socket_dropin(self) -> str:
        return f"/etc/systemd/system/{self.heavy_unit}.d/10-nginx-user.conf"

    @property
    def socket_dropins(self) -> tuple[str, ...]:
        """Generated where NGINX runs as somebody else than by default."""
        return (
            self.socket_dropin,
            self.shared_socket_dropin,
            self.heavy_socket_dropin,
            f"/etc/systemd/system/{self.metrics_socket_unit}.d/10-nginx-user.conf",
        )

    @property
    def settings_dropins(self) -> tuple[str, str, str, str]:
        """Generated: what the settings change in the units; the sockets of instances,
        the shared one, that of heavy requests, and the workers."""
        units = (f"{self.pool}@.socket", self.shared_unit, self.heavy_unit, f"{self.pool}@.service")
        own, shared, heavy, service = (
            f"/etc/systemd/system/{name}.d/10-settings.conf" for name in units
        )
        return own, shared, heavy, service

    @property
    def queue_dropin(self) -> str:
        """Generated for the shared queue: takes the place of the package's drop-in of
        the same name."""
        return f"/etc/systemd/system/{self.pool}@.service.d/10-queue.conf"

    @property
    def folders_dropin(self) -> str:
        """Generated where the settings name other folders for projects and data than by
        default: takes the place of the package's drop-in of the same name."""
        return f"/etc/systemd/system/{self.pool}@.service.d/10-folders.conf"

    @property
    def catalogue_dropin(self) -> str:
        """Generated for the shared queue: keeps the workers' drop-in of the same name from the
        unit of the catalogue, which takes no requests."""
        return f"/etc/systemd/system/{self.catalogue_unit}.d/10-queue.conf"

    @property
    def dropins(self) -> tuple[str, ...]:
        """All that are generated, but for those of single workers (heavy_dropins)."""
        return (
            *self.socket_dropins,
            *self.settings_dropins,
            self.queue_dropin,
            self.catalogue_dropin,
            self.folders_dropin,
            self.heavy_workers_dropin,
            self.heavy_start_dropin,
        )

    @property
    def heavy_workers_dropin(self) -> str:
        """Generated: which workers the lane for heavy requests has."""
        return f"/etc/systemd/system/{self.heavy_wake_unit}.d/10-workers.conf"

    @property
    def heavy_start_dropin(self) -> str:
        """Generated where these start with the pool, and not with a request."""
        return f"/etc/systemd/system/{self.pool}.target.d/10-heavy.conf"

    def heavy_dropins(self, instance: int | str) -> tuple[str, str]:
        """Generated for a worker of the lane: one in the place of the package's for its queue,
        and one that comes after the settings of all workers."""
        folder = f"/etc/systemd/system/{self.service_unit(instance)}.d"
        return f"{folder}/10-queue.conf", f"{folder}/10-timeout.conf"

    @property
    def confined(self) -> str:
        """Variable that tells the command that it runs in a unit with a sandbox."""
        return f"{self.nginx_variable.upper()}_CONFINED"

    @property
    def root(self) -> str:
        """What workers have as their root folder; in it are only places to mount things."""
        return f"{self.run}/root"

    @property
    def credentials(self) -> str:
        """Secrets of databases and of QGIS, for the workers' group to read."""
        return f"{self.etc}/credentials"

    @property
    def service_file(self) -> str:
        """Databases by name, with their passwords (libpq's PGSERVICEFILE)."""
        return f"{self.credentials}/pg_service.conf"

    @property
    def master_password(self) -> str:
        """Of QGIS's authentication database (QGIS_AUTH_PASSWORD_FILE)."""
        return f"{self.credentials}/master-password"

    @property
    def worker_file(self) -> str:
        """Generated: what the plugin in each worker reads when it starts."""
        return f"{self.state}/worker.json"

    @property
    def reload_file(self) -> str:
        """Projects that workers shall reload at once."""
        return f"{self.run}/reload.json"

    @property
    def metrics_prefix(self) -> str:
        """What the names of metrics begin with, which have no dashes."""
        return self.pool.replace("-", "_")

    @property
    def nginx_variable(self) -> str:
        """What the names of NGINX's variables begin with. A pool's name has no two dashes
        in a row, so with two underscores after it no variable can be another pool's; and
        NGINX has none of its own that begins with "q_"."""
        word = self.pool.replace("-", "_")
        return word if self.pool == POOL else f"q_{word}_"

    @property
    def slice(self) -> str:
        """systemd takes a-b.slice for a part of a.slice (systemd.slice(5)), which a stop of
        a.slice would stop as well: only a name without dashes is a slice by itself."""
        return f"{self.pool if self.pool == POOL else self.pool.replace('-', '_')}.slice"

    @property
    def heavy_slice(self) -> str:
        """By its name a part of the pool's: its workers share what the others leave."""
        return f"{self.slice.removesuffix('.slice')}-heavy.slice"

    @property
    def lane_variable(self) -> str:
        """FastCGI's: may the worker hand this request over ("light"), or has the lane for heavy
        ones got it already ("heavy")? Read by the plugin of the workers."""
        return f"{self.plugin.upper()}_LANE"

    @property
    def map_variable(self) -> str:
        """FastCGI's: may this request name a project by MAP ("allow", "refuse")? Read by the
        plugin of the workers."""
        return f"{self.plugin.upper()}_MAP"

    @property
    def prefix_variable(self) -> str:
        """FastCGI's: what a proxy has cut off the path of this request. Read by the plugin of the
        workers."""
        return f"{self.plugin.upper()}_PREFIX"

    @property
    def sent_variable(self) -> str:
        """FastCGI's: when NGINX sent this request. Read by the plugin of the workers, which tells
        in return how long it has waited."""
        return f"{self.plugin.upper()}_SENT"

    @property
    def request_log(self) -> str:
        """Where NGINX writes the facts of each request, if asked to; in a folder whose *.log
        are rotated by NGINX's package."""
        return f"/var/log/nginx/{self.pool}-requests.log"

    @property
    def facts_socket(self) -> str:
        """Where NGINX sends the facts of each request, in datagrams."""
        return f"{self.run}/facts.sock"

    @property
    def metrics_unit(self) -> str:
        """Counts what comes there."""
        return f"{self.pool}-metrics.service"

    @property
    def metrics_socket_unit(self) -> str:
        return f"{self.pool}-metrics.socket"

    @property
    def metrics(self) -> str:
        """The folder of what that unit writes; gone when it ends."""
        return f"/run/{self.pool}-metrics"

    @property
    def nginx_metrics(self) -> str:
        """Generated: who may read them."""
        return f"{self.state}/nginx-metrics.conf"

    @property
    def plugin(self) -> str:
        """Name of the QGIS Server plugin that each worker loads; also its Python module's."""
        return self.stem.replace("-", "_")

    @property
    def reply_wait_variable(self) -> str:
        """Of a worker: the releases of QGIS Server whose wait its plugin takes away."""
        return f"{self.plugin.upper()}_REPLY_WAIT"

    @property
    def plugins(self) -> str:
        """Where every QGIS Server looks for plugins, whatever QGIS_PLUGINPATH says."""
        return f"{self.qgis_python}/plugins"

    @property
    def qgis_python(self) -> str:
        """Modules of QGIS: all of them, or those that no other program needs."""
        return "/usr/share/qgis/python"

    @property
    def roll_unit(self) -> str:
        return f"{self.pool}-roll.service"

    @property
    def monitor_unit(self) -> str:
        return f"{self.pool}-monitor.service"

    @property
    def leave_unit(self) -> str:
        """Stopped before what serves: it tells load balancers, and waits."""
        return f"{self.pool}-leave.service"

    @property
    def cache_unit(self) -> str:
        """Tells NGINX which replies of its cache are still good."""
        return f"{self.pool}-cache.service"

    @property
    def catalogue_unit(self) -> str:
        """Looks at the projects: an instance of the workers' unit, so that it sees what they
        see."""
        return self.service_unit("catalogue")

    @property
    def catalogue(self) -> str:
        """What it has found, written by the workers' user: not to be believed."""
        return f"{self.cache}/catalogue/catalogue.json"

    @property
    def catalogue_orders(self) -> str:
        """What it is to look at again."""
        return f"{self.run}/catalogue.json"

    @property
    def front_unit(self) -> str:
        """Keeps the list of projects that the front page shows."""
        return f"{self.pool}-front.service"

    @property
    def front_path_unit(self) -> str:
        """Has the projects looked at when that unit wishes it."""
        return f"{self.pool}-front.path"

    @property
    def front_mark(self) -> str:
        """Generated where the settings ask for the front page: the unit's condition."""
        return f"{self.state}/front-page"

    @property
    def listed(self) -> str:
        """The folder of that list."""
        return f"/run/{self.pool}-front"

    @property
    def cache_mark(self) -> str:
        """Generated where the settings ask for a reply cache: the unit's condition."""
        return f"{self.state}/reply-cache"

    @property
    def notify_unit(self) -> str:
        """Tells somebody when the findings of check have changed."""
        return f"{self.pool}-notify.service"

    @property
    def notify_timer_unit(self) -> str:
        return f"{self.pool}-notify.timer"

    @property
    def notify_mark(self) -> str:
        """Generated where the settings ask for that: the timer's condition."""
        return f"{self.state}/notify"

    @property
    def notified(self) -> str:
        """What was told last."""
        return f"{self.state}/notified.json"

    @property
    def generations(self) -> str:
        """What that unit tells NGINX; gone when it ends."""
        return f"/run/{self.pool}-cache"

    @property
    def replies(self) -> str:
        """The folder of NGINX's cache, made by NGINX and its user's own."""
        return f"/var/cache/{self.pool}-replies"

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Patterns of what a `files.write` that was cut off leaves; postrm has them, too."""
        return (
            f"{self.etc}/.*.new",
            f"{self.state}/.*.new",
            # The monitor's file, always in the making, is its own.
            f"{self.run}/.[!m]*.new",
            f"/etc/nginx/conf.d/.{self.pool}.conf.new",
            f"/etc/systemd/system/{self.pool}@*.d/.*.new",
            f"/etc/systemd/system/{self.shared_unit}.d/.*.new",
            f"/etc/systemd/system/{self.pool}.target.d/.*.new",
            f"/etc/systemd/system/{self.heavy_unit}.d/.*.new",
            f"/etc/systemd/system/{self.heavy_wake_unit}.d/.*.new",
            f"/etc/systemd/system/{self.metrics_socket_unit}.d/.*.new",
        )

    def socket(self, instance: int | str) -> str:
        """The path that the recipe of 2018 published, so that NGINX files made
        by hand keep working. Workers of the lane for heavy requests share one."""
        if isinstance(instance, int) and is_heavy(instance):
            return self.heavy_socket
        return f"{self.sockets}/{self.pool}-{instance}.sock"

    @property
    def heavy_socket(self) -> str:
        """Where the workers of the lane for heavy requests take theirs."""
        return f"{self.sockets}/{self.pool}-heavy.sock"

    @property
    def heavy_unit(self) -> str:
        return f"{self.pool}-heavy.socket"

    @property
    def heavy_wake_unit(self) -> str:
        """Started by that socket when a request comes and none of them runs."""
        return f"{self.pool}-heavy-wake.service"

    @property
    def shared_socket(self) -> str:
        """Where all workers take their requests with the shared queue."""
        return f"{self.sockets}/{self.pool}.sock"

    @property
    def shared_unit(self) -> str:
        return f"{self.pool}.socket"

    @property
    def wake_unit(self) -> str:
        """Started by the shared socket when a request comes and no worker runs."""
        return f"{self.pool}-wake.service"

    def socket_unit(self, instance: int | str) -> str:
        if isinstance(instance, int) and is_heavy(instance):
            return self.heavy_unit
        return f"{self.pool}@{instance}.socket"

    def service_unit(self, instance: int | str) -> str:
        return f"{self.pool}@{label(instance)}.service"

    def units(self, instance: int | str) -> tuple[str, str]:
        """Both, the socket first: in this order a stop lets nothing start again."""
        return self.socket_unit(instance), self.service_unit(instance)
