# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of a signed APT repository.

    pool/                   packages, each written beside and renamed, and never changed
    .repository/7/          a state: all that is made from them
    .repository/current     a link to the state that holds
    dists, index.html, …    links to what is in the current state

So one rename of a link takes clients from one whole state to the next. The last states
are kept: who has read the former InRelease finds its indices by their hash, and the packages
that these name.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from debian.deb822 import Packages, Sources

from ..qgis_serverctl.system.lock import acquire, open_lock
from ..qgis_serverctl.system.output import die, note
from .packages import Offer, Part, refuse, sha256

HIDDEN = ".repository"
KEPT_STATES = 3


@dataclass(frozen=True)
class Settings:
    """What a repository is called. url: of its folder. name: of the files that clients get.
    valid_days: how long a client trusts what was signed; 0 for ever."""

    url: str
    origin: str
    label: str
    name: str
    valid_days: int = 0


def _source(stanza: Sources, folder: Path) -> Offer:
    parts = [
        Part(folder / path, path, entry["sha256"])
        for entry in stanza["Checksums-Sha256"]
        for path in [f"{stanza['Directory']}/{entry['name']}"]
    ]
    parts.sort(key=lambda part: not part.path.endswith(".dsc"))
    return Offer(tuple(parts), stanza["Package"], stanza["Version"], "source")


def _binary(stanza: Packages, folder: Path) -> Offer:
    path = stanza["Filename"]
    part = Part(folder / path, path, stanza["SHA256"])
    return Offer((part,), stanza["Package"], stanza["Version"], stanza["Architecture"])


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.hidden = self.folder / HIDDEN

    def adopt(self) -> None:
        """Make the folder. Raises Failure where something else is in it."""
        if not self.hidden.is_dir() and self.folder.is_dir() and any(self.folder.iterdir()):
            die(
                f"{self.folder}: holds something else than a repository of this tool",
                hint="choose an empty folder; --print-commands is for other tools' repositories",
            )
        self.hidden.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for another one who publishes there, and say so."""
        with open_lock(self.hidden / "lock") as file:
            acquire(file, lambda: note(f"waiting for another publish to {self.folder}"))
            yield

    # ---- What is there

    def number(self) -> int:
        """Of the current state; 0 if there is none yet."""
        link = self.hidden / "current"
        return int(os.readlink(link)) if link.is_symlink() else 0

    def state(self, number: int) -> Path:
        return self.hidden / str(number)

    def settings(self) -> Settings | None:
        file = self.state(self.number()) / "repository.json"
        return Settings(**json.loads(file.read_text("utf-8"))) if file.is_file() else None

    def published(self, state: Path) -> dict[str, dict[str, Offer]]:
        """What the indices of a state name, for each suite and by their paths."""
        return {
            suite.name: {offer.path: offer for offer in self._read(suite)}
            for suite in sorted((state / "dists").glob("*"))
        }

    def _read(self, suite: Path) -> Iterator[Offer]:
        for index in suite.glob("main/binary-*/Packages"):
            with index.open("rb") as stream:
                for stanza in Packages.iter_paragraphs(stream, use_apt_pkg=False):
                    yield _binary(stanza, self.folder)
        for index in suite.glob("main/source/Sources"):
            with index.open("rb") as stream:
                for source in Sources.iter_paragraphs(stream, use_apt_pkg=False):
                    yield _source(source, self.folder)

    def kept(self) -> list[Path]:
        last = self.number()
        numbers = range(max(1, last - KEPT_STATES + 1), last + 1)
        return [self.state(n) for n in numbers if self.state(n).is_dir()]

    # ---- Changes

    def sweep(self) -> None:
        """Remove what no kept state needs: old states, their packages, and what a run that
        was cut off has left."""
        kept = self.kept()
        for found in self.hidden.iterdir():
            if found.name not in ("lock", "current") and found not in kept:
                shutil.rmtree(
                    found
                ) if found.is_dir() and not found.is_symlink() else found.unlink()
        needed = {
            part.path
            for state in kept
            for offers in self.published(state).values()
            for offer in offers.values()
            for part in offer.parts
        }
        for file in sorted((self.folder / "pool").rglob("*"), reverse=True):
            if file.is_dir():
                with contextlib.suppress(OSError):  # not empty
                    file.rmdir()
            elif str(file.relative_to(self.folder)) not in needed:
                file.unlink()
        for link in self.folder.iterdir():
            if link.is_symlink() and os.readlink(link).startswith(HIDDEN) and not link.exists():
                link.unlink()

    def check(self, offer: Offer) -> None:
        """Raises Failure if the same version is there with other bytes."""
        for part in offer.parts:
            there = self.folder / part.path
            if there.is_file() and sha256(there) != part.sha256:
                refuse(part, there)

    def put(self, offer: Offer) -> None:
        """Bring its files into the pool."""
        for part in offer.parts:
            there = self.folder / part.path
            if there.is_file():
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            beside = there.with_name(f".{there.name}.new")
            shutil.copyfile(part.file, beside)
            if sha256(beside) != part.sha256:
                die(f"{part.file}: has changed meanwhile", hint="run it again")
            beside.chmod(0o644)
            os.replace(beside, there)

    def swap(self, state: Path, settings: Settings) -> None:
        """Let a state hold from now on."""
        file = state / "repository.json"
        file.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
        for path in (self.folder, self.hidden, *(self.folder / "pool").rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        for path in (state, *state.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._sync()
        public = sorted(path.name for path in state.iterdir() if path != file)
        for name in public:
            self._link(self.folder / name, f"{HIDDEN}/current/{name}")
        self._link(self.hidden / "current", state.name)
        self._sync()

    def _link(self, file: Path, target: str) -> None:
        if file.is_symlink() and os.readlink(file) == target:
            return
        beside = self.hidden / f"{file.name}.new"
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        os.replace(beside, file)

    def _sync(self) -> None:
        if subprocess.run(["sync", "--file-system", self.folder]).returncode != 0:
            die(f"{self.folder}: can't be brought to the disk")
