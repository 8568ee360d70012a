# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that a command works on, and how systemd is spoken to there."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .log import Failure, die
from .package import Package

SYSTEMCTL_TIMEOUT = 600
"""Seconds; longer than a worker may take to stop."""


class Forbidden(Failure):
    """policy-rc.d does not want services started or reloaded."""


@dataclass(frozen=True)
class Host:
    """A root folder, seen by an administrator or by a maintainer script.

    `maintainer`: a maintainer script calls, so policy-rc.d has a say in what is
    started, as deb-systemd-invoke(1p) does it.
    """

    package: Package
    root: Path = Path("/")
    maintainer: bool = False

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    @property
    def live(self) -> bool:
        """Is there a running systemd to talk to (sd_booted(3))?"""
        return self.root == Path("/") and Path("/run/systemd/system").is_dir()

    def command(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command quietly; a missing program or a hang is a failed run."""
        try:
            return subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]} is not installed")
        except subprocess.TimeoutExpired:
            message = f"{argv[0]} did not answer within {timeout:.0f} s"
            return subprocess.CompletedProcess(argv, 124, "", message)

    def enablement(self, verb: str, *units: str) -> subprocess.CompletedProcess[str]:
        """Make or drop the links of units; works with and without systemd."""
        extra = ["--preset-mode=enable-only"] if verb == "preset" else []
        return self.command("systemctl", f"--root={self.root}", "--quiet", *extra, verb, *units)

    def systemctl(self, verb: str, *args: str) -> None:
        """Ask the running systemd; raises Failure with its own words."""
        invoke = self.maintainer and verb in ("start", "stop", "restart", "try-restart", "reload")
        program = "deb-systemd-invoke" if invoke else "systemctl"
        done = self.command(program, verb, *args, timeout=SYSTEMCTL_TIMEOUT)
        if invoke and "policy-rc.d returned 101" in done.stderr:
            raise Forbidden(f"policy-rc.d forbids to {verb} {' '.join(args)}")
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            die(f"systemctl {verb} {' '.join(args)}: {said[0]}", hint="journalctl -xe tells more")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit as systemctl show prints them, empty if unknown."""
        done = self.command("systemctl", "show", f"--property={','.join(properties)}", unit)
        pairs = (line.partition("=") for line in done.stdout.splitlines())
        return {name: value for name, _, value in pairs}
