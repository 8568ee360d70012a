# SPDX-License-Identifier: GPL-2.0-or-later
"""A repository that `publish` makes, with keys of the tests' own, and what its clients read."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qgis_server_systemd import cli
from qgis_server_systemd.repository import publish

URL = "https://apt.acme.example/qgis"


def make_key(home: Path, name: str, *options: str, passphrase: str = "", life: str = "-") -> str:
    """A secret key of the folder's; returns its fingerprint."""
    gpg = ["gpg", "--homedir", str(home), "--batch", "--with-colons"]
    secret = ("--pinentry-mode", "loopback", "--passphrase", passphrase)
    made = (*options, *secret, "--quick-generate-key", name, "ed25519", "sign", life)
    subprocess.run([*gpg, *made], check=True, capture_output=True)
    listed = subprocess.run([*gpg, "--list-keys", name], check=True, capture_output=True, text=True)
    return next(line.split(":")[9] for line in listed.stdout.splitlines() if line[:4] == "fpr:")


@contextmanager
def signing_keys(home: Path, *names: str) -> Iterator[tuple[str, ...]]:
    """Secret keys, in a GNUPGHOME that lasts as long as the context."""
    home.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(home))
        yield tuple(make_key(home, name) for name in names)
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


class Shop:
    """A repository, and the command line that publishes to it."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.repo, self.key = folder, folder / "repo", key

    def arguments(self, *given: str | Path, url: str = URL) -> list[str]:
        own = ["publish", "--repo", str(self.repo), "--sign", self.key, "--origin", "ACME"]
        return [*own, "--url", url, *map(str, given)]

    def publish(self, *given: str | Path, url: str = URL) -> None:
        assert cli.main(self.arguments(*given, url=url)) == 0

    def release(self, suite: str) -> str:
        return (self.repo / "dists" / suite / "Release").read_text()

    def versions(self, suite: str, architecture: str = "amd64") -> list[str]:
        index = self.repo / f"dists/{suite}/main/binary-{architecture}/Packages"
        return re.findall(r"^Version: (.*)$", index.read_text(), re.M)

    def is_whole(self) -> bool:
        """All that is signed is there, and all that is indexed."""
        for suite in (self.repo / "dists").iterdir():
            verified = gpgv(self.repo / "acme.asc", suite / "InRelease")
            assert verified == suite.joinpath("Release").read_text()
            gpgv(self.repo / "acme.asc", suite / "Release.gpg", suite / "Release")
            entries = re.findall(r"^ ([0-9a-f]{64}) +\d+ (.*)$", verified, re.M)
            assert len(entries) == 2 * (len(publish.ARCHITECTURES) + 1)
            for digest, name in entries:
                file = suite / name
                assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
                by_hash = file.parent / "by-hash/SHA256" / digest
                assert by_hash.read_bytes() == file.read_bytes()
            for index in suite.glob("main/binary-*/Packages"):
                text = index.read_text()
                names = re.findall(r"^Filename: (.*)$", text, re.M)
                for name, digest in zip(
                    names, re.findall(r"^SHA256: (.*)$", text, re.M), strict=True
                ):
                    assert hashlib.sha256((self.repo / name).read_bytes()).hexdigest() == digest
        return True


def gpgv(key: Path, *files: Path) -> str:
    """What a client reads; the key is taken as apt takes it."""
    ring = subprocess.run(["gpg", "--dearmor"], input=key.read_bytes(), capture_output=True)
    keyring = key.resolve().parents[3] / "keyring.gpg"
    keyring.write_bytes(ring.stdout)
    command = ["gpgv", "--keyring", str(keyring), "--output", "-", *map(str, files)]
    done = subprocess.run(command[:3] + (command[3:] if len(files) == 1 else command[5:]),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
