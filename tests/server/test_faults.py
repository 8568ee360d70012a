# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults under load: what each costs those who send requests. The promises are in
docs/reliability.md.

Two kinds of clients send requests at once: with one connection each, and with
connections that are kept. Among the replies are some of 3 and 5 MB. All tests share one
server, so each says first by which settings it wants it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shared import pool
from shared.harm import (
    FEATURES,
    FEW,
    connections,
    faulty,
    in_background,
    let_go_wrong,
    noted,
    sleeping,
    steady,
    table,
    timed,
    unharmed,
)
from shared.paths import SHARED
from shared.pool import (
    MAP,
    apt,
    ctl,
    is_served,
    load,
    main_pid,
    path,
    serving_bed,
    settled,
    sockets,
    upstream,
    wait_for,
)
from testbed import Snapshot, Testbed

from qgis_server_systemd.qgis_serverctl.pool import connections as workers

COUNT = 3
INSTANCES = tuple(range(1, COUNT + 1))
TOML = "/etc/qgis-server/server.toml"
ENV = "/etc/qgis-server/env"
MONITOR = "/usr/share/qgis-server-systemd/qgis_serverctl/monitor/watch.py"


@pytest.fixture(scope="module")
def victim(installed: Snapshot) -> Iterator[Testbed]:
    """A booted server whose workers have a plugin that does harm on request."""
    with serving_bed(installed, let_go_wrong, settle) as bed:
        bed.put(SHARED / "killer.py", "/root/killer.py")
        yield bed


def settle(bed: Testbed, **settings: object) -> bool:
    """Write these settings, beside those of all tests here; are they others than before?"""
    kept = '["/srv/maps/world.qgz"]'
    wanted = {"instances": COUNT, "warm": kept, "heavy_workers": 0, **settings}
    text = "".join(f"{key} = {value}\n" for key, value in wanted.items())
    file = bed.root / TOML.lstrip("/")
    former = file.read_text()
    file.write_text(text)
    return former != text


def use(bed: Testbed, **settings: object) -> None:
    """Have the server run by these settings, and up."""
    if settle(bed, **settings):
        ctl(bed, "apply")
    wait_until_up(bed)


def is_up(bed: Testbed, instance: int) -> bool:
    """Has its worker loaded what it is to load?"""
    return Path(f"/proc/{bed.pid}/root/run/qgis-server/{instance}/ready").exists()


def wait_until_up(bed: Testbed, timeout: float = 120) -> None:
    # One that has just ended has left its note that it is up for a moment.
    wait_for(
        lambda: all(pids(bed).values()) and all(is_up(bed, n) for n in INSTANCES),
        "all workers are up",
        timeout,
    )


def pids(bed: Testbed) -> dict[int, int]:
    return {n: main_pid(bed, n) for n in INSTANCES}


def notes(bed: Testbed) -> list[str]:
    """The names of the requests that reached a worker, once for each time."""
    return [name for name, _ in noted(bed)]


def is_idle(bed: Testbed) -> bool:
    """Has no worker anything to do?"""
    return all(connections(bed, path(n)) == workers.Connections(frozenset(), 0) for n in INSTANCES)


def holders(bed: Testbed) -> list[int]:
    """Instances whose workers have a request in hand."""
    return [n for n in INSTANCES if connections(bed, path(n)).accepted]


def now(bed: Testbed) -> str:
    """The end of the journal as it is: what is read `since` comes after."""
    bed.run("journalctl", "--sync")
    shown = bed.out("journalctl", "--lines=0", "--show-cursor")
    return shown.partition("cursor: ")[2].strip()


def entries(bed: Testbed, since: str, unit: str = "") -> list[dict[str, str]]:
    """What the journal has of a unit. Picked here: with --unit, Debian 12's journalctl takes
    the first entry after the cursor for the cursor's own, and leaves it out."""
    bed.run("journalctl", "--sync")
    said = bed.out("journalctl", "--no-pager", "--output=json", f"--after-cursor={since}")
    found = map(json.loads, said.splitlines())
    return [one for one in found if unit in ("", one.get("_SYSTEMD_UNIT"), one.get("UNIT"))]


def journal(bed: Testbed, since: str, unit: str = "") -> list[str]:
    return [str(one["MESSAGE"]) for one in entries(bed, since, unit)]


@contextlib.contextmanager
def cold_waits(bed: Testbed) -> Iterator[list[int]]:
    """The instances in whose socket a request waited for a worker that was not up yet;
    looked at from outside, many times in the second or more that a start takes."""
    found: list[int] = []
    end = threading.Event()

    def watch() -> None:
        while not end.wait(0.02):
            there = table(bed)
            for n in (*INSTANCES, COUNT + 1):
                # In this order: what is seen here to wait was there before the other look.
                if workers.connections(there, path(n)).queued and not is_up(bed, n):
                    found.append(n)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


# ---- What is done on purpose


def restart(bed: Testbed) -> None:
    before = pids(bed)
    ctl(bed, "restart")
    assert not set(before.values()) & set(pids(bed).values())


def scale(bed: Testbed) -> None:
    for count in (COUNT + 1, COUNT - 1, COUNT):
        ctl(bed, "scale", str(count))
        assert len(sockets(bed)) == count


def reload_nginx(bed: Testbed) -> None:
    for _ in range(3):
        pool.reload_nginx(bed)


def reexec(bed: Testbed) -> None:
    for _ in range(3):
        bed.run("systemctl", "daemon-reexec")


@pytest.mark.parametrize("work", [restart, scale])
def test_what_the_package_does_costs_no_request_and_none_waits_for_a_cold_worker(
    victim: Testbed, work: Callable[[Testbed], None]
) -> None:
    use(victim)
    # A number in server.toml would win over the command's.
    (victim.root / TOML.lstrip("/")).write_text('warm = ["/srv/maps/world.qgz"]\n')
    with cold_waits(victim) as waits, steady(victim) as result:
        work(victim)
    unharmed(result)
    assert waits == []


@pytest.mark.parametrize("work", [reload_nginx, reexec])
def test_a_reload_beside_costs_no_request(victim: Testbed, work: Callable[[Testbed], None]) -> None:
    use(victim)
    before = pids(victim)
    with steady(victim) as result:
        work(victim)
    unharmed(result)
    assert pids(victim) == before


def test_a_restart_of_all_at_once_costs_no_request(victim: Testbed) -> None:
    """Requests wait meanwhile, as the look at cold workers notices."""
    use(victim)
    before = pids(victim)
    with cold_waits(victim) as waits, steady(victim) as result:
        victim.run("systemctl", "restart", "qgis-server.target")
        ended = set(before.values())
        wait_for(lambda: not ended & set(pids(victim).values()), "the former ones have ended")
        wait_until_up(victim)
    unharmed(result)
    assert waits
    assert not set(before.values()) & set(pids(victim).values())


def test_a_stop_waits_for_a_reply_that_is_being_written(victim: Testbed) -> None:
    """NGINX is stopped meanwhile, so that the worker can't write on."""
    use(victim)
    master = victim.out("systemctl", "show", "--property=MainPID", "--value", "nginx")
    whole = victim.fetch(FEATURES).body
    wait_for(lambda: is_idle(victim), "nothing is left to do")
    url = ["curl", "--silent", "--no-buffer", "--output", "/root/begun", FEATURES]
    victim.run("rm", "-f", "/root/begun")
    replies = in_background(lambda: victim.run_bytes(*url))
    # Long before its 5 MB are through.
    wait_for(lambda: holders(victim) != [], "a worker has the request")
    victim.run("pkill", "-STOP", "--parent", master)
    try:
        (busy,) = holders(victim)
        writes = f"/proc/{main_pid(victim, busy)}/wchan"
        wait_for(lambda: "sock" in victim.out("cat", writes), "the worker waits for NGINX")
        victim.run("systemctl", "restart", "--no-block", "qgis-server.target")
        wait_for(lambda: all(is_up(victim, n) for n in INSTANCES if n != busy), "the others are up")
    finally:
        victim.run("pkill", "-CONT", "--parent", master)
    replies()
    assert (victim.root / "root/begun").read_bytes() == whole
    wait_until_up(victim)


# ---- Workers that end

POSTS = """
import http.client, pathlib, sys, urllib.parse

url = urllib.parse.urlsplit(sys.argv[1])
turn = 0
while not pathlib.Path("/root/stop").exists():
    turn += 1
    connection = http.client.HTTPConnection(url.netloc, timeout=120)
    connection.request("POST", f"{url.path}?{url.query}&NAME=post-{turn}", b"A=1",
        {"Content-Type": "application/x-www-form-urlencoded"})
    print(f"post-{turn}", connection.getresponse().status, flush=True)
    connection.close()
"""


def test_workers_are_killed_one_after_the_other(victim: Testbed) -> None:
    """Only a reply that had begun may be lost, and the client sees that it is."""
    use(victim)
    since = now(victim)
    errors = victim.root / "var/log/nginx/error.log"
    before = len(errors.read_text())
    with steady(victim, MAP, FEW, sleeping(0.3), clients=1) as result:
        posts = in_background(lambda: victim.out("python3", "-c", POSTS, sleeping(0.2)))
        victim.run("python3", "/root/killer.py", "10", str(COUNT))
    assert len(result["failed"]) == result["begun"], result["failed"]
    assert result["single"]["sent"] > 0 and result["kept"]["sent"] > 0
    assert "while reading response header from upstream" in errors.read_text()[before:]
    statuses = dict(line.split() for line in posts()[0].splitlines())
    # Only now has the last one come.
    names = notes(victim)
    assert {"200"} <= set(statuses.values()) <= {"200", "502"}
    for name, status in statuses.items():
        assert names.count(name) == 1 or (status == "502" and name not in names), (name, status)
    wait_for(
        lambda: any(
            "its worker had ended, and is back after" in line
            for line in journal(victim, since, "qgis-server-monitor.service")
        ),
        "the monitor tells of it",
    )
    assert sockets(victim) == [path(n) for n in INSTANCES]


def test_a_reply_that_is_cut_off_is_seen_to_be(victim: Testbed) -> None:
    use(victim)
    wait_for(lambda: is_idle(victim), "nothing is left to do")
    victim.run("rm", "-f", "/root/begun")
    curl = ("curl", "--silent", "--no-buffer", "--output", "/root/begun")
    url = FEATURES.replace("countries", "states_provinces")
    replies = in_background(lambda: victim.run(*curl, url, check=False).returncode)
    begun = victim.root / "root/begun"
    wait_for(lambda: begun.exists() and begun.stat().st_size > 0, "the reply begins")
    (busy,) = holders(victim)
    victim.run("kill", "-KILL", str(main_pid(victim, busy)))
    assert replies() == [18], "curl: transfer closed with outstanding read data remaining"
    wait_until_up(victim)


def test_a_request_that_crashes_its_worker_ends_two_at_most(victim: Testbed) -> None:
    use(victim)
    before = pids(victim)
    with steady(victim, clients=1) as result:
        reply = victim.fetch(faulty("SIGSEGV", "poison"))
        wait_until_up(victim)
    assert (reply.status, "retry-after" in reply.headers) == (502, False)
    assert notes(victim).count("poison") == 2
    after = pids(victim)
    assert sum(after[n] != before[n] for n in INSTANCES) == 2
    unharmed(result)


def test_a_post_that_crashes_its_worker_ends_one(victim: Testbed) -> None:
    use(victim)
    before = pids(victim)
    reply = victim.fetch(faulty("SIGKILL", "poisoned-post"), "--data", "A=1")
    assert reply.status == 502
    wait_until_up(victim)
    assert notes(victim).count("poisoned-post") == 1
    after = pids(victim)
    assert sum(after[n] != before[n] for n in INSTANCES) == 1


# ---- Workers that hang

HANG = {"request_timeout": 4, "kill_timeout": 25}
"""A start of a worker may take as long as a request, too, and the machine may be busy."""


def test_workers_that_hang_are_killed(victim: Testbed) -> None:
    use(victim, **HANG)
    wait_for(lambda: is_idle(victim), "nothing is left to do")
    before, since = pids(victim), now(victim)
    hangs = (sleeping(300, "hang-C"), faulty("spin", "hang-Python"), faulty("SIGSTOP", "hang-stop"))
    waits: list[Callable[[], list[Any]]] = []
    for count, url in enumerate(hangs, start=1):
        waits.append(in_background(lambda url=url: timed(victim, url)))  # type: ignore[misc]
        wait_for(lambda count=count: busy(victim) == count, "one more hangs")  # type: ignore[misc]
    # No worker is left for this one.
    waits.append(in_background(lambda: timed(victim, MAP)))
    for wait in waits:
        ((reply, seconds),) = wait()
        assert reply.status == 504
        assert 3.9 < seconds < 100
    names = ("hang-C", "hang-Python", "hang-stop")
    assert [notes(victim).count(name) for name in names] == [1, 1, 1]
    wait_for(lambda: not set(before.values()) & set(pids(victim).values()), "all have been killed")
    wait_until_up(victim)
    is_served(victim)
    assert [notes(victim).count(name) for name in names] == [1, 1, 1]
    told = "\n".join(journal(victim, since, "qgis-server-monitor.service"))
    for instance, pid in before.items():
        found = re.search(rf"instance {instance}: its worker {pid} has had .*? for (\d+) s", told)
        assert found and int(found[1]) >= HANG["kill_timeout"], told
    assert re.search(r"\b1 requests? waits? behind it, the first for \d+ s", told), told


def busy(bed: Testbed) -> int:
    return sum(bool(connections(bed, path(n)).accepted) for n in INSTANCES)


def test_a_stopped_worker_without_a_request_is_killed_once_one_waits(victim: Testbed) -> None:
    use(victim, **HANG)
    wait_for(lambda: is_idle(victim), "nothing is left to do")
    before = pids(victim)
    victim.run("kill", "-STOP", *map(str, before.values()))
    reply, seconds = timed(victim, MAP)
    assert (reply.status, seconds > 3.9) == (504, True)
    wait_for(lambda: before.items() - pids(victim).items() != set(), "one has been killed")
    # The others have nothing to do, so nothing is wrong with them.
    victim.run("kill", "-CONT", *map(str, before.values()), check=False)
    wait_until_up(victim)
    assert len(before.items() - pids(victim).items()) == 1
    is_served(victim)


def test_saturation_kills_nobody(victim: Testbed) -> None:
    """For several times as long as a request may be in a worker's hand."""
    # A start may take as long, and the machine may be busy.
    limit = 8
    use(victim, request_timeout=6, kill_timeout=limit)
    before, since = pids(victim), now(victim)
    with load(victim, sleeping(0.5), clients=6 * COUNT) as result:
        start = time.monotonic()
        wait_for(lambda: time.monotonic() - start > 4 * limit, "four limits")
    assert pids(victim) == before
    assert not [line for line in journal(victim, since) if "killed" in line]
    # On a busy machine some may wait for too long.
    assert [problem for problem in result["failed"] if " 504 " not in problem] == []
    assert len(result["failed"]) < result["sent"]


def test_without_the_monitor_no_request_fails(victim: Testbed) -> None:
    use(victim)
    unit = "qgis-server-monitor.service"
    victim.run("systemctl", "mask", "--runtime", "--now", unit)
    try:
        with steady(victim) as result:
            restart(victim)
            victim.run("kill", "-KILL", str(main_pid(victim, 1)))
            wait_until_up(victim)
    finally:
        victim.run("systemctl", "unmask", "--runtime", unit)
        victim.run("systemctl", "start", unit)
    assert len(result["failed"]) == result["begun"], result["failed"]
    assert result["sent"] > 0


# ---- A worker that leaks


def test_a_worker_that_leaks_is_restarted_between_requests(victim: Testbed) -> None:
    use(victim, memory_recycle='"500M"')
    before, since = pids(victim), now(victim)
    with cold_waits(victim) as waits, steady(victim) as result:
        assert victim.fetch(faulty("leak", MB=600)).status == 200
        wait_for(lambda: pids(victim) != before, "it is restarted")
        wait_until_up(victim)
    unharmed(result)
    assert waits == []
    (leaked,) = (n for n in INSTANCES if pids(victim)[n] != before[n])
    told = "\n".join(journal(victim, since, "qgis-server-monitor.service"))
    assert re.search(rf"instance {leaked}: its worker has grown to [567]\d\d MB", told), told


def test_a_worker_that_is_too_old_is_restarted_between_requests(victim: Testbed) -> None:
    """One after the other; an hour is a second for the monitor."""
    use(victim, max_age_hours=0)
    before, since = pids(victim), now(victim)
    victim.run("sed", "-i", "s/^HOUR = 3600.0/HOUR = 1.0/", MONITOR)
    try:
        with steady(victim) as result:
            use(victim, max_age_hours=1)
            wait_for(lambda: not set(before.values()) & set(pids(victim).values()), "all are new")
            use(victim, max_age_hours=0)
            wait_for(lambda: settled(victim), "the restarts are over")
    finally:
        victim.run("sed", "-i", "s/^HOUR = 1.0/HOUR = 3600.0/", MONITOR)
    unharmed(result)
    told = "\n".join(journal(victim, since, "qgis-server-monitor.service"))
    assert "hours old, the limit is 1: to be restarted between two requests" in told


# ---- More load than the pool can serve


def test_what_is_too_much_is_refused_at_once(victim: Testbed) -> None:
    use(victim, backlog=2)
    wait_for(lambda: is_idle(victim), "nothing is left to do")
    _, solo = timed(victim, MAP)
    # In a worker's hand, and in its queue; the kernel lets one more in than it was told.
    room = COUNT * (1 + 2 + 1)
    calls = [lambda: timed(victim, sleeping(6))] * (2 * room)
    replies = in_background(*calls)()
    refused = [(reply, seconds) for reply, seconds in replies if reply.status == 503]
    served = [seconds for reply, seconds in replies if reply.status == 200]
    assert {reply.status for reply, _ in replies} == {200, 503}
    assert len(refused) >= room
    assert all(reply.headers["retry-after"] == "5" for reply, _ in refused)
    # Before any of those that were taken.
    assert max(seconds for _, seconds in refused) < min(served)
    wait_for(lambda: is_idle(victim), "the queues are empty")
    wait_for(lambda: timed(victim, MAP)[1] < 3 * solo + 1, "as quick as alone")


# ---- Clients that are slow or go away

SLOW = """
import socket, sys, time

connections = []
for begin in sys.argv[1:]:
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", 80))
        connection.sendall(begin.encode().decode("unicode_escape").encode())
        connections.append(connection)
print("open", flush=True)
sys.stdin.read()
"""
BEGINNINGS = (
    "",
    "GET /qgis-server?SERVICE=WMS HTTP/1.1\\r\\nHost: a\\r\\nX-Slow: ",
    "POST /qgis-server?SERVICE=WMS HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 1000\\r\\n\\r\\nA=",
)


def test_slow_clients_hold_no_worker(victim: Testbed) -> None:
    """They connect and send nothing, a part of the headers, or a part of a body."""
    use(victim)
    wait_for(lambda: is_idle(victim), "nothing is left to do")
    command = victim._enter_command("python3", "-c", SLOW, *BEGINNINGS, user=None)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as slow:
        assert slow.stdout is not None and slow.stdout.readline() == "open\n"
        assert slow.stdin is not None
        listed = victim.out("ss", "-tnH", "state", "established", "dport = :80").splitlines()
        assert len(listed) == 20 * len(BEGINNINGS)
        assert is_idle(victim)
        is_served(victim)
        wait_for(lambda: is_idle(victim), "the one that was served is gone")
        slow.stdin.close()


def test_a_client_that_hangs_up_holds_a_worker_for_its_own_request_alone(victim: Testbed) -> None:
    use(victim)
    wait_for(lambda: is_idle(victim), "nothing is left to do")
    before = pids(victim)
    for turn in range(2 * COUNT):
        done = victim.run(
            "curl", "--silent", "--max-time", "0.3", sleeping(2, f"gone-{turn}"), check=False
        )
        assert done.returncode == 28, "curl gave up"
    wait_for(lambda: is_idle(victim), "all are served, or thrown away")
    assert all(notes(victim).count(f"gone-{turn}") <= 1 for turn in range(2 * COUNT))
    is_served(victim)
    assert pids(victim) == before


# ---- Workers that can't start


def display(bed: Testbed) -> Callable[[], None]:
    """A screen that is not there, as left over from the days of Xvfb."""
    file = bed.root / ENV.lstrip("/")
    text = file.read_text()
    file.write_text(f"{text}\nDISPLAY=:99\nQT_QPA_PLATFORM=xcb\n")

    def mend() -> None:
        file.write_text(text)

    return mend


def moved(bed: Testbed, file: str) -> Callable[[], None]:
    bed.run("mv", file, f"{file}.away")

    def mend() -> None:
        bed.run("mv", f"{file}.away", file)

    return mend


def library(bed: Testbed) -> Callable[[], None]:
    found = re.search(
        r"libqgis_server\.so\S* => (\S+)", bed.out("ldd", "/usr/lib/cgi-bin/qgis_mapserv.fcgi")
    )
    assert found
    return moved(bed, found[1])


def environment(bed: Testbed) -> Callable[[], None]:
    return moved(bed, ENV)


def gaps(bed: Testbed, since: str) -> list[list[float]]:
    """Seconds between two attempts to start a worker, for each instance."""
    tries = [one for one in entries(bed, since) if "Scheduled restart job" in one["MESSAGE"]]
    found = []
    for n in INSTANCES:
        own = [one for one in tries if one.get("UNIT") == f"qgis-server@{n}.service"]
        times = [int(one["__REALTIME_TIMESTAMP"]) / 1e6 for one in own]
        found.append([late - early for early, late in itertools.pairwise(times)])
    return found


@pytest.mark.parametrize("fault", [display, library, environment])
def test_what_keeps_workers_from_starting_makes_requests_wait(
    victim: Testbed, fault: Callable[[Testbed], Callable[[], None]]
) -> None:
    use(victim)
    since = now(victim)
    mend = fault(victim)
    try:
        victim.run("systemctl", "restart", "qgis-server.target", check=False)
        waiting = in_background(lambda: timed(victim, MAP))
        wait_for(
            lambda: all(max(times, default=0) >= 5 for times in gaps(victim, since)),
            "it is tried again every 5 s only",
            timeout=240,
        )
        assert sockets(victim) == [path(n) for n in INSTANCES]
        # Not one that comes at once where the others took their time.
        assert all(len(times) < 12 for times in gaps(victim, since))
        for instance in INSTANCES:
            lines = journal(victim, since, f"qgis-server@{instance}.service")
            told = [line for line in lines if "has ended 3 times before it was ready" in line]
            assert len(told) == 1, lines
            assert ("env is missing" in told[0]) == (fault is environment)
    finally:
        mend()
    # 5 s until the next attempt, and what a start takes.
    wait_until_up(victim)
    ((reply, _),) = waiting()
    assert reply.status == 200
    is_served(victim)


def test_a_pool_that_is_stopped_in_the_middle_of_a_roll_stays_so(victim: Testbed) -> None:
    use(victim)
    since = now(victim)
    waiting = in_background(lambda: timed(victim, sleeping(6)))
    wait_for(lambda: holders(victim) != [], "a worker has it in hand")
    (instance,) = holders(victim)
    run = Path(f"/proc/{victim.pid}/root/run/qgis-server-systemd")
    (run / "restart.json").write_text(f"[{instance}]")
    roll = in_background(lambda: victim.run("systemctl", "start", "qgis-server-roll.service"))
    wait_for((run / "rolling.json").exists, "the roll waits for it")
    victim.run("systemctl", "stop", "qgis-server.slice")
    ((reply, _),) = waiting()
    assert reply.status == 200
    roll()
    said = journal(victim, since, "qgis-server-roll.service")
    assert [line for line in said if "the pool was stopped meanwhile" in line]
    assert sockets(victim) == []
    assert set(pids(victim).values()) == {0}
    victim.run("systemctl", "start", "qgis-server.target")
    wait_until_up(victim)
    assert settled(victim)
    assert upstream(victim) == [path(n) for n in INSTANCES]


# ---- Packages; these leave another version behind


def test_a_reinstallation_and_an_upgrade_cost_no_request(
    victim: Testbed, newer_package: Path
) -> None:
    use(victim)
    victim.put(newer_package, "/root/newer.deb")
    before = pids(victim)
    keep = ("-o", "Dpkg::Options::=--force-confold")
    with cold_waits(victim) as waits, steady(victim) as result:
        apt(victim, "install", "--reinstall", *keep, "/root/package.deb")
        wait_for(lambda: settled(victim), "nothing is left to do")
        assert pids(victim) == before
        apt(victim, "install", *keep, "/root/newer.deb")
        wait_for(lambda: settled(victim), "the roll is through", timeout=180)
    unharmed(result)
    assert waits == []
    assert not set(before.values()) & set(pids(victim).values())
    assert upstream(victim) == [path(n) for n in INSTANCES]
