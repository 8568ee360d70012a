# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo, from its first line to Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

from shared.demos import bed_of, get, said_until_served
from shared.paths import TESTS
from shared.pool import wait_for

DEMO = TESTS / "demo.py"


def titles(page: str) -> set[str]:
    """Of the projects of the front page; none as long as its list is in the making."""
    try:
        found = json.loads(get(f"{page}page/projects.json"))
    except urllib.error.HTTPError:
        return set()
    return {project["title"] for project in found["projects"]}


def test_demo_serves_until_ctrl_c_and_leaves_only_the_picture(suite: str, tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--suite", suite, "--picture", str(tmp_path / "demo.png")]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        try:
            said = said_until_served(demo)
            bed = bed_of(demo.pid)
            assert bed.is_dir()
            urls = dict(re.findall(r"^  ([a-z ]+): +(http\S+)$", said, re.MULTILINE))
            assert [*urls] == ["front page", "a map", "capabilities"], said
            picture = (tmp_path / "demo.png").read_bytes()
            assert picture == get(urls["a map"])
            assert picture.startswith(b"\x89PNG")
            assert len(picture) > 100_000
            assert b"<html" in get(urls["front page"], accept="text/html")
            wait_for(lambda: "World" in titles(urls["front page"]), "the front page shows it")
            host = urls["a map"].split("?")[0]
            assert host.encode() in get(urls["capabilities"])
        finally:
            demo.send_signal(signal.SIGINT)
            rest = demo.stdout.read() if demo.stdout else ""
        assert demo.wait(60) == 0, rest
    assert "nothing is left behind" in rest
    assert not bed.exists()
    assert str(bed) not in Path("/proc/mounts").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["demo.png"]
