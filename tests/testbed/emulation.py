# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs for 64-bit ARM, which the kernel has run by qemu's emulator of programs (binfmt_misc in
the kernel's documentation)."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .locks import lock, locked
from .processes import need_root, tool

NAME = "qgis-server-systemd-arm64"
# For what runs such programs. The processor that the emulator has by default has cache lines of 32
# bytes, by which NGINX chooses the size of its tables; no real one has.
PROCESSOR = {"QEMU_CPU": "cortex-a72"}
# The kernel has one list for the whole machine, whatever cache its runs use.
FOLDER = Path("/run/qgis-server-systemd-binfmt")
LIST, TURN, USERS = FOLDER / "list", FOLDER / "lock", FOLDER / "users"
# How such a program begins, and which bits of that are looked at (elf(5)).
MAGIC = bytes.fromhex("7f454c460201010000000000000000000200b700")
MASK = bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff")


def runs_arm(entry: Path) -> bool:
    """Is this one registered for such programs, also in a chroot that has no emulator?"""
    lines = entry.read_text().splitlines() if entry.name not in ("register", "status") else []
    flags = "".join(line.removeprefix("flags:") for line in lines if line.startswith("flags:"))
    return "enabled" in lines and f"magic {MAGIC.hex()}" in lines and "F" in flags


def register() -> None:
    """Mount the kernel's list, and add the emulator unless the machine has one in it."""
    emulator = tool("qemu-aarch64-static", "qemu-user-static")
    LIST.mkdir(exist_ok=True)
    if not os.path.ismount(LIST):
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", LIST], check=True)
    if not any(map(runs_arm, LIST.iterdir())):
        magic, mask = ("".join(f"\\x{byte:02x}" for byte in one) for one in (MAGIC, MASK))
        # P: a program learns by which name it was called. F: the emulator is opened now, so that
        # it is found from a chroot.
        (LIST / "register").write_text(f":{NAME}:M::{magic}:{mask}:{emulator}:PF")


def withdraw() -> None:
    """Undo `register`."""
    if (entry := LIST / NAME).exists():
        entry.write_text("-1")
    if os.path.ismount(LIST):
        subprocess.run(["umount", LIST], check=True)


@contextlib.contextmanager
def arm_programs() -> Iterator[None]:
    """Such programs run while the context lasts; the last one of several takes it back."""
    if platform.machine() == "aarch64":
        yield
        return
    need_root()
    with contextlib.ExitStack() as stack:
        with locked(TURN):
            guard = lock(USERS, shared=True)
            assert guard is not None
            stack.callback(_leave, guard)
            register()
        yield


def _leave(guard: int) -> None:
    os.close(guard)
    with locked(TURN):
        last = lock(USERS, wait=False)
        if last is not None:
            withdraw()
            os.close(last)
