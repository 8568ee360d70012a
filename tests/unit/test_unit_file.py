# SPDX-License-Identifier: GPL-2.0-or-later
"""The syntax of unit files."""

from __future__ import annotations

from qgis_server_systemd.qgis_serverctl.system.unit_file import lines, mount_units


def test_what_may_be_mounted_at_a_path_or_above_it() -> None:
    assert mount_units("/srv") == ("srv.mount",)
    assert mount_units("/mnt/my nas/.x-y") == (
        "mnt.mount",
        r"mnt-my\x20nas.mount",
        r"mnt-my\x20nas-.x\x2dy.mount",
    )
    assert mount_units("/.hidden/ü") == (r"\x2ehidden.mount", r"\x2ehidden-\xc3\xbc.mount")
    assert mount_units("/") == ()


def test_lines_end_and_go_on_as_systemd_has_it() -> None:
    text = (
        "[Service]\r\n# a comment \\\nUser=a\nEnvironment=A=1 \\\n  ; another one\n  B=2\n"
        "ExecStart=/bin/a\x0bGroup=b\x85\\\\\nNice=\xa05\n"
    )
    assert [*lines(text)] == [
        ("Service", "User", "a"),
        ("Service", "Environment", "A=1  B=2"),
        ("Service", "ExecStart", "/bin/a\x0bGroup=b\x85\\\\"),
        ("Service", "Nice", "\xa05"),
    ]
