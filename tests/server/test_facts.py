# SPDX-License-Identifier: GPL-2.0-or-later
"""What NGINX tells of each request, and what is counted of it, on a server that serves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shared.book import BLOCK
from shared.paths import TOP
from shared.pool import MAP, apt, ctl, is_served, wait_for, workers
from shared.serving import fetch
from testbed import Testbed

LOG = "/var/log/nginx/qgis-server-requests.log"


def lines(bed: Testbed) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bed.root / LOG[1:]).read_text().splitlines()]


def test_a_line_for_each_request_and_nothing_for_the_client(pool: Testbed) -> None:
    pool.run("sh", "-c", "echo 'request_log = true' >>/etc/qgis-server/server.toml")
    try:
        ctl(pool, "apply")
        reply = fetch(pool, MAP)
        assert not any(name.startswith("x-worker") for name in reply.headers)
        wait_for(lambda: bool(lines(pool)), "the request is told")
        (line,) = lines(pool)
        assert (line["status"], line["service"], line["request"]) == (200, "WMS", "GetMap")
        assert line["bytes"] == len(reply.body)
        assert line["worker"].isdigit()
        assert 0 <= float(line["waited"]) < line["seconds"]
        assert 0 < float(line["drawn"]) <= line["seconds"]
        # What fails is found in the log of its worker by its id.
        pool.run("sh", "-c", "echo '<qgis><a></qgis>' >/srv/maps/nonsense.qgs")
        assert fetch(pool, MAP.replace("world.qgz", "nonsense.qgs")).status == 500
        wait_for(lambda: len(lines(pool)) == 2, "it is told")
        id = lines(pool)[1]["id"]
        logs = ("logs", "--level", "warning")
        times = "took [0-9.]+ s, waited [0-9.]+ s"
        failed = rf"warning: request {id}: status 500, {times}, /srv/maps/nonsense.qgs"
        wait_for(lambda: bool(re.search(failed, ctl(pool, *logs))), "its worker's line has the id")
        # NGINX answers these itself, and knows what they are.
        ctl(pool, "maintenance", "on")
        assert fetch(pool, MAP).status == 503
        wait_for(lambda: len(lines(pool)) == 3, "it is told")
        told = lines(pool)[2]
        assert (told["status"], told["service"], told["request"]) == (503, "WMS", "GetMap")
        assert fetch(pool, "http://127.0.0.1/qgis/city/wfs3/collections.json").status == 503
        wait_for(lambda: len(lines(pool)) == 4, "it is told")
        told = lines(pool)[3]
        assert (told["status"], told["service"], told["project"]) == (503, "API", "city")
        # Another format of the log stays as it was.
        assert "GetMap" in (pool.root / "var/log/nginx/access.log").read_text()
    finally:
        ctl(pool, "maintenance", "off")
        pool.run("rm", "--force", "/srv/maps/nonsense.qgs")
        pool.run("sed", "-i", "/^request_log/d", "/etc/qgis-server/server.toml")
        ctl(pool, "apply")
    is_served(pool)


METRICS = "http://127.0.0.1/qgis-server/metrics"


def counted(bed: Testbed, sample: str) -> float:
    """A sample by its name and labels; 0 if there is none yet."""
    for line in fetch(bed, METRICS).body.decode().splitlines():
        if line.startswith(f"{sample} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_counts_are_exact_and_nobody_is_asked_for_them(pool: Testbed) -> None:
    # Of a kind that no other test sends: what those have sent may be counted yet.
    kind = "GetProjectSettings"
    labels = f'code="200",lane="light",project="(default)",request="{kind}",service="WMS"'
    sent = f"qgis_server_requests_total{{{labels}}}"
    wait_for(lambda: fetch(pool, METRICS).status == 200, "there are metrics")
    for _ in range(7):
        assert fetch(pool, MAP.replace("GetMap", kind)).status == 200
    wait_for(lambda: counted(pool, sent) == 7, "each request is counted once")
    assert counted(pool, "qgis_server_up") == counted(pool, "qgis_server_able") == 1
    reply = fetch(pool, METRICS)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")
    for header in ("X-Forwarded-For: 192.0.2.1", "Via: 0", "Forwarded: 0", "X-Real-IP: 0"):
        assert fetch(pool, METRICS, "-H", header).status == 403, header
    version = pool.out("dpkg-query", "-W", "-f", "${Version}", "qgis-server-systemd")
    nginx = pool.run("nginx", "-v").stderr.strip().rpartition("/")[2].split()[0]
    (info,) = re.findall("qgis_server_info(.*) 1", reply.body.decode())
    assert f'nginx="{nginx}"' in info
    assert f'version="{version}"' in info
    wait_for(lambda: counted(pool, "qgis_server_changed_timestamp_seconds") > 1e9, "the last apply")
    # Who has a terminal alone sees it there.
    pool.run(
        "sh", "-c",
        "qgis-serverctl top >/root/top & until grep --quiet 'requests a second' /root/top; "
        "do kill -0 $! || exit 1; sleep 0.2; done; kill $!",
    )  # fmt: skip
    shown = pool.out("cat", "/root/top")
    assert re.search("^instance ", shown, re.MULTILINE | re.IGNORECASE)
    assert re.search("last [0-9]+ s: [0-9.]+ requests a second, [0-9.]+ failed", shown)
    older = pool.out("cat", "/run/qgis-server-metrics/qgis-server.prom")
    assert "# EOF" not in older
    assert sent in older

    # A worker that crashes is told of, with its cause.
    crashes = 'qgis_server_worker_ends_total{cause="crash"}'
    told = counted(pool, crashes)
    pool.run("kill", "-KILL", str(workers(pool)[0]))
    wait_for(lambda: counted(pool, crashes) == told + 1, "a crash is counted")


def test_projects_that_are_not_served_are_counted(pool: Testbed) -> None:
    before = "qgis_server_broken_projects"
    wait_for(lambda: f"\n{before} 0" in fetch(pool, METRICS).body.decode(), "all are in order")
    file = "/var/lib/qgis-server/projects/half.qgz"
    pool.run("sh", "-c", f"echo half >{file}")
    try:
        wait_for(lambda: counted(pool, before) == 1, "one that can't be loaded is counted")
    finally:
        pool.run("rm", file)
    wait_for(lambda: counted(pool, before) == 0, "it is gone")


def test_no_request_fails_while_nobody_counts(pool: Testbed) -> None:
    units = ("qgis-server-metrics.socket", "qgis-server-metrics.service")
    pool.run("systemctl", "stop", *units)
    try:
        is_served(pool)
        assert "[metrics-down]" in ctl(pool, "check", check=False)
    finally:
        pool.run("systemctl", "start", *units)
    is_served(pool)


# ---- Debian's Prometheus and node_exporter

PROMETHEUS = "http://127.0.0.1:9090"
TEXTFILES = "/var/lib/prometheus/node-exporter"


def documented(language: str, words: str) -> str:
    """The block of administration.md that has these words."""
    text = (TOP / "docs/administration.md").read_text()
    blocks = (block for block in BLOCK.finditer(text) if block["language"] == language)
    (found,) = (block["text"] for block in blocks if words in block["text"])
    return found


ALERTS = TOP / "docs/monitoring/alerts.yml"


def hasty(rules: str) -> str:
    """The same alarms by other names, which wait for no minutes."""
    windows = re.sub(r"\[\d+m\]", "[1m]", rules)
    return re.sub(r"for: \w+", "for: 5s", windows).replace("alert: ", "alert: Hasty")


@contextmanager
def scraping(bed: Testbed, folder: Path) -> Iterator[None]:
    """Both scrape the server each second, as the documents say."""
    config = (
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        'rule_files: ["alerts*.yml"]\n'
        + documented("yaml", "scrape_configs").replace("maps.example.org", "127.0.0.1")
        + '  - job_name: node\n    static_configs:\n      - targets: ["127.0.0.1:9100"]\n'
    )
    (folder / "prometheus.yml").write_text(config)
    bed.put(folder / "prometheus.yml", "/run/prometheus/")
    bed.put(ALERTS, "/run/prometheus/")
    (folder / "alerts-hasty.yml").write_text(hasty(ALERTS.read_text()))
    bed.put(folder / "alerts-hasty.yml", "/run/prometheus/")
    with Testbed(bed.suite, tools=True) as tools:
        for name in ("prometheus", "prometheus-node-exporter"):
            bed.put(tools.root / "usr/bin" / name, "/usr/local/bin/")
    bed.run("mkdir", "--parents", TEXTFILES)
    bed.run("sh", "-ec", documented("sh", "qgis-server.prom"))
    programs = {
        "prometheus": (
            "--config.file=/run/prometheus/prometheus.yml",
            "--storage.tsdb.path=/run/prometheus/db",
            "--web.listen-address=127.0.0.1:9090",
        ),
        "prometheus-node-exporter": (
            "--collector.disable-defaults", "--collector.textfile",
            f"--collector.textfile.directory={TEXTFILES}", "--web.listen-address=127.0.0.1:9100",
        ),
    }  # fmt: skip
    started = []
    try:
        for name, args in programs.items():
            unit = f"--unit={name}.service"
            bed.run("systemd-run", "--quiet", "--collect", unit, f"/usr/local/bin/{name}", *args)
            started.append(f"{name}.service")
        answers = ("curl", "--silent", "--fail", f"{PROMETHEUS}/-/ready")
        wait_for(lambda: not bed.run(*answers, check=False).returncode, "it is ready")
        yield
    finally:
        bed.run("systemctl", "stop", *started)
        bed.run("rm", "-r", "/run/prometheus", TEXTFILES)


def result(bed: Testbed, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers, or nothing while it does not."""
    reply = fetch(bed, f"{PROMETHEUS}/api/v1/query?query={quote(query)}")
    found: list[dict[str, Any]] = []
    return json.loads(reply.body)["data"]["result"] if reply.status == 200 else found


def asked(bed: Testbed, query: str) -> list[float]:
    return [float(one["value"][1]) for one in result(bed, query)]


def alarms(bed: Testbed) -> set[str]:
    """That have fired since the server is scraped."""
    fired = "count_over_time(ALERTS{alertstate='firing'}[1h])"
    return {one["metric"]["alertname"] for one in result(bed, fired)}


def test_prometheus_has_exact_counts_after_known_traffic(pool: Testbed, tmp_path: Path) -> None:
    """Also by node_exporter. Each query of the dashboard has an answer, and no alarm fires."""
    pool.run("sh", "-c", """echo 'reply_cache = "50M"' >>/etc/qgis-server/server.toml""")
    try:
        ctl(pool, "apply")
        with scraping(pool, tmp_path):
            for _ in range(5):
                fetch(pool, MAP.replace("GetMap", "DescribeLayer"))
            assert fetch(pool, MAP).status == 200
            ctl(pool, "maintenance", "on")
            assert fetch(pool, MAP).status == 503
            ctl(pool, "maintenance", "off")
            sums = "sum by (job) (qgis_server_requests_total{request='DescribeLayer'})"
            wait_for(lambda: asked(pool, sums) == [5, 5], "each has counted five")
            took = "sum(qgis_server_draw_seconds_sum{request='DescribeLayer',job='qgis-server'})"
            assert 0 < asked(pool, took)[0] < 300
            waited = "qgis_server_wait_seconds_bucket{lane='light',job='qgis-server'}"
            assert asked(pool, f"histogram_quantile(0.99, {waited})")[0] < 300
            text = (TOP / "docs/monitoring/dashboard.json").read_text()
            panels = json.loads(text.replace("$instance", ".*"))["panels"]
            queries = [one["expr"] for panel in panels for one in panel["targets"]]
            assert len(queries) > 5

            def answered() -> bool:
                # Right after apply nothing is cached yet; what is cached keeps no worker busy.
                for kind in ("GetMap", "DescribeLayer"):
                    fetch(pool, MAP.replace("GetMap", kind))
                return all(any(map(isfinite, asked(pool, query))) for query in queries)

            wait_for(answered, "each query of the dashboard has an answer")
            assert not any(name.startswith("Qgis") for name in alarms(pool))
    finally:
        ctl(pool, "maintenance", "off")
        pool.run("sed", "-i", "/^reply_cache/d", "/etc/qgis-server/server.toml")
        ctl(pool, "apply")
    is_served(pool)


def ended(bed: Testbed, cause: str) -> float:
    sums = f"sum(qgis_server_worker_ends_total{{cause='{cause}',job='qgis-server'}})"
    return sum(asked(bed, sums))


def test_prometheus_sees_a_restart_an_upgrade_and_each_fault(
    pool: Testbed, newer_package: Path, tmp_path: Path
) -> None:
    """Of the alarms none fires by the former two, and each by its fault: those that wait for no
    minutes here. The last test of this file, since the server has another version then."""
    limits = "request_timeout = 10\nkill_timeout = 14\nbacklog = 1\n"
    pool.run("tee", "-a", "/etc/qgis-server/server.toml", input=limits)
    ctl(pool, "apply")
    pool.run("sh", "-c", "echo '<qgis><a></qgis>' >/srv/maps/nonsense.qgs")

    def fires(alarm: str) -> None:
        wait_for(lambda: f"HastyQgisServer{alarm}" in alarms(pool), f"{alarm} is told of")

    def running() -> list[int]:
        wait_for(lambda: all(workers(pool)), "all workers run")
        return workers(pool)

    def together(number: int, then: str) -> None:
        """Requests while all workers are stopped, until a command has been run."""
        pids = " ".join(map(str, running()))
        ask = f"for n in $(seq {number}); do curl --silent --output /dev/null '{MAP}' & done"
        pool.run("sh", "-c", f"kill -STOP {pids}; {ask}; {then}; kill -CONT {pids}; wait")

    with scraping(pool, tmp_path):
        # By the job that is asked below: that of node_exporter may be the first.
        scraped = "qgis_server_worker_ends_total{cause='planned',job='qgis-server'}"
        wait_for(lambda: bool(asked(pool, scraped)), "it is scraped")
        planned, count = ended(pool, "planned"), len(running())
        crashes = ended(pool, "crash")
        ctl(pool, "restart")
        # Those for heavy requests may run as well, and count too.
        wait_for(lambda: ended(pool, "planned") >= planned + count, "Prometheus sees the restart")
        pool.put(newer_package, "/root/newer.deb")
        apt(pool, "install", "-o", "Dpkg::Options::=--force-confold", "/root/newer.deb")
        newer = "qgis_server_info{version='0.1.0-2',job='qgis-server'}"
        wait_for(lambda: asked(pool, newer) == [1], "Prometheus sees the upgrade", 120)
        wait_for(lambda: ended(pool, "planned") >= planned + 2 * count, "all workers are new", 120)
        is_served(pool)
        assert (ended(pool, "crash"), ended(pool, "hang")) == (crashes, 0)
        assert not any(name.startswith("Qgis") for name in alarms(pool))

        def more_crashes(than: float) -> bool:
            return ended(pool, "crash") > than

        for number in range(3):
            pool.run("kill", "-KILL", str(running()[0]))
            wait_for(partial(more_crashes, crashes + number), "a crash is seen")
        fires("Crashes")
        is_served(pool)
        together(10, "sleep 6")
        fires("Refuses")
        fires("Waits")
        together(2, "sleep 20")
        fires("Hangs")
        wait_for(lambda: all(running()), "all workers run again")
        is_served(pool)
        wait_for(lambda: ended(pool, "hang") >= count, "Prometheus sees each of them")
        assert ended(pool, "hang") == count, "each of them once, and none that has just begun"
        bad = MAP.replace("world.qgz", "nonsense.qgs")

        def fails() -> bool:
            fetch(pool, bad)
            return "HastyQgisServerFails" in alarms(pool)

        wait_for(fails, "failures are told of")
        pool.run("systemctl", "stop", "qgis-server-monitor.service")
        fires("Unwatched")
        pool.run("systemctl", "start", "qgis-server-monitor.service")
        pool.run("systemctl", "stop", "qgis-server.slice")
        fires("Unable")
        pool.run("systemctl", "start", "qgis-server.target")
        fired = {name.removeprefix("Hasty") for name in alarms(pool)}
        assert fired >= {*re.findall("alert: (.+)", ALERTS.read_text())}
