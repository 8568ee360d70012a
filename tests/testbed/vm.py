# SPDX-License-Identifier: GPL-2.0-or-later
"""A small virtual machine, for what a container cannot show: limits that control groups enforce,
and another number of processors. It is emulated, so it runs anywhere but slowly.

Debian's cloud kernel has the drivers for its disk (ext4 on NVMe) and its virtio console built in,
and so needs no initrd. The disk is made from a root tree and is an unlinked file: a run that
crashes leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import lzma
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .layers import cache_folder, cached_layer, digest, hold_layer, relay, say
from .mirrors import source_lines
from .processes import need_root, tool

KERNEL_SUITE = "trixie"
DISK_SIZE = "8G"
QUICK = "^has_journal,^metadata_csum"
SAFE = "has_journal,^metadata_csum"
# Left out of the disk: nothing runs from there, and they take their time.
PYTHON = "usr/lib/python3/dist-packages"
LEFT_OUT = (
    f"{PYTHON}/matplotlib",
    f"{PYTHON}/pandas",
    f"{PYTHON}/scipy",
    "usr/include",
    "usr/lib/gcc",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/unicode",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log/journal",
)
CONSOLE_SHOWN = 6000

# Makes the disk ($2, of size $3) of the tree $0 with the files of $1 put over it, without a
# change to the tree. The mounts end with the shell's mount namespace.
MAKE_DISK = """
tree=$0 files=$1 disk=$2 size=$3 stage=$4 features=$5
shift 5
mount -t tmpfs -o mode=0755 stage "$stage"
mkdir "$stage/upper" "$stage/work" "$stage/root"
chmod 0755 "$stage/upper"
mount -t overlay overlay "$stage/root" \
    -o "lowerdir=$tree,upperdir=$stage/upper,workdir=$stage/work"
cp -r "$files/." "$stage/root/"
for folder in "$@"; do
    if [ -d "$stage/root/$folder" ]; then
        mount -t tmpfs -o mode=0755 empty "$stage/root/$folder"
    fi
done
exec mke2fs -q -F -t ext4 -O "$features" -m 0 \
    -E lazy_itable_init=1,nodiscard -d "$stage/root" "$disk" "$size"
"""
UNIT = """\
[Unit]
Description=Script of the test
[Service]
# Simple: a start-up that waited for it would never be complete.
Type=simple
Environment=HOME=/root LANG=C.UTF-8
ExecStart=/usr/local/lib/vm/run
StandardError=tty
TTYPath=/dev/console
"""
# The names of the ports follow the order of devices on the bus, their labels do not.
RUN = """\
#!/bin/sh
port() {
    for name in /sys/class/virtio-ports/*/name; do
        if [ "$(cat "$name")" = "$1" ]; then
            name=${name%/name}
            echo "/dev/${name##*/}"
        fi
    done
}
systemctl is-system-running --wait >/dev/null
/usr/local/lib/vm/script </dev/null >"$(port output)"
echo "$?" >"$(port status)"
exec systemctl poweroff --force --force
"""
# Modules of the kernel that nothing else loads: there is no modprobe in the trees.
LOADER = """\
[Unit]
Description=Modules of the kernel
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/vm/load
"""
LOAD = """\
#!/usr/bin/python3
import ctypes, os, pathlib, platform
# finit_module(2).
number = {"aarch64": 273, "x86_64": 313}[platform.machine()]
for file in pathlib.Path("/usr/local/lib/vm").glob("*.ko"):
    descriptor = os.open(file, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).syscall(number, descriptor, b"", 0):
        raise OSError(ctypes.get_errno(), file.name)
"""
# There is no udev: without these a terminal of the console is waited for in vain, and with no
# kernel modules in the tree a failed unit would make the system a degraded one.
MASKED = (
    "getty.target",
    "ldconfig.service",
    "systemd-modules-load.service",
)


class MachineError(AssertionError):
    """The virtual machine did not do what was asked."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What differs between the processors. `name`: Debian's. `package`: the emulator's.
    `parameters`: more of the kernel's. `threads`: one for all processors, or several. With
    several, a kernel for x86 that patches its own code while another processor runs it was seen to
    crash (int3 in sched_clock_cpu). `modules`: of the kernel, to be loaded."""

    name: str
    emulator: str
    package: str
    machine: str
    console: str
    processor: str = "max"
    threads: str = "single"
    modules: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()

    @property
    def kernel(self) -> str:
        """The package of the kernel."""
        return f"linux-image-cloud-{self.name}"


ARCHITECTURES = {
    "x86_64": Architecture(
        "amd64",
        "qemu-system-x86_64",
        "qemu-system-x86",
        "pc",
        "ttyS0",
        # Emulated on a busy machine, no tick may come while it is looked whether any come.
        parameters=("no_timer_check",),
    ),
    "aarch64": Architecture(
        "arm64",
        "qemu-system-aarch64",
        "qemu-system-arm",
        "virt",
        "ttyAMA0",
        # Quicker by much: pointers are signed by another function, and there are no long vectors.
        processor="max,pauth-impdef=on,sve=off",
        threads="multi",
        # Tells of sockets.
        modules=("unix_diag",),
    ),
}


def architecture() -> Architecture:
    """This machine's."""
    try:
        return ARCHITECTURES[platform.machine()]
    except KeyError:
        raise MachineError(
            f"no kernel is known for {platform.machine()}: run on one of {', '.join(ARCHITECTURES)}"
        ) from None


def build_kernel(architecture: Architecture, new: Path, guard: int) -> None:
    """Fetch a kernel."""
    package = architecture.kernel
    say(f"fetching {package}")
    new.mkdir()
    tree = new / "tree"
    command = [tool("mmdebstrap", "mmdebstrap"), "--mode=root", "--variant=extract"]
    command += ["--format=directory", f"--architectures={architecture.name}"]
    command += [f"--include={package}", KERNEL_SUITE, str(tree)]
    relay([*command, *source_lines(KERNEL_SUITE)], guard, package)
    (found,) = (tree / "boot").glob("vmlinuz-*")
    shutil.move(found, new / "vmlinuz")
    for name in architecture.modules:
        (found,) = (tree / "usr/lib/modules").rglob(f"{name}.ko.xz")
        (new / f"{name}.ko").write_bytes(lzma.decompress(found.read_bytes()))
    shutil.rmtree(tree)


@contextlib.contextmanager
def kernel(architecture: Architecture) -> Iterator[Path]:
    """The folder of the cached kernel and its modules, held against removal."""
    foreign = "" if architecture == ARCHITECTURES.get(platform.machine()) else architecture.name
    name = f"{KERNEL_SUITE}-{digest(architecture.kernel, *architecture.modules)}"
    layer = cache_folder() / foreign / "kernels" / name
    layer.parent.mkdir(parents=True, exist_ok=True)

    def build(new: Path, guard: int) -> None:
        build_kernel(architecture, new, guard)

    with hold_layer(lambda: cached_layer(layer, build)):
        yield layer


def write_script(folder: Path, script: str, modules: list[Path]) -> None:
    """Write what the disk has beyond the tree."""
    units = folder / "usr/local/lib/systemd/system"
    programs = folder / "usr/local/lib/vm"
    for made in (units, programs):
        made.mkdir(parents=True)
    (units / "vm-script.service").write_text(UNIT)
    (programs / "run").write_text(RUN)
    if modules:
        (units / "vm-modules.service").write_text(LOADER)
        (programs / "load").write_text(LOAD)
    for module in modules:
        shutil.copy(module, programs)
    (programs / "script").write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent == programs else 0o644)


def make_disk(
    root: Path, script: str, modules: list[Path], work: Path, disk: int, features: str
) -> None:
    """Fill the disk's file, given as a descriptor."""
    files, stage = work / "files", work / "stage"
    stage.mkdir()
    write_script(files, script, modules)
    arguments = [root, files, f"/proc/self/fd/{disk}", DISK_SIZE, stage, features, *LEFT_OUT]
    private = [tool("unshare", "util-linux"), "--mount", "--propagation=private", "--"]
    done = subprocess.run(
        [*private, "/bin/sh", "-ec", MAKE_DISK, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        pass_fds=(disk,),
    )
    if done.returncode:
        raise MachineError(f"cannot make the disk of {root}: {done.stderr.strip()}")


class Machine:
    """A virtual machine that boots a root tree. The tree must be at rest, and is not changed.
    One with `reboots` may lose its power: `echo b >/proc/sysrq-trigger` ends all at once, what
    is not on the disk is lost, and the next boot runs the script again, from its beginning.
    `of`: its architecture, if it is not this machine's."""

    def __init__(
        self,
        root: Path,
        *,
        cpus: int,
        memory_mb: int = 3072,
        reboots: bool = False,
        of: Architecture | None = None,
    ) -> None:
        self.root = root
        self.cpus = cpus
        self.memory_mb = memory_mb
        self.reboots = reboots
        self._architecture = of or architecture()

    def run_script(self, script: str, timeout: float) -> tuple[int, str]:
        """Boot, run a script as root once the system is up, and power off. The result is the
        script's exit status and output (of all boots); what it says on stderr goes to the
        console. The timeout counts from power on; the documentation, locales and APT's caches
        are left out."""
        need_root()
        runs = cache_folder() / "vm"
        runs.mkdir(exist_ok=True)
        with (
            kernel(self._architecture) as boot,
            tempfile.TemporaryFile(dir=runs) as disk,
            tempfile.TemporaryDirectory() as folder,
        ):
            work = Path(folder)
            features = SAFE if self.reboots else QUICK
            modules = sorted(boot.glob("*.ko"))
            make_disk(self.root, script, modules, work, disk.fileno(), features)
            self._power(boot / "vmlinuz", disk.fileno(), work, timeout)
            return self._result(work)

    def _command(self, image: Path, disk: int, work: Path) -> list[str]:
        parameters = [
            f"console={self._architecture.console}",
            *self._architecture.parameters,
            "root=/dev/nvme0n1",
            "rw",
            "panic=-1",
            "systemd.getty_auto=0",
            "systemd.wants=vm-script.service",
            *(["systemd.wants=vm-modules.service"] if self._architecture.modules else ()),
            *(f"systemd.mask={unit}" for unit in MASKED),
        ]
        command = [tool(self._architecture.emulator, self._architecture.package)]
        command += ["-machine", self._architecture.machine]
        command += ["-accel", f"tcg,thread={self._architecture.threads}"]
        command += ["-cpu", self._architecture.processor, "-smp", str(self.cpus)]
        command += ["-m", str(self.memory_mb), "-nodefaults", "-display", "none"]
        if not self.reboots:
            command.append("-no-reboot")
        command += ["-kernel", str(image), "-append", " ".join(parameters)]
        drive = f"file=/proc/self/fd/{disk},format=raw,if=none,id=disk,cache=unsafe"
        command += ["-drive", drive]
        command += ["-device", "nvme,drive=disk,serial=disk"]
        command += ["-serial", f"file:{work / 'console'}", "-device", "virtio-serial-pci"]
        for port in ("output", "status"):
            command += ["-chardev", f"file,id={port},path={work / port}"]
            command += ["-device", f"virtserialport,chardev={port},name={port}"]
        return command

    def _power(self, image: Path, disk: int, work: Path, timeout: float) -> None:
        """Run the emulator to its end."""
        # It ends with the thread that waits for it here, and so with a run that is killed.
        leash = [tool("setpriv", "util-linux"), "--pdeathsig=KILL", "--"]
        started = time.monotonic()
        try:
            done = subprocess.run(
                [*leash, *self._command(image, disk, work)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                pass_fds=(disk,),
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise MachineError(f"no end within {timeout:g} s{_shown(work)}") from None
        say(f"a machine of {self.cpus} processors ran for {time.monotonic() - started:.0f} s")
        if done.returncode:
            raise MachineError(f"the emulator failed: {done.stderr.strip()}")

    def _result(self, work: Path) -> tuple[int, str]:
        status = (work / "status").read_text().strip()
        if not status:
            raise MachineError(f"it powered off before the script's end{_shown(work)}")
        return int(status), (work / "output").read_text(errors="replace")


def _shown(work: Path) -> str:
    text = ""
    for name in ("output", "console"):
        path = work / name
        data = path.read_bytes()[-CONSOLE_SHOWN:] if path.exists() else b""
        text += f"\n--- {name}\n{data.decode(errors='replace')}"
    return text
