# SPDX-License-Identifier: GPL-2.0-or-later
"""stdeb's commands, with our own debian/ in place of the one it makes up.

stdeb has no option for maintainer scripts, units, triggers or conffiles. Its
build_dsc() writes a debian/ folder and then calls dpkg-buildpackage -S through
stdeb.util.dpkg_buildpackage: that is where ours is laid over it.
"""

import contextlib
import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import stdeb.util
from stdeb.command import bdist_deb as stock_bdist_deb
from stdeb.command import sdist_dsc as stock_sdist_dsc

from . import __version__
from .qgis_serverctl.config.names import Package
from .render import render_debian
from .site import Site, load
from .sources import TEMPLATES, mode
from .suites import ANY, SUITES, Suite


def newest(changelog: Path, field: str) -> str:
    """What the newest changelog entry says."""
    said = subprocess.run(
        ["dpkg-parsechangelog", "-l", changelog, "-S", field],
        check=True,
        capture_output=True,
        text=True,
    )
    return said.stdout.strip()


def changelog_date(changelog: Path) -> int:
    """The date of the newest changelog entry, in seconds since 1970."""
    return int(newest(changelog, "Timestamp"))


def lay_over(debian: Path, site: Site, suite: Suite) -> None:
    """Replace a debian/ folder by ours."""
    shutil.rmtree(debian)
    render_debian(debian, site, suite)
    source = debian / "source"
    source.mkdir()
    (source / "format").write_text("3.0 (quilt)\n", encoding="ascii")
    if site.files:
        # dpkg-source takes no other ones that are no text.
        listed = "".join(f"debian/root{path}\n" for path in site.files)
        (source / "include-binaries").write_text(listed, encoding="ascii")
    # dpkg-deb takes younger files for as old as the changelog, but not older ones.
    date = changelog_date(debian / "changelog")
    # As modes of this machine's checkout would show in the source package.
    for file in (debian, *debian.rglob("*")):
        file.chmod(0o755 if file.is_dir() or file.stat().st_mode & 0o100 else 0o644)
        os.utime(file, (date, date))


GENERATED = re.compile(r"/(PKG-INFO|setup\.cfg|[^/]+\.egg-info(/.*)?)")
"""What setuptools adds to an sdist, below its folder."""


def make_reproducible(tarball: Path, date: int, folder: str | None = None) -> None:
    """Rewrite an sdist so that it depends on its contents alone. With `folder`, its only
    folder is called so and nothing is in it that setuptools adds: each version of that has
    other words and another name."""
    plain = tarball.with_suffix("")
    with tarfile.open(tarball) as old, tarfile.open(plain, "w", format=tarfile.GNU_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda m: m.name):
            _, slash, inner = member.name.partition("/")
            if folder:
                if GENERATED.fullmatch(slash + inner):
                    continue
                member.name = f"{folder}{slash}{inner}"
            data = old.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            member.mtime = date
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mode = 0o755 if member.isdir() else mode(data)
            member.pax_headers = {}
            new.addfile(member, io.BytesIO(data))
    with (
        plain.open("rb") as source,
        tarball.open("wb") as target,
        gzip.GzipFile(filename="", fileobj=target, mode="wb", mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed)
    plain.unlink()


@contextlib.contextmanager
def our_debian(site: Site, suite: Suite) -> Iterator[None]:
    """Let stdeb use our debian/ folder for as long as the context lasts."""
    build, version = stdeb.util.dpkg_buildpackage, stdeb.util.get_version_str

    def overlaid(*args: str, cwd: str) -> None:
        lay_over(Path(cwd, "debian"), site, suite)
        build(*args, cwd=cwd)

    # stdeb looks for the packages that its own debian/rules would need, and
    # ends with an error where dpkg has never heard of one.
    stdeb.util.dpkg_buildpackage, stdeb.util.get_version_str = overlaid, lambda package: "999"
    try:
        yield
    finally:
        stdeb.util.dpkg_buildpackage, stdeb.util.get_version_str = build, version


class sdist_dsc(stock_sdist_dsc.sdist_dsc):  # type: ignore[misc]  # noqa: N801
    """Make the source package."""

    user_options: ClassVar = [
        *stock_sdist_dsc.sdist_dsc.user_options,
        ("site=", None, "make the package that this file describes"),
    ]
    use_premade_distfile: str | None
    suite: str | None
    site: str | None
    source: str | None
    debian_version: str | None

    def initialize_options(self) -> None:
        super().initialize_options()
        self.site = None

    def run(self) -> None:
        # stdeb unpacks the source package, and bdist_deb packs that tree again.
        os.umask(0o022)
        if self.use_premade_distfile is None:
            self.run_command("sdist")
            (name,) = self.get_finalized_command("sdist").get_archive_files()
            date = changelog_date(TEMPLATES / "changelog")
            make_reproducible(Path(name), date, f"{Package().name}-{__version__}")
            self.use_premade_distfile = name
        suite = SUITES[self.suite] if self.suite else ANY
        site = load(Path(self.site) if self.site else None)
        # stdeb names the .dsc by these two, and then looks for that name.
        self.source = site.package.name
        revision = newest(TEMPLATES / "changelog", "Version").rpartition("-")[2]
        self.debian_version = revision + site.identity.version_suffix + suite.revision
        with our_debian(site, suite):
            super().run()


class bdist_deb(stock_bdist_deb.bdist_deb):  # type: ignore[misc]  # noqa: N801
    """Make the source package and from it the binary one.

    stdeb builds the binary package alone; repository tools want one .changes
    file that lists everything.
    """

    def run(self) -> None:
        self.run_command("sdist_dsc")
        source: Any = self.get_finalized_command("sdist_dsc")
        info = source.get_debinfo()
        tree = Path(source.dist_dir, f"{info.source}-{info.upstream_version}")
        stdeb.util.process_command(["dpkg-buildpackage", "-us", "-uc", "-F"], cwd=str(tree))
