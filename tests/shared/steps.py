# SPDX-License-Identifier: GPL-2.0-or-later
"""Kill what runs in a testbed at its n-th step, to see what an interruption leaves.

A step is a program that is started by its name, by dpkg, a maintainer script or
a program of theirs, or a change to a file that qgis-serverctl makes. Just before
it happens, the whole process group gets SIGKILL.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from testbed import Testbed

FOLDER = "/root/steps"

# Stands before each program of $PATH under its name. A child in a process group of
# its own, such as one of timeout(1), is to end as well.
PROGRAM = f"""#!/bin/sh
name=${{0##*/}}
real=/usr/bin/$name
[ -x "$real" ] || real=/usr/sbin/$name
if [ "$name" = systemctl ]; then
    case " $* " in
    *" show "* | *" is-active "* | *" is-enabled "* | *" list-units "*) exec "$real" "$@" ;;
    esac
elif [ "$name" = deb-systemd-helper ]; then
    case " $* " in *" was-enabled "* | *" debian-installed "*) exec "$real" "$@" ;; esac
fi
line="$name $*"
echo "${{line%%
*}}" >>{FOLDER}/log
steps=0
while read -r _; do steps=$((steps + 1)); done <{FOLDER}/log
if [ "$steps" -eq "$STEPS_AT" ]; then
    read -r group <{FOLDER}/group
    kill -9 "-$group"
    kill -9 0
fi
exec "$real" "$@"
"""

# These change nothing, or start what does, under its name. dpkg's own come before anything of the
# package's.
READERS = (
    "[", "basename", "cat", "cmp", "cut", "date", "deb-systemd-invoke", "dirname", "dpkg",
    "dpkg-query", "dpkg-split", "echo", "env", "expr", "false", "find", "getent", "getopt", "grep",
    "head", "id", "ls", "nproc", "perl", "printf", "pwd", "python3", "readlink", "realpath",
    "runuser", "sed", "sh", "sort", "stat", "tail", "tar", "test", "timeout", "tr", "true", "tty",
    "uname", "wc", "which",
)  # fmt: skip

# Found through PYTHONPATH. fchmod is told as os.chmod, which is between the opening
# of a file and its first byte.
PYTHON = f"""
import os, signal, sys

CHANGES = {{"os.link", "os.remove", "os.rename", "os.rmdir", "os.symlink"}}
FINE = {{"os.chmod", "os.chown", "os.mkdir", "os.truncate", "open"}}

def is_change(event, args):
    if event in FINE and not os.environ.get("STEPS_FINE"):
        return False
    if event == "open":
        written = bool(args[2] & (os.O_WRONLY | os.O_RDWR))
        return written and str(args[0]) != os.devnull and "__pycache__" not in str(args[0])
    if event == "os.mkdir" and os.path.exists(args[0]):
        return False
    if event == "os.remove" and not os.path.lexists(args[0]):
        return False
    return event in CHANGES or event in FINE

def step(event, args):
    global inside
    if inside or not is_change(event, args):
        return
    inside = True
    with open("{FOLDER}/log", "a+") as log:
        print(event, *args[:2], file=log, flush=True)
        log.seek(0)
        steps = len(log.readlines())
    if steps == int(os.environ["STEPS_AT"]):
        os.killpg(int(open("{FOLDER}/group").read()), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    inside = False

inside = False
if any(word.endswith("/qgis-serverctl") for word in sys.orig_argv):
    sys.addaudithook(step)
"""

# A session of its own: the whole of it is killed, and nothing else.
RUN = f'echo $$ >{FOLDER}/group; : >{FOLDER}/log; PATH={FOLDER}/bin:$PATH exec "$@"'


@dataclasses.dataclass(frozen=True)
class Killed:
    """The number of a step, and what would have happened next."""

    at: int
    step: str

    def __str__(self) -> str:
        return f"killed at step {self.at}: {self.step}"


def prepare(bed: Testbed) -> None:
    """Put the stand-ins into a booted testbed."""
    root = bed.root / FOLDER.lstrip("/")
    (root / "bin").mkdir(parents=True)
    (root / "python").mkdir()
    (root / "python/sitecustomize.py").write_text(PYTHON)
    stand_in = root / "step"
    stand_in.write_text(PROGRAM)
    stand_in.chmod(0o755)
    names: set[str] = set()
    for folder in ("usr/bin", "usr/sbin"):
        names |= {program.name for program in (bed.root / folder).iterdir()}
    for name in names - set(READERS) - {name for name in names if name.startswith("python3.")}:
        (root / "bin" / name).symlink_to(f"{FOLDER}/step")


def log(bed: Testbed) -> list[str]:
    """The steps of the last command."""
    return (bed.root / FOLDER.lstrip("/") / "log").read_text().splitlines()


# Of one loop or one command, which begins anew after a kill.
ONE_KIND = (
    r"dpkg-deb ",
    r"dpkg-divert --truename ",
    r"rm -f /etc/systemd/system/",
    r"rmdir --ignore-fail-on-non-empty /etc/systemd/",
    r"os\.rename /var/lib/qgis-server-systemd/\.nginx-",
)


def kind(step: str) -> str:
    """The same for steps that differ in the instance or unit that they are about."""
    if found := next(filter(None, (re.match(one, step) for one in ONE_KIND)), None):
        return found.re.pattern
    step = re.sub(r"qgis-server[-\w@\\]*\.(service|socket|target|slice)", r"UNIT.\1", step)
    return re.sub(r"\d+|tmp\.\w+", "N", step)


def that_differ(logs: Sequence[list[str]]) -> list[list[int]]:
    """For each of several commands the number of the first step of each kind, and that of its last
    one of all; of a kind that more than one of them have, of these in turn."""
    firsts: list[dict[str, int]] = [{} for _ in logs]
    for first, steps in zip(firsts, logs, strict=True):
        for number, step in enumerate(steps, start=1):
            first.setdefault(kind(step), number)
    found = [{len(steps)} for steps in logs]
    kinds = dict.fromkeys(name for first in firsts for name in first)
    for turn, name in enumerate(kinds):
        having = [index for index, first in enumerate(firsts) if name in first]
        index = having[turn % len(having)]
        found[index].add(firsts[index][name])
    return [sorted(numbers) for numbers in found]


def kill_at(bed: Testbed, step: int, *argv: str, fine: bool = False) -> Killed | None:
    """Run a command and kill it at a step; None if it came to its end before.

    Of the changes that qgis-serverctl makes itself, those count that others see; with
    `fine` also those to files that are not yet in their place.
    """
    environment = {"STEPS_AT": str(step), "PYTHONPATH": f"{FOLDER}/python"}
    if fine:
        environment["STEPS_FINE"] = "1"
    done = bed.run("setsid", "sh", "-c", RUN, "steps", *argv, env=environment, check=False)
    steps = log(bed)
    if len(steps) < step:
        assert done.returncode == 0, f"{argv} fails of itself\n{done.stdout}{done.stderr}"
        return None
    return Killed(step, steps[step - 1])
