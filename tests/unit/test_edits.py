# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers that edit files come one after the other."""

import threading
from pathlib import Path

import pytest

from qgis_server_systemd.worker_plugin.edits import Turn, is_change, is_transaction


def test_one_after_the_other(tmp_path: Path) -> None:
    first, second = Turn(str(tmp_path)), Turn(str(tmp_path))
    first.take()
    order = []

    def edit() -> None:
        second.take()
        order.append("second")

    waits = threading.Thread(target=edit)
    waits.start()
    order.append("first")
    first.give()
    waits.join()
    assert order == ["first", "second"]
    assert second.held is not None
    second.give()
    second.give()
    first.take()
    assert first.held is not None
    first.take()
    assert first.held is not None, "not its own hindrance"


def test_who_keeps_the_turn_stops_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile, worker = Turn(str(tmp_path)), Turn(str(tmp_path), patience=0)
    hostile.take()
    worker.take()
    assert worker.held is None
    assert "an edit does not wait" in capsys.readouterr().err
    hostile.give()
    worker.take()
    assert worker.held is not None


def test_without_the_folder_edits_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = Turn(str(tmp_path / "none"))
    worker.take()
    worker.give()
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("request_", "edits"),
    [
        ("Transaction", True),
        ("wfs:Transaction", True),
        ("%54ransaction", True),
        ("GetFeature", False),
        ("", False),
    ],
)
def test_what_edits_by_wfs(request_: str, edits: bool) -> None:
    assert is_transaction(request_) is edits


@pytest.mark.parametrize(
    ("service", "request_", "path", "method", "edits"),
    [
        ("", "", "/qgis/a/wfs3/collections/x/items", "POST", True),
        ("", "", "/qgis/a/wfs3/collections/x/items/1", "PATCH", True),
        ("", "x", "/qgis/a/wfs3/collections/x/items/1", "PUT", True),
        ("", "getmap", "/qgis/a/wfs3/collections/x/items", "POST", True),
        ("", "", "/qgis/a/wfs3/collections/x/items/1", "GET", False),
        ("", "GetMap", "/qgis/a/wfs3/collections/x/items", "POST", False),
        ("", "GetFeatureInfo", "/qgis/a/wfs3/collections/x/items", "POST", False),
        ("WMS", "GetPrint", "/qgis/a/wfs3/collections/x/items", "POST", False),
        ("", "", "/qgis/a", "POST", False),
    ],
)
def test_what_edits_by_the_ogc_api(
    service: str, request_: str, path: str, method: str, edits: bool
) -> None:
    assert is_change(service, request_, path, lambda: method) is edits
