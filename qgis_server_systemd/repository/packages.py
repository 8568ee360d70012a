# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that are offered to a repository: what .changes, .dsc and .deb files hold, looked
at before anything is written."""

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Changes, Deb822, Dsc

from ..qgis_serverctl.system.output import die
from ..suites import SUITES

WORD = r"[A-Za-z0-9][A-Za-z0-9.+~-]*"
"""What file names and the names of packages are made of (Debian Policy, 5.6)."""


@dataclass(frozen=True)
class Part:
    """A file. path: where in the repository it is, or is to be."""

    file: Path
    path: str
    sha256: str


@dataclass(frozen=True)
class Offer:
    """A binary package, or a source package with its .dsc first. distribution: what its
    .changes says."""

    parts: tuple[Part, ...]
    package: str
    version: str
    architecture: str
    distribution: str = ""

    @property
    def path(self) -> str:
        return self.parts[0].path

    def fits(self, suite: str) -> bool:
        """By its version, and where it says so by its .changes."""
        if self.distribution in SUITES and self.distribution != suite:
            return False
        made_for = re.search(r"[~+](?:deb|bpo)(\d+)", self.version)
        return not made_for or f"deb{made_for[1]}u" in SUITES[suite].revision


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder(source: str) -> str:
    """Where in the pool a source package lies, as in Debian's archive."""
    return f"pool/main/{source[:4] if source.startswith('lib') else source[0]}/{source}"


def _word(file: Path, what: str, value: str) -> str:
    if not re.fullmatch(WORD, value):
        die(f"{file}: {what} is {value!r}", hint="no Debian package has such a one")
    return value


def _deb(file: Path, distribution: str) -> Offer:
    command = ["dpkg-deb", "--field", os.fspath(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[:1] or ["no package"]
        die(f"{file}: {reason[0].removeprefix('dpkg-deb: error: ')}", hint="build it again")
    fields = Deb822(done.stdout)
    name, architecture = (
        _word(file, what, fields.get(what, "")) for what in ("Package", "Architecture")
    )
    version = fields.get("Version", "")
    bare = _word(file, "Version", version.partition(":")[2] or version)
    source = _word(file, "Source", fields.get("Source", name).partition(" ")[0])
    path = f"{folder(source)}/{name}_{bare}_{architecture}.deb"
    part = Part(file, path, sha256(file))
    return Offer((part,), name, version, architecture, distribution)


def _listed(file: Path, fields: Changes | Dsc) -> list[Path]:
    """The files that a .changes or .dsc lists; they must be what it says."""
    found = []
    try:
        named = [(entry["name"], entry["sha256"]) for entry in fields.get("Checksums-Sha256", [])]
    except (KeyError, TypeError):
        named = []
    for name, digest in named:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*", name):
            die(f"{file}: lists {name!r}", hint="no Debian package has such a file")
        part = file.parent / name
        if not part.is_file():
            die(f"{part}: is missing", hint=f"{file.name} lists it: give the build's whole output")
        if sha256(part) != digest:
            die(f"{part}: is not what {file.name} lists", hint="build the package again")
        found.append(part)
    if not found:
        die(f"{file}: lists no files with Checksums-Sha256", hint="build the package again")
    return found


def _dsc(file: Path, distribution: str) -> Offer:
    fields = Dsc(_text(file))
    source, version = _word(file, "Source", fields.get("Source", "")), fields.get("Version", "")
    files = [file, *_listed(file, fields)]
    parts = tuple(Part(each, f"{folder(source)}/{each.name}", sha256(each)) for each in files)
    return Offer(parts, source, version, "source", distribution)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        die(f"{file}: is no text in UTF-8", hint="build the package again")


def read(file: Path, distribution: str = "") -> list[Offer]:
    """What a file of the command line stands for. Raises Failure."""
    if not file.is_file():
        die(f"{file}: there is no such file", hint="the build tool leaves packages in dist/")
    if file.suffix == ".deb":
        return [_deb(file, distribution)]
    if file.suffix == ".dsc":
        return [_dsc(file, distribution)]
    if file.suffix != ".changes":
        die(f"{file}: is no package", hint="give .changes, .deb or .dsc files")
    fields = Changes(_text(file))
    named = fields.get("Distribution", "")
    parts = [part for part in _listed(file, fields) if part.suffix in (".deb", ".dsc")]
    return [offer for part in parts for offer in read(part, named)]


def placed(files: list[Path], suites: tuple[str, ...]) -> dict[str, dict[str, Offer]]:
    """For each suite the offers that fit it, by their paths. Raises Failure for what fits
    none, and for two that claim one path."""
    found: dict[str, dict[str, Offer]] = {suite: {} for suite in suites}
    at: dict[str, Part] = {}
    for offer in (offer for file in files for offer in read(file)):
        for part in offer.parts:
            if at.setdefault(part.path, part).sha256 != part.sha256:
                refuse(part, at[part.path].file)
        fitting = [suite for suite in suites if offer.fits(suite)]
        if not fitting:
            said = f" for {offer.distribution}" if offer.distribution else ""
            die(
                f"{offer.parts[0].file}: {offer.version}{said} is not for {', '.join(suites)}",
                hint="name its suite with --suite, or build it for this one",
            )
        for suite in fitting:
            found[suite][offer.path] = offer
    return found


def refuse(part: Part, other: Path) -> None:
    die(
        f"{part.file}: {other} has the same version and other bytes",
        hint="what has been published stays as it is: raise the version",
    )
