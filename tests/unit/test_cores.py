# SPDX-License-Identifier: GPL-2.0-or-later
import os
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.pool import cores
from qgis_server_systemd.qgis_serverctl.pool.cores import Cores
from qgis_server_systemd.qgis_serverctl.pool.host import Host


@pytest.mark.parametrize(
    ("found", "count"),
    [
        (Cores(affinity=8, cpuset=None, quota=None), 8),
        (Cores(affinity=8, cpuset=3, quota=None), 3),
        (Cores(affinity=8, cpuset=6, quota=1.5), 2),
        (Cores(affinity=8, cpuset=6, quota=0.1), 1),
        (Cores(affinity=2, cpuset=6, quota=4.0), 2),
    ],
)
def test_the_least_limit_counts_and_a_quota_is_rounded_up(found: Cores, count: int) -> None:
    assert found.count == count


@pytest.mark.parametrize(("text", "count"), [("0-3,8", 5), ("7", 1), ("", 0), ("0-1,4-5\n", 4)])
def test_lists_of_cpus(text: str, count: int) -> None:
    assert cores.count_list(text) == count


def test_ancestors_of_a_slice() -> None:
    assert cores.slice_chain("qgis-server.slice") == [
        "",
        "qgis.slice",
        "qgis.slice/qgis-server.slice",
    ]


@pytest.mark.parametrize(
    ("span", "seconds"),
    [("1.500000s", 1.5), ("50ms", 0.05), ("infinity", None), ("", None), ("1min 30s", 90.0)],
)
def test_spans_of_systemd(span: str, seconds: float | None) -> None:
    assert cores._seconds(span) == (None if seconds is None else pytest.approx(seconds))


def test_every_ancestor_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = tmp_path / "qgis.slice" / "qgis-server.slice"
    leaf.mkdir(parents=True)
    (leaf / "cpu.max").write_text("max 100000\n")
    (leaf.parent / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "cpuset.cpus.effective").write_text("0-6\n")
    (leaf / "cpuset.cpus.effective").write_text("0-4\n")
    monkeypatch.setattr(cores, "CGROUPS", str(tmp_path))
    found = cores.detect(Host(Package(), root=tmp_path))
    assert (found.cpuset, found.quota) == (5, 2.5)


def test_openmp_settings_are_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = cores.detect(Host(Package(), root=tmp_path))
    assert found.affinity == len(os.sched_getaffinity(0))
