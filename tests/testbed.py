# SPDX-License-Identifier: GPL-2.0-or-later
"""Throw-away booted Debian containers for the tests.

A root tree per Debian suite is built once with mmdebstrap and cached; every `Testbed` is an
overlay over such a tree, booted by systemd-nspawn with a network of its own. Needs root.

Layout of the cache folder ($QGIS_SERVER_SYSTEMD_CACHE, or qgis-server-systemd in the user's
XDG cache):

    trees/<suite>-<hash>   root trees
    maps/<suite>-<hash>    a thin layer over a tree: the map projects in /srv/maps
    tools/<suite>-<hash>   a thin layer over a tree: what builds and checks packages
    rivals/<suite>-<hash>  a thin layer over a tree: what the benchmark compares with
    managed/<suite>-<hash> a thin layer over a tree: what Ansible needs on a server
    corpus/<suite>-<hash>  a thin layer over the maps: the corpus in /srv/corpus, and PostGIS
    beds/<name>            the overlay, console output and process records of one testbed
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import io
import json
import os
import platform
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

SUITES: tuple[str, ...] = ("bookworm", "trixie")

INSTALLED = (
    "ca-certificates",
    "curl",
    "dbus",
    "fonts-dejavu-core",
    "gdal-bin",
    "init",
    "iproute2",
    "libfcgi-bin",
    "netbase",
    "poppler-utils",
    "procps",
    "python3",
    "python3-owslib",
    "python3-qgis",
    "qgis-server",
    "systemd",
    "systemd-sysv",
)
# Kept in the tree's APT cache: a testbed has no network, yet packages are installed in it.
DOWNLOADED = ("nginx", "postgresql")
# In a layer of its own, for the few tests that build and check the package inside a suite.
TOOLS = (
    "apt-utils",
    "autopkgtest",
    "build-essential",
    "debhelper",
    "dh-python",
    "faketime",
    "gpg",
    "gpg-agent",
    "gpgv",
    "lintian",
    "piuparts",
    "po-debconf",
    "python3-debian",
    "python3-jinja2",
    "python3-setuptools",
    "python3-venv",
    "python3-wheel",
    "schroot",
    "shellcheck",
    "zsh",
)
# In a layer of its own, for the roll-out by Ansible: what servers have that it manages.
MANAGED = ("openssh-server", "python3-apt", "sudo")
# In a layer of its own, for the benchmark.
RIVALS = (
    "apache2",
    "fcgiwrap",
    "libapache2-mod-fcgid",
    "multiwatch",
    "python3-pkg-resources",
    "python3-psutil",
    "python3-tornado",
    "python3-typing-extensions",
    "python3-yaml",
    "python3-zmq",
    "spawn-fcgi",
    "uwsgi-core",
)

MAX_AGE = 30 * 24 * 3600
BOOT_TIMEOUT = 120.0
SHUTDOWN_TIMEOUT = 120.0
OUTPUT_SHOWN = 20_000

# Runs inside the new tree while its package lists are still there. The machine ID is fixed
# because systemd takes an empty one for a first boot and would enable every installed unit.
PREPARE = f"""
apt-get clean
apt-get install --yes --download-only {" ".join(DOWNLOADED)}
mkdir /tmp/qgis-common
cd /tmp/qgis-common
apt-get download qgis-common
mkdir -p /srv/maps
dpkg-deb --fsys-tarfile qgis-common_*.deb |
    tar -xO ./usr/share/qgis/resources/data/world_map.gpkg >/srv/maps/world_map.gpkg
cd /
rm -r /tmp/qgis-common
apt-cache gencaches
"""
# With newer package lists than the tree's, what was downloaded may be out of date, too.
PREPARE_TOOLS, PREPARE_MANAGED = (
    f"""
apt-get update
apt-get install --yes {" ".join(packages)}
apt-get clean
apt-get install --yes --download-only {" ".join(DOWNLOADED)}
apt-cache gencaches
rm -f /etc/resolv.conf
"""
    for packages in (TOOLS, MANAGED)
)
# One package that is missing must not keep the others away; its unit is missing then, too, so
# systemctl may complain. None starts by itself.
PREPARE_RIVALS = f"""
apt-get update
for package in {" ".join(RIVALS)}; do
    apt-get install --yes "$package" || echo "$package can't be installed" >&2
done
systemctl disable apache2.service fcgiwrap.service fcgiwrap.socket || true
apt-get clean
apt-get install --yes --download-only {" ".join(DOWNLOADED)}
apt-cache gencaches
rm -f /etc/resolv.conf
"""
FINISH = """
rm -f /etc/resolv.conf
echo testbed >/etc/hostname
printf '127.0.0.1 localhost testbed\\n::1 localhost ip6-localhost\\n' >/etc/hosts
echo 7e57bed07e57bed07e57bed07e57bed0 >/etc/machine-id
"""
MMDEBSTRAP_OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    "--format=directory",
    "--skip=cleanup/apt",
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
)
PROJECTS_SCRIPT = Path(__file__).resolve().parent / "maps" / "make_projects.py"
PROJECTS_COMMAND = (
    "env",
    "QT_QPA_PLATFORM=offscreen",
    "python3",
    "/srv/maps/make_projects.py",
    "/srv/maps",
)
CORPUS = Path(__file__).resolve().parent / "corpus_tree"
CORPUS_COMMAND = ("env", f"DOWNLOADED={' '.join(DOWNLOADED)}", "/srv/corpus/build.sh", "all")

# Starts a program under its own record: exec keeps the process ID and the start time. The
# arguments are the record's file, the control groups to join, "--" and the command.
LAUNCH = """
cat /proc/sys/kernel/random/boot_id /proc/$$/stat >"$0"
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
exec "$@"
"""
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
UNPACK = 'mkdir -p -- "$0" && exec tar --extract --directory "$0"'


class TestbedError(RuntimeError):
    """The testbed itself cannot do its work."""

    __test__ = False


@dataclasses.dataclass(frozen=True)
class Reply:
    """An HTTP answer; the names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


# --- locks -------------------------------------------------------------------------------


def lock(path: Path, *, shared: bool = False, wait: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None if it is taken and wait is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, kind)
            # Whoever held it may have removed the file: then this lock guards nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a file's lock."""
    descriptor = lock(path)
    assert descriptor is not None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock_of(layer: Path) -> Path:
    """The lock file of a cached layer; whoever uses the layer holds it shared."""
    return layer.with_name(layer.name + ".lock")


# --- recorded processes ------------------------------------------------------------------


def start_time(stat: str) -> tuple[int, str]:
    """Process ID and start time of a line of /proc/PID/stat."""
    # The name in the parentheses may hold anything, spaces and parentheses too.
    return int(stat.split(" ", 1)[0]), stat.rpartition(")")[2].split()[19]


def open_recorded(record: Path) -> tuple[int, int] | None:
    """Process ID and pidfd of a recorded process, or None if that very process is gone."""
    boot_id, _, stat = record.read_text().partition("\n")
    if boot_id != Path("/proc/sys/kernel/random/boot_id").read_text().strip() or not stat:
        return None
    pid, started = start_time(stat)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Compared after the pidfd was opened, so that it cannot be another process's by now.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if start_time(Path(f"/proc/{pid}/stat").read_text())[1] == started:
            return pid, descriptor
    os.close(descriptor)
    return None


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, tasks.read_text().split())
    return found


def end_process(pid: int, descriptor: int) -> None:
    """End a process and what it is the parent of."""
    offspring = children(pid)
    for child in offspring:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    # nspawn goes by itself, tidily, once the init of its container has gone.
    if not (offspring and select.select([descriptor], [], [], 10)[0]):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], 10)


def end_own(process: subprocess.Popen[bytes]) -> None:
    """End a process that this one started."""
    if process.poll() is None:
        descriptor = os.pidfd_open(process.pid)
        try:
            end_process(process.pid, descriptor)
        finally:
            os.close(descriptor)
    process.wait()


def end_recorded(record: Path) -> None:
    """End a recorded process of another run, if it still lives."""
    if (opened := open_recorded(record)) is not None:
        try:
            end_process(*opened)
        finally:
            os.close(opened[1])


def launcher(record: Path, *argv: str, cgroups: Iterable[Path] = ()) -> list[str]:
    """The command that runs argv under a record and in these control groups."""
    return ["/bin/sh", "-ec", LAUNCH, str(record), *map(str, cgroups), "--", *argv]


# --- programs of the host ----------------------------------------------------------------


def tool(name: str, package: str) -> str:
    """The path of a program of the host."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise TestbedError(f"{name} is missing: install the Debian package {package}")
    return found


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What programs in a testbed see: nothing of the caller's environment."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "DEBIAN_FRONTEND": "noninteractive",
        "SYSTEMD_COLORS": "0",
        "SYSTEMD_PAGER": "",
        **(extra or {}),
    }


def execute(
    command: list[str],
    *,
    shown: tuple[str, ...],
    check: bool,
    input: bytes | None,
    env: Mapping[str, str] | None,
    timeout: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command that enters a testbed; shown is what a failure's message calls it."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(env),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(input, timeout)
    except BaseException as reason:
        # The whole group: ending nsenter alone leaves its child, which holds the pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if isinstance(reason, subprocess.TimeoutExpired):
            raise AssertionError(
                describe(shown, f"no end within {timeout:g} s", out, err)
            ) from None
        raise
    if check and process.returncode:
        raise AssertionError(describe(shown, f"exit status {process.returncode}", out, err))
    return subprocess.CompletedProcess(list(shown), process.returncode, out, err)


def describe(argv: Iterable[str], verdict: str, out: bytes, err: bytes) -> str:
    """The message of a failed command."""
    parts = [f"{shlex.join(argv)}: {verdict}"]
    for name, data in (("stdout", out), ("stderr", err)):
        parts.append(f"--- {name}\n{data[-OUTPUT_SHOWN:].decode(errors='replace').rstrip()}")
    return "\n".join(parts)


def decoded(
    done: subprocess.CompletedProcess[bytes],
) -> subprocess.CompletedProcess[str]:
    """The same result as text."""
    return subprocess.CompletedProcess(
        done.args,
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


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


# --- the cached trees --------------------------------------------------------------------


def cache_folder() -> Path:
    """The cache folder, made if missing."""
    if named := os.environ.get("QGIS_SERVER_SYSTEMD_CACHE"):
        folder = Path(named)
    else:
        xdg = os.environ.get("XDG_CACHE_HOME")
        folder = (Path(xdg) if xdg else Path.home() / ".cache") / "qgis-server-systemd"
    folder.mkdir(parents=True, exist_ok=True)
    kind = subprocess.check_output(["stat", "--file-system", "--format=%T", folder], text=True)
    if kind.strip() in ("overlayfs", "tmpfs"):
        raise TestbedError(
            f"the cache {folder} is on {kind.strip()}: set QGIS_SERVER_SYSTEMD_CACHE to a folder "
            "on a disk's file system"
        )
    return folder.resolve()


def say(message: str) -> None:
    """Report progress."""
    print(f"testbed: {message}", file=sys.stderr, flush=True)


def digest(*parts: str | bytes) -> str:
    """A short hash of the parts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:12]


def stanzas(text: str) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The URIs, suites and components of each binary stanza of a deb822 sources file."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in "\n".join(line if line.strip() else "" for line in lines).split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[key] = fields.get(key, "") + " " + line
            elif ":" in line:
                name, _, value = line.partition(":")
                key = name.strip().lower()
                fields[key] = value
        enabled = fields.get("enabled", "yes").strip().lower() not in ("no", "false", "0", "off")
        if enabled and "deb" in fields.get("types", "").split():
            uris, suites, components = (
                fields.get(name, "").split() for name in ("uris", "suites", "components")
            )
            yield uris, suites, components


def one_liners(text: str) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The URI, suite and components of each deb line of a sources.list."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] != ["deb"]:
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            end = next((at for at, word in enumerate(rest) if word.endswith("]")), len(rest))
            rest = rest[end + 1 :]
        if len(rest) >= 2:
            yield rest[:1], rest[1:2], rest[2:]


def debian_suite(name: str) -> bool:
    """Whether this names a release of Debian as an archive does."""
    known = ("bullseye", "bookworm", "trixie", "forky", "duke", "sid")
    return name in (*known, "oldoldstable", "oldstable", "stable", "testing", "unstable")


def mirrors(apt: Path = Path("/etc/apt")) -> tuple[str | None, str | None]:
    """The URIs of this machine's Debian archive and of its security archive."""
    archive = security = None
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for file in files:
        if file.suffix not in (".list", ".sources") or not file.is_file():
            continue
        parse = stanzas if file.suffix == ".sources" else one_liners
        for uris, suites, components in parse(file.read_text()):
            if not uris or "main" not in components:
                continue
            for name in suites:
                base, _, kind = name.replace("/", "-").partition("-")
                if debian_suite(base) and kind in ("security", "updates", ""):
                    if kind == "security":
                        security = security or uris[0]
                    elif kind == "":
                        archive = archive or uris[0]
    return archive, security


def source_lines(suite: str) -> list[str]:
    """What mmdebstrap takes for its mirrors; none of them means its own default."""
    archive, security = mirrors()
    if archive is None:
        return []
    lines = [f"deb {archive} {suite} main", f"deb {archive} {suite}-updates main"]
    if security is not None:
        lines.append(f"deb {security} {suite}-security main")
    return lines


def tree_name(suite: str) -> str:
    """The name of a suite's tree: it changes with whatever determines the tree."""
    recipe = json.dumps([INSTALLED, PREPARE, FINISH, MMDEBSTRAP_OPTIONS, platform.machine()])
    return f"{suite}-{digest(suite, recipe)}"


def fresh(layer: Path) -> bool:
    """Whether a cached layer is there and not too old."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - (layer / ".built").stat().st_mtime < MAX_AGE
    return False


def in_use(layer: Path) -> bool:
    """Whether a testbed stands over a cached layer."""
    guard = lock(lock_of(layer), wait=False)
    if guard is not None:
        os.close(guard)
    return guard is None


def discard(folder: Path) -> None:
    """Remove a cached layer unless a testbed uses it."""
    guard = lock(lock_of(folder), wait=False)
    if guard is None:
        return
    try:
        grave = folder.with_name(f".old-{folder.name}-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(grave)
            shutil.rmtree(grave)
        lock_of(folder).unlink(missing_ok=True)
    finally:
        os.close(guard)


def install_layer(new: Path, layer: Path) -> None:
    """Put a new layer into its place, and remove those that it makes stale."""
    (new / ".built").touch()
    suite = layer.name.partition("-")[0]
    for other in sorted(layer.parent.glob(f"{suite}-*")):
        if other.is_dir():
            discard(other)
    if layer.exists():  # a testbed started over it meanwhile
        shutil.rmtree(new)
    else:
        new.rename(layer)


def cached_layer(layer: Path, build: Callable[[Path, int], None]) -> Path:
    """Return the layer, built if it is missing or stale."""
    if fresh(layer):
        return layer
    with locked(layer.parent / f".build-{layer.name}.lock") as guard:
        if fresh(layer):
            return layer
        if layer.exists() and in_use(layer):
            say(f"{layer.name} is too old but in use: it stays until a later run")
            return layer
        for leftover in layer.parent.glob(f".new-{layer.name}-*"):
            shutil.rmtree(leftover)
        new = layer.parent / f".new-{layer.name}-{secrets.token_hex(4)}"
        try:
            build(new, guard)
            install_layer(new, layer)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return layer


def relay(command: list[str], guard: int, what: str) -> None:
    """Run a builder with its output on stderr, in namespaces that take its mounts and processes
    with them. It inherits the build's lock: while it outlives a killed run, no other builds."""
    process = subprocess.Popen(
        [
            tool("unshare", "util-linux"),
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
            "--",
            *command,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(guard,),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.strip():
                say(f"{what}: {line.rstrip()}")
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status:
        raise TestbedError(f"{what}: {Path(command[0]).name} failed ({status}), see its output")


def build_tree(suite: str, new: Path, guard: int) -> None:
    """Build the root tree of a suite."""
    say(f"building the {suite} tree: about three minutes, once")
    hook = f'chroot "$1" sh -exc {shlex.quote(PREPARE)}'
    command = [
        tool("mmdebstrap", "mmdebstrap"),
        *MMDEBSTRAP_OPTIONS,
        "--include=" + ",".join(INSTALLED),
        f"--customize-hook={hook}",
        suite,
        str(new),
        *source_lines(suite),
    ]
    relay(command, guard, suite)
    execute(
        chroot_command(new, "sh", "-ec", FINISH),
        shown=("finish", suite),
        check=True,
        input=None,
        env=None,
        timeout=60,
    )


def base_tree(suite: str) -> Path:
    """The prepared root tree of a suite; built when missing or stale. Not to be changed."""
    need_root()
    unwind_on_termination()
    if suite not in SUITES:
        raise TestbedError(f"no such suite: {suite}; known are {', '.join(SUITES)}")
    layer = cache_folder() / "trees" / tree_name(suite)
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, guard: build_tree(suite, new, guard))


def run_over(lower: list[Path], new: Path, *argv: str) -> None:
    """Run a command in a tree of layers, top first, and keep what it changes as the layer `new`,
    made before."""
    work = new.with_name(f"{new.name}-work")
    merged = new.with_name(f"{new.name}-merged")
    try:
        for folder in (work, merged):
            make_root(folder)
        options = overlay_options(lower, new, work)
        # Mounted in the chroot's own namespace: there is nothing to unmount afterwards.
        mount = f'mount -t overlay -o {shlex.quote(options)} overlay "$0"\n'
        execute(
            chroot_command(merged, *argv, before=mount),
            shown=argv,
            check=True,
            input=None,
            env=None,
            timeout=600,
        )
    finally:
        for folder in (work, merged):
            shutil.rmtree(folder, ignore_errors=True)


def build_maps(base: Path, new: Path) -> None:
    """Make the map projects over a tree."""
    say(f"making the map projects for {base.name}")
    make_root(new)
    make_root(new / "srv" / "maps")
    shutil.copyfile(PROJECTS_SCRIPT, new / "srv" / "maps" / PROJECTS_SCRIPT.name)
    run_over([base], new, *PROJECTS_COMMAND)


def maps_layer(suite: str, base: Path) -> Path:
    """The layer with the map projects."""
    built = str((base / ".built").stat().st_mtime_ns)
    name = digest(base.name, built, PROJECTS_SCRIPT.read_bytes(), *PROJECTS_COMMAND)
    layer = cache_folder() / "maps" / f"{suite}-{name}"
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, _: build_maps(base, new))


def build_extra(base: Path, new: Path, what: str, prepare: str) -> None:
    """Install further packages over a tree."""
    say(f"installing the {what} for {base.name}: some minutes, once")
    make_root(new)
    make_root(new / "etc")
    shutil.copyfile("/etc/resolv.conf", new / "etc" / "resolv.conf")
    run_over([base], new, "sh", "-exc", prepare)


def extra_layer(suite: str, base: Path, what: str, prepare: str) -> Path:
    """A layer with further packages: `tools`, `rivals` or `managed`."""
    built = str((base / ".built").stat().st_mtime_ns)
    layer = cache_folder() / what / f"{suite}-{digest(base.name, built, prepare)}"
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, _: build_extra(base, new, what, prepare))


def build_corpus(lower: list[Path], new: Path) -> None:
    """Install PostGIS over a tree, and make the data and projects of the corpus."""
    say(f"making the corpus for {lower[-1].name}: about two minutes, once")
    make_root(new)
    make_root(new / "etc")
    make_root(new / "srv")
    shutil.copyfile("/etc/resolv.conf", new / "etc" / "resolv.conf")
    shutil.copytree(CORPUS, new / "srv" / "corpus", ignore=shutil.ignore_patterns("__pycache__"))
    run_over(lower, new, *CORPUS_COMMAND)


def corpus_layer(suite: str, lower: list[Path]) -> Path:
    """The layer with the corpus, over the map projects."""
    built = [str((layer / ".built").stat().st_mtime_ns) for layer in lower]
    files = sorted(file for file in CORPUS.rglob("*") if file.suffix != ".pyc" and file.is_file())
    sources = [str(file.relative_to(CORPUS)).encode() + file.read_bytes() for file in files]
    name = digest(*(layer.name for layer in lower), *built, *sources, *CORPUS_COMMAND)
    layer = cache_folder() / "corpus" / f"{suite}-{name}"
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, _: build_corpus(lower, new))


@contextlib.contextmanager
def hold_layer(get: Callable[[], Path]) -> Iterator[Path]:
    """Get a cached layer and lock it against removal."""
    while True:
        layer = get()
        guard = lock(lock_of(layer), shared=True)
        assert guard is not None
        try:
            if layer.is_dir():  # or it was removed before the lock was had
                yield layer
                return
        finally:
            os.close(guard)


def hold_layers(
    suite: str,
    stack: contextlib.ExitStack,
    *,
    tools: bool = False,
    rivals: bool = False,
    managed: bool = False,
    corpus: bool = False,
) -> list[Path]:
    """The layers of a suite's testbeds, top first, locked against removal until the stack ends."""
    layers = [base := stack.enter_context(hold_layer(lambda: base_tree(suite)))]
    if PROJECTS_SCRIPT.is_file():
        layers.insert(0, stack.enter_context(hold_layer(lambda: maps_layer(suite, base))))
    for what, prepare in (
        ("tools", tools and PREPARE_TOOLS),
        ("rivals", rivals and PREPARE_RIVALS),
        ("managed", managed and PREPARE_MANAGED),
    ):
        if prepare:
            get = functools.partial(extra_layer, suite, base, what, prepare)
            layers.insert(0, stack.enter_context(hold_layer(get)))
    if corpus:
        below = list(layers)
        layers.insert(0, stack.enter_context(hold_layer(lambda: corpus_layer(suite, below))))
    return layers


# --- the testbeds' folders ---------------------------------------------------------------


def need_root() -> None:
    """Refuse to start what only root can do."""
    if os.geteuid() != 0:
        raise TestbedError("testbeds mount file systems and boot containers: run as root")


def host_runs_systemd() -> bool:
    """Whether systemd is the host's init, as sd_booted(3) tells."""
    return Path("/run/systemd/system").is_dir()


def cgroups_of(name: str) -> list[Path]:
    """The control groups of a testbed. Where the host's systemd is running, nspawn has a scope
    made; elsewhere two containers started from one group would share it and its units."""
    if host_runs_systemd():
        return []
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
            found.append(Path(fields.split()[4]) / f"qgis-server-systemd-{name}")
    return found


def remove_cgroup(path: Path) -> None:
    """Remove a control group and those below it; one with processes stays."""
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(path, topdown=False):
            Path(folder).rmdir()


def unmount(root: Path) -> None:
    """Unmount a testbed's overlay; it is busy until the last process has let it go."""
    deadline = time.monotonic() + 10
    while os.path.ismount(root):
        done = subprocess.run(["umount", root], capture_output=True, text=True)
        if done.returncode and time.monotonic() > deadline:
            subprocess.run(["umount", "--lazy", root], check=True)
        elif done.returncode:
            time.sleep(0.05)  # nothing tells when it is no longer busy; bounded above


def remove_bed(bed: Path) -> None:
    """End what a testbed recorded, unmount it and remove its folder."""
    for record in sorted(bed.glob("*.process")):
        end_recorded(record)
    unmount(bed / "root")
    for group in cgroups_of(bed.name):
        remove_cgroup(group)
    # The lock last: without it, another run's sweep would take the bed for a leftover and
    # remove it at the same time.
    for path in bed.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
    shutil.rmtree(bed, ignore_errors=True)


def sweep(beds: Path) -> None:
    """Remove what crashed runs left behind: the beds that nobody holds the lock of."""
    for bed in sorted(beds.iterdir()):
        guard = lock(bed / "lock", wait=False)
        if guard is not None:
            say(f"removing {bed.name}, left behind by a run that crashed")
            try:
                remove_bed(bed)
            finally:
                os.close(guard)


def new_bed(stack: contextlib.ExitStack) -> Path:
    """Make the folder of a testbed, locked for as long as the stack lasts."""
    cache = cache_folder()
    beds = cache / "beds"
    beds.mkdir(exist_ok=True)
    # One at a time, or a sweep could take a bed that is being made for a leftover.
    with locked(cache / "beds.lock"):
        sweep(beds)
        bed = beds / f"bed-{secrets.token_hex(4)}"
        bed.mkdir()
        guard = lock(bed / "lock")
        assert guard is not None
        stack.callback(os.close, guard)
        stack.callback(remove_bed, bed)
    return bed


_open_beds: weakref.WeakSet[Testbed] = weakref.WeakSet()


@atexit.register
def _close_beds() -> None:
    for bed in list(_open_beds):
        bed.close()


def unwind_on_termination() -> None:
    """Take it as Ctrl-C: the with statements end their testbeds, and pytest its fixtures."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


class Testbed:
    """A throw-away Debian over a suite's tree: a chroot at first, a container once booted.
    With `tools`, packages can be built and checked in it; with `rivals`, it has what the
    benchmark compares with; with `managed`, what Ansible needs, sshd among it; with `corpus`,
    the corpus, and PostgreSQL with PostGIS. With `like`, it begins with the files of another
    testbed of the suite, which is open, but not booted."""

    __test__ = False

    def __init__(
        self,
        suite: str,
        *,
        cpus: str | None = None,
        tools: bool = False,
        rivals: bool = False,
        managed: bool = False,
        corpus: bool = False,
        like: Testbed | None = None,
    ) -> None:
        self.suite = suite
        self.like = like
        self.cpus = cpus
        self.tools = tools
        self.rivals = rivals
        self.managed = managed
        self.corpus = corpus
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
            layers = hold_layers(
                self.suite,
                stack,
                tools=self.tools,
                rivals=self.rivals,
                managed=self.managed,
                corpus=self.corpus,
            )
            bed = new_bed(stack)
            root = make_root(bed / "root")
            upper = bed / "upper"
            if self.like is None:
                make_root(upper)
            elif self.like.booted:
                raise TestbedError("the testbed to begin with is booted: call shutdown() first")
            else:
                # With -a: what the overlay notes of deleted files are devices and attributes.
                subprocess.run(["cp", "-a", self.like.bed / "upper", upper], check=True)
            options = overlay_options(layers, upper, make_root(bed / "work"))
            command = ["mount", "-t", "overlay", "-o", options, "testbed", str(root)]
            done = subprocess.run(command, capture_output=True, text=True)
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
