# SPDX-License-Identifier: GPL-2.0-or-later
"""Cached layers: built once, under a lock, and removed when they are old."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import TestbedError
from .locks import lock, lock_of, locked
from .processes import tool

MAX_AGE = 30 * 24 * 3600


def cache_folder() -> Path:
    """The cache folder, made if missing."""
    if named := os.environ.get("QGIS_SERVER_SYSTEMD_CACHE"):
        folder = Path(named)
    else:
        xdg = os.environ.get("XDG_CACHE_HOME")
        folder = (Path(xdg) if xdg else Path.home() / ".cache") / "qgis-server-systemd"
    folder.mkdir(parents=True, exist_ok=True)
    kind = subprocess.check_output(["stat", "--file-system", "--format=%T", folder], text=True)
    if kind.strip() in ("overlayfs", "tmpfs"):
        raise TestbedError(
            f"the cache {folder} is on {kind.strip()}: set QGIS_SERVER_SYSTEMD_CACHE to a folder "
            "on a disk's file system"
        )
    return folder.resolve()


def say(message: str) -> None:
    """Report progress."""
    print(f"testbed: {message}", file=sys.stderr, flush=True)


def digest(*parts: str | bytes) -> str:
    """A short hash of the parts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:12]


def fresh(layer: Path) -> bool:
    """Whether a cached layer is there and not too old."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - (layer / ".built").stat().st_mtime < MAX_AGE
    return False


def in_use(layer: Path) -> bool:
    """Whether a testbed stands over a cached layer."""
    guard = lock(lock_of(layer), wait=False)
    if guard is not None:
        os.close(guard)
    return guard is None


def discard(folder: Path) -> None:
    """Remove a cached layer unless a testbed uses it."""
    guard = lock(lock_of(folder), wait=False)
    if guard is None:
        return
    try:
        grave = folder.with_name(f".old-{folder.name}-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(grave)
            shutil.rmtree(grave)
        lock_of(folder).unlink(missing_ok=True)
    finally:
        os.close(guard)


def install_layer(new: Path, layer: Path) -> None:
    """Put a new layer into its place, and remove those that it makes stale."""
    (new / ".built").touch()
    suite = layer.name.partition("-")[0]
    for other in sorted(layer.parent.glob(f"{suite}-*")):
        if other.is_dir():
            discard(other)
    if layer.exists():  # a testbed started over it meanwhile
        shutil.rmtree(new)
    else:
        new.rename(layer)


def cached_layer(layer: Path, build: Callable[[Path, int], None]) -> Path:
    """Return the layer, built if it is missing or stale."""
    if fresh(layer):
        return layer
    with locked(layer.parent / f".build-{layer.name}.lock") as guard:
        if fresh(layer):
            return layer
        if layer.exists() and in_use(layer):
            say(f"{layer.name} is too old but in use: it stays until a later run")
            return layer
        for leftover in layer.parent.glob(f".new-{layer.name}-*"):
            shutil.rmtree(leftover)
        new = layer.parent / f".new-{layer.name}-{secrets.token_hex(4)}"
        try:
            build(new, guard)
            install_layer(new, layer)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return layer


def relay(command: list[str], guard: int, what: str) -> None:
    """Run a builder with its output on stderr, in namespaces that take its mounts and processes
    with them. It inherits the build's lock: while it outlives a killed run, no other builds."""
    process = subprocess.Popen(
        [
            tool("unshare", "util-linux"),
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
            "--",
            *command,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(guard,),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.strip():
                say(f"{what}: {line.rstrip()}")
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status:
        raise TestbedError(f"{what}: {Path(command[0]).name} failed ({status}), see its output")


@contextlib.contextmanager
def hold_layer(get: Callable[[], Path]) -> Iterator[Path]:
    """Get a cached layer and lock it against removal."""
    while True:
        layer = get()
        guard = lock(lock_of(layer), shared=True)
        assert guard is not None
        try:
            if layer.is_dir():  # or it was removed before the lock was had
                yield layer
                return
        finally:
            os.close(guard)
