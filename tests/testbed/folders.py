# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of each testbed, and what a run that crashed has left of one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

from .layers import cache_folder, say
from .locks import lock, locked
from .processes import end_recorded


def host_runs_systemd() -> bool:
    """Whether systemd is the host's init, as sd_booted(3) tells."""
    return Path("/run/systemd/system").is_dir()


def hierarchies() -> dict[str, Path]:
    """Where the kernel's hierarchies of control groups are mounted (cgroups(7)): by the
    controllers and names of one of version 1; that of version 2 is ""."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        names = {"cgroup2": [""], "cgroup": options.split(" ")[-1].split(",")}.get(kind, ())
        found |= {name: Path(fields.split()[4]) for name in names}
    return found


def cgroups_of(name: str) -> list[Path]:
    """The control groups of a testbed. Where the host's systemd is running, nspawn has a scope
    made; elsewhere two containers started from one group would share it and its units."""
    if host_runs_systemd():
        return []
    there = hierarchies()
    used = [there[key] for key in ("", "name=systemd") if key in there]
    return [folder / f"qgis-server-systemd-{name}" for folder in used]


def cpu_group_of(name: str) -> Path | None:
    """The control group in which the benchmark puts weights of a testbed's units into force; None
    where no hierarchy of the processor's is mounted."""
    folder = hierarchies().get("cpu")
    return None if folder is None else folder / f"qgis-server-systemd-{name}"


def remove_cgroup(path: Path) -> None:
    """Remove a control group and those below it; one with processes stays."""
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(path, topdown=False):
            Path(folder).rmdir()


def unmount(root: Path) -> None:
    """Unmount a testbed's overlay; it is busy until the last process has let it go."""
    deadline = time.monotonic() + 10
    while os.path.ismount(root):
        done = subprocess.run(["umount", root], capture_output=True, text=True)
        if done.returncode and time.monotonic() > deadline:
            subprocess.run(["umount", "--lazy", root], check=True)
        elif done.returncode:
            time.sleep(0.05)  # nothing tells when it is no longer busy; bounded above


def remove_bed(bed: Path) -> None:
    """End what a testbed recorded, unmount it and remove its folder."""
    for record in sorted(bed.glob("*.process")):
        end_recorded(record)
    unmount(bed / "root")
    for group in (*cgroups_of(bed.name), cpu_group_of(bed.name)):
        if group is not None:
            remove_cgroup(group)
    # The lock last: without it, another run's sweep would take the bed for a leftover and
    # remove it at the same time.
    for path in bed.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
    shutil.rmtree(bed, ignore_errors=True)


def sweep(beds: Path) -> None:
    """Remove what crashed runs left behind: the beds that nobody holds the lock of."""
    for bed in sorted(beds.iterdir()):
        guard = lock(bed / "lock", wait=False)
        if guard is not None:
            say(f"removing {bed.name}, left behind by a run that crashed")
            try:
                remove_bed(bed)
            finally:
                os.close(guard)


def new_bed(stack: contextlib.ExitStack) -> Path:
    """Make the folder of a testbed, locked for as long as the stack lasts."""
    cache = cache_folder()
    beds = cache / "beds"
    beds.mkdir(exist_ok=True)
    # One at a time, or a sweep could take a bed that is being made for a leftover.
    with locked(cache / "beds.lock"):
        sweep(beds)
        bed = beds / f"bed-{secrets.token_hex(4)}"
        bed.mkdir()
        guard = lock(bed / "lock")
        assert guard is not None
        stack.callback(os.close, guard)
        stack.callback(remove_bed, bed)
    return bed
