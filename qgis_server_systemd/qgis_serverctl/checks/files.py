# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of files: settings, folders, environment, fonts, unit files."""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..config.names import HEAVY_WORD
from ..config.stored import Mistakes, read
from ..pool.host import Host
from ..pool.settings import auto_file, settings_file
from ..system import access, environment_file
from ..system.access import Obstacle, Question
from ..system.files import read_or_none
from ..system.output import Failure
from ..view.look import Look
from .finding import Finding, error, warning

FREE = 16
"""MB that must be free: a render's temporary file and all that systemd writes."""


ANSWER = 5.0
"""Seconds in which a file system must answer."""


FONTS = ("/usr/share/fonts", "/usr/local/share/fonts")
"""Where Debian's fontconfig looks (fonts.conf), the user's own folders aside."""


def check_settings(host: Host, look: Look) -> Iterator[Finding]:
    """All files, not just the first that has a mistake."""
    file = settings_file(host)
    wrong: list[tuple[Path, str]] = []
    for each in (file, auto_file(host)):
        if not look.root and not os.access(each, os.R_OK):
            continue
        try:
            read(each)
        except Mistakes as mistakes:
            wrong += [(each, told) for told in mistakes.told]
        except Failure as problem:
            wrong.append((each, str(problem)))
    if not wrong and look.root and look.obstacle:
        wrong.append((file, look.obstacle))
    for place, told in wrong:
        where, what = str(place), told.removeprefix(f"{place}: ")
        if found := re.match(rf"({re.escape(where)}:\d+): ", told):
            where, what = found[1], told.removeprefix(found[0])
        remedy = f"edit {place}, then {host.package.command} apply"
        yield error("settings-invalid", what, where, remedy)


# ---- File systems that must answer


def silent(folders: Iterable[str]) -> tuple[str, ...]:
    """Those whose file system does not answer, such as one whose file server is gone: whoever looks
    at it waits for as long as that lasts. statvfs(2) asks the server, where stat(2) may be told
    from memory."""
    # Processes of their own, for which nobody waits: such a one may not even be killed.
    asked = {
        folder: subprocess.Popen(
            ("stat", "-f", "--", folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for folder in folders
    }
    end = time.monotonic() + ANSWER
    while any(one.poll() is None for one in asked.values()) and time.monotonic() < end:
        time.sleep(0.02)
    left = {folder: one for folder, one in asked.items() if one.poll() is None}
    for one in left.values():
        one.kill()
    return tuple(left)


def check_silent(found: Iterable[str]) -> Iterator[Finding]:
    for folder in found:
        yield error(
            "folder-silent",
            "its file system does not answer: whoever reads there waits, and no worker can start",
            folder,
            "see with findmnt what is mounted there, and make its file server answer; the workers "
            "then go on by themselves",
        )


# ---- What the pool's user must reach


def folders(host: Host) -> tuple[str, ...]:
    """Folders in which workers write; systemd makes those that are missing."""
    package = host.package
    cache = host.path(package.cache)
    caches = sorted((*cache.glob("[0-9]*"), *cache.glob(f"{HEAVY_WORD}[0-9]*")))
    there = (f"{package.cache}/{folder.name}" for folder in caches)
    return tuple(folder for folder in there if host.path(folder).is_dir())


def check_folders(host: Host, found: dict[Question, Obstacle]) -> Iterator[Finding]:
    user = host.package.user
    for folder in folders(host):
        obstacle = found.get(Question(folder, "w"))
        if obstacle:
            itself = obstacle.path == os.path.realpath(folder)
            yield error(
                "folder-not-writable",
                f"the workers' user {user} can't write there"
                if itself
                else f"the workers' user {user} can't enter {obstacle.path}",
                folder,
                f"chown -R {user}: {folder} && chmod u+rwx {folder}"
                if itself
                else access.opening(folder, obstacle),
            )


def edited(host: Host, look: Look) -> tuple[str, ...]:
    """Folders that the settings make writable, as far as they are there."""
    named = look.settings.writable_folders if look.settings else ()
    return tuple(folder for folder in named if host.path(folder).is_dir())


def check_edited(host: Host, look: Look, found: dict[Question, Obstacle]) -> Iterator[Finding]:
    package = host.package
    for folder in edited(host, look):
        if obstacle := found.get(Question(folder, "w")):
            itself = obstacle.path == os.path.realpath(folder)
            place = shlex.quote(folder)
            yield warning(
                "folder-not-writable",
                f"permissions keep the workers' user {package.user} from writing there (setting"
                " writable_folders)",
                folder,
                f"chgrp -R {package.group} {place} && chmod -R g+rwX {place}"
                if itself
                else access.opening(folder, obstacle),
            )


def check_access(host: Host, look: Look) -> Iterator[Finding]:
    user = host.package.user
    try:
        written = (*folders(host), *edited(host, look))
        found = access.as_user(user, (Question(folder, "w") for folder in written))
    except KeyError:
        yield error("user-missing", f"there is no user {user}", user, "systemd-sysusers")
        return
    yield from check_folders(host, found)
    yield from check_edited(host, look, found)


# ---- Disks


@dataclass(frozen=True)
class Disk:
    """`free`: MB. `inodes`: share that is free, None where they are not counted."""

    folder: str
    free: int
    inodes: float | None


def disks(host: Host) -> Iterator[Disk]:
    package = host.package
    seen = set()
    for folder in (package.state, package.data, package.cache, "/run", "/etc", "/tmp"):
        path = host.path(folder)
        if not path.is_dir() or path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        found = os.statvfs(path)
        inodes = found.f_favail / found.f_files if found.f_files else None
        yield Disk(folder, found.f_bavail * found.f_frsize // 2**20, inodes)


def check_disks(found: Iterable[Disk]) -> Iterator[Finding]:
    for disk in found:
        full = disk.free < FREE
        if full or (disk.inodes is not None and disk.inodes < 0.01):
            yield error(
                "disk-full",
                f"only {disk.free} MB are free" if full else "hardly any inode is free",
                disk.folder,
                f"make room: du -x -d1 -h {shlex.quote(disk.folder)} | sort -h",
            )


# ---- Environment


def check_environment(host: Host, look: Look) -> Iterator[Finding]:
    package = host.package
    file = f"{package.etc}/env"
    text = read_or_none(host.path(file))
    restart = f"systemctl restart {package.pool}.target"
    if text is None:
        yield error("env-missing", "no worker can start without it", file, f"touch {file}")
        return
    variables, complaints = environment_file.read(text)
    for complaint in complaints:
        yield warning(
            "env-malformed",
            f"line {complaint.line} {complaint.what}",
            f"{file}:{complaint.line}",
            f"sed -i '{complaint.line}s/^/#/' {file} && {restart}",
        )
    if "DISPLAY" in variables:
        yield warning(
            "env-display",
            "DISPLAY is set: workers need no display, and wait for that one",
            file,
            f"sed -i 's/^ *DISPLAY/#DISPLAY/' {file} && {restart}",
        )


# ---- Fonts and unit files


def check_fonts(host: Host) -> Iterator[Finding]:
    """By the files themselves: fc-list may not be installed."""
    kinds = {".ttf", ".otf", ".ttc", ".pfb", ".pfa", ".pcf", ".gz", ".woff", ".woff2"}
    for folder in FONTS:
        for _, _, files in os.walk(host.path(folder)):
            if any(Path(file).suffix.lower() in kinds for file in files):
                return
    yield warning(
        "fonts-missing",
        "no font is installed: labels are not drawn",
        FONTS[0],
        f"apt install fonts-dejavu-core && systemctl restart {host.package.pool}.target",
    )


def check_shadows(host: Host, look: Look) -> Iterator[Finding]:
    for file in look.server.shadows.files:
        yield warning(
            "unit-shadowed",
            "hides the package's own unit",
            file,
            f"{host.package.command} adopt",
        )
