# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool itself, as it is installed: by pip from its wheel and sdist, and by apt. From each
it makes the same packages as from the checkout."""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import stdeb
from shared.paths import TOP
from shared.pool import assert_lintian_finds_nothing
from testbed import Testbed

from qgis_server_systemd import __version__, cli, completion, sources
from qgis_server_systemd.build import build

BUILDER = TOP / "contrib/builder"
NAME = "qgis-server-systemd-builder"
SHARE = f"/usr/share/{NAME}"
LIBRARIES = ("stdeb", "shtab")
OFFLINE = ("unshare", "--net")


def make(output: Path, **different: str) -> list[Path]:
    """What make dist does, once its dependencies are there."""
    done = subprocess.run(
        [*OFFLINE, sys.executable, BUILDER / "make.py", "--output", output],
        cwd=output.parent, capture_output=True, text=True, env={**os.environ, **different},
        umask=0o077 if different else -1,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make(tmp_path_factory.mktemp("distribution") / "dist")


def one(files: list[Path], ending: str) -> Path:
    (found,) = (file for file in files if file.name.endswith(ending))
    return found


def comparable(folder: Path) -> dict[str, bytes]:
    """The files of a build, but those that tell of the machine and the day."""
    telling = (".buildinfo", ".changes")
    found = (file for file in folder.iterdir() if file.is_file() and file.suffix not in telling)
    return {file.name: file.read_bytes() for file in found}


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the checkout makes."""
    folder = tmp_path_factory.mktemp("expected")
    build(folder, "bookworm")
    return comparable(folder)


def tracked() -> set[str]:
    """All files of the sources, but what Python leaves there."""
    found = {TOP / name for name in sources.SOURCES}
    found |= {file for name in sources.SOURCES for file in (TOP / name).rglob("*")}
    return {
        str(file.relative_to(TOP))
        for file in found
        if file.is_file() and "__pycache__" not in file.parts
    }


# ---- Wheel and sdist


def test_the_wheel_holds_every_source(distribution: list[Path]) -> None:
    package, inside = sources.HERE.name, f"{sources.HERE.name}/{sources.INSIDE}"
    wanted = {
        name if name.startswith(f"{package}/") else f"{inside}/{name}": TOP / name
        for name in tracked()
    }
    assert f"{inside}/debian/root/usr/lib/systemd/system/qgis-server@.service" in wanted
    with zipfile.ZipFile(one(distribution, ".whl")) as wheel:
        held = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
        assert held == set(wanted)
        for name, file in wanted.items():
            assert wheel.read(name) == file.read_bytes(), name


def test_the_sdist_holds_every_source(distribution: list[Path]) -> None:
    with tarfile.open(one(distribution, ".tar.gz")) as sdist:
        held = {member.name.partition("/")[2] for member in sdist if member.isfile()}
        assert all(member.mode == 0o755 for member in sdist if member.name.endswith("/rules"))
    added = {name for name in held - tracked() if ".egg-info/" not in name}
    assert tracked() <= held
    assert added == {"PKG-INFO", "setup.cfg"}


def of_sdist(sdist: Path, folder: Path) -> Path:
    """The wheel that pip makes of an sdist."""
    pip = [*OFFLINE, sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--wheel-dir", str(folder), str(sdist)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(params=["wheel", "sdist"])
def venv(request: pytest.FixtureRequest, distribution: list[Path], tmp_path: Path) -> Path:
    """A fresh one with the tool from pip. What it depends on comes from the tests' own."""
    wheel = one(distribution, ".whl")
    if request.param == "sdist":
        wheel = of_sdist(one(distribution, ".tar.gz"), tmp_path)
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [*OFFLINE, sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Not the checkout that is installed there: what leads to it is itself a .pth file.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # As some installers leave them.
    for file in (packages / "qgis_server_systemd").rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    return folder


def test_pip_installs_a_tool_that_makes_the_same_packages(
    venv: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    program = venv / "bin/qgis-server-systemd"
    where = "import qgis_server_systemd as tool; print(tool.__file__)"
    said = subprocess.run(
        [venv / "bin/python", "-c", where],
        cwd=tmp_path, env=own, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(said.stdout).is_relative_to(venv)
    done = subprocess.run(
        [*OFFLINE, program, "build", "--suite", "bookworm", "--output", "out"],
        cwd=tmp_path, env=own, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = comparable(tmp_path / "out")
    assert set(made) == set(expected)
    assert [name for name in made if made[name] != expected[name]] == []
    subprocess.run([program, "init"], cwd=tmp_path, env=own, check=True, capture_output=True)
    assert (venv / "share/man/man1/qgis-server-systemd.1").is_file()


def test_the_wheel_names_what_it_needs(distribution: list[Path]) -> None:
    with zipfile.ZipFile(one(distribution, ".whl")) as wheel:
        name = f"qgis_server_systemd-{__version__}.dist-info/METADATA"
        needs = email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist") or []
    plain = {need for need in needs if "extra" not in need}
    names = ("jinja2", "markdown-it-py", "python-debian", "setuptools", "shtab", "stdeb")
    assert len(plain) == len(names)
    assert all(need.startswith(names) for need in plain)


# ---- The Debian package


def test_it_is_made_of_the_same_bytes_every_time(distribution: list[Path], tmp_path: Path) -> None:
    again = make(tmp_path / "an other folder", TZ="Asia/Tokyo", LC_ALL="C", LOGNAME="somebody")
    for file in distribution:
        if file.suffix not in (".buildinfo", ".changes"):
            assert one(again, file.name).read_bytes() == file.read_bytes(), file.name


def test_its_files(distribution: list[Path], tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", one(distribution, ".deb"), tmp_path], check=True)
    private = tmp_path / SHARE.lstrip("/")
    assert {path.name for path in private.iterdir()} == {"qgis_server_systemd", *LIBRARIES}
    assert (tmp_path / "usr/share/doc" / NAME / "docs/site-builds.md").is_file()
    assert not any("__pycache__" in str(path) for path in tmp_path.rglob("*"))
    purelib = Path(sysconfig.get_path("purelib"))
    for library in LIBRARIES:
        own = {f.relative_to(purelib) for f in (purelib / library).rglob("*.py")}
        assert {f.relative_to(private) for f in (private / library).rglob("*.py")} == own
        for file in own:
            assert (private / file).read_bytes() == (purelib / file).read_bytes()
    assert stdeb.__version__.startswith("0.11.")
    with zipfile.ZipFile(one(distribution, ".whl")) as wheel:
        for name in wheel.namelist():
            if name.startswith("qgis_server_systemd/"):
                assert (private / name).read_bytes() == wheel.read(name), name


def changed(bed: Testbed) -> set[str]:
    """The files that were made or written in a testbed, but for what apt and dpkg note for
    themselves."""
    own = ("var/cache/", "var/lib/apt/", "var/lib/dpkg/", "var/log/", "tmp/", "offered/")
    upper = bed.bed / "upper"
    found = (str(file.relative_to(upper)) for file in upper.rglob("*") if file.is_file())
    return {name for name in found if not name.startswith(own)}


@pytest.fixture(scope="module")
def workshop(suite: str, distribution: list[Path]) -> Iterator[Testbed]:
    """A tree of the suite, not booted, with the tool installed and a user without rights."""
    with Testbed(suite, tools=True) as bed:
        for file in distribution:
            if file.name.startswith(NAME):
                bed.put(file, "/offered/")
        bed.chroot("sh", "-ec", "useradd --create-home geo; apt-get --yes install /offered/*.deb")
        yield bed


def as_user(bed: Testbed, *command: str) -> str:
    """Run it in the user's home, offline."""
    user = ("runuser", "-u", "geo", "--", "env", "--chdir=/home/geo", "HOME=/home/geo", *command)
    return bed.chroot(*OFFLINE, *user).stdout


def test_lintian(workshop: Testbed) -> None:
    # Debian 12's takes templates of units for units.
    assert_lintian_finds_nothing(workshop, "/offered/*.changes", None)


def wheel_of(library: str, folder: Path) -> Path:
    """A library of this Python environment, packed as PyPI has it."""
    found = importlib.metadata.distribution(library)
    target = folder / f"{library}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc" and file.name != "INSTALLER":
                wheel.write(os.fspath(file.locate()), file)
    return target


# The second time there is nothing to prepare.
MAKE_DEB = """
exec 2>&1
cd checkout
make deb
python3 tests/prepare.py deb
.venv/bin/qgis-server-systemd --version
"""


def test_a_user_makes_the_same_packages_as_from_the_checkout(
    workshop: Testbed, suite: str, tmp_path: Path, artifacts: list[Path]
) -> None:
    as_user(workshop, "qgis-server-systemd", "build")
    made = comparable(workshop.root / "home/geo/dist")

    # From a checkout, with the same tools of Debian, and nothing else of PyPI.
    checkout = tmp_path / "checkout"
    sources.copy(checkout)
    shutil.copy(TOP / "Makefile", checkout)
    (checkout / "tests").mkdir()
    shutil.copy(TOP / "tests/prepare.py", checkout / "tests")
    workshop.put(checkout, "/home/geo/")
    workshop.chroot("chown", "-R", "geo", "/home/geo/checkout")
    for library in LIBRARIES:
        workshop.put(wheel_of(library, tmp_path), "/opt/pypi/")
    pypi = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/opt/pypi", "sh", "-ec")
    said = as_user(workshop, *pypi, MAKE_DEB)
    assert re.findall("^prepare: .*", said, re.M) == [
        "prepare: installing into .venv from PyPI: shtab==1.13.0, stdeb==0.11.*"
    ]
    assert f"looking for faults with the lintian of {suite}\n" in said
    assert "warning: " not in said
    assert said.endswith(f"\n{__version__}\n")
    expected = comparable(workshop.root / "home/geo/checkout/dist")
    assert {name.rpartition(".")[2] for name in expected} == {"deb", "dsc", "gz", "xz"}
    assert [name for name in made if made[name] != expected[name]] == []
    assert set(made) == set(expected)

    # And here, with other versions of Python, setuptools, Jinja2 and dpkg.
    here = comparable(artifacts[0].parent)
    assert set(here) == set(made)
    for name in here:
        if not name.endswith(".deb"):
            assert made[name] == here[name], name


SITE = """
[package]
name = "acme-maps"
maintainer = "ACME GIS team <gis@acme.example>"
"""


def test_a_user_can_do_all_the_rest(workshop: Testbed, suite: str) -> None:
    assert as_user(workshop, "qgis-server-systemd", "--version").strip() == __version__
    as_user(workshop, "qgis-server-systemd", "init")
    home = workshop.root / "home/geo"
    as_user(workshop, "qgis-server-systemd", "validate")
    (home / "acme.toml").write_text(SITE)
    as_user(workshop, "qgis-server-systemd", "validate", "acme.toml")
    assert "backlog" in as_user(workshop, "qgis-server-systemd", "explain", "backlog")
    assert '"$schema"' in as_user(workshop, "qgis-server-systemd", "schema")
    tree = ("render", "--site", "acme.toml", "--suite", suite, "--output", "tree")
    as_user(workshop, "qgis-server-systemd", *tree)
    assert (home / "tree/debian/root/usr/lib/systemd/system/acme-maps@.service").is_file()
    assert os.access(home / "tree/debian/rules", os.X_OK)


PUBLISH = """
gpg --batch --pinentry-mode loopback --passphrase '' --quick-generate-key me@acme.example ed25519 sign
qgis-server-systemd publish --repo repo --sign me@acme.example --suite "$0" \
    --url https://apt.acme.example /offered/*.changes
"""  # noqa: E501


def test_it_publishes_itself(workshop: Testbed, suite: str) -> None:
    said = as_user(workshop, "sh", "-ec", PUBLISH, suite)
    assert "https://apt.acme.example" in said
    index = workshop.root / f"home/geo/repo/dists/{suite}/main/binary-amd64/Packages"
    assert f"Package: {NAME}\n" in index.read_text()


def test_manual_page_and_completion(workshop: Testbed) -> None:
    page = workshop.chroot("man", "--pager=cat", "qgis-server-systemd", env={"MANWIDTH": "80"})
    assert "build the package that runs QGIS Server" in " ".join(page.stdout.split())
    share = workshop.root / "usr/share"
    bash = share / "bash-completion/completions/qgis-server-systemd"
    assert bash.read_text() == completion.script(cli.parser(), "bash")
    zsh = share / "zsh/vendor-completions/_qgis-server-systemd"
    assert zsh.read_text() == completion.script(cli.parser(), "zsh")
    workshop.chroot("zsh", "-n", f"/{zsh.relative_to(workshop.root)}")


def test_purge_leaves_nothing(suite: str, distribution: list[Path]) -> None:
    with Testbed(suite, tools=True) as bed:
        bed.put(one(distribution, ".deb"), "/offered/")
        before = changed(bed)
        bed.chroot("sh", "-ec", "apt-get --yes install /offered/*.deb")
        assert f"{SHARE[1:]}/qgis_server_systemd/cli.py" in changed(bed) - before
        bed.chroot("qgis-server-systemd", "explain")
        bed.chroot("apt-get", "--yes", "purge", NAME)
        assert changed(bed) - before == set()
        assert not (bed.root / SHARE[1:]).exists()
