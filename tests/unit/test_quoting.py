# SPDX-License-Identifier: GPL-2.0-or-later
"""Values that are quoted for the files that they get into."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st
from shared.site_checks import parameters as parameters_of

from qgis_server_systemd import quoting
from qgis_server_systemd.qgis_serverctl.system import environment_file

PRINTED = st.text(st.characters(codec="utf-8"), max_size=40).filter(str.isprintable)


@given(PRINTED.map(str.strip))
@example('"\\`$')
@example("a \\")
def test_an_environment_file_keeps_any_value(value: str) -> None:
    text = f"BEFORE=1\nX={quoting.environment(value)}\nAFTER=2\n"
    expected = {"BEFORE": "1", "X": value, "AFTER": "2"}
    assert environment_file.read(text) == (expected, ())


@given(PRINTED)
@example('"; return 200; "')
@example("\\")
@example("{}#'")
def test_a_parameter_of_nginx_keeps_any_value(value: str) -> None:
    assume("$" not in value)
    assert parameters_of(f"fastcgi_param X {quoting.parameter(value)};\n") == {"X": value}


@given(st.lists(PRINTED, max_size=6).map("\n".join))
@example("...\n\n.\n\n.x")
def test_a_description_has_no_line_that_means_something_else(text: str) -> None:
    for line in quoting.paragraphs(text).splitlines():
        assert line == " ." or (line.startswith(" ") and line.strip() and line[1] != ".")
        assert not set("$") & set(line.replace("${}", ""))
