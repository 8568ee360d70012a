# SPDX-License-Identifier: GPL-2.0-or-later
"""Throw-away booted Debian containers for the tests.

A root tree per Debian suite is built once with mmdebstrap and cached; every `Testbed` is an
overlay over such a tree, booted by systemd-nspawn with a network of its own. Needs root.

Layout of the cache folder ($QGIS_SERVER_SYSTEMD_CACHE, or qgis-server-systemd in the user's
XDG cache):

    trees/<suite>-<hash>      root trees
    maps/<suite>-<hash>       a thin layer over a tree: the map projects in /srv/maps
    tools/<suite>-<hash>      a thin layer over a tree: what builds and checks packages
    rivals/<suite>-<hash>     a thin layer over a tree: what the benchmark compares with
    managed/<suite>-<hash>    a thin layer over a tree: what Ansible needs on a server
    browser/<suite>-<hash>    a thin layer over a tree: Chromium
    corpus/<suite>-<hash>     a thin layer over the maps: the corpus in /srv/corpus, and PostGIS
    nginx/<suite>-<hash>      a thin layer over the maps: NGINX, installed
    installed/<suite>-<hash>  a thin layer over the maps: the package and NGINX, installed
    kernels/<suite>-<hash>    a kernel for virtual machines
    arm64/                    trees, installed and kernels of that architecture, where this machine
                              has another one
    beds/<name>               the overlay, console output and process records of one testbed
"""

from .bed import Reply, Snapshot, Testbed
from .errors import TestbedError
from .releases import RELEASED, RELEASES, SUITES, since

__all__ = [
    "RELEASED",
    "RELEASES",
    "SUITES",
    "Reply",
    "Snapshot",
    "Testbed",
    "TestbedError",
    "since",
]
