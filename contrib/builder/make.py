# SPDX-License-Identifier: GPL-2.0-or-later
"""Make what the tool itself is installed from: its wheel, its sdist and its .deb.

The .deb holds what the wheel holds, and beside it the two libraries that Debian has in other
versions, or not at all: as they are in this Python environment.
"""

import argparse
import importlib.metadata
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from qgis_server_systemd import __version__, build, cli, completion, sources
from qgis_server_systemd.lint import lint
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.system.output import Failure, note
from qgis_server_systemd.stdeb_commands import changelog_date, make_reproducible

HERE = Path(__file__).resolve().parent
NAME = "qgis-server-systemd-builder"
PRIVATE = ("stdeb", "shtab")


def settle(folder: Path, date: int) -> None:
    """Modes and times that are the same for everybody."""
    for file in (folder, *folder.rglob("*")):
        file.chmod(0o755 if file.is_dir() else sources.mode(file.read_bytes()))
        os.utime(file, (date, date))


def python_packages(folder: Path, date: int) -> list[Path]:
    """Make wheel and sdist in a copy, where nothing of an earlier one lies about."""
    copy = folder / "source"
    sources.copy(copy)
    settle(copy, date)
    made = folder / "python"
    where = ["--dist-dir", os.fspath(made)]
    setup = [sys.executable, "setup.py", "sdist", *where, "bdist_wheel", *where]
    build.step("setup.py", setup, copy)
    (sdist,) = made.glob("*.tar.gz")
    make_reproducible(sdist, date)
    return sorted(made.iterdir())


def copy_library(name: str, target: Path) -> None:
    """Copy a library's modules out of this Python environment."""
    for file in importlib.metadata.files(name) or ():
        if file.parts[0] == name and file.suffix != ".pyc":
            copy = target / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(os.fspath(file.locate()), copy)


def debian_package(folder: Path, wheel: Path, date: int) -> list[Path]:
    """Make the .deb of a wheel's files."""
    tree = folder / "deb" / NAME
    shutil.copytree(HERE / "debian", tree / "debian")
    # The tool has no changes but the project's.
    changelog = (sources.TEMPLATES / "changelog").read_text(encoding="utf-8")
    changelog = changelog.replace(f"{Package().name} (", f"{NAME} (")
    (tree / "debian/changelog").write_text(changelog, encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(sources.HERE.name + "/")]
        archive.extractall(tree / "lib", names)
    for library in PRIVATE:
        copy_library(library, tree / "lib")
    for shell, name in (("bash", "qgis-server-systemd"), ("zsh", "_qgis-server-systemd")):
        (tree / shell).mkdir()
        text = completion.script(cli.parser(), shell)
        (tree / shell / name).write_text(text, encoding="utf-8")
    (tree / "bin").mkdir()
    shutil.copy(HERE / "qgis-server-systemd", tree / "bin")
    settle(tree, date)
    build.step("dpkg-buildpackage", ["dpkg-buildpackage", "-us", "-uc", "-b"], tree)
    made = sorted(file for file in tree.parent.iterdir() if file.name.startswith(f"{NAME}_"))
    for file in made:
        if file.suffix == ".changes":
            lint(file, None)
    return made


def make(output: Path) -> list[Path]:
    """All of them, moved to `output` when they are done."""
    build.check_tools()
    output.mkdir(parents=True, exist_ok=True)
    date = changelog_date(sources.TEMPLATES / "changelog")
    os.environ["SOURCE_DATE_EPOCH"] = str(date)
    os.umask(0o022)
    with build.unwinding(), tempfile.TemporaryDirectory(prefix=f"{NAME}-") as name:
        folder = Path(name)
        note(f"making wheel, sdist and Debian package of the tool, version {__version__}")
        made = python_packages(folder, date)
        (wheel,) = (file for file in made if file.suffix == ".whl")
        made += debian_package(folder, wheel, date)
        return build.deliver(made, output)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("dist"),
        metavar="DIR",
        help="folder for the files (default: dist)",
    )
    try:
        for file in make(parser.parse_args().output):
            print(file)
    except Failure as error:
        print(f"make: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
