# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that a command works on, and how systemd is spoken to there."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..config.names import Package
from ..config.settings import Settings
from ..system.files import write
from ..system.output import Failure, die

ANSWER_TIMEOUT = 30
"""Seconds within which systemd answers a question; it waits 25 for its own bus."""


JOB_TIMEOUT = 90
"""Seconds that a start or reload may take, and in a maintainer script anything:
apt must not hang on one server."""


STOP_TIMEOUT = Settings().stop_timeout + 30
"""Seconds that a stop may take, since a worker may finish its request first."""


TIMED_OUT = 124


class Forbidden(Failure):
    """policy-rc.d does not want services started or reloaded."""


class Unanswered(Failure):
    """systemd says nothing: it makes no sense to ask it more."""


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The first line that a failed command said, else its exit status."""
    lines = done.stderr.strip().splitlines()
    return lines[0] if lines else f"exit status {done.returncode}"


def properties(block: str) -> dict[str, str]:
    """The lines NAME=VALUE that systemctl show prints of one unit; of a name that is there several
    times, the values in lines."""
    found: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


@dataclass(frozen=True)
class Host:
    """A root folder, seen by an administrator or by a maintainer script.

    `maintainer`: a maintainer script calls, so policy-rc.d has a say in what is
    started, as deb-systemd-invoke(1p) does it.
    """

    package: Package
    root: Path = Path("/")
    maintainer: bool = False

    def need_root(self, to: str, command: str) -> None:
        """Raises Failure for other users: they may not do what the command does."""
        if os.geteuid() != 0:
            die(f"only root may {to}", hint=f"sudo {self.package.command} {command}")

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    @property
    def live(self) -> bool:
        """Is there a running systemd to talk to (sd_booted(3))?"""
        return self.root == Path("/") and Path("/run/systemd/system").is_dir()

    def command(
        self, *argv: str, timeout: float = 60, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command quietly; a missing program or a hang is a failed run. `input`: what it
        reads."""
        try:
            return subprocess.run(
                argv,
                input=input,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]} is not installed")
        except subprocess.TimeoutExpired:
            message = f"no answer within {timeout:.0f} s"
            return subprocess.CompletedProcess(argv, TIMED_OUT, "", message)

    def outside(self, *argv: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """The same, but in a unit of its own if the sandbox of ours would be in the way."""
        if not self.live or self.package.confined not in os.environ:
            return self.command(*argv, input=input)
        # Not --pipe and --wait, which need a bus that a small server has not got. systemd makes
        # files that everybody may read, and NGINX's configuration may hold secrets.
        private = self.path(f"{self.package.run}/private")
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = [private / f"{name}-{os.getpid()}" for name in ("out", "err", "in")]
        out, err, given = files
        away = ("systemd-run", "--quiet", "--collect", "--property=Type=oneshot")
        to = (
            "--property=TimeoutStartSec=60s",
            f"--property=StandardOutput=truncate:{out}",
            f"--property=StandardError=truncate:{err}",
            f"--property=StandardInput=file:{given}",
        )
        try:
            write(given, input, mode=0o600)
            done = self.command(*away, *to, "--", *argv)
            if not err.exists():
                return done
            texts = [file.read_text(encoding="utf-8", errors="replace") for file in (out, err)]
            return subprocess.CompletedProcess(argv, done.returncode, *texts)
        finally:
            for file in files:
                file.unlink(missing_ok=True)

    def enablement(self, verb: str, *units: str) -> subprocess.CompletedProcess[str]:
        """Make or drop the links of units; works with and without systemd."""
        extra = ["--preset-mode=enable-only"] if verb == "preset" else []
        return self.command("systemctl", f"--root={self.root}", "--quiet", *extra, verb, *units)

    def systemctl(self, verb: str, *args: str, patience: float = STOP_TIMEOUT) -> None:
        """Ask the running systemd; raises Failure with its own words. `patience`:
        seconds that a stop or restart may take."""
        invoke = self.maintainer and verb in ("start", "stop", "restart", "try-restart", "reload")
        program = "deb-systemd-invoke" if invoke else "systemctl"
        patient = verb in ("stop", "restart", "try-restart") and not self.maintainer
        timeout = patience if patient else JOB_TIMEOUT
        done = self.command(program, verb, *args, timeout=timeout)
        if done.returncode == TIMED_OUT:
            raise Unanswered(f"systemctl {verb} {' '.join(args)}: {done.stderr}", self._later)
        if invoke and "policy-rc.d returned 101" in done.stderr:
            raise Forbidden(f"policy-rc.d forbids to {verb} {' '.join(args)}")
        if done.returncode != 0:
            unit = " ".join(args)
            die(f"systemctl {verb} {unit}: {complaint(done)}", hint="journalctl -xe tells more")

    def ask(self, verb: str, *args: str) -> str:
        """What systemd replies. Raises Failure where it does not: to take that
        for "nothing runs" would end in stopping or forgetting what does."""
        done = self.command("systemctl", verb, *args, timeout=ANSWER_TIMEOUT)
        if done.returncode != 0:
            raise Unanswered(f"systemctl {verb}: {complaint(done)}", self._later)
        return done.stdout

    @property
    def _later(self) -> str:
        return f"when systemd answers again, run {self.package.command} apply"

    def start_later(self, unit: str) -> None:
        """Have a unit started, but don't wait for it. deb-systemd-invoke can't do
        that, and starts no unit that is merely static: so policy-rc.d is asked here. A
        run that has done its work and is about to end is cut off: systemd would take
        it for the one that is to be started."""
        policy = "/usr/sbin/policy-rc.d"
        asked = self.maintainer and os.access(policy, os.X_OK)
        if asked and self.command(policy, unit, "start").returncode == 101:
            raise Forbidden(f"policy-rc.d forbids to start {unit}")
        done = self.command("systemctl", "restart", "--no-block", unit)
        if done.returncode != 0:
            die(f"systemctl start {unit}: {complaint(done)}")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit as systemctl show prints them, empty if unknown."""
        return properties(self.ask("show", f"--property={','.join(names)}", unit))

    def show_each(self, units: Iterable[str], *names: str) -> dict[str, dict[str, str]]:
        """The same for several units with one question; patterns stand for loaded ones."""
        said = self.ask("show", f"--property={','.join(('Id', *names))}", "--all", *units)
        blocks = map(properties, said.split("\n\n"))
        return {block["Id"]: block for block in blocks if block.get("Id")}

    def main_pid(self, unit: str) -> int:
        """The main process of a running service, else 0."""
        return int(self.show(unit, "MainPID").get("MainPID") or 0)


@dataclass(frozen=True)
class Snapshot(Host):
    """For commands that only look; one that changes something must not use it."""

    replies: dict[tuple[str, ...], str] = field(default_factory=dict)

    @classmethod
    def of(cls, host: Host) -> "Snapshot":
        return cls(host.package, host.root, host.maintainer)

    def ask(self, verb: str, *args: str) -> str:
        key = (verb, *args)
        if key not in self.replies:
            self.replies[key] = super().ask(verb, *args)
        return self.replies[key]
