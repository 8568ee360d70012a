# SPDX-License-Identifier: GPL-2.0-or-later
"""Install what a target of the Makefile needs: python3 tests/prepare.py TARGET

Debian packages come through apt, Python packages from PyPI into .venv beside the
Makefile; it says which. What is there already is left alone. Runs before anything
is installed, so it uses the standard library alone.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
VENV = TOP / ".venv"

DEBIANS = sys.base_prefix == "/usr"
"""Whether this is Debian's Python: no other one finds Debian's Python packages."""
LIBRARIES = {
    "jinja2": "python3-jinja2",
    "markdown-it-py": "python3-markdown-it",
    "python-debian": "python3-debian",
    "setuptools": "python3-setuptools",
}
"""Those of the tool's dependencies that Debian 12 and 13 have in a version that is enough."""
VENV_MODULE = ("python3-venv",) if DEBIANS else ()
# Before 70.1 setuptools needs wheel.
PYTHON = (*LIBRARIES.values(), *VENV_MODULE, "python3-wheel") if DEBIANS else ()

ARM = platform.machine() == "aarch64"
BUILD = ("build-essential", "debhelper", "dh-python", "po-debconf", *PYTHON)
BOOT = ("iproute2", "mmdebstrap", "systemd-container", "util-linux")
LINT = ("binutils", "groff-base", "man-db", "shellcheck")
BOOT_VM = ("e2fsprogs", "qemu-system-arm" if ARM else "qemu-system-x86")
ROLL_OUT = ("openssh-client",)
# What `publish` uses, and others that take its packages.
PUBLISH = ("aptly", "apt-utils", "gnupg", "gpgv", "reprepro")
TEST = (*BUILD, *BOOT, *LINT, *BOOT_VM, *PUBLISH, *ROLL_OUT)
# To install and boot a server of another architecture.
EMULATE = ("qemu-system-arm", "qemu-user-static")


@dataclass(frozen=True)
class Needs:
    """Debian packages, and the extras of pyproject.toml."""

    debian: tuple[str, ...]
    extras: tuple[str, ...] = ()


NEEDED = {
    "deb": Needs(BUILD),
    "demo": Needs((*BUILD, *BOOT)),
    "dist": Needs(BUILD, ("dist",)),
    "bench": Needs((*BUILD, *BOOT), ("bench",)),
    "unit": Needs((*VENV_MODULE, *LINT), ("test",)),
    "test": Needs(TEST, ("ansible", "bench", "dist", "test")),
    "test-all": Needs((*TEST, *EMULATE), ("ansible", "bench", "dist", "test")),
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


def install_python(wanted: tuple[str, ...]) -> None:
    """Make .venv with these extras of pyproject.toml, unless it is up to date and has them.
    Extras that it has are kept, so that targets can be made in turn."""
    stamp = VENV / "prepared"
    pyproject = (TOP / "pyproject.toml").read_bytes()
    now = hashlib.sha256(pyproject).hexdigest()
    before, *held = stamp.read_text(encoding="ascii").split() if stamp.is_file() else [""]
    if before == now and set(wanted) <= set(held):
        return
    extras = sorted({*wanted, *held})
    # Tests are run with the same versions everywhere, so with none of Debian's.
    with_debians = DEBIANS and "test" not in extras
    project = tomllib.loads(pyproject.decode())["project"]
    packages = [*project["dependencies"]]
    if with_debians:
        packages = [one for one in packages if re.split(r"[^\w-]", one)[0] not in LIBRARIES]
    packages += [one for extra in extras for one in project["optional-dependencies"][extra]]
    print(f"prepare: installing into .venv from PyPI: {', '.join(packages)}", flush=True)
    make = [sys.executable, "-m", "venv", "--clear"]
    pip = [str(VENV / "bin/python"), "-m", "pip", "install", "--quiet"]
    if with_debians:
        make.append("--system-site-packages")
        pip.append("--no-build-isolation")
    for step in (
        [*make, str(VENV)],
        [*pip, "--editable", f"{TOP}[{','.join(extras)}]" if extras else str(TOP)],
    ):
        if subprocess.run(step).returncode != 0:
            sys.exit(f"prepare: failed: {' '.join(step)}")
    stamp.write_text("\n".join([now, *extras, ""]), encoding="ascii")


def main() -> None:
    target = sys.argv[1] if len(sys.argv) == 2 else ""
    if target not in NEEDED:
        sys.exit(f"usage: prepare.py {'|'.join(NEEDED)}")
    needs = NEEDED[target]
    if missing := [package for package in needs.debian if not installed(package)]:
        install_debian(missing)
    install_python(needs.extras)


if __name__ == "__main__":
    main()
