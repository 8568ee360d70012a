# SPDX-License-Identifier: GPL-2.0-or-later
"""What the monitor tells status: written and read back, and what is no such file."""

import time
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.monitor import record
from qgis_server_systemd.qgis_serverctl.monitor.ends import Run
from qgis_server_systemd.qgis_serverctl.monitor.record import Watch, Watched
from qgis_server_systemd.qgis_serverctl.pool.host import Host

BUSY = Watched(pid=123, request=456789, since=5.5, queued=3, queued_since=6.0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(Package(), tmp_path)


def test_what_is_saved_is_loaded(host: Host) -> None:
    runs = {1: Run(123, 2)}
    watch = Watch(written=7.25, instances={1: BUSY, 10: Watched(pid=0)}, runs=runs)
    record.save(host, watch)
    assert record.load(host) == watch


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        '{"written": 1}',
        '{"written": null, "instances": {}}',
        '{"written": 1, "instances": {"1": {"pid": 1}}}',
        '{"written": 1, "instances": {"x": {}}}',
        '{"written": 1, "instances": [1]}',
        '{"written": 1, "instances": {}, "runs": {"1": 1}}',
        b"\xff",
    ],
)
def test_what_is_no_such_file_says_nothing(host: Host, text: str | bytes | None) -> None:
    file = record.path(host)
    file.parent.mkdir(parents=True)
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert record.load(host) is None


def test_a_file_that_nobody_keeps_any_more_counts_for_nothing(host: Host) -> None:
    record.save(host, Watch(written=time.monotonic()))
    assert record.load_fresh(host) is not None
    record.save(host, Watch(written=time.monotonic() - 11))
    assert record.load_fresh(host) is None


def test_a_duration_is_of_this_very_request_of_this_very_worker() -> None:
    watch = Watch(written=7.0, instances={1: BUSY})
    assert watch.busy_since(1, 123, frozenset({456789})) == 5.5
    assert watch.busy_since(1, 124, frozenset({456789})) is None
    assert watch.busy_since(1, 123, frozenset({456790})) is None
    assert watch.busy_since(1, 123, frozenset()) is None
    assert watch.busy_since(2, 123, frozenset({456789})) is None
