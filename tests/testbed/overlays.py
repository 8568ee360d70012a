# SPDX-License-Identifier: GPL-2.0-or-later
"""Overlay file systems, and commands in a tree that is not booted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .processes import tool

# The shell stays process 1 of the new PID namespace: it reaps orphans, and the command keeps
# the default signal actions that the kernel takes from a process 1.
CHROOT = """
root=$0
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=0755,nosuid dev "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
set +e
chroot "$root" "$@"
exit $?
"""


def chroot_command(root: Path, *argv: str, before: str = "") -> list[str]:
    """The command that runs argv in a chroot with mount and PID namespaces of its own."""
    return [
        tool("unshare", "util-linux"),
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation=private",
        "--",
        "/bin/sh",
        "-ec",
        before + CHROOT,
        str(root),
        *argv,
    ]


def overlay_options(lower: Iterable[Path], upper: Path, work: Path) -> str:
    """The mount options of an overlay that is never mounted again: it need not sync."""

    def escaped(path: Path) -> str:
        return "".join("\\" + char if char in "\\,:" else char for char in str(path))

    layers = ":".join(map(escaped, lower))
    return f"lowerdir={layers},upperdir={escaped(upper)},workdir={escaped(work)},volatile"


def make_root(path: Path) -> Path:
    """Make a folder that serves as a root folder, whatever the umask."""
    path.mkdir(parents=True)
    path.chmod(0o755)
    return path
