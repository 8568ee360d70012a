# SPDX-License-Identifier: GPL-2.0-or-later
"""What it costs that somebody watches: tiles while NGINX tells of each request, to the metrics and
to a file, and somebody asks for these, against tiles without all of it. In pairs of turns, one
with it and one without, so that whatever else the machine does falls on both. Processor time says
more than the rate does: it is that of what serves alone, and other programs change it less."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from shared.pool import ctl, reload_nginx, settled, wait_for
from testbed import Testbed

from bench import cost, own, workloads
from bench.compare import drive, prepare
from bench.contestants import PROJECT
from bench.inside.drive import Group, Result, Spec
from qgis_server_systemd.qgis_serverctl.metrics.serve import LOOK_EVERY, WRITE_EVERY

PAIRS, SECONDS, CLIENTS = 10, 8.0, 4
METRICS = "qgis-server-metrics"
HTTP = "/etc/nginx/conf.d/qgis-server.conf"
SCRAPER = f"""
import http.client, time
asked = http.client.HTTPConnection({urlsplit(own.METRICS).netloc!r})
while True:
    asked.request("GET", {urlsplit(own.METRICS).path!r})
    reply = asked.getresponse()
    assert reply.status == 200 and reply.read().endswith(b"# EOF\\n")
    time.sleep({WRITE_EVERY})  # there is nothing new before
"""
"""As Prometheus does, by one connection."""
AROUND = ("nginx.service", f"{METRICS}.service")
"""What has more to do when somebody watches."""
SERVES = (*AROUND, "qgis-server-monitor.service", "qgis-server.slice")
COUNTED = 1.5 * LOOK_EVERY
"""Seconds until the unit has counted all that has come. Nothing outside shows that it has."""
WRITTEN = "/run/qgis-server-metrics/openmetrics"
FACTS = "access_log .* qgis-server-facts"


@contextmanager
def unwatched(bed: Testbed) -> Iterator[None]:
    """Nobody listens, and NGINX tells nothing."""
    bed.run("systemctl", "stop", "scraper.service", f"{METRICS}.socket", f"{METRICS}.service")
    bed.run("sed", "-i.watched", f"/{FACTS}/d", HTTP)
    reload_nginx(bed)
    try:
        yield
    finally:
        bed.run("mv", f"{HTTP}.watched", HTTP)
        bed.run("systemctl", "start", f"{METRICS}.socket", f"{METRICS}.service")
        reload_nginx(bed)
        scrape(bed)


def scrape(bed: Testbed) -> None:
    """From when the unit has started, which takes more than it does in a turn."""
    wait_for(
        lambda: not bed.run("test", "-e", WRITTEN, check=False).returncode, "there are metrics"
    )
    bed.run("systemd-run", "--quiet", "--collect", "--unit=scraper", "python3", "-c", SCRAPER)


def turn(bed: Testbed, seconds: float) -> dict[str, float]:
    """Tiles a second, the latency of 99 % in ms, and ms of the processor for each tile: `cpu` of
    all that serves, `around` of the part of it that is around the workers."""
    before = {unit: own.used(bed, unit) for unit in SERVES}
    spec = Spec(80, [Group(CLIENTS, workloads.light("/qgis-server?"))], seconds)
    found: Result = drive(bed, spec)
    wrong = [one.problem for one in found.sent if one.problem]
    assert not wrong, wrong[:3]
    # Also where nobody counts: what idle units take falls on both turns of a pair.
    time.sleep(COUNTED)
    cpu = {unit: (own.used(bed, unit) - before[unit]) / len(found.sent) for unit in SERVES}
    took = sorted(one.took for one in found.sent)
    return {
        "rate": len(took) / found.wall,
        "p99": 1000 * took[int(0.99 * len(took))],
        "cpu": sum(cpu.values()),
        "around": sum(cpu[unit] for unit in AROUND),
    }


def compared(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, float]:
    """Of each figure how much more it is with all on, in percent: the mean of the pairs, and half
    of its 95 % interval. Of `around` in percent of all processor time."""
    result = {}
    for name in pairs[0][0]:
        base = "cpu" if name == "around" else name
        more = [100 * (on[name] - off[name]) / off[base] for on, off in pairs]
        result[f"{name}_more_percent"] = round(statistics.mean(more), 2)
        result[f"{name}_more_error"] = round(cost.error(more), 2)
    return result


def measure(bed: Testbed, *, pairs: int = PAIRS, seconds: float = SECONDS) -> dict[str, float]:
    """In a booted container with the package and NGINX."""
    prepare(bed)
    bed.run("sh", "-c", "echo 'request_log = true' >>/etc/qgis-server/server.toml")
    ctl(bed, "site", "enable", "--project", PROJECT)
    ctl(bed, "apply")
    wait_for(lambda: settled(bed), "the settings are applied")
    facts = int(bed.out("grep", "--count", FACTS, HTTP))
    assert facts == 2, "to the metrics and to a file"
    scrape(bed)
    turn(bed, seconds)  # that each worker has loaded the project

    def without() -> dict[str, float]:
        with unwatched(bed):
            return turn(bed, seconds)

    found = []
    for number in range(pairs):
        # Whichever comes first may have it better.
        both: list[Callable[[], dict[str, float]]] = [lambda: turn(bed, seconds), without]
        order = both if number % 2 else both[::-1]
        results = {one: one() for one in order}
        found.append((results[both[0]], results[both[1]]))
    bed.run("systemctl", "stop", "scraper.service")
    return {"pairs": pairs, **compared(found)}
