# SPDX-License-Identifier: GPL-2.0-or-later
"""The syntax of unit files."""

from __future__ import annotations

from qgis_server_systemd.qgis_serverctl.system.unit_file import mount_units


def test_what_may_be_mounted_at_a_path_or_above_it() -> None:
    assert mount_units("/srv") == ("srv.mount",)
    assert mount_units("/mnt/my nas/.x-y") == (
        "mnt.mount",
        r"mnt-my\x20nas.mount",
        r"mnt-my\x20nas-.x\x2dy.mount",
    )
    assert mount_units("/.hidden/ü") == (r"\x2ehidden.mount", r"\x2ehidden-\xc3\xbc.mount")
    assert mount_units("/") == ()
