# SPDX-License-Identifier: GPL-2.0-or-later
"""``publish``: what clients find in a repository, and what becomes of one when a publish is
refused, or cut off at any rename."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.paths import TOP
from shared.pool import (
    allow_map,
    binary,
    ctl,
    is_served,
    load,
    main_pid,
    nginx_is_content,
    settled,
    wait_for,
)
from shared.shop import URL, Shop, make_key, signing_keys
from testbed import Testbed

from qgis_server_systemd import cli
from qgis_server_systemd.repository import publish
from qgis_server_systemd.repository.archive import KEPT_STATES
from qgis_server_systemd.suites import SUITES


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Two of them."""
    home = tmp_path_factory.mktemp("gnupg")
    with signing_keys(home, "one@acme.example", "two@acme.example") as made:
        yield made


def pack(folder: Path, version: str, says: str = "x", architecture: str = "all") -> Path:
    """A package of nothing."""
    root = folder / f"root-{version}-{says}"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: acme-maps-systemd\nSource: acme-maps\nVersion: {version}\n"
        f"Architecture: {architecture}\n"
        f"Maintainer: ACME <gis@acme.example>\nDescription: {says}\n"
    )
    deb = folder / f"{version.replace(':', '%')}-{says}.deb"
    subprocess.run(["dpkg-deb", "--build", root, deb], check=True, capture_output=True)
    return deb


def changes(folder: Path, distribution: str, *files: Path) -> Path:
    listed = "".join(
        f"\n {hashlib.sha256(f.read_bytes()).hexdigest()} {f.stat().st_size} {f.name}"
        for f in files
    )
    file = folder / f"acme_{distribution}.changes"
    file.write_text(f"Source: acme\nDistribution: {distribution}\nChecksums-Sha256:{listed}\n")
    return file


@pytest.fixture
def shop(tmp_path: Path, keys: tuple[str, ...]) -> Shop:
    return Shop(tmp_path, keys[0])


def everything(folder: Path) -> dict[str, str]:
    """All files that clients can get, and where links lead."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for top in folder.iterdir()
        if top.name != ".repository"
        for file in ([top] if top.is_file() else Path(f"{top}/").rglob("*"))
        if file.is_file()
    } | {"current": os.readlink(folder / ".repository/current")}


# ---- What clients find


def test_each_suite_gets_what_is_for_it(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [pack(tmp_path, f"1.0-1~deb{n}u1") for n in (12, 13)]
    shop.publish(*files, pack(tmp_path, "0.9-1"), "--json")
    assert shop.is_whole()
    assert shop.versions("bookworm") == ["0.9-1", "1.0-1~deb12u1"]
    assert shop.versions("trixie", "riscv64") == ["0.9-1", "1.0-1~deb13u1"]
    found = json.loads(capsys.readouterr().out)
    assert {one["path"] for one in found} == {
        f"pool/main/a/acme-maps/acme-maps-systemd_{version}_all.deb"
        for version in ("0.9-1", "1.0-1~deb12u1", "1.0-1~deb13u1")
    }
    release = shop.release("trixie")
    for line in ("Origin: ACME", "Label: ACME", "Codename: trixie", "Suite: trixie",
                 "Acquire-By-Hash: yes", "Components: main"):  # fmt: skip
        assert f"{line}\n" in release
    assert "Valid-Until" not in release
    assert (shop.repo / "acme-trixie.sources").read_text() == (
        f"Types: deb\nURIs: {URL}\nSuites: trixie\nComponents: main\n"
        "Signed-By: /etc/apt/keyrings/acme.asc\n"
    )
    page = (shop.repo / "index.html").read_text()
    assert shop.key in page
    assert f"curl -fsSLo /etc/apt/keyrings/acme.asc {URL}/acme.asc\n" in page
    for path in shop.repo.rglob("*"):
        assert path.stat().st_mode & 0o005 == (0o005 if path.is_dir() else 0o004) or (
            path.name == "lock"
        )


def test_the_build_output_also_for_other_tools(
    shop: Shop, artifacts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (given,) = (file for file in artifacts if file.suffix == ".changes")
    shop.publish(given)
    assert shop.is_whole()
    pool = shop.repo / "pool/main/q/qgis-server-systemd"
    names = {file.name for file in pool.iterdir()}
    assert names == {f.name for f in artifacts if f.suffix not in (".changes", ".buildinfo")}
    sources = (shop.repo / "dists/bookworm/main/source/Sources").read_text()
    assert "Directory: pool/main/q/qgis-server-systemd\n" in sources

    capsys.readouterr()
    other = Shop(tmp_path / "other", shop.key)
    other.publish(given, "--print-commands")
    printed = capsys.readouterr().out
    assert not other.repo.exists()
    home = tmp_path / "home"
    home.mkdir()
    for tool in ("aptly ", "reprepro ", "mkdir "):
        assert tool in printed
    script = "\n\n".join(part for part in re.split(r"\n\n(?=#)", printed) if "pulp deb" not in part)
    done = subprocess.run(
        ["sh", "-eux", "-c", script], env={**os.environ, "HOME": str(home)}, cwd=tmp_path,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    deb = binary(artifacts).name
    for folder in (home / ".aptly/public", other.repo):
        assert len(list(folder.rglob(deb))) == 1, folder
        assert len(list(folder.glob("dists/*/InRelease"))) == len(SUITES)


def test_old_versions_stay_until_pruned(shop: Shop, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        shop.publish(pack(tmp_path, f"1.{number}"))
    former = {
        file.name: file.read_bytes()
        for file in (shop.repo / "dists/trixie/main/binary-amd64/by-hash/SHA256").iterdir()
    }
    assert sorted(shop.versions("trixie")) == ["1.1", "1.10", "1.2"]
    shop.publish("--keep", "2", "--suite", "trixie")
    assert sorted(shop.versions("trixie")) == ["1.10", "1.2"]
    assert len(shop.versions("bookworm")) == 3
    shop.publish("--keep", "1")
    assert shop.versions("bookworm") == ["1.10"]
    # Who has the former InRelease finds what it names.
    by_hash = shop.repo / "dists/trixie/main/binary-amd64/by-hash/SHA256"
    kept = {file.name for file in by_hash.iterdir()}
    assert len(kept) == 2 * KEPT_STATES
    assert kept & former.keys()
    pool = shop.repo / "pool/main/a/acme-maps"
    assert len(list(pool.iterdir())) == 3
    for _ in range(KEPT_STATES - 1):
        shop.publish()
    assert len(list(pool.iterdir())) == 1
    assert shop.is_whole()


def test_a_change_of_keys_and_a_limit_of_trust(
    shop: Shop, tmp_path: Path, keys: tuple[str, ...]
) -> None:
    shop.publish(pack(tmp_path, "1.0"))
    shop.publish("--sign", keys[1], "--valid-days", "7")
    assert shop.is_whole()
    assert "Valid-Until: " in shop.release("bookworm")
    # What is not said again stays.
    shop.key = keys[1]
    shop.publish("--label", "ACME maps")
    assert shop.is_whole()
    assert "Valid-Until: " in shop.release("bookworm")
    assert "Label: ACME maps\n" in shop.release("trixie")
    shop.publish("--origin", "Other")
    assert not (shop.repo / "acme.asc").is_symlink()
    assert (shop.repo / "other.asc").is_file()


# ---- What is refused


def refused(shop: Shop, capsys: pytest.CaptureFixture[str], *given: str | Path) -> str:
    """In one line, and nothing is changed."""
    before = everything(shop.repo) if shop.repo.exists() else None
    capsys.readouterr()
    assert cli.main(shop.arguments(*given)) == 1
    err = capsys.readouterr().err
    told = [line for line in err.splitlines() if line.startswith("qgis-server-systemd: ")]
    assert err.splitlines()[-1:] == told
    if before is None:
        assert not (shop.repo / "dists").exists()
    else:
        assert everything(shop.repo) == before
    return told[0]


def test_refusals(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = pack(tmp_path, "1.0~deb12u1")
    said = refused(shop, capsys, "--suite", "trixie", good)
    assert ": 1.0~deb12u1 is not for trixie (name its suite" in said
    assert "is not for" in refused(shop, capsys, pack(tmp_path, "1.0~deb11u1"))
    assert "there is nothing to sign" in refused(shop, capsys)
    shop.publish(good)
    assert "same version and other bytes" in refused(
        shop, capsys, pack(tmp_path, "1.0~deb12u1", "y")
    )
    assert "same version and" in refused(shop, capsys, pack(tmp_path, "1:1.0~deb12u1"))
    assert "no such file" in refused(shop, capsys, tmp_path / "missing.deb")
    bad = tmp_path / "bad.deb"
    bad.write_bytes(b"no package")
    assert f"{bad}: " in refused(shop, capsys, bad)
    newer = pack(tmp_path, "2.0")
    listing = changes(tmp_path, "trixie", newer)
    assert "2.0 for trixie is not for bookworm" in refused(
        shop, capsys, "--suite", "bookworm", listing
    )
    newer.write_bytes(b"changed")
    assert "is not what acme_trixie.changes lists" in refused(shop, capsys, listing)
    newer.unlink()
    assert "is missing" in refused(shop, capsys, listing)
    listing.write_text(listing.read_text().replace("2.0-x", "../2.0-x"))
    assert "lists '../" in refused(shop, capsys, listing)
    for key, value in (
        ("url", "ftp://x"),
        ("url", "http://a b"),
        ("url", "http://["),
        ("url", "http://"),
        ("origin", 'a"b'),
        ("label", "\n"),
    ):
        assert f"--{key}" in refused(shop, capsys, f"--{key}", value)
    assert "no such secret key" in refused(shop, capsys, "--sign", "nobody@acme.example")
    assert "2 secret keys" in refused(shop, capsys, "--sign", "acme.example")
    old = pack(tmp_path, "0.1")
    assert "has 1 newer versions" in refused(
        shop, capsys, "--keep", "1", "--suite", "bookworm", old
    )
    assert shop.is_whole()


def test_a_key_that_cannot_sign(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has expired, and one whose passphrase nobody is there to give."""
    home = Path(os.environ["GNUPGHOME"])
    past = ("--faked-system-time", "20200101T000000!")
    expired = make_key(home, "expired@other.example", *past, life="1d")
    locked = make_key(home, "locked@other.example", passphrase="secret")
    # It has kept the passphrase.
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)
    shop.publish(pack(tmp_path, "1.0"))
    for key in (expired, locked):
        said = refused(shop, capsys, "--sign", key, pack(tmp_path, "2.0", key))
        assert "is the key expired, or its agent locked?" in said
        assert shop.is_whole()


def test_a_folder_with_something_else_is_left_alone(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.repo.mkdir()
    (shop.repo / "conf").write_text("mine")
    assert cli.main(shop.arguments(pack(tmp_path, "1.0"))) == 1
    assert "holds something else" in capsys.readouterr().err
    assert [file.name for file in shop.repo.iterdir()] == ["conf"]


def test_missing_tools_are_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    said = refused(shop, capsys)
    assert "apt-ftparchive" in said
    assert "apt install apt-utils dpkg gpg gpgv" in said


def test_what_apt_ftparchive_does_not_say_is_noticed(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.publish(pack(tmp_path, "1.0"))
    true = publish.ftparchive

    def forgetful(*arguments: str, cwd: Path) -> str:
        if arguments[0] == "generate":
            next(Path(arguments[1]).parent.glob("binaries")).write_text("")
        return true(*arguments, cwd=cwd)

    monkeypatch.setattr(publish, "ftparchive", forgetful)
    assert "left out pool/main/a" in refused(shop, capsys, pack(tmp_path, "2.0"))


# ---- Cut off, and two at once

KILLED = """
import os, signal, sys
from qgis_server_systemd import cli
count, true = int(sys.argv[1]), os.replace
def replace(*args):
    global count
    count -= 1
    if count == 0: os.kill(os.getpid(), signal.SIGKILL)
    true(*args)
os.replace = replace
code = cli.main(sys.argv[2:])
print(count)
sys.exit(code)
"""


def killed(shop: Shop, at: int, *given: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(at), *shop.arguments(*given)]
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_killed_at_each_rename_the_former_repository_is_whole(shop: Shop, tmp_path: Path) -> None:
    shop.publish(pack(tmp_path, "1.0"))
    newer = [pack(tmp_path, f"2.0~deb{n}u1") for n in (12, 13)]
    at = 0
    while True:
        at += 1
        before = shop.versions("trixie")
        done = killed(shop, at, *newer)
        assert shop.is_whole()
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        assert shop.versions("trixie") == before == ["1.0"]
    assert at == 4  # two packages, and the state; then none is left
    assert shop.versions("trixie") == ["1.0", "2.0~deb13u1"]
    assert len(list((shop.repo / "pool/main/a/acme-maps").iterdir())) == 3


def test_killed_before_there_is_any(shop: Shop, tmp_path: Path) -> None:
    deb = pack(tmp_path, "1.0")
    at = 1
    while (done := killed(shop, at, deb)).returncode != 0:
        assert done.returncode == -9, done.stderr
        assert not (shop.repo / "dists").exists()
        at += 1
    assert at > 5
    assert shop.is_whole()
    assert not [*shop.repo.rglob("*.new")]


def test_who_reads_meanwhile_finds_all_that_is_named(shop: Shop, tmp_path: Path) -> None:
    shop.publish(pack(tmp_path, "1.0"))
    suite, done, problems, count = shop.repo / "dists/trixie", threading.Event(), [], 0
    newer = [pack(tmp_path, f"1.{n}") for n in range(1, 5)]

    def read() -> None:
        nonlocal count
        while not done.is_set():
            index: Path | None = None
            for digest, name in re.findall(
                r"^ ([0-9a-f]{64}) +\d+ (main/binary-amd64/.*)$",
                (suite / "InRelease").read_text(),
                re.M,
            ):
                index = (suite / name).parent / "by-hash/SHA256" / digest
                try:
                    text = index.read_bytes()
                    if name.endswith("Packages"):
                        for path in re.findall(r"^Filename: (.*)$", text.decode(), re.M):
                            (shop.repo / path).read_bytes()
                except OSError as error:
                    problems.append(str(error))
            count += 1

    thread = threading.Thread(target=read)
    thread.start()
    for file in newer:
        shop.publish(file, "--keep", "1")
    done.set()
    thread.join()
    assert problems == []
    assert count > 10


def test_a_package_of_one_architecture(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.publish(pack(tmp_path, "1.0", architecture="arm64"))
    assert shop.versions("trixie", "arm64") == ["1.0"]
    assert shop.versions("trixie") == []
    unknown = pack(tmp_path, "2.0", architecture="m68k")
    assert "left out pool/main/a/acme-maps/acme-maps-systemd_2.0_m68k.deb" in refused(
        shop, capsys, unknown
    )


def test_the_second_one_waits(shop: Shop, tmp_path: Path) -> None:
    shop.publish(pack(tmp_path, "1.0"))
    with (shop.repo / ".repository/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "qgis_server_systemd"]
        second = subprocess.Popen(
            [*command, *shop.arguments(pack(tmp_path, "2.0"))], text=True, cwd=TOP,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert second.stderr
        assert second.stderr.readline() == f"waiting for another publish to {shop.repo}\n"
        assert shop.versions("trixie") == ["1.0"]
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, out + err
    assert shop.versions("trixie") == ["1.0", "2.0"]


# ---- apt on a server


def apt(bed: Testbed, *words: str) -> str:
    """As an administrator does it, but that a warning is an error."""
    done = bed.run("apt-get", "--yes", "-oAPT::Update::Error-Mode=any", *words, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"^[WEN]: ", said, re.M), said
    return said


def apt_refuses(bed: Testbed, reason: str, *words: str) -> None:
    done = bed.run("apt-get", "--yes", "-oAPT::Update::Error-Mode=any", *words, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert re.search(reason, said), said


def expired(shop: Shop) -> None:
    args = cli.parser().parse_args(shop.arguments())
    given = argparse.Namespace(**{**vars(args), "valid_days": -1})
    publish.publish(shop.repo, tuple(SUITES), [shop.key], [], given)


def test_a_server_takes_packages_from_it(
    web: Testbed, artifacts: list[Path], newer_package: Path, keys: tuple[str, ...]
) -> None:
    web.boot()
    shop = Shop(web.root / "srv", keys[0])
    url = "http://127.0.0.1:8099"
    shop.publish(next(file for file in artifacts if file.suffix == ".changes"), url=url)
    (web.root / "etc/nginx/conf.d/apt.conf").write_text(
        "server { listen 127.0.0.1:8099; root /srv/repo; index index.html; }\n"
    )
    nginx_is_content(web)
    web.run("systemctl", "reload", "nginx")
    # There is no network: of Debian's own packages nothing more is needed.
    web.run("sh", "-c", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
    allow_map(web)

    page = web.fetch(f"{url}/").body.decode()
    (printed,) = re.findall(r'<pre id="lines">(.*?)</pre>', page, re.S)
    lines = html.unescape(printed).strip().splitlines()
    assert len(lines) == 3
    done = web.run("bash", "-ec", "\n".join(lines))
    assert not re.search(r"^[WEN]: ", done.stdout + done.stderr, re.M), done.stdout + done.stderr
    apt(web, "install", "qgis-server-systemd")
    ctl(web, "site", "enable")
    is_served(web)

    # An upgrade under load.
    shop.publish(newer_package, url=url)
    before = main_pid(web, 1)
    with load(web, clients=2) as result:
        apt(web, "update")
        assert "0.1.0-2" in apt(web, "upgrade")
        wait_for(lambda: settled(web), "the roll is through", timeout=180)
    assert result["failed"] == []
    assert result["sent"] > 0
    assert main_pid(web, 1) != before
    is_served(web)

    # Whatever is not what was signed is refused.
    (deb,) = shop.repo.glob("pool/main/q/*/*-2_all.deb")
    good = deb.read_bytes()
    deb.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    fetch = ("install", "--reinstall", "--download-only", "qgis-server-systemd")
    apt(web, "clean")
    apt_refuses(web, "Hash Sum mismatch", *fetch)
    deb.write_bytes(good)
    apt(web, *fetch)
    Shop(shop.folder, keys[1]).publish(url=url)
    apt_refuses(web, "NO_PUBKEY|[Mm]issing key", "update")
    expired(shop)
    time.sleep(2)  # apt takes nothing for expired before its Date
    apt_refuses(web, "is expired", "update")
    shop.publish("--valid-days", "7", url=url)
    apt(web, "update")
