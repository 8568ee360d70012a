# SPDX-License-Identifier: GPL-2.0-or-later
"""What a light request costs a worker, and what of it is this package's: workers of the
recipe and of this package side by side, some of them without one thing or another."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.pool import ctl, settled, wait_for
from shared.site_checks import parameters
from testbed import Testbed

from bench import contestants, workloads
from bench.compare import inside, prepare
from bench.contestants import PROJECT
from bench.inside.turns import Spec, Worker

NUMBER = 800
"""Requests for each worker."""
BASE = "the recipe"
SANDBOX = (
    "RootDirectory=", "PrivateUsers=no", "PrivateTmp=no", "PrivateDevices=no", "PrivateIPC=no",
    "ProtectSystem=no", "ProtectHome=no", "ProtectProc=default", "ProtectControlGroups=no",
    "ProtectKernelTunables=no", "ProtectKernelModules=no", "ProtectKernelLogs=no",
    "ProtectClock=no", "ProtectHostname=no", "RestrictAddressFamilies=", "RestrictNamespaces=no",
    "RestrictRealtime=no", "RestrictSUIDSGID=no", "LockPersonality=no", "NoNewPrivileges=no",
    "SystemCallFilter=", "SystemCallArchitectures=",
)  # fmt: skip
"""All of it that may cost anything, off."""
PLUGIN = "Environment=QGIS_SERVER_SYSTEMD_WORKER="
"""It then registers nothing."""
PROFILE = "Environment=QGIS_CUSTOM_CONFIG_PATH=/nonexistent"
"""The recipe's workers have none either: they can't write where it would be."""
MAPPED = "Environment=OGR_SQLITE_PRAGMA=mmap_size=268435456"


@dataclass(frozen=True)
class Variant:
    """`service`: lines for the unit of this worker alone. `without`: variables that NGINX sends
    to this package's workers, but not to this one."""

    name: str
    ours: bool = True
    service: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


VARIANTS = (
    Variant(BASE, ours=False),
    Variant("the recipe, another worker", ours=False),
    Variant("this package"),
    Variant("this package, another worker"),
    Variant("... without its plugin", service=(PLUGIN,)),
    Variant("... without its sandbox", service=SANDBOX),
    Variant("... without QGIS's profile folder", service=(PROFILE,)),
    Variant("... without a TZ for each request", without=("TZ",)),
    Variant("... without plugin and profile folder", service=(PLUGIN, PROFILE)),
    Variant("... with GeoPackages mapped into memory", service=(MAPPED,)),
)


def start(bed: Testbed, variants: tuple[Variant, ...]) -> list[Worker]:
    """A worker for each, of its own unit."""
    ours = [one for one in variants if one.ours]
    recipes = [one for one in variants if not one.ours]
    units = {one: f"qgis-server@{number}" for number, one in enumerate(ours, 1)}
    units |= {one: f"recipe@{number}" for number, one in enumerate(recipes, 1)}
    contestants.put_recipe(bed, len(recipes))
    for one, unit in units.items():
        dropin = f"/etc/systemd/system/{unit}.service.d/90-bench.conf"
        contestants.put(bed, dropin, "\n".join(("[Service]", *one.service, "")))
    bed.run("systemctl", "daemon-reload")
    ctl(bed, "site", "enable", "--project", PROJECT)
    ctl(bed, "scale", str(len(ours)))
    wait_for(lambda: settled(bed), "the number of workers is applied")
    bed.run("systemctl", "start", *(f"{units[one]}.socket" for one in recipes))
    bed.run("systemctl", "restart", *(f"{unit}.service" for unit in units.values()))
    sent = parameters(bed.out("cat", "/etc/qgis-server/fastcgi_params"))
    return [worker(bed, one, units[one], sent if one.ours else {}) for one in variants]


def worker(bed: Testbed, variant: Variant, unit: str, sent: Mapping[str, str]) -> Worker:
    """`sent`: variables that NGINX adds to each request for it."""
    show = ("systemctl", "show", "--property=ControlGroup", "--value", f"{unit}.service")
    return Worker(
        variant.name,
        f"/run/{unit.replace('@', '-')}.sock",
        f"/sys/fs/cgroup{bed.out(*show).strip()}",
        {"QGIS_PROJECT_FILE": PROJECT}
        | {name: value for name, value in sent.items() if name not in variant.without},
    )


def error(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean."""
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values))


def rows(found: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Of each worker in ms: the median, and how much more it took than the recipe's for the
    same request: the mean of that, and half of its 95 % interval."""
    result = {}
    for name, values in found.items():
        more = [one - base for one, base in zip(values, found[BASE], strict=True)]
        result[name] = {
            "median": round(statistics.median(values), 2),
            "mean": round(statistics.mean(values), 2),
            "more": round(statistics.mean(more), 2),
            "error": round(error(more), 2),
        }
    return result


def measure(
    bed: Testbed, *, number: int = NUMBER, variants: tuple[Variant, ...] = VARIANTS
) -> dict[str, dict[str, float]]:
    """In a booted container with the package and NGINX."""
    prepare(bed)
    queries = [request.path.lstrip("?") for request in workloads.light("?")]
    spec = Spec(start(bed, variants), queries, number)
    return rows(inside(bed, "turns", dataclasses.asdict(spec), timeout=1200))
