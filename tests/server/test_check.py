# SPDX-License-Identifier: GPL-2.0-or-later
"""``check``: a server is broken in each known way, the finding and its remedy are
seen, the remedy is applied as it is written, and the finding is gone."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from shared.pool import (
    ctl,
    has_rolled,
    nothing_is_found,
    quick_workers,
    serving_bed,
    wait_for,
    works,
)
from testbed import Snapshot, Testbed

from qgis_server_systemd.qgis_serverctl.checks import sandbox

SETTINGS = "/etc/qgis-server/server.toml"
AUTO = "/etc/qgis-server/server.auto.toml"
ENV = "/etc/qgis-server/env"
PARAMS = "/etc/qgis-server/fastcgi_params"
SERVER = "http://127.0.0.1/qgis-server"
BROKEN = '/bin/sh -c "echo broken; exit 3"'
DROPIN = "/etc/systemd/system/qgis-server@1.{kind}.d/own.conf"


@pytest.fixture(scope="module")
def server(installed: Snapshot) -> Iterator[Testbed]:
    """One booted server that all of these tests break and mend."""
    with serving_bed(installed) as bed:
        wait_for(lambda: report(bed)["findings"] == [], "a new server is in order")
        yield bed


def report(bed: Testbed) -> dict[str, Any]:
    done = bed.run("qgis-serverctl", "check", "--json", check=False)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    failed = any(finding["severity"] == "error" for finding in found["findings"])
    assert done.returncode == failed
    return found


def findings(bed: Testbed, kind: str) -> list[dict[str, str]]:
    return [finding for finding in report(bed)["findings"] if finding["id"] == kind]


@dataclass(frozen=True)
class Case:
    """`breaks`: a shell script. `where`: a part of what the finding names. `mends`:
    what a human does where the remedy is no command. `after`: back to how it was.
    `says`: a part of what the finding says."""

    id: str
    severity: str
    breaks: str
    where: str
    mends: str = ""
    after: str = "true"
    says: str = ""


def dropin(kind: str, text: str) -> str:
    file = DROPIN.format(kind=kind)
    return f"mkdir -p $(dirname {file}) && printf '{text}' >{file} && systemctl daemon-reload"


def without_dropin(kind: str) -> str:
    return f"rm -r $(dirname {DROPIN.format(kind=kind)}); systemctl daemon-reload"


def setting(text: str) -> str:
    return f"echo '{text}' >>{SETTINGS}; qgis-serverctl apply"


RESTORED = (
    f"sed -i '/^project/d; /^instan/d; /^warm/d; /_folders/d' {SETTINGS}; qgis-serverctl apply"
)
AWAY_TOO = '"/opt/p.qgz"'
CREDENTIALS = "/etc/qgis-server/credentials"
AWAY = f"{SERVER}?MAP=/srv/maps/away.qgs&SERVICE=WMS&REQUEST=GetCapabilities"
EDIT = f"{SERVER}?MAP=/srv/edit/world.qgz&SERVICE=WFS&VERSION=1.1.0&REQUEST=Transaction"
DELETE = (
    '<Transaction service="WFS" version="1.1.0" xmlns="http://www.opengis.net/wfs"><Delete '
    'typeName="countries"><Filter xmlns="http://www.opengis.net/ogc"><FeatureId '
    'fid="countries.1"/></Filter></Delete></Transaction>'
)

CASES = (
    Case(
        "settings-invalid", "error",
        f"echo 'instanzes = 1' >>{SETTINGS}; echo nonsense >>{AUTO}",
        SETTINGS, mends=f"sed -i /instanzes/d {SETTINGS}; sed -i /nonsense/d {AUTO}",
    ),
    Case(
        "project-missing", "error", setting('project = "/srv/maps/gone.qgz"'), "/srv/maps/gone.qgz",
        mends="cp -p /srv/maps/world.qgz /srv/maps/gone.qgz", after=RESTORED,
    ),
    Case(
        "project-unreadable", "error",
        "mkdir -p /srv/secret/city; cp /srv/maps/* /srv/secret/city 2>/dev/null;"
        "chmod 700 /srv/secret; chmod o+rx /srv/secret/city;"
        + setting('warm = ["/srv/secret/city/world.qgz"]'),
        "/srv/secret/city/world.qgz", after=RESTORED,
    ),
    Case(
        "project-unreadable", "error",
        "install -m 600 /srv/maps/world.qgz /srv/maps/own.qgz;"
        + setting('project = "/srv/maps/own.qgz"'),
        "/srv/maps/own.qgz", after=RESTORED,
    ),
    Case(
        "project-private", "error",
        "cp /srv/maps/world.qgz /tmp/world.qgz;" + setting('project = "/tmp/world.qgz"'),
        "/tmp/world.qgz", mends=RESTORED,
    ),
    Case(
        "folder-not-writable", "error", "chown root:root /var/cache/qgis-server/1",
        "/var/cache/qgis-server/1",
    ),
    Case(
        "env-missing", "error", f"mv {ENV} /root/env", ENV, after=f"mv /root/env {ENV}"
    ),
    Case(
        "env-malformed", "warning", f"echo 'export FOO=bar' >>{ENV}", ENV,
        after=f"sed -i /FOO/d {ENV}",
    ),
    Case(
        "env-display", "warning", f"echo DISPLAY=:0 >>{ENV}", ENV,
        after=f"sed -i /DISPLAY=:0/d {ENV}; qgis-serverctl apply",
    ),
    Case(
        "unit-shadowed", "warning",
        "cp /usr/lib/systemd/system/qgis-server@.service /etc/systemd/system/;"
        "systemctl daemon-reload",
        "/etc/systemd/system/qgis-server@.service",
    ),
    Case(
        "unit-override", "warning", dropin("service", "[Service]\\nRestart=no\\n"),
        "qgis-server@1.service.d", after=without_dropin("service"),
    ),
    Case(
        "unit-override", "warning", dropin("service", "[Unit]\\nStartLimitIntervalSec=10\\n"),
        "qgis-server@1.service.d", after=without_dropin("service"),
    ),
    Case(
        "unit-override", "warning", dropin("socket", "[Socket]\\nTriggerLimitIntervalSec=2\\n"),
        "qgis-server@1.socket.d", after=without_dropin("socket"),
    ),
    Case(
        "queue-dropin", "warning",
        "mkdir -p /etc/systemd/system/qgis-server@.service.d;"
        "ln -s /dev/null /etc/systemd/system/qgis-server@.service.d/10-queue.conf;"
        "systemctl daemon-reload",
        "/etc/systemd/system/qgis-server@.service.d/10-queue.conf",
    ),
    Case(
        "socket-down", "error", "systemctl stop qgis-server@1.socket qgis-server@1.service",
        "qgis-server@1.socket",
    ),
    Case(
        "socket-orphaned", "error", "rm /run/qgis-server-1.sock", "/run/qgis-server-1.sock"
    ),
    Case(
        "socket-owner", "error", "chown root /run/qgis-server-2.sock", "/run/qgis-server-2.sock"
    ),
    Case(
        "worker-crash-loop", "error",
        # It may end before systemd calls it started, or after: the restart fails or not.
        dropin("service", f"[Service]\\nExecStart=\\nExecStart={BROKEN}\\n")
        + "; systemctl restart qgis-server@1.service || true",
        "qgis-server@1.service",
        mends=without_dropin("service") + "; systemctl restart qgis-server@1.service",
        says="; it says: broken",
    ),
    Case(
        "start-refused", "error",
        dropin("service", "[Service]\\nBindReadOnlyPaths=/nowhere\\n")
        + "; ! systemctl restart qgis-server@1.service",
        "qgis-server@1.service",
        mends=without_dropin("service") + "; systemctl restart qgis-server@1.service",
        says="(step NAMESPACE); it says: ",
    ),
    Case(
        "worker-down", "error", "systemctl stop qgis-server@1.service", "qgis-server@1.service"
    ),
    Case(
        "worker-old", "warning",
        "cd /usr/lib/cgi-bin; cp -p qgis_mapserv.fcgi new; mv new qgis_mapserv.fcgi",
        "qgis-server@1.service",
    ),
    Case(
        "worker-old", "warning",
        "for f in /usr/lib/libqgis_server.so.3.*.*; do cp -p $f /root/new; mv /root/new $f; done",
        "qgis-server@1.service",
    ),
    Case("drained", "warning", "qgis-serverctl drain 1", "qgis-server@1.socket"),
    Case("out-of-balance", "warning", "qgis-serverctl drain", "/drained"),
    Case("maintenance", "warning", "qgis-serverctl maintenance on", "/maintenance"),
    Case(
        "maintenance", "warning",
        "install -m 644 /srv/maps/world.qgz /var/lib/qgis-server/projects/city.qgz;"
        "qgis-serverctl maintenance on --project city",
        "/city", after="rm /var/lib/qgis-server/projects/city.qgz", says="project city",
    ),
    Case(
        "instance-missing", "error",
        "systemctl disable --now qgis-server@1.socket; systemctl mask --now qgis-server@2.socket",
        "qgis-server.target",
    ),
    Case(
        "pool-stopped", "error", "systemctl stop qgis-server.target qgis-server.slice",
        "qgis-server.target",
    ),
    Case(
        "front-down", "warning", "systemctl stop qgis-server-front.service",
        "qgis-server-front.service",
    ),
    Case(
        "metrics-down", "warning",
        "systemctl stop qgis-server-metrics.socket qgis-server-metrics.service",
        "qgis-server-metrics.service",
    ),
    Case(
        "cache-down", "warning",
        setting('reply_cache = "64M"') + "; systemctl stop qgis-server-cache.service",
        "qgis-server-cache.service",
        after=f"sed -i /^reply_cache/d {SETTINGS}; qgis-serverctl apply",
    ),
    Case(
        "memory-short", "warning",
        "sed 's/^MemTotal.*/MemTotal: 100000 kB/' /proc/meminfo >/root/meminfo;"
        "mount --bind /root/meminfo /proc/meminfo",
        "qgis-server.slice", after="umount /proc/meminfo; qgis-serverctl scale 2",
    ),
    Case(
        "disk-full", "error", "mount -t tmpfs -o size=8M tmpfs /tmp", "/tmp", mends="umount /tmp",
        says="MB are free",
    ),
    Case(
        "user-missing", "error", "cp -p /etc/passwd /etc/shadow /root; "
        "sed -i /^qgis-server:/d /etc/passwd /etc/shadow", "qgis-server",
        after="cp -p /root/passwd /root/shadow /etc",
    ),
    Case(
        "nginx-missing", "error", "mv /usr/sbin/nginx /root", "nginx",
        mends="mv /root/nginx /usr/sbin",
    ),
    Case(
        "monitor-down", "warning",
        "systemctl stop qgis-server-monitor; rm /run/qgis-server-systemd/monitor.json",
        "qgis-server-monitor.service",
    ),
    Case(
        "project-outside", "error",
        "install -D -m 644 /srv/maps/world.qgz /opt/p.qgz; " + setting(f"project = {AWAY_TOO}"),
        "/opt/p.qgz", mends=setting('data_folders = ["/srv", "/opt"]'), after=RESTORED,
    ),
    Case(
        "folder-missing", "warning", setting('data_folders = ["/srv", "/data"]'), "/data",
        after=f"{RESTORED}; rmdir /data",
    ),
    Case(
        "folder-not-writable", "warning",
        "mkdir /srv/edit; " + setting('writable_folders = ["/srv/edit"]'), "/srv/edit",
        after=f"{RESTORED}; rmdir /srv/edit", says="writable_folders",
    ),
    Case(
        "sandbox-variable", "error", f"mkdir /data; echo QGIS_PLUGINPATH=/data >>{ENV}", ENV,
        mends=f"sed -i /^QGIS_PLUGINPATH/d {ENV}; rmdir /data; qgis-serverctl apply",
        says="where workers may not look",
    ),
    Case(
        "sandbox-code", "error",
        f"mkdir -p /srv/edit; echo QGIS_PLUGINPATH=/srv/edit/plugins >>{ENV};"
        + setting('writable_folders = ["/srv/edit"]'), ENV,
        mends=f"sed -i /^QGIS_PLUGINPATH/d {ENV}; qgis-serverctl apply",
        after=f"{RESTORED}; rmdir /srv/edit",
        says="one that was taken over can leave code there",
    ),
    Case(
        "system-call-unknown", "error",
        f"""echo 'system_calls = ["@resources", "@resource", "frob"]' >>{SETTINGS}""", SETTINGS,
        mends=f"sed -i /^system_calls/d {SETTINGS}", says="@resource, frob ",
    ),
    Case(
        "secret-in-environment", "warning", f"echo PGPASSWORD=secret >>{ENV}", ENV,
        mends=f"sed -i /^PGPASSWORD/d {ENV}; qgis-serverctl apply",
    ),
    Case(
        "secret-exposed", "error", f"install -m 644 /dev/null {CREDENTIALS}/other",
        f"{CREDENTIALS}/other", after=f"rm {CREDENTIALS}/other",
    ),
    Case(
        "secret-unreadable", "error", f"install -m 600 /dev/null {CREDENTIALS}/master-password",
        f"{CREDENTIALS}/master-password", after=f"rm {CREDENTIALS}/master-password",
    ),
    Case(
        "pending", "warning", f"echo 'instances = 3' >>{SETTINGS}", SETTINGS, after=RESTORED
    ),
    Case("nginx-stopped", "error", "systemctl stop nginx", "nginx.service"),
    Case(
        "port-taken", "error",
        "systemctl stop nginx; systemd-run --unit=other.service python3 -m http.server 80;"
        "until ss -ltnH 'sport = :80' | grep -q .; do sleep 0.1; done; "
        "! systemctl start nginx",
        "port 80",
        mends="systemctl stop other.service; systemctl restart nginx.service",
        says="of other.service) does (address already in use)",
    ),
    Case(
        "conf-d-missing", "error", "sed -i /conf.d/d /etc/nginx/nginx.conf",
        "/etc/nginx/nginx.conf",
    ),
    Case(
        "nginx-config", "error", "echo 'nonsense;' >/etc/nginx/conf.d/own.conf",
        "/etc/nginx/conf.d/own.conf:1",
        mends="rm /etc/nginx/conf.d/own.conf; systemctl reload nginx",
    ),
    Case(
        "nginx-not-reloaded", "warning", "echo '# mine' >>/etc/nginx/snippets/qgis-server.conf",
        "/etc/nginx/conf.d/qgis-server.conf",
        after="sed -i '/^# mine/d' /etc/nginx/snippets/qgis-server.conf; qgis-serverctl apply",
    ),
    Case(
        "certificate-not-read", "warning",
        "openssl req -x509 -newkey rsa:2048 -nodes -batch -keyout /etc/nginx/own.pem"
        " -out /etc/nginx/own.crt && echo 'server { listen 8443 ssl; ssl_certificate own.crt;"
        " ssl_certificate_key /etc/nginx/own.pem; }' >/etc/nginx/conf.d/own.conf"
        " && systemctl reload nginx && curl --silent --insecure --retry 9 --retry-connrefused"
        " https://127.0.0.1:8443/ >/dev/null && openssl req -x509 -batch -key /etc/nginx/own.pem"
        " -out /etc/nginx/new.crt && mv /etc/nginx/new.crt /etc/nginx/own.crt",
        "/etc/nginx/own.crt",
        after="rm /etc/nginx/own.* /etc/nginx/conf.d/own.conf; systemctl reload nginx",
    ),
    Case("location-missing", "warning", "qgis-serverctl site disable", "/etc/nginx"),
    Case(
        "upstream-differs", "error",
        "sed -i s/qgis-server-1.sock/qgis-server-9.sock/ /etc/nginx/conf.d/qgis-server.conf",
        "/etc/nginx/conf.d/qgis-server.conf",
    ),
    Case(
        "upstream-foreign", "error",
        "sed -i '1i # mine' /etc/nginx/conf.d/qgis-server.conf",
        "/etc/nginx/conf.d/qgis-server.conf",
        after="rm /etc/nginx/conf.d/qgis-server.conf.old",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{c.id}" for n, c in enumerate(CASES)])
def test_what_is_broken_is_found_and_mended(server: Testbed, case: Case) -> None:
    is_found_and_mended(server, case)


def is_found_and_mended(server: Testbed, case: Case) -> None:
    server.run("sh", "-c", case.breaks)
    found = findings(server, case.id)
    assert found, report(server)
    assert {finding["severity"] for finding in found} == {case.severity}
    assert any(
        case.where in finding["where"] and case.says in finding["what"] for finding in found
    ), found
    if case.mends:
        server.run("sh", "-c", case.mends)
    else:
        for finding in found:
            server.run("sh", "-c", finding["remedy"])
    wait_for(lambda: findings(server, case.id) == [], f"{case.id} is gone", 20)
    server.run("sh", "-c", case.after)
    # The monitor may have wanted one, for a secret that was replaced.
    wait_for(lambda: has_rolled(server), "no restart is under way")


OTHER_SITE = "server { listen 8080 default_server; server_name _; root /usr/share/doc; }"
HEALTHY = {
    "new": ("true", ""),
    "nginx reloaded by hand": ("systemctl reload nginx", ""),
    "nginx restarted by hand": ("systemctl restart nginx", ""),
    "nginx stopped and started by hand": ("systemctl stop nginx; systemctl start nginx", ""),
    "nginx told to reload": ("nginx -s reload", ""),
    "logs reopened": ("nginx -s reopen", ""),
    "a file touched, then reloaded": (
        "touch /etc/nginx/nginx.conf /etc/nginx/conf.d/*.conf; systemctl reload nginx", "",
    ),
    "beside another site": (
        f"echo '{OTHER_SITE}' >/etc/nginx/sites-enabled/other; systemctl reload nginx",
        "rm /etc/nginx/sites-enabled/other; systemctl reload nginx",
    ),
    "another site gone": ("true", ""),
    "a worker restarted by hand": ("systemctl restart qgis-server@1.service", ""),
    "a socket restarted by hand": (
        "systemctl restart qgis-server@1.socket qgis-server@1.service", "",
    ),
    "all restarted by hand": ("systemctl restart qgis-server.target", ""),
    "restarted": ("qgis-serverctl restart", ""),
    "a worker that crashed once": ("systemctl kill --signal=SEGV qgis-server@1.service", ""),
    "units read again": ("systemctl daemon-reload; systemctl daemon-reexec", ""),
    "the monitor restarted": ("systemctl restart qgis-server-monitor", ""),
    "another service in the same network": (
        "systemd-run --unit=other.service python3 -m http.server 8081", "systemctl stop other",
    ),
    "a hand-made socket": (
        "systemd-run --unit=hand.service python3 -c 'import signal, socket;"
        's = socket.socket(socket.AF_UNIX); s.bind("/run/hand-1.sock"); s.listen(); '
        "signal.pause()'", "systemctl stop hand; rm /run/hand-1.sock",
    ),
    "a harmless drop-in": (
        "mkdir -p /etc/systemd/system/qgis-server@.service.d; printf '[Service]\\nNice=1\\n' "
        ">/etc/systemd/system/qgis-server@.service.d/nice.conf; systemctl daemon-reload; "
        "qgis-serverctl restart",
        "rm /etc/systemd/system/qgis-server@.service.d/nice.conf; systemctl daemon-reload; "
        "qgis-serverctl restart",
    ),
    "the shared queue": ("qgis-serverctl queue shared", "qgis-serverctl queue per-worker"),
    "another project": (
        "cp /srv/maps/*.gpkg /srv/maps/*.tif /srv/maps/world.qgz /var/lib/qgis-server/projects", "",
    ),
    "a project gone": ("rm /var/lib/qgis-server/projects/*", ""),
    "installed again": ("qgis-serverctl apply", ""),
}  # fmt: skip
"""What is done on a healthy server, and what undoes it."""


def test_on_a_healthy_server_nothing_is_found(server: Testbed) -> None:
    def rests() -> bool:
        return works(server) == {"idle"}

    alarms = {}
    for name, (does, undoes) in HEALTHY.items():
        server.run("sh", "-ec", does)
        wait_for(rests, f"{name}: all workers are up")
        if found := report(server)["findings"]:
            alarms[name] = [(one["id"], one["where"], one["what"]) for one in found]
        if undoes:
            server.run("sh", "-ec", undoes)
            wait_for(rests, f"after {name}: all workers are up")
    assert alarms == {}
    nothing_is_found(server)


DURING = """
. /root/does.sh >/root/said 2>&1 & pid=$!
while kill -0 $pid 2>/dev/null; do qgis-serverctl check --json; done
wait $pid || cat /root/said >&2
"""


def test_a_roll_is_no_finding(server: Testbed) -> None:
    """What its steps bring about is not told as a fault."""
    file = server.root / SETTINGS.lstrip("/")
    before = file.read_text()
    changes = [f"echo 'backlog = {n}' >{SETTINGS}; qgis-serverctl apply" for n in (61, 62, 63)]
    does = ["qgis-serverctl restart"] * 3 + changes
    server.run("tee", "/root/does.sh", input="set -e\n" + "\n".join(does))
    wait_for(lambda: works(server) == {"idle"}, "all workers are up")
    done = server.run("sh", "-c", DURING, check=False)
    file.write_text(before)
    ctl(server, "apply")
    assert done.stderr == ""
    reports = [json.loads(text) for text in re.split(r"(?<=^})\n", done.stdout, flags=re.M) if text]
    assert len(reports) > len(does)
    alarms = [one for report in reports for one in report["findings"] if one["id"] != "pending"]
    assert alarms == []


REFUSES = """#!/usr/bin/python3 -I
# In the place of systemd, which it becomes: what starts from here gets no user or IPC namespace,
# as where user.max_user_namespaces is 0.
import ctypes, errno, os, signal, sys

class Comparison(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("how", ctypes.c_int),
                ("first", ctypes.c_uint64), ("second", ctypes.c_uint64))

library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
filter = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x7FFF0000)))
library.seccomp_attr_set(filter, 3, 0)  # without "no new privileges"
call = library.seccomp_syscall_resolve_name(b"unshare")
for flag in (0x10000000, 0x08000000):  # CLONE_NEWUSER, CLONE_NEWIPC
    given = (Comparison * 1)(Comparison(0, 7, flag, flag))
    action = ctypes.c_uint32(0x00050000 | errno.ENOSPC)
    assert not library.seccomp_rule_add_array(filter, action, call, 1, given)
assert not library.seccomp_load(filter)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execv("/usr/lib/systemd/real/systemd", sys.argv)
"""
REFUSED = Case(
    "sandbox-refused", "error", "true", "qgis-server@1.service",
    says="this machine refuses PrivateUsers, PrivateIPC",
)  # fmt: skip


def test_a_machine_that_refuses_a_part_of_the_sandbox(installed: Snapshot) -> None:
    with Testbed(installed.suite, like=installed) as bed:
        quick_workers(bed)
        systemd = bed.root / "usr/lib/systemd/systemd"
        (systemd.parent / "real").mkdir()
        systemd.rename(systemd.parent / "real/systemd")
        systemd.write_text(REFUSES)
        systemd.chmod(0o755)
        bed.boot()
        ctl(bed, "site", "enable")
        is_found_and_mended(bed, REFUSED)
        wait_for(lambda: works(bed) == {"idle"}, "all workers are up")
        wait_for(lambda: report(bed)["findings"] == [], "the other services are up again, too")


def test_a_letter_that_is_not_utf_8_ends_no_command(server: Testbed) -> None:
    """Such as in a comment in a file of the administrator's, to whom it is a letter."""
    files = ENV, DROPIN.format(kind="service"), PARAMS, "/etc/nginx/nginx.conf"
    server.run("mkdir", "-p", os.path.dirname(files[1]))
    for file in files:
        server.run("sh", "-c", f"printf '# M\\374ller\n' >>{file}")
    try:
        server.run("systemctl", "daemon-reload")
        server.run("systemctl", "restart", "qgis-server-monitor")
        ctl(server, "apply")
        assert report(server)["findings"] == []
        ctl(server, "status")
        assert server.out("systemctl", "is-active", "qgis-server-monitor").strip() == "active"
    finally:
        server.run("rm", "-r", os.path.dirname(files[1]))
        server.run("sed", "-i", "$d", ENV, PARAMS, "/etc/nginx/nginx.conf")
        server.run("systemctl", "daemon-reload")
        ctl(server, "apply")


def test_what_the_sandbox_may_have_blocked_is_quoted(server: Testbed) -> None:
    """It is no finding: see below."""
    server.run(
        "sh", "-ec",
        "cp /srv/maps/world_map.gpkg /opt; sed s,./world_map.gpkg,/opt/world_map.gpkg, "
        f"/srv/maps/second.qgs >/srv/maps/away.qgs; curl --silent '{AWAY}';"
        f"cp -r /srv/maps /srv/edit; chown -R qgis-server /srv/edit; curl --silent '{EDIT}' "
        f"--header 'Content-Type: text/xml' --data '{DELETE}'",
    )  # fmt: skip
    wait_for(lambda: len(report(server)["log"]) > 1, "both are in the journal")
    quoted = "\n".join(report(server)["log"])
    assert "Cannot open /opt/world_map.gpkg" in quoted
    assert sandbox.READ_ONLY.search(quoted)
    wait_for(lambda: report(server)["findings"] == [], "there is no finding")
    shown = ctl(server, "check")
    assert shown.startswith("the sandbox may be the cause of these lines of the log")
    assert "qgis-serverctl logs --level warning" in shown
    server.run(
        "sh", "-ec", setting('data_folders = ["/srv", "/opt"]\nwritable_folders = ["/srv/edit"]')
    )
    wait_for(lambda: report(server)["log"] == [], "new workers have not said it")
    assert server.fetch(AWAY).status == 200
    server.fetch(EDIT, "--header", "Content-Type: text/xml", "--data", DELETE)
    assert report(server)["log"] == []
    # First the files: workers that start load what was asked for lately.
    server.run("sh", "-ec", f"rm -r /srv/edit /srv/maps/away.qgs /opt/world_map.gpkg; {RESTORED}")


# As a name of a layer or a file, written to a log or a terminal.
FORGED = (
    "/opt/x\n<0>forged\n07:33:20 CRITICAL Server[1]: forged\nERROR 4: /root/.ssh: no such file\n"
    "attempt to write a readonly database\nOperation not permitted\x9b31m\u202e\u2066\u200b"
)
TERMINAL = "\r\x1b]0;forged\x07\x1b[2J\x7f"


def is_text(shown: str) -> bool:
    """Is there nothing in it that a terminal obeys, and no order but that of its characters?"""
    return all(c == "\n" or c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)


def test_what_clients_and_authors_write_is_text_and_decides_nothing(server: Testbed) -> None:
    wait_for(lambda: report(server)["findings"] == [], "there is no finding")
    maps = server.root / "srv/maps"
    text = (maps / "second.qgs").read_text().replace("./world_map.gpkg", escape(FORGED))
    (maps / "odd.qgs").write_text(text)
    projects = server.root / "var/lib/qgis-server/projects"
    for name in (FORGED.replace("/", ""), TERMINAL, "$(touch forged)"):
        (projects / f"{name}.qgz").write_text("")
    (projects / "folder.qgz").mkdir()
    os.mkfifo(projects / "pipe.qgz")
    query = "?MAP=/srv/maps/{}&SERVICE={}&VERSION=1.1.0&REQUEST=GetCapabilities"
    assert server.fetch(SERVER + query.format("odd.qgs", "WMS")).status == 500
    good, word = query.format("world.qgz", "WMS"), quote(FORGED + TERMINAL)
    names = (
        *("LAYERS", "STYLES", "QUERY_LAYERS", "CRS", "SRS", "BBOX", "FORMAT", "INFO_FORMAT"),
        *("TYPENAME", "FILTER", "SERVICE", "REQUEST", "MAP", "TEMPLATE", "OTHER", FORGED),
    )
    for service, request in (("WMS", "GetMap"), ("WMS", "GetPrint"), ("WFS", "GetFeature")):
        target = good.replace("WMS", service).replace("GetCapabilities", request)
        for name in names:
            # A second value of a parameter is the one that counts.
            assert server.fetch(f"{SERVER}{target}&{quote(name)}={word}").status >= 200
    server.fetch(
        SERVER + query.format("world.qgz", "WFS"), "--header", "Content-Type: text/xml", "--data",
        DELETE.replace("countries", escape(FORGED).replace("\n", "&#10;")),
    )  # fmt: skip

    def raw(*words: str) -> list[dict[str, Any]]:
        ask = ("journalctl", "--output=json", "--all", "--unit=qgis-server@*.service", *words)
        return [json.loads(line) for line in server.run(*ask).stdout.splitlines()]

    wait_for(lambda: "forged" in str(raw()), "the journal has it")
    # Nothing that began a line was taken for a priority.
    assert {entry["PRIORITY"] for entry in raw("_COMM=qgis_mapserv.fc")} == {"6"}

    for words in (("logs", "--lines", "9999"), ("logs", "--level", "warning"), ("status",)):
        shown = ctl(server, *words)
        assert is_text(shown), (words, shown)
        if words[0] == "logs":
            lines = shown.splitlines()
            assert all(
                re.match(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d testbed ", one) for one in lines
            )
    assert "forged" in ctl(server, "logs", "--lines", "9999")

    kinds = {one["id"] for one in report(server)["findings"]}
    assert kinds == {"project-name"}, "only the names are told"
    assert report(server)["unchecked"] == []
    done = server.run("qgis-serverctl", "check")
    assert is_text(done.stdout)
    lines = [line for line in done.stdout.splitlines() if not re.match("  (where|fix):", line)]
    quoted = [line for line in lines if line.startswith("  ")]
    assert len(quoted) <= sandbox.MOST + 1
    assert max(map(len, quoted)) < 10 * sandbox.SHOWN
    rest = [line for line in lines if line not in quoted]
    assert not [line for line in rest if "forged" in line or "/root" in line]

    served = server.out("qgis-serverctl", "complete", "projects")
    assert served == ""
    assert is_text(ctl(server, "site", "enable"))
    complete = (
        "cd /root; . /usr/share/bash-completion/completions/qgis-serverctl;"
        "_qgis_serverctl_projects ''; ls"
    )
    assert "forged" not in server.run("bash", "-c", complete, check=False).stdout
    server.run("sh", "-c", "rm -r /srv/maps/odd.qgs; cd /var/lib/qgis-server/projects; rm -r *.qgz")
    server.run("qgis-serverctl", "restart")


def test_at_the_end_all_is_well_and_another_user_is_told_what_is_not_checked(
    server: Testbed,
) -> None:
    server.run("qgis-serverctl", "apply")
    server.run("sh", "-c", f"mv {ENV} /root/env")
    shown = server.run("qgis-serverctl", "check", check=False)
    assert shown.stdout.startswith("error: no worker can start without it [env-missing]\n")
    assert "\n  fix:   touch /etc/qgis-server/env\n" in shown.stdout
    assert "\n1 error, " in shown.stdout
    assert shown.returncode == 1
    server.run("sh", "-c", f"mv /root/env {ENV}")
    wait_for(lambda: report(server)["findings"] == [], "all is mended")
    nothing_is_found(server)
    done = server.run("/usr/sbin/qgis-serverctl", "check", user="nobody")
    assert done.stderr == ""
    assert "not checked: projects: needs root" in done.stdout
