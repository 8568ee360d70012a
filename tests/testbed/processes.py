# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes of the host: they are recorded, run with a clean environment, and ended."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import TestbedError

OUTPUT_SHOWN = 20_000
# Starts a program under its own record: exec keeps the process ID and the start time. The
# arguments are the record's file, the control groups to join, "--" and the command.
LAUNCH = """
cat /proc/sys/kernel/random/boot_id /proc/$$/stat >"$0"
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
exec "$@"
"""


def start_time(stat: str) -> tuple[int, str]:
    """Process ID and start time of a line of /proc/PID/stat."""
    # The name in the parentheses may hold anything, spaces and parentheses too.
    return int(stat.split(" ", 1)[0]), stat.rpartition(")")[2].split()[19]


def open_recorded(record: Path) -> tuple[int, int] | None:
    """Process ID and pidfd of a recorded process, or None if that very process is gone."""
    boot_id, _, stat = record.read_text().partition("\n")
    if boot_id != Path("/proc/sys/kernel/random/boot_id").read_text().strip() or not stat:
        return None
    pid, started = start_time(stat)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Compared after the pidfd was opened, so that it cannot be another process's by now.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if start_time(Path(f"/proc/{pid}/stat").read_text())[1] == started:
            return pid, descriptor
    os.close(descriptor)
    return None


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, tasks.read_text().split())
    return found


def end_process(pid: int, descriptor: int) -> None:
    """End a process and what it is the parent of."""
    offspring = children(pid)
    for child in offspring:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    # nspawn goes by itself, tidily, once the init of its container has gone.
    if not (offspring and select.select([descriptor], [], [], 10)[0]):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], 10)


def end_own(process: subprocess.Popen[bytes]) -> None:
    """End a process that this one started."""
    if process.poll() is None:
        descriptor = os.pidfd_open(process.pid)
        try:
            end_process(process.pid, descriptor)
        finally:
            os.close(descriptor)
    process.wait()


def end_recorded(record: Path) -> None:
    """End a recorded process of another run, if it still lives."""
    if (opened := open_recorded(record)) is not None:
        try:
            end_process(*opened)
        finally:
            os.close(opened[1])


def launcher(record: Path, *argv: str, cgroups: Iterable[Path] = ()) -> list[str]:
    """The command that runs argv under a record and in these control groups."""
    return ["/bin/sh", "-ec", LAUNCH, str(record), *map(str, cgroups), "--", *argv]


def tool(name: str, package: str) -> str:
    """The path of a program of the host."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise TestbedError(f"{name} is missing: install the Debian package {package}")
    return found


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What programs in a testbed see: nothing of the caller's environment."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "DEBIAN_FRONTEND": "noninteractive",
        "SYSTEMD_COLORS": "0",
        "SYSTEMD_PAGER": "",
        **(extra or {}),
    }


def execute(
    command: list[str],
    *,
    shown: tuple[str, ...],
    check: bool,
    input: bytes | None,
    env: Mapping[str, str] | None,
    timeout: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command that enters a testbed; shown is what a failure's message calls it."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(env),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(input, timeout)
    except BaseException as reason:
        # The whole group: ending nsenter alone leaves its child, which holds the pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if isinstance(reason, subprocess.TimeoutExpired):
            raise AssertionError(
                describe(shown, f"no end within {timeout:g} s", out, err)
            ) from None
        raise
    if check and process.returncode:
        raise AssertionError(describe(shown, f"exit status {process.returncode}", out, err))
    return subprocess.CompletedProcess(list(shown), process.returncode, out, err)


def describe(argv: Iterable[str], verdict: str, out: bytes, err: bytes) -> str:
    """The message of a failed command."""
    parts = [f"{shlex.join(argv)}: {verdict}"]
    for name, data in (("stdout", out), ("stderr", err)):
        parts.append(f"--- {name}\n{data[-OUTPUT_SHOWN:].decode(errors='replace').rstrip()}")
    return "\n".join(parts)


def decoded(
    done: subprocess.CompletedProcess[bytes],
) -> subprocess.CompletedProcess[str]:
    """The same result as text."""
    return subprocess.CompletedProcess(
        done.args,
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


def need_root() -> None:
    """Refuse to start what only root can do."""
    if os.geteuid() != 0:
        raise TestbedError("testbeds mount file systems and boot containers: run as root")


def unwind_on_termination() -> None:
    """Take it as Ctrl-C: the with statements end their testbeds, and pytest its fixtures."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
