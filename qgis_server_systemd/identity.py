# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site's package is called and holds: the settings of ``site.toml`` that a server
has no say in. Those that it has are in `qgis_serverctl.config.settings`.

Values that no place can quote, or that would mean something else in one of the files
that they land in, are refused here, with the reason.
"""

import re
from dataclasses import dataclass

from . import poolname
from .qgis_serverctl.config.declaration import setting
from .qgis_serverctl.config.names import POOL, Package
from .qgis_serverctl.config.values import ListOf, Pattern, WordOr, text

MAINTAINER = "qgis-server-systemd maintainers <maintainers@qgis-server-systemd.example>"
SYNOPSIS = "pool of QGIS Server workers run by systemd behind NGINX"
QGIS = "qgis-server (>= 3.22)"

LONGEST_PATH = 80
"""A socket's path has room for 107 bytes (unix(7)), and the pool's name comes to it."""


def _name(value: object) -> str:
    found = text(value)
    if not re.fullmatch(poolname.SHAPE, found):
        raise ValueError
    if fault := poolname.fault(found):
        raise ValueError(f"it {fault}")
    return found


def _binary(value: object) -> str:
    found = Pattern(r"[a-z0-9][a-z0-9+.-]+", 60)(value)
    if re.fullmatch(r"qgis-(server|common|providers)(-(bin|common|[a-z]+))?|nginx|systemd", found):
        if found == Package().name:
            return found
        raise ValueError("Debian has a package of that name")
    return found


def _maintainer(value: object) -> str:
    return Pattern(
        r"[^<>@,\"$\\(){}\s][^<>@,\"$\\(){}]* <[A-Za-z0-9.+_-]+@[A-Za-z0-9.-]+>", 120,
        "it must be NAME <USER@DOMAIN>, without signs that mean something to dpkg",
    )(value)  # fmt: skip


def _synopsis(value: object) -> str:
    found = text(value, 80)
    if found != found.strip() or not found:
        raise ValueError("it is empty, or begins or ends with a space")
    return found


def _description(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    lines = [text(line) for line in value.strip().split("\n")]
    if len(lines) > 100:
        raise ValueError("it has more than 100 lines")
    return "\n".join(line.rstrip() for line in lines)


_RELATION = r"[a-z0-9][a-z0-9+.-]+(:any)?( \((<<|<=|=|>=|>>) [A-Za-z0-9.+~:-]+\))?"
RELATION = Pattern(rf"{_RELATION}( \| {_RELATION})*", 200)
PATH = Pattern(
    r"(/[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*)+", LONGEST_PATH,
    "systemd, NGINX and dpkg take spaces, dots at the beginning and most other signs in it for "
    "something else",
)  # fmt: skip
HOST = Pattern(
    r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", 253,
    "other letters are written as in DNS: xn--…",
)  # fmt: skip
PREFIX = WordOr("auto", Pattern(r"(/[A-Za-z0-9_-]+)+", 100, "other signs are NGINX's own"))
_ACCOUNT = Pattern(r"(?!root$)[a-z_][a-z0-9_-]{0,30}", 31)


def _path_or_none(value: object) -> str:
    return "" if value == "" else PATH(value)


def _relation_or_none(value: object) -> str:
    return "" if value == "" else RELATION(value)


@dataclass(frozen=True)
class Identity:
    """[package]"""

    name: str = setting(
        POOL,
        _name,
        allowed=(
            "two or more words of small letters and digits, with dashes between them, up to "
            f"{poolname.LONGEST} letters together"
        ),
        help=(
            "What the names of units, command, user, folders and NGINX's files begin with.\n"
            "Packages with different names can be installed side by side; one that keeps\n"
            "the default takes the place of the package that this project makes without a\n"
            "site's file."
        ),
        example='"acme-maps"',
    )
    binary: str = setting(
        "auto",
        WordOr("auto", _binary),
        allowed='"auto" or the name of a Debian package',
        help=(
            'The package\'s own name, for apt and debconf. "auto" is NAME-systemd. With\n'
            "another one it provides, conflicts with and replaces NAME-systemd."
        ),
        example='"acme-qgis-server"',
    )
    maintainer: str = setting(
        MAINTAINER,
        _maintainer,
        allowed='"NAME <USER@DOMAIN>"',
        help="Who answers for the package.",
        example='"ACME GIS team <gis@acme.example>"',
    )
    version_suffix: str = setting(
        "",
        Pattern(r"([+~][a-z0-9.+~]*[a-z0-9])?", 30),
        allowed="empty, or + and letters, digits, dots and further + and ~",
        help=(
            "What comes after this project's version, such as +acme1 in 1.2.0-1+acme1. With\n"
            "a higher one a change of this file alone is an upgrade."
        ),
        example='"+acme1"',
    )
    synopsis: str = setting(
        SYNOPSIS,
        _synopsis,
        allowed="a line of up to 80 letters",
        help="The first line of the package's description.",
        example='"map server of ACME"',
    )
    description: str = setting(
        "",
        _description,
        allowed="text, with empty lines between paragraphs",
        help="What comes before the rest of the package's description.",
        example='"This package serves the maps of ACME, as published on maps.acme.example."',
    )
    qgis_binary: str = setting(
        Package().mapserv,
        PATH,
        allowed="an absolute path of letters, digits and ._+@-",
        help="The FastCGI program of QGIS Server.",
        example='"/opt/qgis-ltr/bin/qgis_mapserv.fcgi"',
    )
    qgis_package: str = setting(
        QGIS,
        _relation_or_none,
        allowed='a dependency as in debian/control, such as "qgis-server (>= 3.22)", or empty',
        help="The Debian package that brings the program; empty where none does.",
        example='"acme-qgis-ltr"',
    )
    depends: tuple[str, ...] = setting(
        (),
        ListOf(RELATION),
        allowed='a list of dependencies as in debian/control, such as "postgresql-client"',
        help="Further packages that this one needs.",
        example='["fonts-noto-core", "postgresql-client (>= 15)"]',
    )
    user: str = setting(
        "auto",
        WordOr("auto", _ACCOUNT),
        allowed='"auto" or the name of a system user other than root',
        help='The user that the workers run as; made if there is none. "auto" is NAME.',
        example='"acme"',
    )
    group: str = setting(
        "auto",
        WordOr("auto", _ACCOUNT),
        allowed='"auto" or the name of a group other than root',
        help='That user\'s group; made if there is none. "auto" is called as the user.',
        example='"gis"',
    )
    url_prefix: str = setting(
        "auto",
        PREFIX,
        allowed='"auto" or a path of letters, digits, - and _, such as "/maps"',
        help='Where in URLs QGIS Server is. "auto" is /NAME.',
        example='"/maps"',
    )
    projects_prefix: str = setting(
        "auto",
        PREFIX,
        allowed='"auto" or a path of letters, digits, - and _, such as "/city"',
        help=(
            'What comes before the name of a project in its URL. "auto" is /NAME-projects; of\n'
            "the default NAME it is /qgis."
        ),
        example='"/city"',
    )
    sockets: str = setting(
        "/run",
        Pattern(r"/run(/[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*)*", LONGEST_PATH),
        allowed="/run, or a folder below it, of letters, digits and ._+@-",
        help="The folder of the workers' sockets, NAME-1.sock and so on.",
        example='"/run/acme"',
    )


@dataclass(frozen=True)
class Web:
    """[nginx]"""

    server_names: tuple[str, ...] = setting(
        (),
        ListOf(HOST),
        allowed='a list of host names in small letters, such as "maps.acme.example"',
        help=(
            "The names that the ready site answers to. Empty: to all, as the default server\n"
            "of port 80, which only one site of a machine can be."
        ),
        example='["maps.acme.example"]',
    )
    tls_certificate: str = setting(
        "",
        _path_or_none,
        allowed="an absolute path of letters, digits and ._+@-, or empty",
        help=(
            "The certificate chain of the ready site, as a file on the server. With it the\n"
            "site answers https, and sends http there. Needs server_names and tls_key."
        ),
        example='"/etc/ssl/certs/maps.pem"',
    )
    tls_key: str = setting(
        "",
        _path_or_none,
        allowed="an absolute path of letters, digits and ._+@-, or empty",
        help="The private key of that certificate, as a file on the server.",
        example='"/etc/ssl/private/maps.key"',
    )
