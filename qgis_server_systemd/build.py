# SPDX-License-Identifier: GPL-2.0-or-later
"""``build``: make the package."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .qgis_serverctl.log import die, note
from .render import HERE
from .site import load

SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "debian",
    "pyproject.toml",
    "qgis_server_systemd",
    "setup.py",
)
NEEDED = ("dpkg-buildpackage", "dh", "dh_python3")


def check_tools() -> None:
    if missing := [tool for tool in NEEDED if not shutil.which(tool)]:
        die(
            f"not installed: {', '.join(missing)}",
            hint="apt install build-essential debhelper dh-python po-debconf",
        )


def copy_sources(target: Path) -> None:
    """Copy what the package is made from into a new folder."""
    target.mkdir()
    for name in SOURCES:
        source = HERE.parent / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)


def build(output: Path, suite: str | None = None, site: Path | None = None) -> list[Path]:
    """Make source and binary package in a copy of the source, and move them to
    `output` when all is done. `site`: the file that describes it. Raises Failure, showing
    the end of the log."""
    load(site)
    check_tools()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="qgis-server-systemd-") as folder:
        work = Path(folder) / "source"
        copy_sources(work)
        note("building source and binary package")
        options = {"suite": suite, "site": site and site.absolute()}
        given = [f"--{name}={value}" for name, value in options.items() if value]
        arguments = ["sdist_dsc", *given] if given else []
        log = Path(folder) / "log"
        with log.open("w", encoding="utf-8") as stream:
            done = subprocess.run(
                [sys.executable, "setup.py", *arguments, "bdist_deb"],
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        if done.returncode != 0:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
            die(f"the build failed:\n{tail}")
        made = [
            file
            for file in sorted((work / "deb_dist").iterdir())
            if file.is_file() and not file.name.endswith(("_source.changes", "_source.buildinfo"))
        ]
        return [_deliver(file, output) for file in made]


def _deliver(file: Path, output: Path) -> Path:
    """Copy beside, then rename: the temporary folder may be another file system."""
    beside = output / f".{file.name}.new"
    try:
        shutil.copyfile(file, beside)
        return beside.replace(output / file.name)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def command(args: argparse.Namespace) -> int:
    """The subcommand."""
    for file in build(args.output, args.suite, args.site):
        print(file)
    return 0
