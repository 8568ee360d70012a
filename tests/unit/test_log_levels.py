# SPDX-License-Identifier: GPL-2.0-or-later
"""Levels of what QGIS, GDAL, systemd and the package's own commands write."""

import pytest

from qgis_server_systemd.qgis_serverctl.system.qgis_log import Entry, Reader

START = 1_700_000_000_000_000


def entry(message: str, **fields: object) -> Entry:
    usual = {"_PID": "42", "SYSLOG_IDENTIFIER": "qgis-server", "PRIORITY": "6"}
    when = {"__REALTIME_TIMESTAMP": str(START)}
    return Entry.parse({**when, **usual, **fields, "MESSAGE": message})


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("07:33:20 INFO Server[42]: Request finished in 12 ms", "info"),
        ("07:33:20 WARNING OGR[42]: Cannot open /srv/maps/gone.gpkg.()", "warning"),
        ("07:33:20 CRITICAL Server[42]: Error when loading project file '/x': gone", "critical"),
        ("07:33:20 SUCCESS Server[42]: well", "info"),
        ("Warning 4: Failed to open /srv/maps/world_map.gpkg: Permission denied.", "warning"),
        ("ERROR 4: no such file", "critical"),
        (
            "Warning 1: Unable to find driver ECW to unload from GDAL_SKIP environment variable.",
            "info",
        ),
        ("Traceback (most recent call last):", "critical"),
        ("Application path not initialized", "info"),
    ],
)
def test_what_a_worker_writes(message: str, level: str) -> None:
    assert Reader().level(entry(message)) == level


def test_lines_that_follow_belong_to_the_message_of_the_same_worker() -> None:
    reader = Reader()
    assert reader.level(entry('07:33:20 WARNING Server[42]: <?xml version="1.0"?>')) == "warning"
    assert reader.level(entry("of another worker", _PID="43")) == "info"
    assert reader.level(entry("<ServerException>Project file error</ServerException>")) == "warning"
    assert reader.level(entry("</x>")) == "warning"
    later = str(START + 5_000_000)
    assert reader.level(entry("alone", __REALTIME_TIMESTAMP=later)) == "info"


def test_systemd_and_the_package_itself() -> None:
    reader = Reader()
    failed = "qgis-server@1.service: Failed with result 'exit-code'."
    assert reader.level(entry(failed, _PID="1", PRIORITY="4")) == "warning"
    assert reader.level(entry("Failed to start", _PID="1", PRIORITY="3")) == "critical"
    assert reader.level(entry("Started", _PID="1")) == "info"
    own = {"SYSLOG_IDENTIFIER": "qgis-serverctl"}
    assert reader.level(entry("warning: nginx -t: nonsense", **own)) == "warning"
    assert reader.level(entry("qgis-serverctl: it failed", **own)) == "critical"
    assert reader.level(entry("done: 2 instances", _PID="44", **own)) == "info"


def test_messages_that_are_no_text() -> None:
    assert entry("").message == ""
    fields = {"MESSAGE": [104, 105, 255], "_PID": "7"}
    assert Entry.parse(fields).message == "hi\ufffd"
