# SPDX-License-Identifier: GPL-2.0-or-later
"""Work that may hang, crash or eat memory, in a process of its own."""

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import memory

EVERY = 0.05
"""Seconds between two looks at a process."""

LATE = 0.25
"""Of the time between two looks, so many seconds count at most: the rest was for others."""

MOST_BYTES = 4 << 20
"""That a process may say."""

PATIENCE = 5.0
"""Seconds that a killed process may take to end; one that waits for a file system stays."""

Send = Callable[[dict[str, Any]], None]


@dataclass
class Outcome:
    """`end`: done, time, memory, crash or words (it said too much). `signal`: that it died of,
    else 0. `said`: what came before."""

    end: str = "done"
    signal: int = 0
    said: list[dict[str, Any]] = field(default_factory=list)


TICK = os.sysconf("SC_CLK_TCK")


def used(pid: int) -> tuple[bool, float]:
    """Does a process want to run, and how many seconds of a processor has it had (proc(5))?"""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
    except OSError:
        return False, 0.0
    return words[0] == "R", (int(words[11]) + int(words[12])) / TICK


def run(work: Callable[[Send], None], seconds: float, most: int) -> Outcome:
    """Let a process do the work, with so many bytes of memory, and for so many seconds in which it
    works or waits. Those in which it has no processor do not count, since these processes come
    after all others: a busy machine makes nothing hang."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _work(work, writing)
    os.close(writing)
    try:
        return _watch(pid, reading, seconds, most)
    finally:
        os.close(reading)


def _work(work: Callable[[Send], None], writing: int) -> None:
    """In the child, which does not return."""
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        # Where memory is short, this is the process to end.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        with open(writing, "w", encoding="ascii", closefd=False) as stream:

            def send(message: dict[str, Any]) -> None:
                stream.write(json.dumps(message) + "\n")
                stream.flush()

            work(send)
        status = 0
    finally:
        os._exit(status)


def _watch(pid: int, reading: int, seconds: float, most: int) -> Outcome:
    process = os.pidfd_open(pid)
    heard = b""
    outcome = Outcome()
    waited, before = 0.0, time.monotonic()
    try:
        while True:
            ready, _, _ = select.select([reading, process], [], [], EVERY)
            if reading in ready:
                piece = os.read(reading, 1 << 16)
                heard += piece
                if not piece and process in ready:
                    break
            elif process in ready:
                break
            now = time.monotonic()
            runs, worked = used(pid)
            waited += 0.0 if runs else min(now - before, LATE)
            before = now
            if len(heard) > MOST_BYTES:
                outcome.end = "words"
            elif memory.private(pid) > most:
                outcome.end = "memory"
            elif waited + worked > seconds:
                outcome.end = "time"
            if outcome.end != "done":
                os.kill(pid, signal.SIGKILL)
                break
        if select.select([process], [], [], PATIENCE)[0]:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if outcome.end == "done" and code:
                # Nobody else here kills: it was the kernel, for want of memory.
                outcome.end = "memory" if code == -signal.SIGKILL else "crash"
                outcome.signal = max(0, -code)
    finally:
        os.close(process)
    for line in heard.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            outcome.said.append(json.loads(line))
    return outcome
