# SPDX-License-Identifier: GPL-2.0-or-later
"""A testbed: a throw-away Debian, booted by systemd-nspawn with a network of its own."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import io
import json
import socket
import subprocess
import sys
import tarfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from .errors import TestbedError
from .folders import cgroups_of, host_runs_systemd, new_bed, unmount
from .overlays import chroot_command, make_root, overlay_options
from .processes import (
    OUTPUT_SHOWN,
    children,
    clean_environment,
    decoded,
    end_own,
    execute,
    launcher,
    need_root,
    tool,
    unwind_on_termination,
)
from .trees import hold_layers

BOOT_TIMEOUT = 120.0
SHUTDOWN_TIMEOUT = 120.0
UNPACK = 'mkdir -p -- "$0" && exec tar --extract --directory "$0"'


@dataclasses.dataclass(frozen=True)
class Reply:
    """An HTTP answer; the names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The files of a testbed at rest: layers, top first, down to the suite's tree. Whoever has
    made it sees to it that they stay."""

    suite: str
    layers: tuple[Path, ...]


_open_beds: weakref.WeakSet[Testbed] = weakref.WeakSet()


@atexit.register
def _close_beds() -> None:
    for bed in list(_open_beds):
        bed.close()


class Testbed:
    """A throw-away Debian over a suite's tree: a chroot at first, a container once booted.
    With `tools`, packages can be built and checked in it; with `rivals`, it has what the
    benchmark compares with; with `managed`, what Ansible needs, sshd among it; with `browser`,
    Chromium; with `corpus`, the corpus, and PostgreSQL with PostGIS. With `like`, it begins with
    the files of another one of the suite."""

    __test__ = False

    def __init__(
        self,
        suite: str,
        *,
        cpus: str | None = None,
        tools: bool = False,
        rivals: bool = False,
        managed: bool = False,
        browser: bool = False,
        corpus: bool = False,
        like: Snapshot | None = None,
    ) -> None:
        self.suite = suite
        self.like = like
        self.cpus = cpus
        self.tools = tools
        self.rivals = rivals
        self.managed = managed
        self.browser = browser
        self.corpus = corpus
        self._layers: list[Path] = []
        self._stack = contextlib.ExitStack()
        self._bed: Path | None = None
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init: int | None = None
        self._forwards: list[subprocess.Popen[bytes]] = []
        self._records = 0

    # --- its life

    def __enter__(self) -> Self:
        need_root()
        unwind_on_termination()
        with contextlib.ExitStack() as stack:
            if self.like is None:
                self._layers = hold_layers(
                    self.suite,
                    stack,
                    tools=self.tools,
                    rivals=self.rivals,
                    managed=self.managed,
                    browser=self.browser,
                    corpus=self.corpus,
                )
            else:
                self._layers = list(self.like.layers)
            bed = new_bed(stack)
            root = make_root(bed / "root")
            make_root(bed / "upper")
            make_root(bed / "work")
            # Each sandbox that systemd sets up reads the options of each of its mounts, many
            # times: they are short names in the testbed's folder.
            links = [Path("l", str(number)) for number in range(len(self._layers))]
            (bed / "l").mkdir()
            for link, layer in zip(links, self._layers, strict=True):
                (bed / link).symlink_to(layer)
            options = overlay_options(links, Path("upper"), Path("work"))
            command = ["mount", "-t", "overlay", "-o", options, "testbed", str(root)]
            done = subprocess.run(command, cwd=bed, capture_output=True, text=True)
            if done.returncode:
                raise TestbedError(f"cannot mount the overlay: {done.stderr.strip()}")
            self._bed = bed
            stack.callback(self._halt)
            self._stack = stack.pop_all()
        _open_beds.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the testbed without ceremony; more than once does no harm."""
        _open_beds.discard(self)
        self._stack.close()
        self._bed = None

    def snapshot(self) -> Snapshot:
        """The files as they are, for others to begin with, while this one is open. It must be
        at rest, and stays so: its own root folder is empty from now on."""
        if self.booted:
            raise TestbedError("the testbed is booted: call shutdown() first")
        unmount(self.root)
        return Snapshot(self.suite, (self.bed / "upper", *self._layers))

    @property
    def bed(self) -> Path:
        """The testbed's folder on the host."""
        if self._bed is None:
            raise TestbedError("the testbed is not open: use it in a with statement")
        return self._bed

    @property
    def root(self) -> Path:
        """The root folder as the host sees it."""
        return self.bed / "root"

    @property
    def console(self) -> Path:
        """What the container wrote to its console, over all its boots."""
        return self.bed / "console"

    @property
    def booted(self) -> bool:
        """Whether the container runs."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def pid(self) -> int:
        """The container's init, as the host numbers it."""
        if self._init is None or not self.booted:
            raise TestbedError("the testbed is not booted: call boot() first")
        return self._init

    # --- the container

    def boot(self) -> None:
        """Boot the container and wait until its start-up is complete."""
        if self.booted:
            raise TestbedError("the testbed is booted already")
        groups = cgroups_of(self.bed.name)
        for group in groups:
            group.mkdir(exist_ok=True)
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                launcher(self._record("nspawn"), *self._nspawn_command(), cgroups=groups),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=clean_environment({"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}),
                start_new_session=True,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self._halt()
            raise

    def _nspawn_command(self) -> list[str]:
        command = [
            tool("systemd-nspawn", "systemd-container"),
            f"--directory={self.root}",
            f"--machine={self.bed.name}",
            "--hostname=testbed",
            "--boot",
            "--register=no",
            "--private-network",
            "--settings=no",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
        ]
        if not host_runs_systemd():
            command.append("--keep-unit")
        if self.cpus is not None:
            command.append(f"--cpu-affinity={self.cpus}")
        return command

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline:
            if not self.booted:
                raise TestbedError(f"the container ended while booting\n{self._complaints()}")
            if self._init is None:
                self._init = self._find_init()
            elif Path(f"/proc/{self._init}/root/run/systemd/private").exists():
                state = self._state(deadline - time.monotonic())
                if state in ("running", "degraded"):
                    return
                if state in ("maintenance", "stopping"):
                    break
            # Before systemd answers there is nothing to wait on; bounded by the deadline.
            time.sleep(0.05)
        raise TestbedError(f"the container did not come up\n{self._complaints()}")

    def _state(self, timeout: float) -> str:
        try:
            return self.run(
                "systemctl", "is-system-running", "--wait", check=False, timeout=max(timeout, 1)
            ).stdout.strip()
        except AssertionError:
            return "starting"

    def _find_init(self) -> int | None:
        assert self._nspawn is not None
        for pid in children(self._nspawn.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = dict(
                    line.split(":", 1)
                    for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                )
                numbers = status["NSpid"].split()
                # Between clone and exec it is still called after nspawn.
                if len(numbers) > 1 and numbers[-1] == "1" and status["Name"].strip() == "systemd":
                    return pid
        return None

    def _complaints(self) -> str:
        """What may tell why the container does not come up."""
        text = self.console.read_text(errors="replace")[-OUTPUT_SHOWN:]
        if self._init is not None and self.booted:
            for command in (
                ("systemctl", "list-jobs"),
                ("journalctl", "--boot", "--lines=60", "--no-pager"),
            ):
                with contextlib.suppress(AssertionError):
                    text += self.run(*command, check=False, timeout=20).stdout
        return text

    def shutdown(self) -> None:
        """Power the container off; its files stay."""
        process = self._nspawn
        self.run("systemctl", "poweroff", check=False, timeout=SHUTDOWN_TIMEOUT)
        assert process is not None
        try:
            process.wait(SHUTDOWN_TIMEOUT)
        except subprocess.TimeoutExpired:
            complaints = self._complaints()
            self._halt()
            raise TestbedError(f"the container did not power off\n{complaints}") from None
        self._halt()

    def reboot(self) -> None:
        """Power off and boot again. Forwarded ports end."""
        self.shutdown()
        self.boot()

    def _halt(self) -> None:
        """End the container and the forwarded ports at once."""
        for process in (*self._forwards, self._nspawn):
            if process is not None:
                end_own(process)
        for record in self.bed.glob("*.process"):
            record.unlink()
        self._forwards.clear()
        self._nspawn = self._init = None

    def _record(self, what: str) -> Path:
        self._records += 1
        return self.bed / f"{what}-{self._records}.process"

    # --- commands

    def _affinity(self) -> list[str]:
        return [] if self.cpus is None else [tool("taskset", "util-linux"), "-c", self.cpus]

    def _enter_command(self, *argv: str, user: str | None) -> list[str]:
        enter = [tool("nsenter", "util-linux"), f"--target={self.pid}"]
        enter += ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]
        become = [] if user is None else ["runuser", "-u", user, "--"]
        return [*self._affinity(), *enter, *become, *argv]

    def run_bytes(
        self,
        *argv: str,
        check: bool = True,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
        user: str | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the booted container."""
        return execute(
            self._enter_command(*argv, user=user),
            shown=argv,
            check=check,
            input=input,
            env=env,
            timeout=timeout,
        )

    def run(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
        user: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the booted container, with text for input and output."""
        data = None if input is None else input.encode()
        return decoded(
            self.run_bytes(*argv, check=check, input=data, env=env, timeout=timeout, user=user)
        )

    def out(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
        user: str | None = None,
    ) -> str:
        """What a command in the booted container prints, without the white space around it."""
        done = self.run(*argv, check=check, input=input, env=env, timeout=timeout, user=user)
        return done.stdout.strip()

    def _chroot_bytes(
        self,
        *argv: str,
        check: bool,
        input: bytes | None,
        env: Mapping[str, str] | None,
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        if self.booted:
            raise TestbedError("the testbed is booted: use run() instead of chroot()")
        record = self._record("chroot")
        try:
            return execute(
                launcher(record, *self._affinity(), *chroot_command(self.root, *argv)),
                shown=("chroot:", *argv),
                check=check,
                input=input,
                env=env,
                timeout=timeout,
            )
        finally:
            record.unlink(missing_ok=True)

    def chroot(
        self,
        *argv: str,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the tree while it is not booted."""
        return decoded(self._chroot_bytes(*argv, check=check, input=None, env=env, timeout=timeout))

    # --- files and network

    def put(self, source: Path, target: str) -> None:
        """Copy a file or folder of the host, owned by root, to the path target; into that folder
        if target ends with a slash."""
        path = Path(target) / source.name if target.endswith("/") else Path(target)
        if not path.is_absolute():
            raise ValueError(f"{target} is not an absolute path")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(source, arcname=path.name, filter=_owned_by_root)
        # Unpacked within the container: its absolute links would lead the host to its own files.
        command = ("sh", "-c", UNPACK, str(path.parent))
        data = buffer.getvalue()
        if self.booted:
            self.run_bytes(*command, input=data)
        else:
            self._chroot_bytes(*command, check=True, input=data, env=None, timeout=300)

    def forward(
        self, to: str = "127.0.0.1:80", *, port: int = 0, address: str = "127.0.0.1"
    ) -> int:
        """Make an address of the container's network answer on a port of the host."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(1024)
            number = listener.fileno()
            # Only the network namespace is entered: the program is the host's own.
            activate = f'exec 3<&{number}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
            command = [
                tool("nsenter", "util-linux"),
                f"--target={self.pid}",
                "--net",
                "--",
                tool("bash", "bash"),
                "-c",
                activate,
                "forward",
                str(_socket_proxyd()),
                to,
            ]
            with (self.bed / "forward.log").open("ab") as log:
                self._forwards.append(
                    subprocess.Popen(
                        launcher(self._record("forward"), *command),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=clean_environment(),
                        pass_fds=(number,),
                        start_new_session=True,
                    )
                )
            bound: int = listener.getsockname()[1]
            return bound

    def connect(self, other: Testbed, cable: str, here: str, there: str) -> None:
        """Put a cable between two booted containers, with an address such as 10.0.0.1/24 at each
        end, or in a bridge of the container's, by its name. `cable`: what both call their
        interface. It is gone with the end of either."""
        command = [tool("ip", "iproute2"), "link", "add", "name", cable, "netns", str(self.pid)]
        command += ["type", "veth", "peer", "name", cable, "netns", str(other.pid)]
        execute(command, shown=("connect",), check=True, input=None, env=None, timeout=30)
        for bed, end in ((self, here), (other, there)):
            if "/" in end:
                bed.run("ip", "address", "add", end, "dev", cable)
            else:
                bed.run("ip", "link", "set", cable, "master", end)
            bed.run("ip", "link", "set", cable, "up")

    def serve(self, folder: Path, port: int) -> None:
        """Make a folder of the host answer by HTTP on a port of the container's loopback, until
        the container ends."""
        # Only the network namespace is entered, as for `forward`.
        command = [tool("nsenter", "util-linux"), f"--target={self.pid}", "--net", "--"]
        command += [sys.executable, "-m", "http.server", "--bind=127.0.0.1"]
        with (self.bed / "serve.log").open("ab") as log:
            process = subprocess.Popen(
                launcher(self._record("serve"), *command, f"--directory={folder}", str(port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
                start_new_session=True,
            )
        self._forwards.append(process)
        look = ("curl", "-q", "--silent", "--output", "/dev/null", f"http://127.0.0.1:{port}/")
        while self.run(*look, check=False).returncode:
            if process.poll() is not None:
                raise TestbedError((self.bed / "serve.log").read_text())
            time.sleep(0.05)  # nothing tells when it listens; it does, or ends

    def fetch(self, url: str, *curl_args: str) -> Reply:
        """Ask for a URL from within the container; of redirections followed, the last answer."""
        report = "%{stderr}%{http_code}\n%{header_json}"
        command = ("curl", "-q", "--silent", "--show-error", "--write-out", report)
        done = self.run_bytes(*command, *curl_args, "--", url)
        status, _, headers = done.stderr.decode(errors="replace").partition("\n")
        values: dict[str, list[str]] = json.loads(headers)
        joined = {name.lower(): ", ".join(value) for name, value in values.items()}
        return Reply(int(status), joined, done.stdout)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _socket_proxyd() -> Path:
    for folder in ("/usr/lib/systemd", "/lib/systemd"):
        program = Path(folder) / "systemd-socket-proxyd"
        if program.exists():
            return program
    raise TestbedError("systemd-socket-proxyd is missing: install the Debian package systemd")
