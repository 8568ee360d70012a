# SPDX-License-Identifier: GPL-2.0-or-later
"""restart, scale, drain and undrain, the projects that workers load when they start,
and what the settings change in units and NGINX."""

from __future__ import annotations

import json
import subprocess

import pytest
from shared.pool import (
    MAP,
    ctl,
    enabled,
    has_rolled,
    is_served,
    load,
    main_pid,
    path,
    sockets,
    status,
    upstream,
    wait_for,
)
from testbed import Testbed

WORLD = "/srv/maps/world.qgz"
SETTINGS = "etc/qgis-server/server.toml"
ROLLING = "/run/qgis-server-systemd/rolling.json"


@pytest.fixture(scope="module")
def three(suite: str, pool: Testbed) -> Testbed:
    """The shared server with three instances."""
    ctl(pool, "scale", "3")
    return pool


def pids(bed: Testbed) -> dict[int, int]:
    return {n: main_pid(bed, n) for n in enabled(bed)}


def configure(bed: Testbed, text: str) -> str:
    (bed.root / SETTINGS).write_text(text)
    return ctl(bed, "apply")


def journal(bed: Testbed, unit: str, *more: str) -> str:
    return bed.out("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", *more)


@pytest.mark.testing
def test_restart_renews_each_worker_and_loses_nothing(three: Testbed) -> None:
    before = pids(three)
    (three.root / SETTINGS).write_text("leave_seconds = 1\n")
    with load(three, clients=2) as result:
        said = ctl(three, "restart")
    (three.root / SETTINGS).write_text("")
    after = pids(three)
    assert result["failed"] == []
    assert result["sent"] > 0
    assert set(after) == {1, 2, 3}
    assert not set(after.values()) & set(before.values())
    told = "load balancers are told to send"
    assert [line for line in said.splitlines() if "restarting" in line or told in line] == [
        f"{told} no more requests here",
        *(f"instance {n}: restarting its worker" for n in (1, 2, 3)),
        f"{told} requests here again",
    ]
    assert said.endswith("done: restarted 1, 2, 3\n")
    assert upstream(three) == [path(n) for n in (1, 2, 3)]
    assert status(three)["pending"] == []


def test_restart_of_one_instance(three: Testbed) -> None:
    before = pids(three)
    ctl(three, "restart", "--instance", "2")
    changed = {n for n, pid in pids(three).items() if pid != before[n]}
    assert changed == {2}


def test_what_is_changed_while_workers_restart_is_not_missed(three: Testbed) -> None:
    """Neither apply nor a maintainer script leaves workers behind that don't know it."""
    env = three.root / "etc/qgis-server/env"
    text = env.read_text()
    changes = (
        ("qgis-serverctl", "apply"),
        ("dpkg-reconfigure", "-fnoninteractive", "qgis-server-systemd"),
    )
    for number, change in enumerate(changes):
        command = three._enter_command("qgis-serverctl", "restart", user=None)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as other:
            assert other.stderr is not None
            for line in other.stderr:
                if line.startswith("instance 3: restarting"):
                    break
            env.write_text(f"{text}QGIS_SERVER_CHANGED={number}\n")
            three.run(*change)
            other.stderr.read()
        assert other.returncode == 0
        wait_for(lambda: has_rolled(three), "the roll is through")
        for instance, pid in pids(three).items():
            variables = three.out("cat", f"/proc/{pid}/environ").split("\0")
            assert f"QGIS_SERVER_CHANGED={number}" in variables, instance
    env.write_text(text)
    ctl(three, "apply")


def test_restart_of_what_is_not_there_is_refused(three: Testbed) -> None:
    done = three.run("qgis-serverctl", "restart", "--instance", "9", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "qgis-serverctl: instance 9 is not enabled, or is masked (qgis-serverctl status)\n",
    )


def test_an_instance_that_restarts_is_out_of_the_upstream(three: Testbed) -> None:
    """Seen by a unit that the worker requires, while it is away."""
    hook = three.root / "etc/systemd/system/qgis-server@2.service.d/hook.conf"
    hook.parent.mkdir()
    hook.write_text("[Unit]\nRequires=hook.service\nAfter=hook.service\n")
    (three.root / "etc/systemd/system/hook.service").write_text(
        "[Service]\nType=oneshot\nExecStart=cp /etc/nginx/conf.d/qgis-server.conf /root/seen\n"
    )
    try:
        three.run("systemctl", "daemon-reload")
        ctl(three, "restart", "--instance", "2")
        seen = (three.root / "root/seen").read_text()
        assert path(1) in seen
        assert path(2) not in seen
        assert path(3) in seen
    finally:
        hook.unlink()
        hook.parent.rmdir()
        three.run("systemctl", "daemon-reload")
        ctl(three, "apply")


def test_the_only_instance_has_a_stand_in(three: Testbed) -> None:
    ctl(three, "scale", "1")
    with load(three, clients=2) as result:
        said = ctl(three, "restart")
    assert result["failed"] == []
    assert "instance 2: stands in meanwhile" in said
    assert sockets(three) == upstream(three) == [path(1)]
    ctl(three, "scale", "3")


def test_a_worker_that_does_not_come_up_stays_out_until_it_does(three: Testbed) -> None:
    before = pids(three)
    broken = three.root / "etc/systemd/system/qgis-server@2.service.d/broken.conf"
    broken.parent.mkdir(exist_ok=True)
    broken.write_text("[Service]\nExecStart=\nExecStart=/bin/false\n")
    three.run("systemctl", "daemon-reload")
    done = three.run("qgis-serverctl", "restart", check=False)
    assert done.returncode == 1
    assert "instance 2 did not come up: its worker ended 3 times at once" in done.stderr
    after = pids(three)
    assert after[1] != before[1]
    assert after[3] == before[3], "the roll stopped"
    assert upstream(three) == [path(1), path(3)]
    is_served(three)
    assert "has ended 3 times before it was ready (exited 1)" in journal(
        three, "qgis-server@2.service"
    )
    broken.unlink()
    three.run("systemctl", "daemon-reload")
    # No command: systemd tries on, and the monitor sees that it is back.
    wait_for(lambda: upstream(three) == [path(1), path(2), path(3)], "it is put back")
    assert three.run("test", "-e", ROLLING, check=False).returncode == 1
    wait_for(lambda: status(three)["pending"] == [], "all is well again")


def test_drained_until_undrained(three: Testbed) -> None:
    said = ctl(three, "drain", "2")
    assert "instance 2 gets no" in said
    assert upstream(three) == [path(1), path(3)]
    assert sockets(three) == [path(1), path(2), path(3)], "it still runs"
    # Neither apply nor a restart of the pool forgets it.
    assert "drained by hand: instance 2" in ctl(three, "apply")
    ctl(three, "restart")
    assert upstream(three) == [path(1), path(3)]
    ctl(three, "undrain", "2")
    assert upstream(three) == [path(1), path(2), path(3)]
    is_served(three)


def test_the_last_instance_can_not_be_drained(three: Testbed) -> None:
    ctl(three, "drain", "1")
    ctl(three, "drain", "2")
    done = three.run("qgis-serverctl", "drain", "3", check=False)
    assert done.returncode == 1
    assert "instance 3 is the last one that takes requests" in done.stderr
    assert upstream(three) == [path(3)]
    ctl(three, "undrain", "1")
    ctl(three, "undrain", "2")


def test_a_drained_instance_that_goes_is_forgotten(three: Testbed) -> None:
    ctl(three, "drain", "3")
    ctl(three, "scale", "2")
    ctl(three, "scale", "3")
    assert upstream(three) == [path(1), path(2), path(3)]


def test_scale_is_kept(three: Testbed) -> None:
    ctl(three, "scale", "2")
    assert enabled(three) == [1, 2]
    assert "nothing to do" in ctl(three, "apply")
    ctl(three, "scale", "3")
    done = three.run("qgis-serverctl", "scale", "0", check=False)
    assert done.returncode == 1
    assert "scale: instances = " in done.stderr
    assert enabled(three) == [1, 2, 3]


def test_listed_projects_are_loaded_before_the_first_request(three: Testbed) -> None:
    """One that can't be loaded is reported, and keeps nobody out."""
    three.run("sh", "-c", "echo nonsense >/srv/broken.qgs")
    try:
        configure(three, f'warm = ["/srv/broken.qgs", "{WORLD}"]\n')
        ctl(three, "restart", "--instance", "1")
        said = journal(three, "qgis-server@1.service", "--lines=60")
        assert f"{WORLD}: loaded in advance in " in said
        assert "/srv/broken.qgs: can't be loaded in advance: " in said
        pid = main_pid(three, 1)
        # It was killed; then it is the same without any command.
        three.run("kill", "-KILL", str(pid))
        wait_for(lambda: main_pid(three, 1) not in (0, pid), "a new worker")
        wait_for(
            lambda: (
                journal(three, "qgis-server@1.service", f"_PID={main_pid(three, 1)}").count(
                    "loaded in advance in "
                )
                == 1
            ),
            "it loads the project, too",
        )
        is_served(three)
    finally:
        three.run("rm", "/srv/broken.qgs")
        configure(three, "")


def test_what_was_asked_for_lately_is_loaded_before_the_first_request(three: Testbed) -> None:
    """Each worker keeps its own record; what is written there opens nothing else."""
    configure(three, "")
    record = "/var/cache/qgis-server/1/wanted.json"
    file = three.root / record.lstrip("/")
    three.run("rm", "--force", record)
    ctl(three, "restart", "--instance", "1")

    def has_noted() -> bool:
        is_served(three)
        return file.exists()

    wait_for(has_noted, "the first worker has had a request")
    stray = "/usr/share/stray.qgs"
    three.run("cp", WORLD, stray)
    try:
        noted = json.loads(file.read_text())
        assert list(noted["projects"]) == [WORLD]
        noted["projects"] |= {stray: 100.0}
        file.write_text(json.dumps(noted))
        ctl(three, "restart", "--instance", "1")
        said = journal(three, "qgis-server@1.service", f"_PID={main_pid(three, 1)}")
        assert f"{WORLD}: loaded in advance in " in said
        assert stray not in said
        configure(three, "warm = []\n")
        ctl(three, "restart", "--instance", "1")
        said = journal(three, "qgis-server@1.service", f"_PID={main_pid(three, 1)}")
        assert "in advance" not in said
    finally:
        three.run("rm", stray)
        configure(three, "")


def test_a_project_that_kills_its_worker_is_left_out_the_next_time(three: Testbed) -> None:
    """The plugin finds its own note of what it was about to load."""
    configure(three, f'warm = ["{WORLD}"]\n')
    try:
        # What is left when a worker dies while it loads the project.
        script = (
            "import json, os; f = os.stat('/srv/maps/world.qgz');"
            "note = {'/srv/maps/world.qgz': [f.st_mtime_ns, f.st_size, f.st_ino]};"
            "open('/run/qgis-server/1/warming.json', 'w').write(json.dumps(note))"
        )
        three.run("python3", "-c", script)
        three.run("chown", "qgis-server:", "/run/qgis-server/1/warming.json")
        ctl(three, "restart", "--instance", "1")
        said = journal(three, "qgis-server@1.service", f"_PID={main_pid(three, 1)}")
        assert f"{WORLD}: not loaded in advance, since that ended this worker before" in said
        three.run("touch", WORLD)
        ctl(three, "restart", "--instance", "1")
        said = journal(three, "qgis-server@1.service", f"_PID={main_pid(three, 1)}")
        assert f"{WORLD}: loaded in advance in " in said
    finally:
        configure(three, "")


def test_folders_that_come_late_or_are_replaced_are_seen_without_a_hand(three: Testbed) -> None:
    """A file system that is mounted after the workers have started, and a link that a deployment
    switches."""

    def answers(project: str) -> bool:
        return three.fetch(MAP.replace(WORLD, project)).status == 200

    def all_answer(project: str) -> None:
        wait_for(lambda: all(answers(project) for _ in range(6)), f"all workers see {project}")

    three.run("sh", "-ec", "for n in one two; do install -Dt /opt/sites/$n /srv/maps/*.*; done")
    three.run("mv", "/opt/sites/two/world.qgz", "/opt/sites/two/new.qgz")
    three.run("ln", "-s", "sites/one", "/opt/current")
    try:
        configure(three, 'data_folders = ["/srv", "/mnt/late", "/opt/current"]\n')
        assert answers("/opt/current/world.qgz")
        assert not answers("/mnt/late/world.qgz")
        three.run("sh", "-ec", "mkdir /mnt/late && mount -t tmpfs late /mnt/late")
        three.run("sh", "-ec", "cp /opt/sites/one/* /mnt/late")
        all_answer("/mnt/late/world.qgz")
        # Gone for a while; then there is another one.
        three.run("umount", "/mnt/late")
        three.run("sh", "-ec", "mount -t tmpfs again /mnt/late && cp /opt/sites/two/* /mnt/late")
        all_answer("/mnt/late/new.qgz")
        assert not answers("/mnt/late/world.qgz")
        three.run("sh", "-ec", "ln -sfn sites/two /opt/current && rm -r /opt/sites/one")
        all_answer("/opt/current/new.qgz")
        assert not answers("/opt/current/world.qgz")
        said = three.out("journalctl", "--output=cat", "--unit=qgis-server-monitor.service")
        assert "/mnt/late has been mounted, replaced or changed since its worker started" in said
    finally:
        configure(three, "")
        wait_for(lambda: has_rolled(three), "the restarts are over")
        three.run("sh", "-c", "umount /mnt/late; rmdir /mnt/late; rm -r /opt/current /opt/sites")


def test_settings_reach_units_and_nginx(three: Testbed) -> None:
    said = configure(
        three, 'request_timeout = 40\nkill_timeout = 50\nbacklog = 7\nmemory_max = "900M"\n'
    )
    try:
        assert "open again, one after the other, the sockets of 1, 2, 3" in said
        for n in (1, 2, 3):
            shown = three.out(
                "systemctl", "show", f"qgis-server@{n}.service",
                "--property=TimeoutStopUSec", "--property=MemoryMax",
            )  # fmt: skip
            assert set(shown.splitlines()) == {"TimeoutStopUSec=50s", "MemoryMax=943718400"}
        queues = [
            line.split()[3]
            for line in three.out("ss", "-lxnH").splitlines()
            if "/run/qgis-" in line and line.startswith("u_str")
        ]
        # Of the heavy requests', too.
        assert queues == ["7"] * 4
        assert "fastcgi_read_timeout 40s;" in three.out("nginx", "-T")
        assert status(three)["pending"] == []
        assert "nothing to do" in ctl(three, "apply")
    finally:
        configure(three, "")
    assert not (three.root / "etc/systemd/system/qgis-server@.service.d/10-settings.conf").exists()
    assert status(three)["pending"] == []


def test_limits_that_contradict_each_other_are_refused(three: Testbed) -> None:
    (three.root / SETTINGS).write_text("request_timeout = 40\nkill_timeout = 40\n")
    try:
        done = three.run("qgis-serverctl", "apply", check=False)
        assert done.returncode == 1
        assert "kill_timeout = 40 is not above request_timeout = 40" in done.stderr
    finally:
        configure(three, "")


def test_the_monitor_starts_anew_after_an_upgrade(three: Testbed) -> None:
    file = "/usr/share/qgis-server-systemd/qgis_serverctl/monitor/watch.py"
    unit = ("systemctl", "show", "--property=MainPID", "--value", "qgis-server-monitor.service")
    before = three.out(*unit)
    assert before != "0"
    three.run("sh", "-c", f"cp -p {file} {file}.new && mv {file}.new {file}")
    wait_for(lambda: three.out(*unit) not in ("0", before), "a new monitor")
    said = journal(three, "qgis-server-monitor.service")
    assert "the program was replaced: starting again" in said


def test_who_goes_while_a_foreign_upstream_names_it_is_told(three: Testbed) -> None:
    """As after adopt, which leaves the NGINX files of a pool made by hand alone."""
    own = three.root / "etc/nginx/conf.d/own.conf"
    own.write_text(f"upstream own {{ server unix:{path(2)}; server unix:{path(3)}; }}\n")
    try:
        said = ctl(three, "scale", "2")
        assert "warning: /etc/nginx/conf.d/own.conf still names the socket of instance 3: " in said
    finally:
        own.unlink()
        assert "still names" not in ctl(three, "scale", "3")
