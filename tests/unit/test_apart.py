# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process gives up that keeps to itself, on this kernel; on Debian's systemd see
tests/server/test_security.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from qgis_server_systemd.worker_plugin import apart

SCRIPT = """
import json, os, resource, signal, subprocess, sys, threading
from qgis_server_systemd.worker_plugin import apart

other, *allowed = sys.argv[1:]
go, told = threading.Event(), {}

def attempt(name, way):
    try:
        way()
        told[name] = "ok"
    except OSError as error:
        told[name] = error.strerror

def later():
    go.wait()
    attempt("earlier thread", lambda: os.kill(int(other), 0))

thread = threading.Thread(target=later)
thread.start()
apart.keep(allowed)
go.set()
thread.join()
attempt("other", lambda: os.kill(int(other), 0))
attempt("all", lambda: os.kill(-1, 0))
attempt("limits", lambda: resource.prlimit(int(other), resource.RLIMIT_NOFILE))
attempt("itself", lambda: os.kill(os.getpid(), 0))
attempt("thread", lambda: signal.pthread_kill(threading.get_ident(), 0))
attempt("own limits", lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
child = "import os, sys; os.kill(int(sys.argv[1]), 0)"
told["child"] = subprocess.run([sys.executable, "-c", child, other], capture_output=True).returncode
print(json.dumps(told))
"""


@pytest.fixture
def other() -> Iterator[str]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield str(process.pid)
        process.kill()


def told(*arguments: str) -> dict[str, object]:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_other_processes_are_out_of_reach(other: str) -> None:
    refused = "Operation not permitted"
    assert told(other) == {
        "earlier thread": refused, "other": refused, "all": refused, "limits": refused, "child": 1,
        "itself": "ok", "thread": "ok", "own limits": "ok",
    }  # fmt: skip


def test_settings_allow_a_system_call(other: str) -> None:
    found = told(other, "kill")
    assert (found["other"], found["child"]) == ("ok", 0)
    assert found["limits"] == "Operation not permitted"


def test_what_can_t_be_refused_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "refused", lambda process: iter([("no_such_call", None)]))
    with pytest.raises(OSError, match="no_such_call"):
        apart.keep()
