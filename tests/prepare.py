# SPDX-License-Identifier: GPL-2.0-or-later
"""Install what a target of the Makefile needs: python3 tests/prepare.py TARGET

Debian packages come through apt, after saying which; Python packages go into
.venv beside the Makefile. What is there already is left alone. Runs before
anything is installed, so it uses the standard library alone.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
VENV = TOP / ".venv"
QEMU = {"aarch64": "qemu-system-arm"}.get(platform.machine(), "qemu-system-x86")

BUILD = ("build-essential", "debhelper", "dh-python", "po-debconf", "python3-venv")
BOOT = ("iproute2", "mmdebstrap", "systemd-container", "util-linux")
CHECK = ("e2fsprogs", "groff-base", "man-db", "shellcheck", QEMU)
ROLL_OUT = ("openssh-client",)
# What `publish` uses, and others that take its packages.
PUBLISH = ("aptly", "apt-utils", "gnupg", "gpgv", "reprepro")
NEEDED = {
    "deb": BUILD,
    "demo": BUILD + BOOT,
    "dist": BUILD,
    "bench": BUILD + BOOT,
    "unit": ("po-debconf", "python3-venv", *CHECK),
    "test": BUILD + BOOT + CHECK + PUBLISH + ROLL_OUT,
    "test-all": BUILD + BOOT + CHECK + PUBLISH + ROLL_OUT,
}


def installed(package: str) -> bool:
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(asked, capture_output=True, text=True).stdout == "installed"


def install_debian(packages: list[str]) -> None:
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            sys.exit(f"prepare: as root, run: {' '.join(command)}")
        command.insert(0, "sudo")
    print(f"prepare: installing Debian packages: {' '.join(packages)}", flush=True)
    update = [*command[: command.index("install")], "update", "--quiet"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (update, command):
        if subprocess.run(step, env=quiet).returncode != 0:
            sys.exit(f"prepare: failed: {' '.join(step)}")


def install_python() -> None:
    """Make .venv, or bring it up to date with pyproject.toml."""
    stamp = VENV / "prepared"
    wanted = hashlib.sha256((TOP / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
        return
    print("prepare: installing Python packages into .venv", flush=True)
    python = VENV / "bin" / "python"
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [str(python), "-m", "pip", "install", "--quiet", "--editable", f"{TOP}[dist,test]"],
    )
    for step in steps:
        if subprocess.run(step).returncode != 0:
            sys.exit(f"prepare: failed: {' '.join(step)}")
    stamp.write_text(wanted, encoding="ascii")


def main() -> None:
    target = sys.argv[1] if len(sys.argv) == 2 else ""
    if target not in NEEDED:
        sys.exit(f"usage: prepare.py {'|'.join(NEEDED)}")
    if missing := [package for package in NEEDED[target] if not installed(package)]:
        install_debian(missing)
    install_python()


if __name__ == "__main__":
    main()
