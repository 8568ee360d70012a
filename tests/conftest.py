# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests that run in booted Debian containers."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import hypothesis
import pytest
from shared.newer import build_newer
from shared.pool import (
    binary,
    installed_server,
    nginx_server,
    put_package,
    quick_workers,
    serving_bed,
)
from shared.schedule import LongestFirst, tell_units, unit_of, units_file
from testbed import RELEASED, SUITES, Snapshot, Testbed
from testbed.locks import locked
from testbed.processes import children, unwind_on_termination
from xdist.remote import Producer
from xdist.workermanage import WorkerController

from qgis_server_systemd.build import build

# How long an example takes tells how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

ENDINGS = (signal.SIGINT, signal.SIGTERM)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --suite, --all, --fuzz-seconds and --pictures."""
    parser.addoption(
        "--suite",
        action="append",
        choices=SUITES,
        help="Debian suite to test on, may be given more than once (default: those that are "
        "released, and for some tests Debian testing; all of them with --all)",
    )
    parser.addoption(
        "--all", action="store_true", help="also what takes too long to be run for each change"
    )
    parser.addoption(
        "--fuzz-seconds",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long generated requests are sent on each release (default: 10)",
    )
    parser.addoption(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="where the pictures of the front page are put, for the README",
    )


def one_of(chosen: list[str], name: str) -> str:
    """Always the same one of them, and as many names on each."""
    return chosen[zlib.crc32(name.encode()) % len(chosen)]


def suites(config: pytest.Config) -> list[str]:
    """Those that are tested on, but for what is marked `testing`."""
    default = SUITES if config.getoption("all") else RELEASED
    return list(dict.fromkeys(config.getoption("--suite") or default))


def also_on(item: pytest.Item, config: pytest.Config) -> list[str]:
    """Which others what is marked `testing` is for, unless suites are named: those that are not
    released yet. It is what tells most of a new release in little time."""
    if config.getoption("--suite") or not item.get_closest_marker("testing"):
        return []
    return [suite for suite in SUITES if suite not in suites(config)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each suite that may be chosen to what asks for one, or for a fixture that does."""
    own = (mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "suite" in metafunc.fixturenames and "suite" not in own:
        chosen = suites(metafunc.config) + also_on(metafunc.definition, metafunc.config)
        metafunc.parametrize("suite", chosen, scope="session")


def is_on_each(item: pytest.Item, config: pytest.Config) -> bool:
    """Or on one suite alone?"""
    marks = ("each", "testing")
    return config.getoption("all") or any(map(item.get_closest_marker, marks))


def belongs(item: pytest.Item, config: pytest.Config) -> bool:
    """Is the item for its suite? What no mark puts on each is on one: what shares something with
    others of its file on the same as they."""
    if item.get_closest_marker("long") and not config.getoption("all"):
        return False
    if not isinstance(item, pytest.Function) or "suite" not in item.fixturenames:
        return True
    suite = str(item.callspec.params["suite"])
    only = item.get_closest_marker("only")
    able = only.args if only else SUITES
    if suite not in able:
        return False
    if is_on_each(item, config):
        return True
    chosen = [one for one in suites(config) if one in able]
    return bool(suite == one_of(chosen, unit_of(item).replace(suite, "")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not for its suite, or too long."""
    items[:] = [item for item in items if belongs(item, config)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Before pytest-xdist is told that all are collected."""
    if told := getattr(session.config, "workerinput", {}).get("units_file"):
        tell_units(session.items, Path(told))


def pytest_configure_node(node: WorkerController) -> None:
    """Tell one of pytest-xdist's processes where it is to write about units."""
    node.workerinput["units_file"] = str(units_file())


def pytest_configure(config: pytest.Config) -> None:
    """However the run is ended, so are its containers, also those of pytest-xdist's
    worker processes."""
    unwind_on_termination()
    if hasattr(config, "workerinput"):
        for number in ENDINGS:
            signal.signal(number, unwind_once)
        # Should the parent be killed: PR_SET_PDEATHSIG, prctl(2).
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(Parent())


def unwind_once(number: int, frame: FrameType | None) -> None:
    """pytest-xdist interrupts a second time, in the middle of the clean-up."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


class Parent:
    """pytest-xdist itself leaves its worker processes five seconds for their test, and then
    five for the clean-up."""

    def pytest_keyboard_interrupt(self) -> None:
        for worker in children(os.getpid()):
            os.kill(worker, signal.SIGTERM)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst:
    """Instead of the one that --dist names."""
    return LongestFirst(config, log)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> list[Path]:
    """The files of a folder that is filled once, for all processes of pytest-xdist."""
    top = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    folder = top / name
    with locked(top / f"{name}.lock"):
        if not folder.exists():
            new = top / f"{name}.new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            make(new)
            new.rename(folder)
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def suites_chosen(pytestconfig: pytest.Config) -> list[str]:
    """For a test of several releases at a time."""
    return suites(pytestconfig)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What the build tool makes."""
    return once(tmp_path_factory, "dist", build)


@pytest.fixture(scope="session")
def package(artifacts: list[Path]) -> Path:
    """The binary package."""
    return binary(artifacts)


@pytest.fixture(scope="session")
def newer_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A next version of the package."""
    return binary(once(tmp_path_factory, "newer", build_newer))


@pytest.fixture
def bed(suite: str) -> Iterator[Testbed]:
    """A testbed that is not booted yet."""
    with Testbed(suite) as testbed:
        yield testbed


@pytest.fixture
def ready(bed: Testbed, package: Path) -> Testbed:
    """A testbed that is not booted yet, with the package's file in it."""
    put_package(bed, package)
    return bed


@pytest.fixture(scope="session")
def with_nginx(suite: str) -> Iterator[Snapshot]:
    """A server with NGINX alone, at rest."""
    with nginx_server(suite) as snapshot:
        yield snapshot


@pytest.fixture
def web(suite: str, with_nginx: Snapshot, package: Path) -> Iterator[Testbed]:
    """A testbed that is not booted yet, with NGINX and the package's file in it."""
    with Testbed(suite, like=with_nginx) as testbed:
        put_package(testbed, package)
        yield testbed


@pytest.fixture(scope="session")
def installed(suite: str, package: Path) -> Iterator[Snapshot]:
    """A server with the package and NGINX, at rest: what others begin with."""
    with installed_server(suite, package) as snapshot:
        yield snapshot


@pytest.fixture
def server(suite: str, installed: Snapshot) -> Iterator[Testbed]:
    """A booted server of one's own, with the package and NGINX installed."""
    with Testbed(suite, like=installed) as testbed:
        testbed.boot()
        yield testbed


@pytest.fixture(scope="session")
def without_qgis(suite: str, installed: Snapshot) -> Iterator[Snapshot]:
    """The same, but its workers render nothing: for tests of what is around them."""
    with Testbed(suite, like=installed) as testbed:
        quick_workers(testbed)
        yield testbed.snapshot()


@pytest.fixture
def quick(suite: str, without_qgis: Snapshot) -> Iterator[Testbed]:
    """A booted server of one's own whose workers render nothing."""
    with Testbed(suite, like=without_qgis) as testbed:
        testbed.boot()
        yield testbed


@pytest.fixture(scope="module")
def pool(installed: Snapshot) -> Iterator[Testbed]:
    """A booted server with the site enabled, shared by the tests of a file."""
    with serving_bed(installed) as testbed:
        yield testbed
