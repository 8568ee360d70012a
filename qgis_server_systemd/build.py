# SPDX-License-Identifier: GPL-2.0-or-later
"""``build``: make the package."""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from . import sources
from .lint import lint
from .qgis_serverctl.system.output import die, note
from .site import load
from .suites import chosen

NEEDED = ("dpkg-buildpackage", "dh", "dh_python3")


def check_tools() -> None:
    if missing := [tool for tool in NEEDED if not shutil.which(tool)]:
        die(
            f"not installed: {', '.join(missing)}",
            hint="apt install build-essential debhelper dh-python po-debconf",
        )


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does, so that nothing is left behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(command: list[str], cwd: Path, log: Path) -> int:
    """Run a command in a process group of its own, which goes with us. Returns its exit
    status."""
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # stdeb leaves a temporary folder behind.
            env={**os.environ, "LC_ALL": "C.UTF-8", "TMPDIR": os.fspath(log.parent)},
        )
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def step(what: str, command: list[str], cwd: Path) -> None:
    """Run a command, whose output goes beside the folder that it runs in. Raises Failure,
    showing the end of it."""
    log = cwd.with_name("log")
    if run(command, cwd, log) != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
        die(f"{what} failed:\n{tail}")


def build(output: Path, suite: str | None = None, site: Path | None = None) -> list[Path]:
    """Make source and binary package in a copy of the source, and move them to
    `output` when all is done. `site`: the file that describes it. Raises Failure, showing
    the end of the log."""
    load(site)
    check_tools()
    output.mkdir(parents=True, exist_ok=True)
    with unwinding(), tempfile.TemporaryDirectory(prefix="qgis-server-systemd-") as folder:
        work = Path(folder) / "source"
        sources.copy(work)
        note(f"building source and binary package{f' for {suite}' if suite else ''}")
        options = {"suite": suite, "site": site and site.absolute()}
        given = [f"--{name}={value}" for name, value in options.items() if value]
        arguments = ["sdist_dsc", *given] if given else []
        step("the build", [sys.executable, "setup.py", *arguments, "bdist_deb"], work)
        made = [
            file
            for file in sorted((work / "deb_dist").iterdir())
            if file.is_file() and not file.name.endswith(("_source.changes", "_source.buildinfo"))
        ]
        for file in made:
            if file.suffix == ".changes":
                lint(file, suite)
        return deliver(made, output)


def deliver(files: list[Path], output: Path) -> list[Path]:
    """Copy all of them beside, then rename: the temporary folder may be another file
    system, and another build may have the same output folder. The .changes, which names
    the others, comes last."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=output) as folder:
        beside = [Path(shutil.copyfile(file, Path(folder) / file.name)) for file in files]
        last = sorted(beside, key=lambda file: file.suffix == ".changes")
        return [file.replace(output / file.name) for file in last]


def command(args: argparse.Namespace) -> int:
    """The subcommand: one package after the other."""
    for suite in chosen(args.suite):
        for file in build(args.output, suite, args.site):
            print(file, flush=True)
    return 0
