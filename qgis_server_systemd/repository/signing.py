# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures, by gpg and the keys of whoever runs this."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

from ..qgis_serverctl.system.output import die


def _gpg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    # Where a passphrase is needed, gpg-agent asks for it.
    tty = {"GPG_TTY": os.ttyname(0)} if sys.stdin and sys.stdin.isatty() else {}
    command = ["gpg", "--batch", "--no-auto-check-trustdb", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, **tty}
    )


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said else f"exit status {done.returncode}"


def fingerprint(key: str) -> str:
    """The one secret key that is meant. Raises Failure."""
    listed = _gpg("--with-colons", "--list-secret-keys", "--", key)
    lines = [line.split(":") for line in listed.stdout.decode(errors="replace").splitlines()]
    found = [
        after[9]
        for line, after in itertools.pairwise(lines)
        if line[0] == "sec" and after[0] == "fpr"
    ]
    hint = "gpg --list-secret-keys lists them; give a fingerprint"
    if not found:
        die(f"--sign {key}: there is no such secret key", hint=hint)
    if len(found) > 1:
        die(f"--sign {key}: {len(found)} secret keys are called so", hint=hint)
    return found[0]


def export(keys: list[str], target: Path) -> None:
    """The public keys, as apt's Signed-By takes them. Raises Failure."""
    done = _gpg("--armor", "--export-options", "export-minimal", "--export", *keys)
    if done.returncode != 0 or not done.stdout:
        die(f"gpg --export: {_reason(done)}")
    target.write_bytes(done.stdout)


def sign(release: Path, keys: list[str], public: Path) -> None:
    """Put InRelease and Release.gpg beside a Release, and see that those who have the public
    key take them. Raises Failure."""
    who = [word for key in keys for word in ("--local-user", key)]
    for name, how in (("InRelease", "--clear-sign"), ("Release.gpg", "--detach-sign")):
        target = ["--output", os.fspath(release.with_name(name))]
        done = _gpg("--armor", "--digest-algo", "SHA512", *who, *target, how, os.fspath(release))
        if done.returncode != 0:
            die(f"gpg {how}: {_reason(done)}", hint="is the key expired, or its agent locked?")
    ring = public.with_suffix(".gpg")
    _gpg("--yes", "--output", os.fspath(ring), "--dearmor", os.fspath(public))
    signed = ([release.with_name("InRelease")], [release.with_name("Release.gpg"), release])
    for files in signed:
        command = ["gpgv", "--keyring", os.fspath(ring), *map(os.fspath, files)]
        done = subprocess.run(command, capture_output=True)
        if done.returncode != 0:
            die(f"gpgv {files[0].name}: {_reason(done)}", hint="the key can't be used for this")
    ring.unlink()
