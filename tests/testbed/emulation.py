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

from .layers import cache_folder
from .locks import lock, locked
from .processes import need_root, tool

NAME = "qgis-server-systemd-arm64"
# How such a program begins, and which bits of that are looked at (elf(5)).
MAGIC = bytes.fromhex("7f454c460201010000000000000000000200b700")
MASK = bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff")


def runs_arm(entry: Path) -> bool:
    """Is this one registered for such programs, also in a chroot that has no emulator?"""
    lines = entry.read_text().splitlines() if entry.name not in ("register", "status") else []
    flags = "".join(line.removeprefix("flags:") for line in lines if line.startswith("flags:"))
    return "enabled" in lines and f"magic {MAGIC.hex()}" in lines and "F" in flags


def register(folder: Path) -> None:
    """Mount the kernel's list there, and add the emulator unless the machine has one in it."""
    emulator = tool("qemu-aarch64-static", "qemu-user-static")
    folder.mkdir(exist_ok=True)
    if not os.path.ismount(folder):
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", folder], check=True)
    if not any(map(runs_arm, folder.iterdir())):
        magic, mask = ("".join(f"\\x{byte:02x}" for byte in one) for one in (MAGIC, MASK))
        # P: a program learns by which name it was called. F: the emulator is opened now, so that
        # it is found from a chroot.
        (folder / "register").write_text(f":{NAME}:M::{magic}:{mask}:{emulator}:PF")


def withdraw(folder: Path) -> None:
    """Undo `register`."""
    with contextlib.suppress(FileNotFoundError):
        (folder / NAME).write_text("-1")
    subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def arm_programs() -> Iterator[None]:
    """Such programs run while the context lasts; the last one of several takes it back."""
    if platform.machine() == "aarch64":
        yield
        return
    need_root()
    cache = cache_folder()
    folder, users = cache / "binfmt_misc", cache / "binfmt.users"
    with contextlib.ExitStack() as stack:
        with locked(cache / "binfmt.lock"):
            guard = lock(users, shared=True)
            assert guard is not None
            stack.callback(_leave, cache / "binfmt.lock", guard, users, folder)
            register(folder)
        yield


def _leave(turn: Path, guard: int, users: Path, folder: Path) -> None:
    with locked(turn):
        os.close(guard)
        last = lock(users, wait=False)
        if last is not None:
            withdraw(folder)
            os.close(last)
