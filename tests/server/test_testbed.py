# SPDX-License-Identifier: GPL-2.0-or-later
"""The test harness itself: what the other tests take for granted about a testbed."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from shared.paths import TESTS
from shared.pool import wait_for
from testbed import Testbed, TestbedError
from testbed.folders import cgroups_of
from testbed.layers import cache_folder
from testbed.locks import locked

# Boots a testbed, tells of it and waits to be killed.
HOLDER = """
import select, sys
from testbed import Testbed
with Testbed(sys.argv[1]) as bed:
    bed.boot()
    port = bed.forward()
    print(bed.bed, bed.pid, port, flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
"""
# The same as a test.
HELD_TEST = """
import pathlib
from testbed import Testbed
def test(suite):
    with Testbed(suite) as bed:
        bed.boot()
        pathlib.Path("held").write_text(str(bed.bed))
        bed.run("sleep", "600")
"""


def mounted_below(folder: Path) -> list[str]:
    """What is mounted below a folder of the host."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4].startswith(str(folder))]


def processes_of(bed: Path) -> list[str]:
    """The command lines that name a testbed."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if bed.name in words:
            found.append(words)
    return found


def assert_nothing_left(bed: Path) -> None:
    """A testbed has left no folder, mount, process or control group."""
    assert not bed.exists()
    assert not mounted_below(bed)
    assert not processes_of(bed)
    assert not [group for group in cgroups_of(bed.name) if group.exists()]


def answer(port: int, path: str = "/") -> tuple[int, bytes]:
    """What a port of this machine answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def serve(bed: Testbed, folder: str) -> None:
    """Serve a folder on port 80 of a booted testbed."""
    command = ("python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "80")
    bed.run("systemd-run", "--unit=web", *command)
    answers = ("curl", "-s", "http://127.0.0.1/")
    wait_for(lambda: not bed.run(*answers, check=False).returncode, "it serves", timeout=120)


def hold(suite: str) -> tuple[subprocess.Popen[str], Path, int, int]:
    """A process that holds a booted testbed; its folder, its init and the forwarded port."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, suite],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    bed, pid, port = holder.stdout.readline().split()
    return holder, Path(bed), int(pid), int(port)


@pytest.mark.each
def test_boots_without_failed_units(bed: Testbed) -> None:
    bed.boot()
    assert bed.out("systemctl", "is-system-running") == "running"
    release = bed.out("sh", "-c", '. /etc/os-release; echo "$VERSION_CODENAME"')
    assert release == bed.suite
    assert bed.out("sh", "-c", "cat /proc/1/comm") == "systemd"


def test_begins_with_the_files_of_another(bed: Testbed, suite: str) -> None:
    bed.boot()
    bed.run(
        "sh", "-c", "echo mine >/root/file; rm /etc/issue; mv /etc/apt /etc/kept; mkdir /etc/apt"
    )
    with pytest.raises(TestbedError, match="is booted"):
        bed.snapshot()
    bed.shutdown()
    snapshot = bed.snapshot()
    with Testbed(suite, like=snapshot) as other:
        other.boot()
        assert other.out("cat", "/root/file") == "mine"
        assert other.out("ls", "/etc/apt") == ""
        assert "sources.list" in other.out("ls", "/etc/kept")
        assert other.run("test", "-e", "/etc/issue", check=False).returncode == 1
        other.run("rm", "/root/file")
    with Testbed(suite, like=snapshot) as other:
        assert (other.root / "root/file").read_text() == "mine\n"


def test_files_outlive_a_reboot_and_services_start_again(bed: Testbed) -> None:
    unit = """\
        [Service]
        Type=oneshot
        ExecStart=sh -c 'echo >>/var/lib/starts'
        [Install]
        WantedBy=multi-user.target
        """
    bed.boot()
    first = bed.pid
    path = "/etc/systemd/system/count.service"
    bed.run("sh", "-c", f"cat >{path}", input=textwrap.dedent(unit))
    bed.run("systemctl", "enable", "--now", "count.service")
    bed.reboot()
    assert bed.pid != first
    assert bed.out("wc", "--lines", "/var/lib/starts").split()[0] == "2"


def test_affinity_is_that_of_process_1(suite: str) -> None:
    last = max(os.sched_getaffinity(0))
    with Testbed(suite, cpus=str(last)) as bed:
        assert bed.chroot("nproc").stdout.strip() == "1"
        bed.boot()
        allowed = bed.out("sed", "-n", r"s/^Cpus_allowed_list:\s*//p", "/proc/1/status")
        assert allowed == str(last)
        assert bed.out("nproc") == "1"
        assert bed.out("systemd-run", "--pipe", "--wait", "--quiet", "nproc") == "1"


@pytest.mark.each
def test_two_containers_do_not_share_units_or_ports(suite: str) -> None:
    with Testbed(suite) as one, Testbed(suite) as other:
        for bed, word in ((one, "one"), (other, "other")):
            bed.boot()
            bed.run("sh", "-c", f"mkdir /srv/www; echo {word} >/srv/www/name")
            serve(bed, "/srv/www")
        one.run("systemctl", "kill", "--signal=KILL", "web.service")
        active = ("systemctl", "is-active", "-q", "web")
        wait_for(lambda: one.run(*active, check=False).returncode != 0, "it ends", timeout=120)
        assert other.fetch("http://127.0.0.1/name").body == b"other\n"


def test_no_network_but_loopback(bed: Testbed) -> None:
    bed.boot()
    links = bed.out("ip", "-oneline", "link", "show", "up")
    assert [line.split(": ")[1] for line in links.splitlines()] == ["lo"]


def test_forward_reaches_the_container(bed: Testbed) -> None:
    bed.boot()
    bed.run("sh", "-c", "mkdir /srv/www; head -c 3000000 /dev/urandom >/srv/www/data")
    serve(bed, "/srv/www")
    port = bed.forward()
    want = bed.run_bytes("cat", "/srv/www/data").stdout
    assert answer(port, "/data") == (200, want)
    other = bed.forward("127.0.0.1:80")
    assert answer(other, "/none")[0] == 404
    bed.shutdown()
    for ended in (port, other):
        with pytest.raises(ConnectionRefusedError):
            answer(ended)


def test_fetch_tells_status_headers_and_body(bed: Testbed) -> None:
    bed.boot()
    bed.run("sh", "-c", "mkdir /srv/www; printf 'a\\0b' >/srv/www/data.bin")
    serve(bed, "/srv/www")
    reply = bed.fetch("http://127.0.0.1/data.bin")
    assert (reply.status, reply.body) == (200, b"a\0b")
    assert reply.headers["content-length"] == "3"
    assert bed.fetch("http://127.0.0.1/none", "-H", "Accept: */*").status == 404
    with pytest.raises(AssertionError, match="curl"):
        bed.fetch("http://127.0.0.1:9/")


def test_put_copies_before_and_after_the_boot(bed: Testbed, tmp_path: Path) -> None:
    source = tmp_path / "folder"
    source.mkdir()
    (source / "file").write_text("text")
    bed.put(source, "/opt/copy")
    bed.boot()
    # /var/run is an absolute link: it must not lead to the folder of this machine.
    bed.put(source / "file", "/var/run/put-test/")
    bed.put(source / "file", "/tmp/name")
    names = ("/opt/copy/file", "/run/put-test/file", "/tmp/name")
    assert bed.out("stat", "--format=%u:%g", *names).split() == ["0:0"] * 3
    assert bed.out("cat", *names) == "text" * 3
    assert not Path("/run/put-test").exists()


def test_chroot_leaves_no_mounts_and_is_for_the_tree_at_rest(bed: Testbed) -> None:
    done = bed.chroot("sh", "-c", "test -e /proc/1/stat && test -c /dev/null && echo out")
    assert done.stdout == "out\n"
    assert len(mounted_below(bed.root)) == 1
    assert bed.chroot("sh", "-c", "exit 7", check=False).returncode == 7
    bed.boot()
    with pytest.raises(TestbedError, match="booted"):
        bed.chroot("true")


def test_failures_show_the_command_and_its_output(bed: Testbed) -> None:
    bed.boot()
    with pytest.raises(AssertionError, match=r"(?s)exit status 3.*said out.*said err"):
        bed.run("sh", "-c", "echo said out; echo said err >&2; exit 3")
    assert bed.run("sh", "-c", "exit 4", check=False).returncode == 4
    assert bed.out("cat", input="in") == "in"
    assert bed.out("sh", "-c", 'echo "$A"', env={"A": "b"}) == "b"
    assert bed.out("id", "--user", "--name", user="www-data") == "www-data"


@pytest.mark.parametrize("user", [None, "www-data"])
def test_a_timeout_ends_the_command(bed: Testbed, user: str | None) -> None:
    bed.boot()
    with pytest.raises(AssertionError, match="no end within"):
        bed.run("sleep", "1234", timeout=0.5, user=user)
    wait_for(lambda: "sleep 1234" not in bed.out("ps", "-eo", "args"), "it ends", timeout=120)


def test_nginx_installs_without_a_network(bed: Testbed) -> None:
    assert bed.chroot("sh", "-c", "command -v nginx", check=False).returncode
    bed.boot()
    bed.run("apt-get", "install", "--yes", "nginx")
    assert bed.fetch("http://127.0.0.1/").status == 200


def test_installs_a_package_file_and_nginx_with_it(bed: Testbed) -> None:
    control = "Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.invalid>\n"
    control += "Depends: nginx, qgis-server\nDescription: probe\n"
    bed.boot()
    bed.run(
        "sh", "-c", "mkdir -p /tmp/probe/DEBIAN && cat >/tmp/probe/DEBIAN/control", input=control
    )
    bed.run("dpkg-deb", "--build", "/tmp/probe", "/tmp/probe.deb")
    bed.run("apt-get", "install", "--yes", "/tmp/probe.deb", "nginx")
    assert bed.out("systemctl", "is-active", "nginx") == "active"


def test_a_closed_testbed_leaves_nothing(suite: str) -> None:
    with Testbed(suite) as bed:
        bed.boot()
        port = bed.forward()
        folder = bed.bed
        assert processes_of(folder)
    assert_nothing_left(folder)
    with pytest.raises(ConnectionRefusedError):
        answer(port)


def test_termination_closes_the_testbed(suite: str) -> None:
    holder, folder, pid, _ = hold(suite)
    holder.send_signal(signal.SIGTERM)
    holder.wait(120)
    assert_nothing_left(folder)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_parallel_run_that_is_ended_leaves_nothing(
    suite: str, how: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "test_held.py").write_text(HELD_TEST)
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-n", "1", "--suite", suite, "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.DEVNULL,
    )
    held = tmp_path / "held"
    wait_for(lambda: held.exists() and held.read_text() != "", "it boots")
    run.send_signal(how)
    run.wait(120)
    folder = Path(held.read_text())
    wait_for(lambda: not folder.exists(), "the worker process ends its test", timeout=120)
    assert_nothing_left(folder)


def test_the_next_start_removes_what_a_killed_run_left(suite: str) -> None:
    holder, folder, pid, port = hold(suite)
    with Testbed(suite):
        assert folder.exists(), "a testbed in use was taken for a leftover"
        assert Path(f"/proc/{pid}").exists()
    with locked(cache_folder() / "beds.lock"):  # or another test's start would sweep
        holder.kill()
        holder.wait(120)
        assert folder.exists()
        assert Path(f"/proc/{pid}").exists()
    with Testbed(suite):
        assert_nothing_left(folder)
        assert not Path(f"/proc/{pid}").exists()
        with pytest.raises(ConnectionRefusedError):
            answer(port)
