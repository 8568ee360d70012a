# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGTERM ends a worker between two requests, never within one.

libfcgi means to do the same, but its handler interrupts a write(2) that waits for
NGINX, and libfcgi then cuts the reply off; and a signal that comes just before it waits
for a request is forgotten. So a handler takes its place that lets every system call go
on. A thread hears of the signal, tells libfcgi that this request is the last, and wakes
it if it waits for one.
"""

import ctypes
import os
import platform
import signal
import threading
import time
from pathlib import Path

# As in the helper's workers.py, which a worker does not import.
ACCEPT = {"x86_64": ("43", "288"), "aarch64": ("202", "242")}


def _wait(pipe: int, thread: int, native: int, calls: tuple[str, ...]) -> None:
    while os.read(pipe, 1)[0] != signal.SIGTERM:
        pass
    ctypes.CDLL(None).FCGX_ShutdownPending()
    syscall = Path(f"/proc/self/task/{native}/syscall")
    while True:
        words = syscall.read_text(encoding="ascii").split()
        if words[0] in calls and words[1] == "0x0":
            # libfcgi's handler for this one does nothing but interrupt accept(2).
            signal.pthread_kill(thread, signal.SIGUSR1)
        time.sleep(0.02)  # until the process ends: nothing tells that it waits in accept(2)


def install() -> None:
    """Called in the thread that serves, when the worker is about to take requests: until
    then SIGTERM shall end it at once. Elsewhere than on the listed architectures
    libfcgi's own handler stays."""
    calls = ACCEPT.get(platform.machine())
    if calls is None:
        return
    hear, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(hear, True)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.siginterrupt(signal.SIGTERM, False)
    main = threading.get_ident(), threading.get_native_id()
    threading.Thread(target=_wait, args=(hear, *main, calls), daemon=True).start()
