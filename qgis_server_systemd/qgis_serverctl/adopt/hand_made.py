# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pool made by hand has in its files: how much of it the package's units
do as well, and what an administrator must be told of. Pure functions."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from ..config.names import Package
from ..system.unit_file import lines

DROPIN = "20-adopted.conf"
"""What it is called that keeps the environment of a unit. Read by postrm as well."""


ENVIRONMENT = ("Environment", "EnvironmentFile", "PassEnvironment", "UnsetEnvironment")


SAME = (
    "Accept", "After", "Description", "Documentation", "ExecStart", "Group", "ListenStream",
    "PartOf", "Restart", "RestartSec", "SocketGroup", "SocketMode", "SocketUser",
    "StandardError", "StandardInput", "StandardOutput", "SyslogIdentifier", "Type", "User",
    "Wants", "WantedBy",
)  # fmt: skip
"""Settings that the package's units have their own value for, and that nobody
misses; an ExecStart of another program aside."""


@dataclass(frozen=True)
class Unit:
    """`environment`: lines to keep in a drop-in. `other`: settings that the
    package's unit lacks, to be told. `user`: as whom a service runs."""

    environment: tuple[str, ...]
    other: tuple[str, ...]
    user: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Those of `environment`, by their paths."""
        pairs = (line.partition("=") for line in self.environment)
        found = (value.lstrip("-") for key, _, value in pairs if key == "EnvironmentFile")
        return tuple(path for path in found if path.startswith("/"))


def read_unit(package: Package, text: str) -> Unit:
    environment: list[str] = []
    other, user = [], ""
    for section, key, value in lines(text):
        if section == "Service" and key in ENVIRONMENT:
            if value == "":
                # It takes back what was said before.
                environment = [line for line in environment if not line.startswith(f"{key}=")]
            elif value.lstrip("-") != f"{package.etc}/env":
                environment.append(f"{key}={value}")
        elif key not in SAME or (key == "ExecStart" and value != package.mapserv):
            other.append(f"{key}={value}")
        elif (section, key) == ("Service", "User"):
            user = value
    return Unit(tuple(environment), tuple(other), user)


def assignments(value: str) -> dict[str, str]:
    """The variables of an Environment= line (systemd.exec(5))."""
    try:
        words = shlex.split(value)
    except ValueError:
        words = value.split()
    pairs = (word.partition("=") for word in words)
    return {name: text for name, equals, text in pairs if equals}


def passes(pool: str, texts: Iterable[tuple[str, str]]) -> list[str]:
    """FILE:LINE of each fastcgi_pass that leads to the pool's sockets, in the
    texts of NGINX's files."""
    texts = list(texts)
    path = rf"unix:(?:/var)?/run/{re.escape(pool)}-[0-9]+\.sock"
    names = {
        upstream[1]
        for _, text in texts
        for upstream in re.finditer(r"\bupstream\s+([^\s{]+)\s*\{([^}]*)\}", text)
        if re.search(path, upstream[2])
    }
    directive = re.compile(
        rf"^[^#]*\bfastcgi_pass\s+(?:{'|'.join([path, *map(re.escape, sorted(names))])})\s*;"
    )
    return [
        f"{file}:{number}"
        for file, text in texts
        for number, line in enumerate(text.splitlines(), 1)
        if directive.match(line)
    ]
