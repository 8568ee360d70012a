# SPDX-License-Identifier: GPL-2.0-or-later
"""May a user read or write a path, and if not, which folder is in the way? The
kernel is asked, by a process of that user: so groups and ACLs count, too."""

import json
import os
import pwd
import select
import shlex
import signal
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MODES = {"r": os.R_OK, "w": os.W_OK | os.X_OK, "rw": os.R_OK | os.W_OK}
"""r: read a file. w: make files in a folder. rw: use a socket."""


TIMEOUT = 30.0
"""Seconds; a file system in a network may be slow."""


@dataclass(frozen=True)
class Question:
    path: str
    mode: str


@dataclass(frozen=True)
class Obstacle:
    """`path`: the part of the asked path that is in the way."""

    path: str
    missing: bool


def opening(path: str, obstacle: Obstacle) -> str:
    """The command that opens what is in the way of a path to everybody: a file for reading, a
    folder for entering. Whoever can write to a folder on the way can make a link there: what is
    only reached by one is shown, and not opened."""
    steps = (path, *map(str, Path(path).parents))
    if obstacle.path not in steps or os.path.realpath(obstacle.path) != obstacle.path:
        return f"namei -l {shlex.quote(path)}"
    return f"chmod o+{'r' if obstacle.path == path else 'x'} {shlex.quote(obstacle.path)}"


def changed_by_others(path: str) -> str:
    """The part of a path, as it is named and as links lead, that others than root can change or
    replace; empty if there is none."""
    for name in dict.fromkeys((path, os.path.realpath(path))):
        for step in (name, *map(str, Path(name).parents)):
            try:
                found = os.stat(step)
            except OSError:
                continue
            shared = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid else 0)
            if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
                # Only the owner of what is in it can replace that.
                shared = 0
            if found.st_uid or found.st_mode & shared:
                return step
    return ""


def blocked(question: Question) -> Obstacle | None:
    """What is in the way of this process itself."""
    path = os.path.abspath(question.path)
    for step in (*reversed(Path(path).parents), Path(path)):
        try:
            os.stat(step)
        except PermissionError:
            # A link to a place that can't be reached; its own folder can.
            real = os.path.realpath(step)
            further = None if real == str(step) else blocked(Question(real, "r"))
            return further or Obstacle(str(step), missing=False)
        except OSError:
            return Obstacle(str(step), missing=True)
        mode = MODES[question.mode] if str(step) == path else os.X_OK
        if not os.access(step, mode):
            return Obstacle(os.path.realpath(step), missing=False)
    return None


def _become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _succeeds(child: int) -> bool:
    """Wait for a process; one that takes too long is killed."""
    process = os.pidfd_open(child)
    try:
        if not select.select([process], [], [], TIMEOUT)[0]:
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1] == 0
    finally:
        os.close(process)


def as_user(user: str, questions: Iterable[Question]) -> dict[Question, Obstacle]:
    """Whatever is in the way of `user`; needs root. Raises KeyError if there is no such user,
    and OSError where the process does not answer: others of that user may stop or end it."""
    asked = tuple(dict.fromkeys(questions))
    pwd.getpwnam(user)
    if not asked:
        return {}
    with open(os.memfd_create("answers"), "w+", encoding="utf-8") as file:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _become(user)
                found = [(o.path, o.missing) if (o := blocked(q)) else None for q in asked]
                json.dump(found, file)
                file.flush()
                status = 0
            finally:
                os._exit(status)
        if not _succeeds(child):
            raise OSError(f"the access of user {user} can't be tested")
        file.seek(0)
        answers = zip(asked, json.load(file), strict=True)
    return {question: Obstacle(*answer) for question, answer in answers if answer}
