# SPDX-License-Identifier: GPL-2.0-or-later
"""One queue for all workers: to it and back, and what the pool survives with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.harm import (
    FEW,
    IMAGE,
    faulty,
    held,
    holding,
    in_background,
    let_go_wrong,
    release,
    sleeping,
    timed,
    unharmed,
)
from shared.pool import (
    HEAVY,
    MAP,
    apt,
    ctl,
    is_served,
    load,
    main_pid,
    nginx_is_content,
    nothing_is_found,
    path,
    serving_bed,
    settled,
    sockets,
    status,
    upstream,
    wait_for,
)
from testbed import Snapshot, Testbed

SHARED = "/run/qgis-server.sock"
TOML = "etc/qgis-server/server.toml"
UNITS = "etc/systemd/system"
COUNT = 2


@pytest.fixture(scope="module")
def bed(installed: Snapshot) -> Iterator[Testbed]:
    """A booted server that all of these tests use one after the other."""
    with serving_bed(installed, let_go_wrong) as testbed:
        ctl(testbed, "scale", str(COUNT))
        yield testbed


@pytest.fixture
def shared(bed: Testbed) -> Testbed:
    """The same on the shared queue, with all workers."""
    ctl(bed, "scale", str(COUNT))
    ctl(bed, "queue", "shared")
    wait_for(lambda: is_up(bed, COUNT), "all workers are up")
    return bed


def listening(bed: Testbed) -> list[str]:
    lines = (line.split() for line in bed.out("ss", "-lxH").splitlines())
    paths = (words[4] for words in lines if words[0] == "u_str")
    return sorted(
        found for found in paths if found.startswith("/run/qgis-server") and found != HEAVY
    )


def links(bed: Testbed) -> set[str]:
    found = (bed.root / UNITS).glob("*.wants/qgis-server*")
    return {f"{link.parent.name}/{link.name}" for link in found} - {
        "multi-user.target.wants/qgis-server-apply.service",
        *(
            f"{target}.target.wants/qgis-server-heavy.socket"
            for target in ("sockets", "qgis-server")
        ),
    }


def pids(bed: Testbed, count: int = COUNT) -> list[int]:
    return [main_pid(bed, n) for n in range(1, count + 1)]


def is_up(bed: Testbed, count: int) -> bool:
    """Do so many workers have all that they load at their start?"""
    run = Path(f"/proc/{bed.pid}/root/run/qgis-server")
    return all((run / str(n) / "ready").exists() for n in range(1, count + 1))


def is_on_shared(bed: Testbed, count: int) -> None:
    assert listening(bed) == [SHARED] == upstream(bed)
    workers = {f"qgis-server.target.wants/qgis-server@{n}.service" for n in range(1, count + 1)}
    assert links(bed) == {"sockets.target.wants/qgis-server.socket"} | workers
    assert "nothing to do" in ctl(bed, "apply")
    nothing_is_found(bed)
    is_served(bed)


def is_on_own(bed: Testbed, count: int) -> None:
    own = [path(n) for n in range(1, count + 1)]
    assert listening(bed) == own == upstream(bed)
    assert links(bed) == {
        f"{target}.target.wants/qgis-server@{n}.socket"
        for target in ("sockets", "qgis-server")
        for n in range(1, count + 1)
    }
    assert not (bed.root / UNITS / "qgis-server@.service.d/10-queue.conf").exists()
    assert "nothing to do" in ctl(bed, "apply")
    nothing_is_found(bed)
    is_served(bed)


# ---- To it and back


@pytest.mark.parametrize("count", [COUNT, pytest.param(1, marks=pytest.mark.long)])
def test_moving_loses_no_request(bed: Testbed, count: int) -> None:
    ctl(bed, "queue", "per-worker")
    ctl(bed, "scale", str(count))
    options = ("--same", "--kept", "2")
    for layout, look in (("shared", is_on_shared), ("per-worker", is_on_own)):
        before = pids(bed, count)
        with load(bed, MAP, IMAGE, FEW, clients=2, options=options) as result:
            said = ctl(bed, "queue", layout)
        unharmed(result)
        assert not set(before) & set(pids(bed, count)), said
        look(bed, count)


def test_a_setting_does_the_same(bed: Testbed) -> None:
    ctl(bed, "queue", "per-worker")
    ctl(bed, "scale", str(COUNT))
    (bed.root / TOML).write_text('queue = "shared"\n')
    try:
        assert "move to the shared queue, one after the other" in ctl(bed, "apply", "--dry-run")
        ctl(bed, "apply")
        is_on_shared(bed, COUNT)
        said = ctl(bed, "queue", "per-worker")
        assert "sets queue too and wins" in said
    finally:
        (bed.root / TOML).write_text("")
        ctl(bed, "apply")
    assert SHARED not in listening(bed)


# ---- On it


def test_whoever_is_free_takes_the_next_request(shared: Testbed) -> None:
    """All but one worker have something slow in hand."""
    slow = in_background(*[lambda: timed(shared, holding(MAP, "slow"))] * (COUNT - 1))
    wait_for(lambda: len(held(shared, COUNT)) == COUNT - 1, "all but one are busy")
    for _ in range(8):
        is_served(shared)
    assert len(held(shared, COUNT)) == COUNT - 1
    release(shared, COUNT)
    assert [reply.status for reply, _ in slow()] == [200] * (COUNT - 1)


def test_status_shows_the_queue(shared: Testbed) -> None:
    found = status(shared)
    assert found["shared_queue"] == {"socket": "running", "queued": 0, "queued_seconds": None}
    assert found["verdict"]["level"] == "ok", found["verdict"]
    slow = in_background(*[lambda: timed(shared, holding(MAP, "slow"))] * COUNT)
    wait_for(lambda: len(held(shared, COUNT)) == COUNT, "all are busy")
    more = in_background(*[lambda: timed(shared, MAP)] * 2)
    wait_for(lambda: status(shared)["shared_queue"]["queued"] == 2, "two wait")
    found = status(shared)
    assert [line["work"] for line in found["instances"]] == ["busy"] * COUNT
    assert f"all {COUNT} workers are busy, and 2 requests wait" in ctl(shared, "status")
    release(shared, COUNT)
    assert [reply.status for reply, _ in slow() + more()] == [200] * (COUNT + 2)


@pytest.mark.testing
@pytest.mark.parametrize("count", [COUNT, pytest.param(1, marks=pytest.mark.long)])
def test_restart_and_scale_lose_no_request(shared: Testbed, count: int) -> None:
    ctl(shared, "scale", str(count))
    before = pids(shared, count)
    with load(shared, MAP, IMAGE, FEW, clients=2, options=("--same", "--kept", "2")) as result:
        ctl(shared, "restart")
        assert not set(before) & set(pids(shared, count))
        for other in (count + 1, count):
            ctl(shared, "scale", str(other))
        shared.run("systemctl", "restart", "qgis-server.target")
        shared.run("systemctl", "daemon-reexec")
    unharmed(result)
    is_on_shared(shared, count)


def test_a_killed_worker_costs_no_get(shared: Testbed) -> None:
    with load(shared, MAP, sleeping(0.3), clients=4) as result:
        for n in range(1, COUNT + 1):
            pid = main_pid(shared, n)
            shared.run("kill", "-KILL", str(pid))
            wait_for(lambda n=n, pid=pid: main_pid(shared, n) not in (0, pid), "a new one")  # type: ignore[misc]
            wait_for(lambda: is_up(shared, COUNT), "it is up")
    assert len(result["failed"]) == result["begun"], result["failed"]
    assert result["sent"] > 0
    assert listening(shared) == [SHARED]


def test_a_request_that_crashes_its_worker_ends_two_at_most(shared: Testbed) -> None:
    count = 3
    ctl(shared, "scale", str(count))
    wait_for(lambda: is_up(shared, count), "one more is up")
    before = pids(shared, count)
    reply = shared.fetch(faulty("SIGSEGV"))
    assert reply.status == 502
    wait_for(lambda: 0 not in pids(shared, count) and is_up(shared, count), "all are up again")
    assert len(set(pids(shared, count)) - set(before)) == 2
    is_served(shared)


def test_a_worker_that_hangs_is_killed_alone(shared: Testbed) -> None:
    (shared.root / TOML).write_text("request_timeout = 4\nkill_timeout = 25\n")
    try:
        ctl(shared, "apply")
        before = pids(shared)
        with load(shared, MAP, clients=2) as result:
            reply, _ = timed(shared, sleeping(300))
            assert reply.status == 504
            wait_for(lambda: set(before) - set(pids(shared)) != set(), "it is killed")
            wait_for(lambda: is_up(shared, COUNT), "it is back")
        assert result["failed"] == []
        assert len(set(before) - set(pids(shared))) == 1
    finally:
        (shared.root / TOML).write_text("")
        ctl(shared, "apply")


def test_a_long_crash_loop_leaves_the_socket_alone(shared: Testbed) -> None:
    """More ends than any limit of systemd would allow by default."""
    folder = shared.root / UNITS / "qgis-server@2.service.d"
    folder.mkdir()
    (folder / "broken.conf").write_text("[Service]\nExecStart=\nExecStart=/bin/false\n")
    shared.run("systemctl", "daemon-reload")
    try:
        with load(shared, MAP, clients=2) as result:
            shared.run("systemctl", "restart", "--no-block", "qgis-server@2.service")
            show = ("systemctl", "show", "--property=NRestarts", "--value", "qgis-server@2.service")
            wait_for(lambda: int(shared.out(*show)) >= 5, "it has ended often")
        assert result["failed"] == []
        assert listening(shared) == [SHARED]
        assert shared.out("systemctl", "is-failed", "qgis-server.socket", check=False) == "active"
    finally:
        (folder / "broken.conf").unlink()
        folder.rmdir()
        shared.run("systemctl", "daemon-reload")
        shared.run("systemctl", "restart", "qgis-server@2.service")
    wait_for(lambda: is_up(shared, COUNT), "it is back")


def test_too_much_is_refused_at_once(shared: Testbed) -> None:
    (shared.root / TOML).write_text("backlog = 2\n")
    try:
        said = ctl(shared, "apply")
        assert "open the shared socket again" in said
        assert listening(shared) == [SHARED] == upstream(shared)
        # In hand, in the queue, and the one more that the kernel lets in.
        room = COUNT + 2 + 1
        replies = in_background(*[lambda: timed(shared, sleeping(4))] * (2 * room))()
        statuses = [reply.status for reply, _ in replies]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) <= room
        assert all(r.headers["retry-after"] == "5" for r, _ in replies if r.status == 503)
    finally:
        (shared.root / TOML).write_text("")
        ctl(shared, "apply")
    is_on_shared(shared, COUNT)


def test_a_request_starts_what_was_stopped(shared: Testbed) -> None:
    shared.run("systemctl", "stop", "qgis-server.target")
    wait_for(lambda: pids(shared) == [0] * COUNT, "all have stopped")
    is_served(shared)
    wait_for(lambda: 0 not in pids(shared), "all workers run")
    shared.run("systemctl", "stop", "qgis-server.slice")
    assert listening(shared) == []
    assert shared.fetch(MAP).status == 503
    again = "systemctl start qgis-server.socket; systemctl stop qgis-server.socket; "
    shared.run("sh", "-ec", again * 7)
    shared.run("systemctl", "start", "qgis-server.target")
    is_served(shared)
    is_on_shared(shared, COUNT)


def test_drain_makes_no_sense(shared: Testbed) -> None:
    done = shared.run("qgis-serverctl", "drain", "2", check=False)
    assert done.returncode == 1
    assert "with the shared queue nobody chooses the worker" in done.stderr
    ctl(shared, "queue", "per-worker")
    ctl(shared, "drain", "2")
    done = shared.run("qgis-serverctl", "queue", "shared", check=False)
    assert done.returncode == 1
    assert "instance 2 is drained" in done.stderr
    assert sockets(shared) == [path(n) for n in range(1, COUNT + 1)]
    ctl(shared, "undrain", "2")


def test_a_drop_in_of_the_administrators_is_not_overwritten(bed: Testbed) -> None:
    ctl(bed, "queue", "per-worker")
    own = bed.root / UNITS / "qgis-server@.service.d/10-queue.conf"
    own.parent.mkdir(exist_ok=True)
    own.write_text("[Unit]\nRequires=qgis-server@%i.socket\nAfter=qgis-server@%i.socket\n")
    try:
        done = bed.run("qgis-serverctl", "queue", "shared", check=False)
        assert done.returncode == 1
        assert "10-queue.conf: is not the package's" in done.stderr
        assert "Requires=" in own.read_text()
        assert sockets(bed) == [path(n) for n in range(1, COUNT + 1)]
    finally:
        own.unlink()
        ctl(bed, "queue", "per-worker")


def test_what_is_broken_is_found(shared: Testbed) -> None:
    def ids() -> set[str]:
        found = json.loads(ctl(shared, "check", "--json", check=False))
        return {finding["id"] for finding in found["findings"]}

    shared.run("rm", SHARED)
    assert "socket-orphaned" in ids()
    shared.run("systemctl", "restart", "qgis-server.socket")
    wait_for(lambda: ids() == set(), "a restart mends it")
    shared.run("systemctl", "stop", "qgis-server.socket")
    # The workers stop with it.
    assert "pool-stopped" in ids()
    assert "the pool is stopped" in ctl(shared, "status")
    ctl(shared, "apply")
    wait_for(lambda: ids() == set(), "apply mends it")
    is_on_shared(shared, COUNT)


def test_a_reboot_keeps_it(shared: Testbed) -> None:
    shared.reboot()
    wait_for(lambda: is_up(shared, COUNT), "all are up")
    is_on_shared(shared, COUNT)


def test_an_upgrade_that_changes_all_units_loses_no_request(
    shared: Testbed, newer_package: Path
) -> None:
    """It leaves another version behind."""
    shared.put(newer_package, "/root/newer.deb")
    before = pids(shared)

    with load(shared, MAP, IMAGE, FEW, clients=2, options=("--same", "--kept", "2")) as result:
        apt(shared, "install", "/root/newer.deb")
        wait_for(lambda: settled(shared), "the roll is through", timeout=180)
    unharmed(result)
    assert not set(before) & set(pids(shared))
    lines = [line.split() for line in shared.out("ss", "-lxnH").splitlines()]
    assert [line[3] for line in lines if line[4] == SHARED] == ["1000"]
    is_on_shared(shared, COUNT)


def test_removal_and_purge_leave_nothing(shared: Testbed) -> None:
    """The last one: the package is gone."""
    apt(shared, "remove", "qgis-server-systemd")
    assert listening(shared) == []
    nginx_is_content(shared)
    apt(shared, "purge", "qgis-server-systemd")
    assert links(shared) == set()
    assert not list((shared.root / UNITS).glob("qgis-server*"))
    nginx_is_content(shared)
