# SPDX-License-Identifier: GPL-2.0-or-later
"""Installing, upgrading, removing and applying, cut off by SIGKILL at each step,
or met by a full disk, a read-only one, or a systemctl that hangs or fails."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from shared.pool import (
    DEB,
    cpus_of_init,
    enabled,
    fill,
    nginx_is_content,
    path,
    put_package,
    quick_workers,
    sockets,
    status,
    upstream,
    wait_for,
)
from shared.steps import kill_at, log, prepare, that_differ
from testbed import Snapshot, Testbed

pytestmark = pytest.mark.apart

NAME = "qgis-server-systemd"
NEWER = "/root/newer.deb"
NEVER = 10**9
STATE = "var/lib/qgis-server-systemd/state.json"

OWN_SITE = "etc/nginx/sites-enabled/own"
DROPINS = "/etc/systemd/system/qgis-server@.socket.d"
RESET = f"""
set -e
rm -rf /usr/local/bin/systemctl /{OWN_SITE} {DROPINS}
for folder in /etc /etc/qgis-server /run/qgis-server-systemd /var/lib/qgis-server-systemd; do
    ! mountpoint --quiet $folder || umount $folder
done
dpkg --configure -a
dpkg --purge {NAME}
systemctl daemon-reload
systemctl reload nginx
"""


@pytest.fixture(scope="module")
def booted(with_nginx: Snapshot, package: Path, newer_package: Path) -> Iterator[Testbed]:
    """With NGINX, quick workers and both versions' files. Its one core makes one instance,
    which has the most steps: a spare stands in for it while it is exchanged."""
    cores = sorted(os.sched_getaffinity(0))
    # Another process may have one as well.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with Testbed(with_nginx.suite, cpus=str(cores[number % len(cores)]), like=with_nginx) as bed:
        put_package(bed, package)
        bed.put(newer_package, NEWER)
        quick_workers(bed)
        bed.boot()
        prepare(bed)
        yield bed


@pytest.fixture
def bare(booted: Testbed) -> Testbed:
    """The same, with nothing left of the package, whatever another test did to it."""
    booted.run("sh", "-c", RESET)
    assert sockets(booted) == []
    return booted


@pytest.fixture
def quick(bare: Testbed) -> Testbed:
    """The same with the package, and a server block of the administrator's that uses it."""
    bare.run("dpkg", "--install", DEB)
    (bare.root / OWN_SITE).write_text(
        "server { listen 8080; include snippets/qgis-server.conf; }\n"
    )
    bare.run("qgis-serverctl", "apply")
    return bare


def version(bed: Testbed) -> str:
    """The installed version; empty where dpkg has work left."""
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", NAME)
    found = bed.run(*query, check=False).stdout
    return found.removeprefix("ii ") if found.startswith("ii ") else ""


def made(bed: Testbed) -> Iterator[str]:
    """The paths of all that is in /run, and of what is in other folders and was not when the
    testbed was opened. Read on the host, and not below mounts."""
    assert bed.like is not None
    upper, seen = bed.bed / "upper", Path(f"/proc/{bed.pid}/root")
    for top, root in ((upper, upper), (seen / "run", seen)):
        for folder, folders, names in os.walk(top):
            for name in (*folders, *names):
                file = Path(folder, name).relative_to(root)
                if root == seen or not any(os.path.lexists(old / file) for old in bed.like.layers):
                    yield f"/{file}"


def leftovers(bed: Testbed) -> str:
    """Files that were to be renamed, but for the monitor's, always in the making."""
    names = (file.rpartition("/")[2] for file in made(bed))
    return " ".join(
        name
        for name in names
        if name.endswith((".dpkg-new", ".dpkg-tmp"))
        or (name.startswith(".") and name.endswith(".new") and name != ".monitor.json.new")
    )


def nothing_is_half_written(bed: Testbed) -> None:
    """Whatever is read is whole, also right after a kill."""
    if state := bed.out("cat", f"/{STATE}", check=False):
        assert set(json.loads(state)) >= {"enabled", "pending"}
    auto = bed.root / "etc/qgis-server/server.auto.toml"
    if auto.exists():
        assert tomllib.loads(auto.read_text())
    http = bed.root / "etc/nginx/conf.d/qgis-server.conf"
    if http.exists():
        assert http.read_text().endswith("if=$qgis_server_told;\n")
    nginx_is_content(bed)


def is_whole(bed: Testbed, count: int) -> None:
    """The package is installed, and the pool of `count` is complete and its own."""
    everyone = list(range(1, count + 1))
    roll = ("systemctl", "is-active", "qgis-server-roll.service")
    wait_for(
        lambda: bed.out(*roll, check=False) in ("inactive", "failed"),
        "workers by an old definition are restarted",
    )
    assert bed.out("dpkg", "--audit") == ""
    assert enabled(bed) == everyone
    assert bed.out("systemctl", "is-enabled", "qgis-server-apply.service") == "enabled"
    assert sockets(bed) == [path(n) for n in everyone] == upstream(bed)
    # Read from within, where something may be mounted over it.
    state = json.loads(bed.out("cat", f"/{STATE}"))
    assert (state["enabled"], state["pending"]) == (everyone, [])
    wants = bed.root / "etc/systemd/system/qgis-server.target.wants"
    assert len(list(wants.glob("qgis-server@*"))) == count
    found = status(bed)
    assert (found["heavy"]["wanted"], found["pending"]) == (count, [])
    assert leftovers(bed) == ""
    nginx_is_content(bed)


def files(bed: Testbed) -> set[str]:
    """Files that may be the package's."""
    return {
        file
        for file in made(bed)
        if "qgis" in file.rpartition("/")[2] and not file.startswith(("/run/systemd/", "/var/log/"))
    }


def heal(bed: Testbed, deb: str, wanted: str) -> None:
    """What an administrator does after an interruption."""
    bed.run("dpkg", "--configure", "-a", check=False)
    if version(bed) != wanted:
        bed.run("dpkg", "--install", deb)
    assert version(bed) == wanted


Kills = Callable[..., Iterator[int]]


@pytest.fixture
def each_kill(pytestconfig: pytest.Config) -> Kills:
    return partial(kill_each, every_step=pytestconfig.getoption("all"))


def kill_each(
    bed: Testbed,
    *commands: Sequence[str],
    every_step: bool,
    alike: bool = False,
    fine: bool = False,
) -> Iterator[int]:
    """Let the commands run once, to see their steps; then kill them in turn at each third one that
    differs, and at the last; with `every_step` at each one. A step that several commands which are
    `alike` have is one of the first, then of the second, and so on.

    Yields the index of the command that was killed; the caller mends what it finds, so that the
    next command begins where it does after this one.
    """
    logs = []
    for index, command in enumerate(commands):
        assert kill_at(bed, NEVER, *command, fine=fine) is None
        logs.append(log(bed))
        # A harness that sees no steps would prove nothing.
        assert len(logs[-1]) > 4
        yield index
    if every_step:
        left = [list(range(1, len(steps) + 1)) for steps in logs]
    else:
        differ = that_differ(logs) if alike else [that_differ([steps])[0] for steps in logs]
        left = [sorted({*numbers[::3], *numbers[-1:]}) for numbers in differ]
    for command, steps, chosen in zip(commands, logs, left, strict=True):
        print(f"{len(chosen)} of {len(steps)} steps of", *command[:2], flush=True)
    while any(left):
        for index, command in enumerate(commands):
            if left[index]:
                found = kill_at(bed, left[index].pop(0), *command, fine=fine)
                print(" ".join(command[:2]), found or "ended before", flush=True)
                yield index
            elif any(left):
                bed.run(*command)


# ---- Killed


def test_install_and_purge_killed_at_each_step(bare: Testbed, each_kill: Kills) -> None:
    cores = cpus_of_init(bare)
    before = files(bare)
    purge = ("dpkg", "--purge", NAME)
    for index in each_kill(bare, ("dpkg", "--install", DEB), purge):
        nothing_is_half_written(bare)
        if index == 0:
            heal(bare, DEB, "0.1.0-1")
            is_whole(bare, cores)
        else:
            bare.run("dpkg", "--configure", "-a", check=False)
            bare.run(*purge)
            assert files(bare) == before
            assert sockets(bare) == []


def test_upgrade_killed_at_each_step(quick: Testbed, each_kill: Kills) -> None:
    """Up and down again: to the scripts, both are upgrades."""
    cores = cpus_of_init(quick)
    quick.run("sh", "-c", "echo QGIS_SERVER_MAX_THREADS=2 >>/etc/qgis-server/env")
    quick.run("qgis-serverctl", "apply")
    targets = ((NEWER, "0.1.0-2"), (DEB, "0.1.0-1"))
    # dpkg would ask about the edited env.
    commands = [("dpkg", "--force-confold", "--install", deb) for deb, _ in targets]
    for index in each_kill(quick, *commands, alike=True):
        nothing_is_half_written(quick)
        # Cut off in the middle of unpacking, it asks for the second installation.
        quick.run("dpkg", "--configure", "-a", "--force-confold", check=False)
        if version(quick) != targets[index][1]:
            quick.run(*commands[index])
        assert version(quick) == targets[index][1]
        is_whole(quick, cores)
        assert "MAX_THREADS=2" in (quick.root / "etc/qgis-server/env").read_text()


def test_remove_killed_at_each_step(quick: Testbed, each_kill: Kills) -> None:
    """Thought better of it: the package is installed again."""
    cores = cpus_of_init(quick)
    for _ in each_kill(quick, ("dpkg", "--remove", NAME)):
        nothing_is_half_written(quick)
        heal(quick, DEB, "0.1.0-1")
        is_whole(quick, cores)


def test_apply_killed_at_each_step(quick: Testbed, each_kill: Kills) -> None:
    """Growing and shrinking; then apply alone mends, as it does at the next boot."""
    cores = cpus_of_init(quick)
    counts = (cores + 1, cores)
    commands = [("qgis-serverctl", "apply", "--instances", str(count)) for count in counts]
    for index in each_kill(quick, *commands, alike=True):
        nothing_is_half_written(quick)
        quick.run("qgis-serverctl", "apply")
        kept = status(quick)["settings"]["instances"]["value"]
        is_whole(quick, cores if kept == "auto" else kept)
        quick.run(*commands[index])
    quick.run(*commands[1])
    is_whole(quick, cores)


@pytest.mark.parametrize(
    "count", [1, pytest.param(2, marks=pytest.mark.long)], ids=["spare", "sibling"]
)
def test_a_roll_killed_at_each_step(quick: Testbed, each_kill: Kills, count: int) -> None:
    """New definitions of sockets and workers; apply brings them up one after another."""
    script = (
        f"printf '[Socket]\\nBacklog=%s\\n' $1 >{DROPINS}/own.conf;"
        "systemctl daemon-reload; exec qgis-serverctl apply"
    )
    # systemd does not look into a folder that it has not seen at a reload.
    quick.run("sh", "-c", f"mkdir {DROPINS} && systemctl daemon-reload")
    quick.run("qgis-serverctl", "apply", "--instances", str(count))
    commands = [("sh", "-c", script, "sh", backlog) for backlog in ("100", "200")]
    for _ in each_kill(quick, *commands, alike=True):
        nothing_is_half_written(quick)
        quick.run("qgis-serverctl", "apply")
        is_whole(quick, count)


@pytest.mark.long
def test_a_change_of_the_queue_killed_at_each_step(quick: Testbed, each_kill: Kills) -> None:
    """There and back; apply alone completes it, whichever queue was asked for last."""
    count, shared = 2, "/run/qgis-server.sock"
    own = [path(n) for n in range(1, count + 1)]
    wants = quick.root / "etc/systemd/system/qgis-server.target.wants"
    dropin = quick.root / "etc/systemd/system/qgis-server@.service.d/10-queue.conf"
    quick.run("qgis-serverctl", "apply", "--instances", str(count))
    commands = [("qgis-serverctl", "queue", layout) for layout in ("shared", "per-worker")]
    for index in each_kill(quick, *commands, alike=True):
        nothing_is_half_written(quick)
        quick.run("qgis-serverctl", "apply")
        is_shared = status(quick)["settings"]["queue"]["value"] == "shared"
        kind = "service" if is_shared else "socket"
        links = {f"qgis-server@{n}.{kind}" for n in range(1, count + 1)}
        assert {link.name for link in wants.glob("qgis-server@*")} == links
        assert upstream(quick) == ([shared] if is_shared else own)
        assert sockets(quick) == ([] if is_shared else own)
        assert dropin.exists() == is_shared
        assert status(quick)["pending"] == []
        assert leftovers(quick) == ""
        nginx_is_content(quick)
        quick.run(*commands[index])
    quick.run(*commands[1])
    is_whole(quick, count)


def test_the_site_killed_at_each_step(quick: Testbed, each_kill: Kills) -> None:
    verbs = ("enable", "disable")
    welcome = quick.root / "etc/nginx/sites-enabled/default"
    site = quick.root / "etc/nginx/sites-enabled/qgis-server"
    commands = [("qgis-serverctl", "site", verb) for verb in verbs]
    for index in each_kill(quick, *commands, alike=True, fine=True):
        quick.run(*commands[index])
        nginx_is_content(quick)
        assert (site.is_symlink(), welcome.is_symlink()) == (index == 0, index == 1)
        assert quick.fetch("http://127.0.0.1/").status == (302 if index == 0 else 200)
        assert leftovers(quick) == ""


# ---- Full, read-only


def apply(bed: Testbed, *options: str) -> tuple[int, list[str]]:
    """The exit status of apply, and what it complains of."""
    done = bed.run("qgis-serverctl", "apply", *options, check=False)
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if "qgis-serverctl: " in line]
    said += [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    return done.returncode, said


def test_a_full_disk(quick: Testbed) -> None:
    for name in ("/var/lib/qgis-server-systemd", "/run/qgis-server-systemd", "/etc/qgis-server"):
        print(name)
        is_full(quick, name)
        # What it held was made while it was mounted.
        quick.run("umount", name)
        quick.run("qgis-serverctl", "apply")


def is_full(bed: Testbed, folder: str) -> None:
    cores = cpus_of_init(bed)
    fill(bed, folder)
    failed, said = apply(bed, "--instances", str(cores + 1))
    assert failed == 1
    assert said
    assert all(f"{folder}/" in line and "No space left on device" in line for line in said)
    if not folder.startswith("/etc/"):  # where dpkg itself needs room
        bed.run("dpkg", "--install", DEB)
        assert version(bed) == "0.1.0-1"
    assert sockets(bed)[:cores] == [path(n) for n in range(1, cores + 1)]
    nothing_is_half_written(bed)
    bed.run("rm", f"{folder}/filler")
    assert apply(bed, "--instances", str(cores + 1)) == (0, [])
    is_whole(bed, cores + 1)
    assert apply(bed, "--instances", str(cores)) == (0, [])
    is_whole(bed, cores)


def test_etc_is_read_only(quick: Testbed) -> None:
    cores = cpus_of_init(quick)
    quick.run("qgis-serverctl", "apply", "--instances", str(cores))
    quick.run("sh", "-c", "mount --bind /etc /etc && mount -o remount,bind,ro /etc")
    failed, said = apply(quick, "--instances", str(cores + 1))
    auto = "/etc/qgis-server/server.auto.toml"
    assert (failed, said) == (1, [f"qgis-serverctl: {auto}: Read-only file system"])
    # A boot with more cores, of an image whose /etc can't be written.
    quick.run("umount", "/etc")
    (quick.root / "etc/qgis-server/server.toml").write_text(f"instances = {cores + 2}\n")
    quick.run("sh", "-c", "mount --bind /etc /etc && mount -o remount,bind,ro /etc")
    failed, said = apply(quick)
    assert failed == 1
    # Of the pool; of the lane for heavy requests, which follows it.
    assert len(said) == 3 + 3, said
    assert all("Read-only file system" in line for line in said)
    assert enabled(quick) == list(range(1, cores + 1))
    assert sockets(quick) == [path(n) for n in enabled(quick)] == upstream(quick)
    quick.run("umount", "/etc")
    assert apply(quick) == (0, [])
    is_whole(quick, cores + 2)


# ---- systemctl hangs or fails


def stub(bed: Testbed, verb: str, what: str) -> None:
    """Make systemctl do something else where it is asked to do one thing."""
    file = bed.root / "usr/local/bin/systemctl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'#!/bin/sh\ncase " $* " in *" {verb} "*) {what} ;; esac\nexec /usr/bin/systemctl "$@"\n'
    )
    file.chmod(0o755)


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_systemctl_lets_down(quick: Testbed, how: str) -> None:
    # Patience costs a test only time.
    host = "/usr/share/qgis-server-systemd/qgis_serverctl/pool/host.py"
    quick.run("sed", "-i", r"s/^\([A-Z]*_TIMEOUT\) = .*/\1 = 2/", host)
    quick.run("sed", "-i", "s/stop_timeout + 30/request_timeout - 298/", host)
    quick.run("sed", "-i", "s/timeout: float = 60/timeout: float = 2/", host)
    for verb in ("enable", "daemon-reload", "start", "reload", "stop", "show"):
        print(verb, how)
        lets_down(quick, verb, how)


def lets_down(bed: Testbed, verb: str, how: str) -> None:
    cores = cpus_of_init(bed)
    shrink = verb == "stop"
    counts = (cores + 1, cores) if shrink else (cores, cores + 1)
    bed.run("qgis-serverctl", "apply", "--instances", str(counts[0]))
    stub(bed, verb, "exec sleep 600" if how == "hangs" else "echo Out of luck. >&2; exit 1")
    failed, said = apply(bed, "--instances", str(counts[1]))
    assert failed == 1
    assert len(said) == 1, said
    answer = "no answer within" if how == "hangs" else "Out of luck."
    assert f"systemctl {verb}" in said[0]
    assert answer in said[0]
    for n in range(1, cores + 1):
        assert path(n) in sockets(bed)
        assert path(n) in upstream(bed)
    nothing_is_half_written(bed)
    (bed.root / "usr/local/bin/systemctl").unlink()
    assert apply(bed) == (0, [])
    is_whole(bed, counts[1])


def test_systemd_itself_hangs(quick: Testbed) -> None:
    """dpkg goes on after a bounded time, and says what is left to do."""
    cores = cpus_of_init(quick)
    os.kill(quick.pid, signal.SIGSTOP)
    try:
        done = quick.run("dpkg", "--install", DEB)
    finally:
        os.kill(quick.pid, signal.SIGCONT)
    assert version(quick) == "0.1.0-1"
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("qgis-serverctl: "))
    assert said.startswith("qgis-serverctl: systemctl show: ")
    assert said.endswith("(when systemd answers again, run qgis-serverctl apply)")
    assert "the pool is not complete, see above; then run: qgis-serverctl apply" in done.stderr
    assert apply(quick) == (0, [])
    is_whole(quick, cores)
