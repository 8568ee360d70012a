# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and paths of the package: what the templates are filled with, and what
the server side reads back from ``package.toml``."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Package:
    """The names that all others follow from.

    `request_timeout` is in seconds: how long NGINX waits for a reply, queue
    included.
    """

    name: str = "qgis-server-systemd"
    pool: str = "qgis-server"
    user: str = "qgis-server"
    mapserv: str = "/usr/lib/cgi-bin/qgis_mapserv.fcgi"
    url_prefix: str = "/qgis-server"
    request_timeout: int = 300

    @classmethod
    def load(cls, file: Path) -> Self:
        return cls(**tomllib.loads(file.read_text(encoding="utf-8")))

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)

    @property
    def command(self) -> str:
        return f"{self.pool}ctl"

    @property
    def stop_timeout(self) -> int:
        """Seconds a stopping worker may take to finish its request."""
        return self.request_timeout + 30

    @property
    def etc(self) -> str:
        return f"/etc/{self.pool}"

    @property
    def data(self) -> str:
        return f"/var/lib/{self.pool}"

    @property
    def home(self) -> str:
        return f"{self.data}/home"

    @property
    def projects(self) -> str:
        """Projects in this folder appear on QGIS Server's landing page."""
        return f"{self.data}/projects"

    @property
    def cache(self) -> str:
        return f"/var/cache/{self.pool}"

    @property
    def share(self) -> str:
        return f"/usr/share/{self.name}"

    @property
    def state(self) -> str:
        """What the helper remembers; the pool's user can't write there."""
        return f"/var/lib/{self.name}"

    @property
    def run(self) -> str:
        return f"/run/{self.name}"

    @property
    def nginx_http(self) -> str:
        """Generated: upstream and maps, included by NGINX at http level."""
        return f"/etc/nginx/conf.d/{self.pool}.conf"

    @property
    def nginx_location(self) -> str:
        """Generated: what the settings add to the snippet's location."""
        return f"{self.state}/nginx-location.conf"

    @property
    def nginx_snippet(self) -> str:
        return f"/etc/nginx/snippets/{self.pool}.conf"

    @property
    def nginx_site(self) -> str:
        return f"/etc/nginx/sites-available/{self.pool}"

    @property
    def socket_dropin(self) -> str:
        return f"/etc/systemd/system/{self.pool}@.socket.d/10-nginx-user.conf"

    @property
    def roll_unit(self) -> str:
        return f"{self.pool}-roll.service"

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Patterns of what a `files.write` that was cut off leaves; postrm has them, too."""
        return (
            f"{self.etc}/.*.new",
            f"{self.state}/.*.new",
            f"/etc/nginx/conf.d/.{self.pool}.conf.new",
            f"/etc/systemd/system/{self.pool}@.*.d/.*.new",
        )

    def socket(self, instance: int | str) -> str:
        """The path that the recipe of 2018 published, so that NGINX files made
        by hand keep working."""
        return f"/run/{self.pool}-{instance}.sock"

    def socket_unit(self, instance: int | str) -> str:
        return f"{self.pool}@{instance}.socket"

    def service_unit(self, instance: int | str) -> str:
        return f"{self.pool}@{instance}.service"
