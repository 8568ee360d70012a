# SPDX-License-Identifier: GPL-2.0-or-later
"""What lintian says of a package that was made."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from .qgis_serverctl.system.output import die, note, warn
from .suites import SUITES


def release() -> str:
    """The release of Debian that this machine has, and whose rules its lintian knows."""
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def lint(changes: Path, suite: str | None) -> None:
    """Tell what lintian finds, where it is there and of the suite that the package is made
    for. Raises Failure for errors."""
    here = release()
    if not shutil.which("lintian"):
        note("not linted: apt install lintian")
        return
    if here != suite and (suite or here not in SUITES):
        note(f"not linted: the rules of {suite or 'Debian'} are not those of this {here} machine")
        return
    note(f"looking for faults with the lintian of {here}")
    as_root = ["--allow-root"] if os.geteuid() == 0 else []
    done = subprocess.run(
        ["lintian", "--pedantic", "--fail-on", "error", *as_root, os.fspath(changes)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    tags = [line for line in done.stdout.splitlines() if not line.startswith("N:")]
    for tag in tags:
        warn(f"lintian: {tag}")
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"{changes.name} has errors, see above"]
        die(f"lintian: {said[0]}")
