# SPDX-License-Identifier: GPL-2.0-or-later
"""``publish``: put packages into a signed APT repository."""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from debian.debian_support import Version

from ..build import unwinding
from ..qgis_serverctl.system.output import die, note
from ..render import environment
from ..sources import HERE
from ..suites import ALL, SUITES, chosen
from . import signing
from .archive import KEPT_STATES, Repository, Settings
from .packages import Offer, placed

ARCHITECTURES = (
    "amd64", "arm64", "armel", "armhf", "i386", "mips64el", "mipsel", "ppc64el", "riscv64", "s390x",
)  # fmt: skip
"""Debian's: a package for all of them is in the index of each."""

NEEDED = {
    "apt-ftparchive": "apt-utils",
    "dpkg-deb": "dpkg",
    "gpg": "gpg",
    "gpgv": "gpgv",
    "sync": "coreutils",
}
ORIGIN = "qgis-server-systemd"
URL = r"https?://(\w[\w.-]*|\[[0-9A-Fa-f:]+\])(:\d+)?(/[\w.~%+-]+)*"


def number(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"a number from {least} on")
    return int(text)


def positive(text: str) -> int:
    return number(text, 1)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    # fmt: off
    add("packages", type=Path, nargs="*", metavar="FILE", help="a .changes, .deb or .dsc file")
    add("--repo", type=Path, required=True, metavar="DIR", help="folder of the repository")
    add("--sign", action="append", required=True, metavar="KEY",
        help="secret key of gpg to sign with; give both keys while you change from one to another")
    add("--suite", action="append", choices=(*SUITES, ALL),
        help="release of Debian, can be given more than once (default: all)")
    add("--url",
        help="address of the repository for clients; required the first time, then remembered")
    add("--origin", help=f"name of the publisher; remembered (default: {ORIGIN})")
    add("--label", help="name of the repository; remembered (default: the origin)")
    add("--valid-days", type=number, metavar="N",
        help="days until clients refuse the signature; remembered (default: 0, no limit)")
    add("--keep", type=positive, metavar="N",
        help="number of versions to keep of each package (default: all)")
    add("--print-commands", action="store_true",
        help="print the commands for aptly, reprepro and Pulp, and write nothing")
    add("--json", action="store_true", help="print JSON")
    # fmt: on
    verb.set_defaults(run=command)


def check_tools() -> None:
    if missing := [tool for tool in NEEDED if not shutil.which(tool)]:
        packages = " ".join(NEEDED[tool] for tool in missing)
        die(f"not installed: {', '.join(missing)}", hint=f"apt install {packages}")


def settings(former: Settings | None, args: argparse.Namespace) -> Settings:
    """What the command line says, and otherwise what was said before. Raises Failure."""
    given = {
        key: getattr(args, key)
        for key in ("url", "origin", "label", "valid_days")
        if getattr(args, key) is not None
    }
    for key in ("origin", "label"):
        if not re.fullmatch(r"[A-Za-z0-9][\w .,:+-]{0,60}", given.get(key, "x"), re.ASCII):
            die(f"--{key} {given[key]!r}", hint="letters, digits, spaces and .,:+-_ make it up")
    if former is None:
        given = {"origin": ORIGIN, "label": given.get("origin", ORIGIN)} | given
        if "url" not in given:
            die(
                "--url is missing",
                hint="clients get the repository there: https://apt.acme.example",
            )
        former = Settings(**given, name="")
    new = replace(former, **given)
    new = replace(new, url=new.url.rstrip("/"))
    if not re.fullmatch(URL, new.url, re.A):
        die(f"--url {new.url!r}", hint="http:// or https://, without user, query and spaces")
    name = re.sub(r"[^a-z0-9]+", "-", new.origin.lower()).strip("-")
    return replace(new, name=name)


def pruned(there: Iterable[Offer], keep: int) -> list[Offer]:
    """Of each package the newest versions."""

    def kind(offer: Offer) -> tuple[str, bool]:
        return offer.package, offer.architecture == "source"

    found = []
    for _, group in groupby(sorted(there, key=kind), key=kind):
        all_of_it = list(group)
        versions = sorted({offer.version for offer in all_of_it}, key=Version, reverse=True)
        found += [offer for offer in all_of_it if offer.version in versions[:keep]]
    return found


def wanted(
    repository: Repository, given: dict[str, dict[str, Offer]], keep: int | None
) -> dict[str, list[Offer]]:
    """What each suite is to hold. Raises Failure."""
    there = repository.published(repository.state(repository.number()))
    result = {}
    for suite in sorted(there.keys() | {suite for suite, some in given.items() if some}):
        new = given.get(suite, {})
        all_of_it = list((there.get(suite, {}) | new).values())
        if keep and suite in given:
            all_of_it = pruned(all_of_it, keep)
            for offer in new.values():
                if offer not in all_of_it:
                    file = offer.parts[0].file
                    die(f"{file}: {suite} has {keep} newer versions", hint="raise --keep")
        result[suite] = all_of_it
    return result


def make_indices(
    state: Path, formers: list[Path], suite: str, packages: list[Offer], called: Settings
) -> None:
    """By apt-ftparchive, which exits with 0 also where it has left something out."""
    dists = state / "dists" / suite
    for folder in (*(f"binary-{each}" for each in ARCHITECTURES), "source"):
        (dists / "main" / folder).mkdir(parents=True)
    for former in formers:
        keep_by_hash(former / "dists" / suite, dists)
    with tempfile.TemporaryDirectory(prefix="qgis-server-systemd-") as work:
        for name, is_source in (("binaries", False), ("sources", True)):
            listed = sorted(o.path for o in packages if (o.architecture == "source") == is_source)
            Path(work, name).write_text("".join(f"{path}\n" for path in listed), "utf-8")
        conf = environment(HERE / "templates").get_template("apt-ftparchive.conf")
        file = Path(work, "conf")
        text = conf.render(
            state=state, work=work, suite=suite, settings=called,
            architectures=ARCHITECTURES,
        )  # fmt: skip
        file.write_text(text, "utf-8")
        ftparchive("generate", os.fspath(file), cwd=state)
        release = ftparchive("-c", os.fspath(file), "release", f"dists/{suite}", cwd=state)
        (dists / "Release").write_text(release, "utf-8")


def keep_by_hash(former: Path, dists: Path) -> None:
    """For clients that have read the former Release."""
    release = former / "Release"
    named = re.findall(r"^ (\w+) ", release.read_text("utf-8"), re.M) if release.exists() else []
    for file in former.glob("main/*/by-hash/SHA256/*"):
        if file.name in named:
            to = dists / file.relative_to(former)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, to)


def ftparchive(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        ["apt-ftparchive", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.lstrip().startswith("E:")]
    if done.returncode != 0 or errors:
        die(f"apt-ftparchive: {(errors or [f'exit status {done.returncode}'])[0]}")
    return done.stdout


def make_state(
    repository: Repository, hold: dict[str, list[Offer]], keys: list[str], called: Settings
) -> Path:
    """All that is made from the packages, beside the current state. Raises Failure."""
    another_second(repository.state(repository.number()))
    state = repository.state(repository.number() + 1)
    formers = repository.kept()[1 - KEPT_STATES :]
    state.mkdir()
    (state / "pool").symlink_to("../../pool")
    public = state / f"{called.name}.asc"
    signing.export(keys, public)
    env = environment(HERE / "templates")
    for suite, packages in hold.items():
        note(f"indexing and signing {suite}")
        make_indices(state, formers, suite, packages, called)
        signing.sign(state / "dists" / suite / "Release", keys, public)
        sources = env.get_template("repository.sources").render(settings=called, suite=suite)
        (state / f"{called.name}-{suite}.sources").write_text(sources, "utf-8")
    (state / "pool").unlink()
    page = env.get_template("repository-index.html").render(
        settings=called, lines=lines(called), fingerprints=keys, packages=table(hold)
    )
    (state / "index.html").write_text(page, "utf-8")
    indexed = repository.published(state)
    for suite, packages in hold.items():
        if left_out := {offer.path for offer in packages} - indexed[suite].keys():
            die(f"apt-ftparchive left out {', '.join(sorted(left_out))}", hint="build them again")
    return state


def another_second(former: Path) -> None:
    """HTTP tells files apart by their seconds: who has read the former InRelease would get
    "not modified" for one of the same second."""
    newest = max((file.stat().st_mtime for file in former.glob("dists/*/InRelease")), default=0)
    while int(time.time()) == int(newest):
        time.sleep(0.1)


def lines(called: Settings) -> str:
    """What an administrator pastes."""
    template = environment(HERE / "templates").get_template("repository-lines.sh")
    return template.render(settings=called)


def table(hold: dict[str, list[Offer]]) -> list[dict[str, str]]:
    return [
        {
            "suite": suite,
            "package": offer.package,
            "version": offer.version,
            "architecture": offer.architecture,
            "path": offer.path,
        }
        for suite, packages in hold.items()
        for offer in sorted(packages, key=lambda o: (o.package, o.architecture, Version(o.version)))
    ]


def publish(
    folder: Path, suites: tuple[str, ...], keys: list[str], files: list[Path],
    args: argparse.Namespace,
) -> tuple[dict[str, list[Offer]], Settings]:  # fmt: skip
    """Put packages into the repository, and sign all of it. Raises Failure; the repository
    is then as it was."""
    given = placed(files, suites)
    repository = Repository(folder)
    before = os.umask(0o022)
    try:
        called = settings(repository.settings(), args)
        repository.adopt()
        with unwinding(), repository.locked():
            called = settings(repository.settings(), args)
            repository.sweep()
            try:
                hold = wanted(repository, given, args.keep)
                if not hold:
                    die(f"{folder}: there is nothing to sign", hint="name .changes files")
                for offer in (offer for some in given.values() for offer in some.values()):
                    repository.check(offer)
                for offer in (offer for some in given.values() for offer in some.values()):
                    repository.put(offer)
                state = make_state(repository, hold, keys, called)
                repository.swap(state, called)
            finally:
                repository.sweep()
    finally:
        os.umask(before)
    return hold, called


def commands(args: argparse.Namespace, suites: tuple[str, ...], keys: list[str]) -> str:
    """The same for those who have a repository of another tool."""
    if not args.packages:
        die("--print-commands: for which packages?", hint="name .changes files")
    called = settings(
        None, argparse.Namespace(**{**vars(args), "url": args.url or "https://unused"})
    )
    fit: dict[str, list[Path]] = {suite: [] for suite in suites}
    debs: dict[str, list[Path]] = {suite: [] for suite in suites}
    for file in args.packages:
        for suite, some in placed([file], suites).items():
            fit[suite] += [file] if some else []
            debs[suite] += [o.parts[0].file for o in some.values() if o.architecture != "source"]
    env = environment(HERE / "templates")
    env.filters["shell"] = shlex.quote
    return env.get_template("repository-commands.sh").render(
        settings=called, suites=[suite for suite in suites if fit[suite]], keys=keys,
        architectures=ARCHITECTURES, repo=shlex.quote(os.fspath(args.repo)),
        files={suite: [shlex.quote(os.fspath(f)) for f in some] for suite, some in fit.items()},
        debs={suite: [shlex.quote(os.fspath(f)) for f in some] for suite, some in debs.items()},
    )  # fmt: skip


def command(args: argparse.Namespace) -> int:
    """The subcommand: what the repository holds then, and what to paste on a server."""
    check_tools()
    suites = tuple(suite for suite in chosen(args.suite or [ALL]) if suite)
    keys = [signing.fingerprint(key) for key in dict.fromkeys(args.sign)]
    if args.print_commands:
        print(commands(args, suites, keys), end="")
        return 0
    hold, called = publish(args.repo, suites, keys, args.packages, args)
    if args.json:
        print(json.dumps(table(hold), ensure_ascii=False, indent=2))
        return 0
    for one in table(hold):
        print(f"{one['suite']:9} {one['package']} {one['version']} {one['architecture']}")
    print(f"\nOn a server, as root:\n\n{lines(called)}", end="")
    return 0
