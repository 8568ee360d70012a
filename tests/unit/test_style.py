# SPDX-License-Identifier: GPL-2.0-or-later
"""How the code is written, by ruff; what else linters say is in package/test_linters.py."""

import subprocess
import sys

import pytest
from shared.paths import TOP


@pytest.mark.parametrize("arguments", [("format", "--check"), ("check",)], ids=" ".join)
def test_python(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "ruff", *arguments, "."]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
