# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests that run in booted Debian containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from newer import build_newer
from pool import install, put_package
from testbed import SUITES, Testbed

from qgis_server_systemd.build import build


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --suite."""
    parser.addoption(
        "--suite",
        action="append",
        choices=SUITES,
        help="Debian suite to test on, may be given more than once (default: all of them)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a suite, or for a fixture that does, once per chosen suite."""
    if "suite" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--suite") or SUITES
        metafunc.parametrize("suite", list(dict.fromkeys(chosen)), scope="session")


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What the build tool makes, built once."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def package(artifacts: list[Path]) -> Path:
    """The binary package."""
    (deb,) = (file for file in artifacts if file.suffix == ".deb")
    return deb


@pytest.fixture(scope="session")
def newer_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A next version of the package."""
    return build_newer(tmp_path_factory.mktemp("newer"))


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


@pytest.fixture
def server(ready: Testbed) -> Testbed:
    """A booted server of one's own, with the package and NGINX installed."""
    ready.boot()
    install(ready, "nginx")
    return ready


@pytest.fixture(scope="session")
def pool(suite: str, package: Path) -> Iterator[Testbed]:
    """A booted server with the site enabled, shared by tests that only send requests."""
    with Testbed(suite) as testbed:
        put_package(testbed, package)
        testbed.boot()
        install(testbed, "nginx")
        testbed.run("qgis-serverctl", "site", "enable")
        yield testbed
