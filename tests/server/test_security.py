# SPDX-License-Identifier: GPL-2.0-or-later
"""What workers and the package's own units can't do, on the release's own systemd; what a
setting allows again, and how a human learns which one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from shared.harm import connections
from shared.paths import SHARED
from shared.pool import MAP, ctl, is_served, main_pid, path, serving_bed, settled, status, wait_for
from testbed import RELEASES, Snapshot, Testbed

SETTINGS = "/etc/qgis-server/server.toml"
ENV = "/etc/qgis-server/env"
CREDENTIALS = "/etc/qgis-server/credentials"
POOL_USER = "qgis-server"
OWN_UNITS = ("apply", "cache", "front", "leave", "metrics", "monitor", "roll", "wake", "heavy-wake")

SECRETS = (
    "/home/gis/secret", "/root/secret", "/opt/secret", "/var/lib/postgresql/secret",
    "/var/log/secret", "/run/secret", "/etc/nginx/secret", "/etc/ssl/private/secret", "/secret",
)  # fmt: skip
"""Files that permissions alone leave open to everybody."""


HOME = "/var/lib/qgis-server/home"
AUTH = "/var/lib/qgis-server/auth"
PROFILE = "profile/profiles/default/python"
PYTHON = (
    "/tmp/share/QGIS/QGIS3/startup.py",
    *(
        f"{top}/{PROFILE}/{name}"
        for top in ("/tmp", "/var/cache/qgis-server/1")
        for name in ("json/__init__.py", "plugins/qgis_server_systemd/__init__.py")
    ),
)
"""What Python or QGIS would run at the start of a worker, in folders that it can write."""


@pytest.fixture(scope="module")
def bed(installed: Snapshot) -> Iterator[Testbed]:
    """A booted server whose workers tell what they can do."""
    with serving_bed(installed) as testbed:
        testbed.put(SHARED / "probing_plugin", "/usr/share/qgis/python/plugins/")
        for file in SECRETS:
            testbed.run("install", "-D", "-m", "644", "/dev/stdin", file, input="secret")
            testbed.run("chmod", "a+rx", str(Path(file).parent))
        testbed.run("chmod", "a+rx", "/")
        use(testbed)
        yield testbed


def use(bed: Testbed, *lines: str) -> None:
    """Serve by these settings, with workers that are all new."""
    bed.run("tee", SETTINGS, input="".join(f"{line}\n" for line in ("instances = 2", *lines)))
    ctl(bed, "apply")
    ctl(bed, "restart")
    wait_for(lambda: settled(bed), "all is applied")


def probe(bed: Testbed, what: str, argument: str = "", *, instance: int = 1) -> str:
    """What a worker answers, see probing_plugin."""
    query = f"SERVICE=WMS&REQUEST=GetCapabilities&PROBE={quote(what)}&WITH={quote(argument)}"
    variables = {
        "SCRIPT_NAME": "/qgis-server", "REQUEST_METHOD": "GET", "QUERY_STRING": query,
        "REQUEST_URI": f"/qgis-server?{query}", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    }  # fmt: skip
    asked = ("cgi-fcgi", "-bind", "-connect", path(instance))
    reply = bed.run("env", *(f"{k}={v}" for k, v in variables.items()), *asked).stdout
    found = re.search(r"^X-Probed: (.*?)\r?$", reply, re.MULTILINE)
    assert found, reply
    return found[1]


def at_request(bed: Testbed, variable: str, *curl_args: str, port: int = 80) -> str:
    """What NGINX tells a worker with a request."""
    path = MAP.partition("?")[0].removeprefix("http://127.0.0.1")
    url = f"http://127.0.0.1:{port}{path}?SERVICE=WMS&PROBE=at%20request&WITH={variable}"
    return bed.fetch(url, *curl_args).headers["x-probed"].removeprefix("ok").strip()


def exposure(bed: Testbed, unit: str) -> float:
    said = bed.out("systemd-analyze", "security", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return float(found[1])


# ---- Scores


@pytest.mark.testing
def test_the_exposure_of_workers_and_of_the_packages_own_units(bed: Testbed) -> None:
    assert exposure(bed, "qgis-server@1.service") <= 1.1
    for name in OWN_UNITS:
        assert exposure(bed, f"qgis-server-{name}.service") <= 2.0, name
    there = bed.out("sh", "-c", "ls /usr/lib/systemd/system | grep '^qgis-server.*service$'")
    # The one that tells of findings becomes another user, and sees folders as others do.
    assert exposure(bed, "qgis-server-notify.service") <= 3.0
    assert set(there.split()) == {
        "qgis-server@.service", "qgis-server-notify.service",
        *(f"qgis-server-{name}.service" for name in OWN_UNITS),
    }  # fmt: skip


# ---- What a worker can't do


@pytest.mark.testing
@pytest.mark.parametrize("file", SECRETS)
def test_files_elsewhere_are_not_there(bed: Testbed, file: str) -> None:
    assert bed.out("cat", file, user=POOL_USER) == "secret", "permissions alone would allow it"
    assert probe(bed, "read", file) in ("ENOENT", "EACCES")


@pytest.mark.testing
def test_a_link_in_a_data_folder_leads_nowhere_else(bed: Testbed) -> None:
    bed.run("ln", "-sf", "/opt/secret", "/srv/maps/link")
    assert probe(bed, "read", "/srv/maps/link") == "ENOENT"
    bed.run("rm", "/srv/maps/link")


@pytest.mark.testing
def test_only_its_own_folders_are_there_of_those_of_the_pool(bed: Testbed) -> None:
    for folder in ("/var/cache/qgis-server", "/run/qgis-server"):
        assert probe(bed, "list", f"{folder}/1") != "ok "
        assert probe(bed, "list", f"{folder}/2") in ("ok ", "ENOENT")
    assert probe(bed, "list", "/home") in ("ENOENT", "EACCES", "ok ")
    assert probe(bed, "list", "/") == probe(bed, "list", "/", instance=2)
    assert probe(bed, "list", "/var/lib") == "ok qgis-server qgis-server-systemd"
    assert probe(bed, "read", "/srv/maps/make_projects.py").startswith("ok ")


@pytest.mark.testing
@pytest.mark.parametrize("folder", ["/", "/etc", "/srv/maps", "/usr", "/var/lib", "/sys"])
def test_nothing_is_written_but_in_its_own_folders(bed: Testbed, folder: str) -> None:
    bed.run("chmod", "a+rwx", "/srv/maps")
    assert probe(bed, "write", folder) in ("EROFS", "EACCES")


@pytest.mark.testing
@pytest.mark.parametrize(
    "folder",
    [
        "/tmp", "/var/tmp", "/dev/shm", "/tmp/auth", "/run/qgis-server/1",
        "/var/cache/qgis-server/1",
    ],
)  # fmt: skip
def test_its_own_folders_are_its_to_write(bed: Testbed, folder: str) -> None:
    assert probe(bed, "write", folder) == "ok "


@pytest.mark.testing
def test_what_a_worker_has_written_is_not_run(bed: Testbed) -> None:
    assert probe(bed, "python") == "ok "
    for file in PYTHON:
        assert probe(bed, "leave", file) == "ok "
    for name in ("warming.json", "failures", "projects.json"):
        assert probe(bed, "pipe", f"/run/qgis-server/1/{name}") == "ok "
    before = main_pid(bed, 1)
    bed.run("systemctl", "kill", "--signal=KILL", "qgis-server@1.service")
    wait_for(lambda: main_pid(bed, 1) not in (0, before), "it is started again")
    assert probe(bed, "python") == "ok "
    ran = ("test", "-e", "/var/cache/qgis-server/1/ran")
    assert bed.run(*ran, check=False).returncode != 0


@pytest.mark.testing
def test_no_worker_writes_where_another_one_reads(bed: Testbed) -> None:
    """Not even if permissions alone allow it, as those of a former version did."""
    bed.run("chown", "-R", POOL_USER, HOME, AUTH)
    for folder in (HOME, AUTH):
        bed.run("chmod", "u+w", folder)
        bed.out("touch", f"{folder}/one", user=POOL_USER)
        assert probe(bed, "write", folder) == "EROFS"
        assert probe(bed, "list", folder).split()[1:] == ["one"]
        bed.run("rm", f"{folder}/one")
    bed.run("systemd-tmpfiles", "--create", "qgis-server-systemd.conf")
    for folder in (HOME, AUTH):
        assert bed.out("stat", "--format=%U:%G %a", folder) == f"root:{POOL_USER} 750"
    # Else the monitor would have workers restarted for what has changed in AUTH.
    use(bed)
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        assert probe(bed, "leave", f"{folder}/mine.py") == "ok "
        assert probe(bed, "list", folder).count("mine.py") == 1
        assert "mine.py" not in probe(bed, "list", folder, instance=2)


def test_the_authentication_database_is_copied_to_each_worker(bed: Testbed) -> None:
    bed.run("install", "-m", "640", "-g", POOL_USER, "/dev/stdin", f"{AUTH}/some.db", input="x")
    use(bed)
    for instance in (1, 2):
        assert probe(bed, "read", "/tmp/auth/some.db", instance=instance) == "ok x"
        assert probe(bed, "write", "/tmp/auth", instance=instance) == "ok "
        assert probe(bed, "at start", "QGIS_AUTH_DB_DIR_PATH") == "ok /tmp/auth"
    bed.run("rm", f"{AUTH}/some.db")
    use(bed)


@pytest.mark.testing
def test_its_run_is_its_own(bed: Testbed) -> None:
    """Debian 12's systemd puts an empty file system there that it may write to."""
    seen = set(probe(bed, "list", "/run").split()[1:])
    assert seen <= {"host", "qgis-server", "qgis-server-systemd", "systemd"}


@pytest.mark.testing
def test_other_processes_are_out_of_reach(bed: Testbed) -> None:
    other = str(main_pid(bed, 2))
    seen = probe(bed, "processes").split()[1:]
    # Of its own user it sees others, and what they have open, but not into them.
    assert str(main_pid(bed, 1)) in seen
    assert "1" not in seen
    assert other not in seen
    for pid in (other, "1"):
        found = json.loads(probe(bed, "reach", pid).removeprefix("ok "))
        assert found.keys() <= {"EPERM", "ESRCH", "EACCES", "ENOENT"}, (pid, found)
    assert probe(bed, "own") == "ok "
    assert probe(bed, "listen") == "EPERM"
    assert probe(bed, "list", "/run/systemd/journal") in ("ENOENT", "EACCES")


@pytest.mark.testing
@pytest.mark.parametrize(
    ("what", "errors"),
    [
        ("mount", "EPERM"), ("unshare", "EPERM"), ("chown", "EPERM"), ("chroot", "EPERM"),
        ("personality", "EPERM"), ("priority", "EPERM"), ("suid", "EPERM"),
        ("packets", "EAFNOSUPPORT"), ("watch", "ENOENT"),
    ],
)  # fmt: skip
def test_system_calls_of_administrators_are_refused(bed: Testbed, what: str, errors: str) -> None:
    assert probe(bed, what, "/srv/maps") == errors


@pytest.mark.testing
def test_no_device_is_there(bed: Testbed) -> None:
    assert probe(bed, "read", "/dev/zero") in ("EACCES", "EPERM")
    found = probe(bed, "list", "/dev").split()[1:]
    assert {"mem", "kmsg", "sda", "fuse", "net"} & set(found) == set()


# ---- Who may talk to the sockets


def only_one_connects(bed: Testbed, one: str) -> None:
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for user in ("www-data", "nobody", POOL_USER):
        done = bed.run("python3", "-c", connect, path(1), user=user, check=False)
        assert (done.returncode == 0) is (user == one), (user, done.stderr)
        assert user == one or "PermissionError" in done.stderr


def test_the_sockets_are_for_whom_a_setting_says(bed: Testbed) -> None:
    use(bed, 'socket_user = "nobody"')
    try:
        only_one_connects(bed, "nobody")
        assert bed.fetch(MAP).status == 503
    finally:
        use(bed)
    is_served(bed)


@pytest.mark.testing
def test_the_sockets_are_for_nginx_alone(bed: Testbed) -> None:
    only_one_connects(bed, "www-data")
    listeners = bed.out("ss", "--listening", "--tcp", "--udp", "--processes", "--no-header")
    assert "qgis" not in listeners
    assert probe(bed, "connect", path(2)) == "ENOENT"


# In each name, what follows the end of the line looks like a socket that listens, like a
# connection that waits, or like one that has the inode which a worker holds.
FORGER = r"""
import os, signal, socket, sys, tempfile
path, held = sys.argv[1:]
os.chdir(tempfile.mkdtemp())
kinds = (("00010000", "01", "77"), ("00000000", "02", "0"), ("00000000", "03", held))
rows = [f"0: 2 0 {flags} 0001 {state} {inode} {path}" for flags, state, inode in kinds]
os.makedirs(os.path.dirname("\n" + rows[0]))
made = []
for name in (f"\0{path}", "\n" + rows[0], *(f"\0{n}\n{row}" for n, row in enumerate(rows))):
    made.append(socket.socket(socket.AF_UNIX))
    made[-1].bind(name)
    made[-1].listen()
signal.pause()
"""
# Root of another container, which has the same network and a pool of the same name.
NEIGHBOUR = r"""
import signal, socket, subprocess, sys
subprocess.check_call(["mount", "-t", "tmpfs", "none", "/run"])
server, taken, waiting = (socket.socket(socket.AF_UNIX) for _ in range(3))
server.bind(sys.argv[1])
server.listen()
taken.connect(sys.argv[1])
connection = server.accept()
waiting.connect(sys.argv[1])
signal.pause()
"""


def test_sockets_that_others_make_are_not_taken_for_the_pools(bed: Testbed) -> None:
    def lines() -> int:
        text = bed.out("cat", "/proc/net/unix")
        return sum(line.endswith(path(1)) for line in text.splitlines())

    def watched() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(bed.out("cat", "/run/qgis-server-systemd/monitor.json"))
        return found

    def seen() -> tuple[Any, ...]:
        found = status(bed)
        shown = [(line["work"], line["queued"]) for line in found["instances"]]
        done = bed.run("qgis-serverctl", "check", "--json", check=False)
        ids = [finding["id"] for finding in json.loads(done.stdout)["findings"]]
        return shown, [problem["id"] for problem in found["verdict"]["problems"]], ids

    wait_for(lambda: settled(bed), "no roll is under way")
    before, real = seen(), lines()
    assert before[0] == [("idle", 0)] * 2
    held = bed.out("readlink", f"/proc/{main_pid(bed, 1)}/fd/0").strip("socket:[]\n")
    scripts = {"forger": FORGER, "neighbour": NEIGHBOUR}
    for name, text in scripts.items():
        bed.run("tee", f"/srv/{name}.py", input=text)
    run = ("systemd-run", "--collect")
    bed.run(*run, "--unit=forger", "--uid=nobody", "python3", "/srv/forger.py", path(1), held)
    away = ("unshare", "--mount", "python3", "/srv/neighbour.py", path(1))
    bed.run(*run, "--unit=neighbour", *away)
    try:
        wait_for(lambda: lines() == real + 5 + 3, "all of them are in the text")
        assert seen() == before
        since = watched()["written"]
        wait_for(lambda: watched()["written"] > since + 2, "the monitor has looked twice")
        one = watched()["instances"]["1"]
        assert (one["request"], one["queued"]) == (None, 0)
    finally:
        bed.run("systemctl", "stop", "forger.service", "neighbour.service")


def test_where_the_kernel_tells_no_sockets_nobody_is_killed_and_it_is_said(bed: Testbed) -> None:
    """In a sandbox without AF_NETLINK, as it is where the kernel lacks the module."""
    dropin = "/run/systemd/system/qgis-server-monitor.service.d/blind.conf"
    blind = "RestrictAddressFamilies="
    text = f"[Service]\n{blind}\n{blind}AF_UNIX\n"
    bed.run("install", "-D", "/dev/stdin", dropin, input=text)
    monitor = "qgis-server-monitor.service"
    try:
        for verb in (("daemon-reload",), ("restart", monitor)):
            bed.run("systemctl", *verb)
        said = "the kernel does not tell which sockets there are: Address family not supported"
        wait_for(lambda: said in bed.out("journalctl", "--boot", f"--unit={monitor}"), "it is said")
        inside = ("systemd-run", "--quiet", "--pipe", "--wait", f"--property={blind}AF_UNIX")
        found = json.loads(bed.out(*inside, "qgis-serverctl", "status", "--json"))
        assert [(line["work"], line["queued"]) for line in found["instances"]] == [(None, 0)] * 2
        problems = [(one["id"], one["severity"]) for one in found["verdict"]["problems"]]
        assert ("sockets-unseen", "warning") in problems
        assert ("monitor-down", "warning") not in problems
        # A roll goes on all the same.
        former = main_pid(bed, 1)
        bed.run(*inside, "qgis-serverctl", "restart", "--instance", "1", timeout=120)
        assert main_pid(bed, 1) != former
        assert status(bed)["verdict"]["level"] == "ok"
    finally:
        bed.run("rm", dropin)
        for verb in (("daemon-reload",), ("restart", monitor)):
            bed.run("systemctl", *verb)


def test_what_roots_parts_keep_nobody_else_can_open(bed: Testbed) -> None:
    """Whoever can open a lock can hold it, and NGINX's configuration may have secrets."""
    # In its sandbox, so NGINX's configuration comes by a file.
    bed.run("systemctl", "start", "qgis-server-roll.service")
    folder = "/run/qgis-server-systemd"
    assert bed.out("stat", "--format=%a %U", f"{folder}/private") == "700 root"
    for user in ("nobody", POOL_USER):
        for name in ("lock", "roll.lock"):
            hold = ("flock", "--nonblock", f"{folder}/{name}", "true")
            done = bed.run(*hold, user=user, check=False)
            assert "Permission denied" in done.stderr, (user, name, done)


def test_nobody_else_can_open_what_edits_of_files_wait_for(bed: Testbed) -> None:
    """test_editing.py shows that they wait for it."""
    folder = json.loads(bed.out("cat", "/var/lib/qgis-server-systemd/worker.json"))["turn"]
    hold = ("flock", "--nonblock", folder, "true")
    assert "Permission denied" in bed.run(*hold, user="nobody", check=False).stderr
    bed.run(*hold, user=POOL_USER)


@pytest.mark.testing
def test_only_qgis_servers_own_wait_before_a_reply_is_gone(bed: Testbed, suite: str) -> None:
    """Debian 12's has none. A plugin's select waits as before, and so do those of database
    clients and all other libraries."""
    waits = ["libqgis_server"] if RELEASES[suite].reply_wait else []
    found = probe(bed, "select").removeprefix("ok ")
    changed, others, waited = json.loads(found)
    assert changed == waits
    assert waited
    assert {"libpython3", "libcurl-gnutls"} & {name.partition(".")[0] for name in others}, others
    said = "removed" if waits else "none"
    assert status(bed)["reply_wait"] == said
    assert "stays" not in bed.out(
        "journalctl", "--identifier=qgis-server", "--grep=wait before", check=False
    )
    if waits:
        hanging_up_ends_the_rendering(bed)


def hanging_up_ends_the_rendering(bed: Testbed) -> None:
    """What the thread of that wait is for. QGIS Server looks for it three times a second."""
    large = MAP.replace("WIDTH=256&HEIGHT=128", "WIDTH=8000&HEIGHT=8000")
    start = time.monotonic()
    assert bed.fetch(large, "--output", "/dev/null").status == 200
    whole = time.monotonic() - start
    bed.run("curl", "--silent", "--output", "/dev/null", "--max-time", "0.5", large, check=False)
    start = time.monotonic()
    wait_for(
        lambda: not any(connections(bed, path(n)).accepted for n in (1, 2)), "no worker is at it"
    )
    assert time.monotonic() - start < whole / 2


# The site of an administrator who asks for passwords.
OWN_SITE = """server {
    listen 8193;
    auth_basic "City";
    auth_basic_user_file /etc/nginx/city.htpasswd;
    set $qgis_server_user $remote_user;
    include snippets/qgis-server.conf;
}
"""


def test_only_a_user_whom_nginx_has_verified_is_told(bed: Testbed) -> None:
    assert at_request(bed, "REMOTE_USER", "--user", "admin:x") == ""
    bed.run("tee", "/etc/nginx/city.htpasswd", input="anna:{PLAIN}secret\n")
    bed.run("tee", "/etc/nginx/conf.d/own-site.conf", input=OWN_SITE)
    bed.run("systemctl", "reload", "nginx")
    listens = ("ss", "--listening", "--tcp", "--no-header", "sport = :8193")
    wait_for(lambda: bed.out(*listens) != "", "NGINX listens")
    assert at_request(bed, "REMOTE_USER", "--user", "anna:secret", port=8193) == "anna"
    for password in ((), ("--user", "anna:x"), ("--user", "admin:secret")):
        asked = bed.fetch("http://127.0.0.1:8193/qgis-server?SERVICE=WMS", *password)
        assert asked.status == 401
    assert at_request(bed, "REMOTE_USER", "--user", "anna:secret") == ""
    bed.run("rm", "/etc/nginx/conf.d/own-site.conf")
    bed.run("systemctl", "reload", "nginx")


# ---- What settings allow again, and how secrets come in. After all tests of the default.

LOOSE = (
    'data_folders = ["/opt/maps", "/home/gis/50% of, it"]',
    "quick_replies = false",
    'writable_folders = ["/srv/edit"]',
    "network = false",
    'system_calls = ["@resources"]',
    "tasks_max = 100",
    "open_files_max = 2000",
)
HIDDEN = {"pg_service.conf": "[city]\npassword=s3cret-db\n", "master-password": "s3cret-qgis"}


@pytest.fixture(scope="module")
def loose(bed: Testbed) -> Testbed:
    bed.run("install", "-d", "-o", POOL_USER, "/srv/edit", "/home/gis/50% of, it", "/opt/maps")
    bed.run("sh", "-c", "cp /srv/maps/*.gpkg /srv/maps/*.tif /srv/maps/world.qgz /opt/maps")
    before = (
        probe(bed, "write", "/srv/edit"),
        probe(bed, "connect", "127.0.0.1:80"),
        at_request(bed, "PGSERVICEFILE"),
    )
    assert before == ("EROFS", "ok ", "")
    assert bed.out("stat", "--format=%U:%G %a", CREDENTIALS) == f"root:{POOL_USER} 750"
    owned = ("--owner=root", f"--group={POOL_USER}", "--mode=640")
    for name, text in HIDDEN.items():
        bed.run("install", *owned, "/dev/stdin", f"{CREDENTIALS}/{name}", input=text)
    # As those that look up names for others have them.
    bed.run("mkdir", "-p", "/run/nscd", "/run/systemd/resolve")
    use(bed, *LOOSE)
    return bed


def test_a_project_elsewhere_is_refused_with_the_setting_that_allows_it(bed: Testbed) -> None:
    bed.run("install", "-D", "/srv/maps/world.qgz", "/opt/other/world.qgz")
    command = ("qgis-serverctl", "site", "enable", "--project", "/opt/other/world.qgz")
    done = bed.run(*command, check=False)
    assert done.returncode == 1
    assert "add it to data_folders in /etc/qgis-server/server.toml" in done.stderr


def test_folders_are_listed_and_may_be_writable(loose: Testbed) -> None:
    assert probe(loose, "write", "/srv/edit") == "ok "
    assert probe(loose, "list", "/home/gis") == "ok 50% of, it"
    assert probe(loose, "write", "/home/gis/50% of, it") == "EROFS"
    assert probe(loose, "list", "/srv") == "ok edit"
    assert probe(loose, "read", "/opt/secret") == "ENOENT"
    is_served(loose, MAP.replace("/srv/maps/", "/opt/maps/"))


def test_what_a_setting_makes_writable_is_so_whatever_others_name_it(loose: Testbed) -> None:
    use(
        loose,
        'data_folders = ["/srv", "/srv/edit", "/opt/maps"]',
        'writable_folders = ["/srv/edit", "/var/lib/qgis-server/projects", "/opt"]',
    )
    try:
        assert probe(loose, "write", "/srv/edit") == "ok "
        assert probe(loose, "write", "/srv") == "EROFS"
        assert probe(loose, "write", "/opt/maps") == "ok "
        # Permissions are another matter.
        assert probe(loose, "write", "/var/lib/qgis-server/projects") == "EACCES"
    finally:
        use(loose, *LOOSE)


def test_without_network_no_connection_is_made(loose: Testbed) -> None:
    assert probe(loose, "connect", "127.0.0.1:80") == "EAFNOSUPPORT"
    for folder in ("/run/nscd", "/run/systemd/resolve"):
        assert probe(loose, "list", folder) in ("ENOENT", "EACCES"), folder
    assert exposure(loose, "qgis-server@1.service") <= 0.3


def test_the_wait_before_a_reply_is_left_if_a_setting_says_so(loose: Testbed, suite: str) -> None:
    changed, _, _ = json.loads(probe(loose, "select").removeprefix("ok "))
    assert changed == []
    said = "kept" if RELEASES[suite].reply_wait else "none"
    assert status(loose)["reply_wait"] == said


def test_system_calls_and_limits(loose: Testbed) -> None:
    assert probe(loose, "priority") == "ok "
    assert probe(loose, "mount") == "EPERM"
    assert re.search(r"Max open files +2000 +2000", probe(loose, "limits"))
    shown = loose.out("systemctl", "show", "--property=TasksMax", "qgis-server@1.service")
    assert shown == "TasksMax=100"


def test_the_time_zone_is_that_of_the_system(loose: Testbed) -> None:
    assert at_request(loose, "TZ") == ":/etc/localtime"
    loose.run("ln", "--force", "--symbolic", "/usr/share/zoneinfo/Asia/Tokyo", "/etc/localtime")
    use(loose)
    hours = [loose.out("date", "+%-H")]
    told = loose.fetch(f"{MAP.partition('?')[0]}?SERVICE=WMS&PROBE=hour").headers["x-probed"]
    hours.append(loose.out("date", "+%-H"))
    assert told.removeprefix("ok ") in hours
    assert loose.out("date", "--utc", "+%-H") not in hours


def test_secrets_come_by_files_of_root(loose: Testbed) -> None:
    """The databases' passwords by name, the master password by its file; neither stands on a
    command line, in the journal, in status or in a file for everybody."""
    file = f"{CREDENTIALS}/pg_service.conf"
    assert probe(loose, "at start", "PGSERVICEFILE") == f"ok {file}"
    assert at_request(loose, "PGSERVICEFILE") == file
    unit = loose.out("systemctl", "show", "--property=Environment", "qgis-server@1.service")
    assert f"QGIS_AUTH_PASSWORD_FILE={CREDENTIALS}/master-password" in unit
    assert "s3cret-db" in probe(loose, "read", file)
    for user in ("nobody", "www-data"):
        assert loose.run("cat", file, user=user, check=False).returncode != 0
    public = "".join(
        loose.out(*command, check=False)
        for command in (
            ("journalctl", "--no-pager", "--output=json"),
            ("qgis-serverctl", "status", "--json"),
            ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
            ("systemctl", "show", "qgis-server@*"),
            ("find", "/etc", "/run", "/var/lib", "/var/cache", "-xdev", "-type", "f", "-perm",
             "-o=r", "-not", "-path", "*/journal/*", "-exec", "grep", "-ls3cret-", "{}", "+"),
        )
    )  # fmt: skip
    assert "s3cret-" not in public


# ---- The helper, which is root


HOSTILE = r"""
import os, sys
for folder in sys.argv[1:]:
    os.chdir(folder)
    names = ("ready", "projects.json", "warming.json", "failures", "profile", "3")
    for name in (*names, "line\nbreak", "$(reboot)", "-rf", "%i", "\udce9", "..."):
        if not os.path.isdir(name):
            open(name, "w").write('{"/root/secret": [')
    os.symlink("/root/secret", "link")
    os.symlink("/", "top")
    os.symlink("loop", "loop")
"""
OPENED = r"""
import ctypes, os, signal, struct, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
libc = ctypes.CDLL(None)
watch = libc.inotify_init()
IN_ACCESS, IN_OPEN, IN_ISDIR = 0x1, 0x20, 0x40000000
for top in sys.argv[1:]:
    for folder, _, _ in os.walk(top):
        libc.inotify_add_watch(watch, os.fsencode(folder), IN_OPEN | IN_ACCESS)
os.set_blocking(watch, False)
print("watching", flush=True)
signal.sigwait([signal.SIGTERM])
try:
    events = os.read(watch, 1 << 20)
except BlockingIOError:
    events = b""
at = 0
while at < len(events):
    _, mask, _, length = struct.unpack_from("iIII", events, at)
    name = events[at + 16 : at + 16 + length].rstrip(b"\0")
    # That a folder itself is listed does no harm.
    if not mask & IN_ISDIR:
        print("opened", name)
    at += 16 + length
"""


def test_the_helper_reads_nothing_that_the_pool_could_have_written(server: Testbed) -> None:
    ctl(server, "site", "enable")
    folders = server.out(
        "find", "/run", "/var/lib", "/var/cache", "/etc", "/var/log", "/var/tmp", "-xdev",
        "-type", "d", "-user", POOL_USER, "-not", "-path", "*/qgis-server-systemd/root/*",
    ).splitlines()  # fmt: skip
    assert {"/run/qgis-server/1", "/var/cache/qgis-server/1"} < set(folders)
    server.run("python3", "-c", HOSTILE, *folders, user=POOL_USER)
    workers = [str(main_pid(server, n)) for n in (1, 2)]
    server.run("kill", "-STOP", *workers)
    server.run("tee", "/root/watch.py", input=OPENED)
    to = "--property=StandardOutput=truncate:/root/opened"
    # What the look at the projects writes is read as a stranger's, by it and by root.
    looks = ("/var/cache/qgis-server/catalogue", "/run/qgis-server-front")
    watched = [folder for folder in folders if not folder.startswith(looks)]
    server.run("systemd-run", "--unit=watch", to, "python3", "/root/watch.py", *watched)
    opened = server.root / "root/opened"
    wait_for(lambda: opened.exists() and "watching" in opened.read_text(), "it watches")
    for command in (
        ("status", "--json"), ("check", "--json"), ("apply",), ("logs", "--lines", "5"),
        ("reload", "/srv/maps/world.qgz"), ("scale", "2"), ("drain", "2"), ("undrain", "2"),
    ):  # fmt: skip
        done = server.run("qgis-serverctl", *command, check=False, timeout=120)
        assert "Traceback" not in done.stderr, command
    json.loads(server.out("qgis-serverctl", "status", "--json"))
    server.run("systemctl", "stop", "watch.service")
    assert opened.read_text() == "watching\n"
    server.run("kill", "-CONT", *workers)
    ctl(server, "restart")
    is_served(server)
    assert status(server)["pending"] == []
    server.run("apt-get", "--yes", "purge", "qgis-server-systemd")
    assert server.out("cat", "/etc/hostname") == "testbed"
    for folder in ("run/qgis-server", "var/cache/qgis-server"):
        assert not (server.root / folder).exists()
