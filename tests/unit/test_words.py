# SPDX-License-Identifier: GPL-2.0-or-later
"""What others write is text, wherever it comes out: clients choose names of layers, authors of
projects those of files."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import socket
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.paths import TOP

from qgis_server_systemd.qgis_serverctl.checks import sandbox
from qgis_server_systemd.qgis_serverctl.checks.finding import Finding, blocks
from qgis_server_systemd.qgis_serverctl.checks.run import Report, Unchecked
from qgis_server_systemd.qgis_serverctl.commands import check, complete, logs, status
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.config.values import is_name
from qgis_server_systemd.qgis_serverctl.front.site import names
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.system import access, output
from qgis_server_systemd.qgis_serverctl.system.access import Obstacle
from qgis_server_systemd.qgis_serverctl.system.output import note, printable, tell, tell_json
from qgis_server_systemd.qgis_serverctl.system.qgis_log import Entry, Reader
from qgis_server_systemd.worker_plugin import journal

PACKAGE = Package()
HOSTILE = (
    "a\nerror: forged [x]\r\x1b]0;title\x07\x1b[2J\x9b31m\x7f\0\t\u202egpj.\u2066\u200b\ufeff\u2028"
    "\u2029\x85\ud800\U000e0041"
)


def is_safe(text: str) -> bool:
    """In one line for each terminal, and in the order of its characters."""
    return all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


# ---- One function


@given(st.text())
def test_any_text_becomes_a_part_of_one_line(text: str) -> None:
    shown = printable(text)
    assert is_safe(shown)
    assert printable(shown) == shown
    assert len(printable(text, 5)) <= 5 * len(r"\U000e0041") + 1


def test_each_hostile_character_is_seen_as_a_code() -> None:
    assert printable("\x1b[2J\n\x9b\u202e\ud800") == r"\x1b[2J\n\x9b\u202e\ud800"
    assert is_safe(printable(HOSTILE))


@pytest.mark.parametrize("text", ["Straße: « été »", "日本\u3000地図", "C:\\x", "Жук ≥ 5\u202fkm"])
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


def test_messages_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    note(HOSTILE)
    tell(f"one\n{printable(HOSTILE)}")
    found = capsys.readouterr()
    assert found.err.count("\n") == 1
    assert found.out.count("\n") == 2
    assert is_safe((found.err + found.out).replace("\n", ""))


def test_in_the_journal_each_line_has_its_priority(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as here:
        here.setenv("JOURNAL_STREAM", "1:2")
        output.warn("somewhere else")
        stream = os.fstat(sys.stderr.fileno())
        here.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
        note("<0>x")
        output.warn("y\n<0>z")
        note("it failed", output.ERROR)
    output.warn("to a terminal")
    assert capfd.readouterr().err.splitlines() == [
        "warning: somewhere else", "<6><0>x", "<4>warning: y\\n<0>z", "<3>it failed",
        "warning: to a terminal",
    ]  # fmt: skip


def test_a_terminal_that_lacks_a_character_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "iso-8859-1"))
    tell("Zürich, Žilina")
    tell_json(["Zürich, Žilina"])
    sys.stdout.flush()
    first, second = written.getvalue().splitlines()
    assert first == b"Z\xfcrich, \\u017dilina"
    assert json.loads(second) == ["Zürich, Žilina"]


def test_json_is_exact_and_has_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell_json({HOSTILE: HOSTILE})
    shown = capsys.readouterr().out
    assert re.fullmatch(r"[ -~]*\n", shown)
    assert json.loads(shown) == {HOSTILE: HOSTILE}


# ---- What the commands show


def test_a_finding_has_three_lines_whatever_it_is_about() -> None:
    shown = blocks([Finding("x", "error", HOSTILE, HOSTILE, HOSTILE)])
    assert len(shown.split("\n")) == 3
    assert all(map(is_safe, shown.split("\n")))


def test_a_check() -> None:
    report = Report((), (Unchecked("x", HOSTILE),), sandbox.quoted(PACKAGE, Settings(), [DENIED]))
    shown = check.show(report, "qgis-serverctl").split("\n")
    assert len(shown) == 6
    assert all(map(is_safe, shown))


def test_a_status() -> None:
    seen = {
        "verdict": {"level": "ok", "summary": "", "problems": ()},
        "qgis": None,
        "reply_wait": None,
        "instances": [],
        "shared_queue": None,
        "heavy": None,
        "settings": {"project": {"value": HOSTILE, "from": HOSTILE}},
        "cores": {"count": 1, "affinity": 1, "cpuset": None, "quota": None},
        "nginx": {"installed": True, "running": True, "site": None},
        "notes": [HOSTILE],
    }
    shown = status.show(seen, every=True).split("\n")
    assert all(map(is_safe, shown))
    assert not any(line.startswith("error:") for line in shown)
    table = output.table([{"a": HOSTILE}]).split("\n")
    assert len(table) == 2
    assert all(map(is_safe, table))


# ---- The journal


def test_fields_that_the_sender_chooses() -> None:
    odd = {
        "__REALTIME_TIMESTAMP": "1700000000000000",
        "MESSAGE": ["two", [104, 105, 255]],
        "PRIORITY": "high",
        "SYSLOG_IDENTIFIER": [["x"]],
        "SYSLOG_PID": "1",
    }
    found = Entry.parse(odd)
    assert (found.message, found.priority, found.identifier) == ("two hi\ufffd", 6, "x")
    assert not found.manager, "only the kernel says which process it was"
    assert Entry.parse({**odd, "_PID": "1"}).manager
    assert Entry.parse({"PRIORITY": ["3", "4"], "MESSAGE": {"a": 1}}).priority == 6


def test_an_entry_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Whatever is in it, and after a line of journalctl's that is none."""
    entries = [{"__CURSOR": "1", "MESSAGE": HOSTILE, "_PID": "7"}, {"__CURSOR": "2"}]
    lines = [json.dumps(entries[0]), '{"__CUR', *map(json.dumps, entries)]
    (tmp_path / "journal").write_text("\n".join(lines))
    for level in (None, "info"):
        logs.show(["sh", "-c", f"cat {tmp_path}/journal", "sh"], level, None, follow=False)
        shown = capsys.readouterr().out.removesuffix("\n").split("\n")
        assert len(shown) == 3
        assert all(map(is_safe, shown))


def test_a_level_is_of_one_entry_and_those_that_follow() -> None:
    """Words that look like one change which lines `logs --level` shows, and nothing else."""
    reader = Reader()

    def level(text: str) -> str:
        return reader.level(Entry.parse({"MESSAGE": text, "_PID": "7", "PRIORITY": "0"}))

    assert level("07:33:20 INFO Server[7]: a 07:33:20 CRITICAL Server[7]: b") == "info"
    assert level("07:33:20 INFO Server[7]: a\n07:33:20 CRITICAL Server[7]: b") == "info"


DENIED = "07:33:20 WARNING OGR[7]: Cannot open /opt/\x1b[2J\u202ecity.gpkg: no such file"


def test_lines_of_workers_are_quoted_and_no_more() -> None:
    lines = [
        "07:33:20 INFO Server[7]: Request finished in 12 ms",
        "07:33:20 WARNING OGR[7]: Cannot open /srv/gone.gpkg: no such file",
        "<ServerException>Layer(s) not valid</ServerException>",
        f"ERROR 1: {'x' * 1000}: /opt/x not found",
        *(f"07:33:{n:02} WARNING OGR[7]: Cannot open /opt/a.gpkg" for n in range(60)),
        DENIED,
        "attempt to write a readonly database",
    ]
    found = sandbox.quoted(PACKAGE, Settings(), lines)
    assert [line[:43] for line in found] == [
        "07:33:59 WARNING OGR[7]: Cannot open /opt/a",
        "07:33:20 WARNING OGR[7]: Cannot open /opt/\\",
        "attempt to write a readonly database",
    ]
    assert all(map(is_safe, found))
    assert max(map(len, found)) < 300
    assert len(sandbox.quoted(PACKAGE, Settings(), [f"/{n} not found" for n in range(99)])) == 5


def test_no_path_of_the_journal_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look may hang, as at a server that does not answer."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a look at a file")

    for name in ("stat", "lstat", "open", "readlink", "listdir", "scandir"):
        monkeypatch.setattr(os, name, fail)
    assert sandbox.quoted(PACKAGE, Settings(), ["/net/x/y not found", "/srv/../opt/x not found"])


# ---- Advice


def test_a_remedy_opens_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    """Authors can replace a project by a link to what nobody shall open."""
    secret = tmp_path / "secret" / "key"
    secret.parent.mkdir()
    secret.write_text("")
    link = tmp_path / "city.qgz"
    link.symlink_to(secret)
    for obstacle in (str(secret), str(secret.parent)):
        fix = access.opening(str(link), Obstacle(obstacle, missing=False))
        assert fix == f"namei -l {link}"
    linked = tmp_path / "maps"
    linked.symlink_to(secret.parent)
    fix = access.opening(f"{linked}/key", Obstacle(str(linked), missing=False))
    assert fix == f"namei -l {linked}/key"
    plain = access.opening(str(secret), Obstacle(str(secret.parent), missing=False))
    assert plain == f"chmod o+x {secret.parent}"
    assert (
        access.opening(str(secret), Obstacle(str(secret), missing=False)) == f"chmod o+r {secret}"
    )


def test_a_remedy_is_one_command_whatever_a_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "a b; touch $(echo x) '"
    folder.mkdir()
    file = folder / "city.qgz"
    fix = access.opening(str(file), Obstacle(str(folder), missing=False))
    assert shlex.split(fix) == ["chmod", "o+x", str(folder)]


# ---- Names of files


def test_names_of_projects_are_those_that_nginx_serves(tmp_path: Path) -> None:
    host, settings = Host(PACKAGE, tmp_path), Settings(project_folders=("/maps", "/none"))
    folder = tmp_path / "maps"
    folder.mkdir()
    odd = (HOSTILE.translate({0: None, 0xD800: None}), "$(reboot)", "`id`", "a b", "-x", ".x", "ü")
    for name in (*(name.replace("/", "") for name in odd), "city"):
        (folder / f"{name}.qgz").write_text("")
    with open(os.fsencode(folder) + b"/\xff.qgs", "wb"):
        pass
    (folder / "folder.qgz").mkdir()
    os.mkfifo(folder / "pipe.qgz")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "s.qgz"))
    (folder / "broken.qgz").symlink_to("/nowhere/at/all")
    (folder / "round.qgz").symlink_to("round.qgz")
    (folder / "device.qgz").symlink_to("/dev/zero")
    (folder / "town.qgs").symlink_to("city.qgz")
    assert names(host, settings) == ["a b", "city", "town", "ü"]
    for number in range(2_000):
        (folder / f"n{number}.qgz").touch()
    assert len(names(host, settings)) == 2_004


@given(st.text(min_size=1))
def test_a_name_has_nothing_that_a_terminal_obeys(name: str) -> None:
    try:
        served = is_name(name)
    except UnicodeEncodeError:
        return
    orders = ("LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    for letter in name:
        odd = unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
        odd = odd or unicodedata.bidirectional(letter) in orders or letter in "\u061c\u200e\u200f"
        assert not (served and (odd or letter in '/%?#;:&<>"|\\$`*'))


@pytest.mark.parametrize(
    "letter", "\u061c\u200e\u200f\u202e\u2066\u2028\u2029\u200b\ufeff\x85\xa0&"
)
def test_names_that_are_not_served(letter: str) -> None:
    assert is_name("Größe d'eau, (2)+")
    assert not is_name(f"a{letter}b")


def test_a_shell_completes_names_that_it_need_not_quote(tmp_path: Path) -> None:
    folder = tmp_path / PACKAGE.projects.lstrip("/")
    folder.mkdir(parents=True)
    for name in ("city", "ü", "a b", "it's", "a(2)", "a+b"):
        (folder / f"{name}.qgz").touch()
    assert list(complete.words(Host(PACKAGE, tmp_path), "projects")) == ["a+b", "city", "ü"]


# ---- The plugin, the units, the page


def test_a_line_of_the_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    journal.say(HOSTILE)
    journal.say("x" * 10_000_000)
    journal.say("/srv/Zürich/it's.qgz: loaded in advance in 0.2 s")
    first, second, third = capsys.readouterr().err.splitlines()
    assert is_safe(first)
    assert len(second) == journal.MOST + 1
    assert third == "/srv/Zürich/it's.qgz: loaded in advance in 0.2 s"


UNITS = ("qgis-server@.service", "qgis-server-cache.service", "qgis-server-front.service")


@pytest.mark.parametrize("unit", UNITS)
def test_no_line_of_a_worker_has_a_priority_of_its_own(unit: str) -> None:
    text = (TOP / "debian/root/usr/lib/systemd/system" / unit).read_text()
    assert "\nSyslogLevelPrefix=no\n" in text


def test_the_landing_page_takes_nothing_for_html() -> None:
    text = (TOP / "debian/root/usr/share/qgis-server-systemd/landing.html").read_text()
    assert "textContent" in text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
