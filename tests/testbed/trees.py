# SPDX-License-Identifier: GPL-2.0-or-later
"""The trees that testbeds stand over, and how they are made."""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import shlex
import shutil
from pathlib import Path

from .errors import TestbedError
from .layers import cache_folder, cached_layer, digest, hold_layer, relay, say
from .mirrors import source_lines
from .overlays import chroot_command, make_root, overlay_options
from .processes import execute, need_root, tool, unwind_on_termination
from .recipes import (
    COMPILE,
    CORPUS,
    CORPUS_COMMAND,
    FINISH,
    FOREIGN,
    FOREIGN_COMPILE,
    FOREIGN_OPTIONS,
    INSTALLED,
    MMDEBSTRAP_OPTIONS,
    PREPARE,
    PREPARE_BROWSER,
    PREPARE_MANAGED,
    PREPARE_RIVALS,
    PREPARE_TOOLS,
    PROJECTS_COMMAND,
    PROJECTS_SCRIPT,
    TESTING_OPTIONS,
)
from .releases import RELEASES, SUITES


def options(suite: str) -> tuple[str, ...]:
    """What mmdebstrap is told besides."""
    return (*MMDEBSTRAP_OPTIONS, *(TESTING_OPTIONS if not RELEASES[suite].released else ()))


def tree_name(suite: str) -> str:
    """The name of a suite's tree: it changes with whatever determines the tree."""
    recipe = json.dumps([INSTALLED, COMPILE, PREPARE, FINISH, options(suite), platform.machine()])
    return f"{suite}-{digest(suite, recipe)}"


def build_tree(suite: str, new: Path, guard: int) -> None:
    """Build the root tree of a suite."""
    say(f"building the {suite} tree: about three minutes, once")
    hook = f'chroot "$1" sh -exc {shlex.quote(COMPILE + PREPARE)}'
    fill_tree(suite, new, guard, INSTALLED, *options(suite), f"--customize-hook={hook}")


def fill_tree(
    suite: str, new: Path, guard: int, packages: tuple[str, ...], *options: str, timeout: float = 60
) -> None:
    """Install a tree with these packages. `timeout`: seconds for what is done afterwards."""
    command = [tool("mmdebstrap", "mmdebstrap"), *options, "--include=" + ",".join(packages)]
    relay([*command, suite, str(new), *source_lines(suite)], guard, suite)
    execute(
        chroot_command(new, "sh", "-ec", FINISH),
        shown=("finish", suite),
        check=True,
        input=None,
        env=None,
        timeout=timeout,
    )


def base_tree(suite: str) -> Path:
    """The prepared root tree of a suite; built when missing or stale. Not to be changed."""
    need_root()
    unwind_on_termination()
    if suite not in SUITES:
        raise TestbedError(f"no such suite: {suite}; known are {', '.join(SUITES)}")
    layer = cache_folder() / "trees" / tree_name(suite)
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, guard: build_tree(suite, new, guard))


def foreign_tree(suite: str, architecture: str) -> Path:
    """The tree of a server of another architecture, by Debian's name for it. Who asks for it sees
    to it that its programs run, see emulation.py."""

    def build(new: Path, guard: int) -> None:
        say(f"building the {suite} tree of {architecture}: about ten minutes, once")
        hook = f'chroot "$1" sh -exc {shlex.quote(FOREIGN_COMPILE)}'
        more = (f"--architectures={architecture}", f"--customize-hook={hook}")
        fill_tree(suite, new, guard, FOREIGN, *FOREIGN_OPTIONS, *more, timeout=600)

    recipe = json.dumps([FOREIGN, FOREIGN_COMPILE, FINISH, FOREIGN_OPTIONS])
    layer = cache_folder() / architecture / "trees" / f"{suite}-{digest(suite, recipe)}"
    layer.parent.mkdir(parents=True, exist_ok=True)
    return cached_layer(layer, build)


def run_over(lower: list[Path], new: Path, *argv: str) -> None:
    """Run a command in a tree of layers, top first, and keep what it changes as the layer `new`,
    made before."""
    work = new.with_name(f"{new.name}-work")
    merged = new.with_name(f"{new.name}-merged")
    try:
        for folder in (work, merged):
            make_root(folder)
        options = overlay_options(lower, new, work)
        # Mounted in the chroot's own namespace: there is nothing to unmount afterwards.
        mount = f'mount -t overlay -o {shlex.quote(options)} overlay "$0"\n'
        execute(
            chroot_command(merged, *argv, before=mount),
            shown=argv,
            check=True,
            input=None,
            env=None,
            timeout=600,
        )
    finally:
        for folder in (work, merged):
            shutil.rmtree(folder, ignore_errors=True)


def build_maps(base: Path, new: Path) -> None:
    """Make the map projects over a tree."""
    say(f"making the map projects for {base.name}")
    make_root(new)
    make_root(new / "srv" / "maps")
    shutil.copyfile(PROJECTS_SCRIPT, new / "srv" / "maps" / PROJECTS_SCRIPT.name)
    run_over([base], new, *PROJECTS_COMMAND)


def maps_layer(suite: str, base: Path) -> Path:
    """The layer with the map projects."""
    built = str((base / ".built").stat().st_mtime_ns)
    name = digest(base.name, built, PROJECTS_SCRIPT.read_bytes(), *PROJECTS_COMMAND)
    layer = cache_folder() / "maps" / f"{suite}-{name}"
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, _: build_maps(base, new))


def build_extra(base: Path, new: Path, what: str, prepare: str) -> None:
    """Install further packages over a tree."""
    say(f"installing the {what} for {base.name}: some minutes, once")
    make_root(new)
    make_root(new / "etc")
    shutil.copyfile("/etc/resolv.conf", new / "etc" / "resolv.conf")
    run_over([base], new, "sh", "-exc", prepare)


def extra_layer(suite: str, base: Path, what: str, prepare: str) -> Path:
    """A layer with further packages: `tools`, `rivals`, `managed` or `browser`."""
    built = str((base / ".built").stat().st_mtime_ns)
    layer = cache_folder() / what / f"{suite}-{digest(base.name, built, prepare)}"
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, _: build_extra(base, new, what, prepare))


def build_corpus(lower: list[Path], new: Path) -> None:
    """Install PostGIS over a tree, and make the data and projects of the corpus."""
    say(f"making the corpus for {lower[-1].name}: about two minutes, once")
    make_root(new)
    make_root(new / "etc")
    make_root(new / "srv")
    shutil.copyfile("/etc/resolv.conf", new / "etc" / "resolv.conf")
    shutil.copytree(CORPUS, new / "srv" / "corpus", ignore=shutil.ignore_patterns("__pycache__"))
    run_over(lower, new, *CORPUS_COMMAND)


def corpus_layer(suite: str, lower: list[Path]) -> Path:
    """The layer with the corpus, over the map projects."""
    built = [str((layer / ".built").stat().st_mtime_ns) for layer in lower]
    files = sorted(file for file in CORPUS.rglob("*") if file.suffix != ".pyc" and file.is_file())
    sources = [str(file.relative_to(CORPUS)).encode() + file.read_bytes() for file in files]
    name = digest(*(layer.name for layer in lower), *built, *sources, *CORPUS_COMMAND)
    layer = cache_folder() / "corpus" / f"{suite}-{name}"
    layer.parent.mkdir(exist_ok=True)
    return cached_layer(layer, lambda new, _: build_corpus(lower, new))


def hold_layers(
    suite: str,
    stack: contextlib.ExitStack,
    *,
    tools: bool = False,
    rivals: bool = False,
    managed: bool = False,
    browser: bool = False,
    corpus: bool = False,
    architecture: str = "",
) -> list[Path]:
    """The layers of a suite's testbeds, top first, locked against removal until the stack ends.
    `architecture`: another one, by Debian's name. Its map projects are made by this machine's
    QGIS, since that is quicker."""
    layers = [base := stack.enter_context(hold_layer(lambda: base_tree(suite)))]
    if PROJECTS_SCRIPT.is_file():
        layers.insert(0, stack.enter_context(hold_layer(lambda: maps_layer(suite, base))))
    if architecture:
        layers[-1] = stack.enter_context(hold_layer(lambda: foreign_tree(suite, architecture)))
    for what, prepare in (
        ("tools", tools and PREPARE_TOOLS),
        ("rivals", rivals and PREPARE_RIVALS),
        ("managed", managed and PREPARE_MANAGED),
        ("browser", browser and PREPARE_BROWSER),
    ):
        if prepare:
            get = functools.partial(extra_layer, suite, base, what, prepare)
            layers.insert(0, stack.enter_context(hold_layer(get)))
    if corpus:
        below = list(layers)
        layers.insert(0, stack.enter_context(hold_layer(lambda: corpus_layer(suite, below))))
    return layers
