# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker as a process: its memory, and the files that it runs. All of it needs
root, or the worker's own user; anybody else gets None."""

import os
import platform
import re
from pathlib import Path


def _megabytes(file: str, name: str) -> float | None:
    """The value of a line "NAME:  123 kB" of a file in /proc."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def memory_total() -> float:
    """MB of the machine (/proc/meminfo, proc(5)); 0 where it can't be told."""
    return _megabytes("/proc/meminfo", "MemTotal") or 0


def memory(pid: int) -> float | None:
    """MB that the process takes, a part of each page that it shares with others
    included (Pss of /proc/PID/smaps_rollup, proc(5))."""
    return _megabytes(f"/proc/{pid}/smaps_rollup", "Pss")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat (proc(5)), from state on. Raises OSError."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def started(pid: int) -> float | None:
    """When the process began, in seconds of the clock of time.CLOCK_BOOTTIME (field starttime
    of /proc/PID/stat, proc(5))."""
    try:
        return int(_stat(pid)[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def private_memory(pid: int) -> float | None:
    """MB that are the process's own (RssAnon in proc(5)): leaks are, libraries aren't."""
    return _megabytes(f"/proc/{pid}/status", "RssAnon")


def is_stopped(pid: int) -> bool:
    """Has a signal (SIGSTOP) or a debugger stopped the process (field state of /proc/PID/stat,
    proc(5))? It then does nothing, though it may be in accept(2)."""
    try:
        return _stat(pid)[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def switches(pid: int) -> int | None:
    """How often the main thread of a process has waited; None if that can't be told. One that
    serves requests waits at each of them, and one that is idle waits for ever (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def replaced(maps: str, program: str) -> tuple[str, ...]:
    """Files that were replaced on disk since the process has mapped them: `program`
    and the libraries of QGIS, in the text of /proc/PID/maps (proc(5))."""
    found = set()
    for line in maps.splitlines():
        if not line.endswith(" (deleted)"):
            continue
        file = line.split(maxsplit=5)[-1].removesuffix(" (deleted)")
        # A worker may map files of any name: others would be words of its choice.
        if file == program or re.fullmatch(r"[\w/.+-]*/libqgis[\w.+-]*\.so[.0-9]*", file, re.A):
            found.add(file)
    return tuple(sorted(found))


def replaced_files(pid: int, program: str) -> tuple[str, ...] | None:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return replaced(maps, program)


def qgis_library(program: Path) -> str | None:
    """The name of QGIS Server's library that a program is linked with."""
    try:
        found = re.search(rb"libqgis_server\.so\.\d+\.\d+\.\d+\0", program.read_bytes())
    except OSError:
        return None
    return found[0].rstrip(b"\0").decode() if found else None


def qgis_library_file(program: Path, root: Path) -> Path | None:
    """Where that library is: beside the program, or in the system's folders below `root`."""
    if (name := qgis_library(program)) is None:
        return None
    system = root / "usr/lib"
    folders = (program.parent.parent / "lib", system, system / f"{platform.machine()}-linux-gnu")
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def qgis_cancels(program: Path, root: Path) -> bool:
    """Does this QGIS Server end a request whose client hangs up? Since 3.38 it has a thread for
    that (QgsSocketMonitoringThread)."""
    file = qgis_library_file(program, root)
    try:
        return file is not None and b"QgsSocketMonitoringThread" in file.read_bytes()
    except OSError:
        return False


def qgis_version(program: Path) -> str | None:
    """The release of QGIS that a program belongs to: the name of the library that it
    is linked with ends in it, wherever the program came from."""
    name = qgis_library(program)
    return name.removeprefix("libqgis_server.so.") if name else None
