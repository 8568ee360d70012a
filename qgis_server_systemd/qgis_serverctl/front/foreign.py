# SPDX-License-Identifier: GPL-2.0-or-later
"""Which sockets of the pool NGINX knows from files of the administrator's own, such as
the upstream of a pool that was made by hand."""

import re
from collections.abc import Collection, Iterator, Mapping

from ..config.names import Package
from ..pool.host import Host
from .nginx import PROGRAM


def find(host: Host) -> dict[str, frozenset[int]]:
    """The instances that NGINX knows by files of the administrator's own."""
    dump = host.outside(PROGRAM, "-T", "-q").stdout
    return named(host.package, dump)


def leads_to(host: Host, paths: Collection[str]) -> bool:
    """Does NGINX know one of these sockets by files of the administrator's own?"""
    return knows(host.package, host.outside(PROGRAM, "-T", "-q").stdout, paths)


def knows(package: Package, dump: str, paths: Collection[str]) -> bool:
    """The same of what `nginx -T` prints."""
    lines = (text for _, text in _lines(package, dump))
    found = {path for line in lines for path in re.findall(r"\bunix:(/[^\s;:\"']+)", line)}
    return not {re.sub("^/var/run/", "/run/", path) for path in found}.isdisjoint(paths)


FILE = "# configuration file "
"""How `nginx -T` begins the text of each file that it reads."""


def named(package: Package, dump: str) -> dict[str, frozenset[int]]:
    """The instances whose socket is named, by file; `dump` is what `nginx -T` prints.

    The package's own file is left out: it follows the pool.
    """
    found: dict[str, set[int]] = {}
    before, after = map(re.escape, package.socket("\0").split("\0"))
    # /var/run is a link to /run, and the recipe's name for it.
    sockets = re.compile(rf"\bunix:(?:/var)?{before}([1-9][0-9]*){after}(?![^\s;:\"'])")
    for file, text in _lines(package, dump):
        found.setdefault(file, set()).update(map(int, sockets.findall(text)))
    return {name: frozenset(instances) for name, instances in found.items() if instances}


def _lines(package: Package, dump: str) -> Iterator[tuple[str, str]]:
    """Each line with its file, without comments and without the package's own file."""
    file = ""
    for line in dump.splitlines():
        if line.startswith(FILE) and line.endswith(":"):
            file = line.removeprefix(FILE).removesuffix(":")
        elif file != package.nginx_http:
            yield file, re.sub(r"(^|[\s;{}])#.*", r"\1", line)


def warnings(found: Mapping[str, frozenset[int]], going: frozenset[int]) -> list[str]:
    """What to tell of instances that go while a file still names them, a line per file."""
    told = []
    for file, instances in sorted(found.items()):
        if left := sorted(instances & going):
            numbers = ", ".join(map(str, left))
            told.append(
                f"{file} still names the socket of instance {numbers}: "
                "NGINX tries it in vain, so take it out there"
            )
    return told
