# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pool is called decides all other names, and two pools share none of them."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import pytest

from qgis_server_systemd import documents, poolname
from qgis_server_systemd.identity import Identity
from qgis_server_systemd.qgis_serverctl.config.names import HEAVY, POOL, Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.front import nginx_config
from qgis_server_systemd.render import render_debian
from qgis_server_systemd.site import Site

# Each is the beginning of another one.
POOLS = (POOL, "qgis-server-city", "qgis-server-c", "acme-maps", "acme-maps-server")
LITERAL = re.compile(r"(?<!docs\.)qgis[-_]server(?!/latest)")
SETTINGS = Settings(
    heavy_workers=1,
    reply_cache="1G",
    cors_origins=("*",),
    client_rate=9,
    client_connections=9,
    request_log=True,
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for pool in POOLS:
        made[pool] = tmp_path_factory.mktemp(pool)
        render_debian(made[pool], Site(Identity(name=pool)))
    return made


def installed(tree: Path) -> set[str]:
    root = tree / "root"
    return {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}


def generated(package: Package) -> set[str]:
    paths = (
        *package.dropins, *nginx_config.generated(package), package.etc, package.data,
        package.cache, package.replies, package.state, package.run, package.generations,
        package.share,
        package.worker_file, package.shared_socket, package.socket(1), package.socket("none"),
        package.request_log, package.metrics, package.facts_socket, package.heavy_socket,
        *package.heavy_dropins(HEAVY + 1),
        package.nginx_request,
        package.auto_settings, f"/run/{package.pool}",
        f"/etc/nginx/conf.d/{package.pool}-site.conf",
        f"/etc/nginx/sites-enabled/{package.pool}", package.home,
    )  # fmt: skip
    return set(paths)


def test_the_usual_pool_is_the_one_of_before() -> None:
    assert Package.of(POOL) == Package()
    assert Package().replaces == ""


def test_two_pools_have_no_file_in_common(trees: dict[str, Path]) -> None:
    for one, other in permutations(POOLS, 2):
        assert not installed(trees[one]) & installed(trees[other]), (one, other)
        assert not generated(Package.of(one)) & generated(Package.of(other)), (one, other)
        for path in generated(Package.of(one)):
            assert not any(path.startswith(f"{beyond}/") for beyond in generated(Package.of(other)))


def test_nothing_is_left_of_the_usual_name(trees: dict[str, Path]) -> None:
    """Outside of what is QGIS Server's own, and of this project's name as an author."""
    tree = trees["acme-maps"]
    files = [*(tree / "root").rglob("*"), *tree.glob("acme-*"), tree / "rules", tree / "tests/pool"]
    # It says which name here stands for which one of the documents.
    files.remove(tree / "acme-maps-systemd.README.Debian")
    for name in documents.SHOWN:
        shown = tree / f"root/usr/share/acme-maps-systemd/status/{name}.html"
        assert "is called <code>acme-maps</code> here, and" in shown.read_text()
        files.remove(shown)
    own = re.compile(
        r"qgis_serverctl|libqgis_server|qgis-server-landingpage|qgis-server-systemd maintainers"
    )
    for file in files:
        if not file.is_file() or "qgis_serverctl" in file.parts or file.name == "metadata.txt":
            continue
        for line in file.read_text().splitlines():
            assert not LITERAL.search(own.sub("", line)), f"{file.relative_to(tree)}: {line}"


def test_no_pattern_of_one_pool_finds_the_other() -> None:
    for one, other in permutations(POOLS, 2):
        mine, theirs = Package.of(one), Package.of(other)
        # systemd takes the slice a-b for a part of the slice a.
        parent, child = mine.slice.removesuffix(".slice"), theirs.slice.removesuffix(".slice")
        assert not child.startswith(f"{parent}-")
        assert not theirs.heavy_slice.startswith(f"{parent}-")
        assert mine.heavy_slice.startswith(f"{parent}-")
        pattern = re.compile(rf"{re.escape(mine.sockets)}/{re.escape(one)}-[0-9]+\.sock")
        assert not pattern.fullmatch(theirs.shared_socket)
        assert not pattern.fullmatch(theirs.socket(1))
        for leftover in mine.leftovers:
            for path in generated(theirs):
                folder, _, file = path.rpartition("/")
                assert not Path(f"{folder}/.{file}.new").match(leftover)


def variables(tree: Path, package: Package) -> set[str]:
    snippet = (tree / f"root{package.nginx_snippet}").read_text()
    http = nginx_config.http_text(package, SETTINGS, [package.socket(1), package.socket(2)])
    location = nginx_config.location_text(package, SETTINGS)
    found = set(re.findall(r"(?:\$|\?<)(\w+)", snippet + http + location))
    return {name for name in found if package.pool.replace("-", "_") in name}


def test_two_pools_have_no_variable_of_nginx_in_common(trees: dict[str, Path]) -> None:
    names = {pool: variables(trees[pool], Package.of(pool)) for pool in POOLS}
    assert all(len(found) > 20 for found in names.values())
    for one, other in permutations(POOLS, 2):
        assert not names[one] & names[other]


def test_the_longest_name_gives_names_that_pcre_takes(tmp_path: Path) -> None:
    package = Package.of("a-" + "b" * (poolname.LONGEST - 2))
    assert not poolname.fault(package.pool)
    render_debian(tmp_path, Site(Identity(name=package.pool)))
    snippet = (tmp_path / f"root{package.nginx_snippet}").read_text()
    http = nginx_config.http_text(package, SETTINGS, [package.socket(1), package.socket(2)])
    assert max(map(len, re.findall(r"\?<(\w+)>", snippet + http))) <= 32


@pytest.mark.parametrize("name", POOLS)
def test_a_name_that_is_safe(name: str) -> None:
    assert poolname.fault(name) == ""


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("qgis", "two or more words"),
        ("system", "two or more words"),
        ("Acme-Maps", "small letters"),
        ("acme--maps", "small letters"),
        ("acme-maps\n", "small letters"),
        ("acme-mäps", "small letters"),
        ("acme-%i", "small letters"),
        ("../acme-maps", "small letters"),
        ("acme-maps-of-the-whole-world", "more than 20"),
        ("www-data", "Debian's own"),
        ("systemd-network", "Debian's own"),
        ("acme-maps-1", "a number"),
        *((f"acme-{word}", "makes of its pool's") for word in sorted(poolname.RESERVED)),
    ],
)
def test_a_name_that_is_not(name: str, complaint: str) -> None:
    assert complaint in poolname.fault(name)


def test_each_name_that_is_made_of_the_pools_is_reserved(trees: dict[str, Path]) -> None:
    """A new unit or file must be reserved as well."""
    ends = set()
    for path in installed(trees["acme-maps"]) | generated(Package.of("acme-maps")):
        ends |= set(re.findall(r"/acme-maps-([a-z]+)", path))
    unit = re.compile(r"acme-maps-([a-z]+)\b(?!/)")
    for file in (trees["acme-maps"] / "root/etc/nginx").rglob("*"):
        if file.is_file():
            ends |= set(unit.findall(file.read_text()))
    package = Package.of("acme-maps")
    ends |= set(unit.findall(nginx_config.http_text(package, SETTINGS, [package.socket(1)])))
    assert ends <= poolname.RESERVED
