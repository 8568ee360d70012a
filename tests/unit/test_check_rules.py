# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks that need no server: access, environment files, disks, fonts, memory."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from shared.looks import finding_ids
from shared.paths import TESTS

from qgis_server_systemd.qgis_serverctl.checks import files, run, sandbox, units
from qgis_server_systemd.qgis_serverctl.checks.files import Disk
from qgis_server_systemd.qgis_serverctl.checks.finding import blocks, error, quoting, warning
from qgis_server_systemd.qgis_serverctl.commands import notify
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.config.values import recipient
from qgis_server_systemd.qgis_serverctl.pool import cores
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.system import access, environment_file
from qgis_server_systemd.qgis_serverctl.system.access import Obstacle, Question

PACKAGE = Package()


# ---- Access


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that everybody may enter, whatever pytest's own folders are like."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent == tmp_path or parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)
    return tmp_path


def test_the_folder_that_is_in_the_way_is_told(folder: Path) -> None:
    shut = folder / "shut"
    (shut / "open").mkdir(parents=True)
    file = shut / "open" / "city.qgz"
    file.write_text("")
    link = folder / "link.qgz"
    link.symlink_to(file)
    shut.chmod(0o700)
    asked = [Question(str(path), "r") for path in (file, link, folder / "none", folder)]
    found = access.as_user("nobody", asked)
    assert found == {
        asked[0]: Obstacle(str(shut), missing=False),
        asked[1]: Obstacle(str(shut), missing=False),
        asked[2]: Obstacle(str(folder / "none"), missing=True),
    }
    shut.chmod(0o755)
    file.chmod(0o600)
    assert access.as_user("nobody", asked[:1]) == {asked[0]: Obstacle(str(file), missing=False)}
    file.chmod(0o644)
    assert access.as_user("nobody", asked[:2]) == {}
    assert os.geteuid() == 0, "only the child has become somebody else"


def test_a_process_that_is_stopped_by_others_of_its_user_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(user: str) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(access, "_become", stop)
    monkeypatch.setattr(access, "TIMEOUT", 0.1)
    with pytest.raises(OSError, match="the access of user nobody can't be tested"):
        access.as_user("nobody", [Question("/", "r")])


def test_names_of_any_kind_are_words_of_the_command() -> None:
    assert access.opening("/srv/a", Obstacle("/srv/a", missing=False)) == "chmod o+r /srv/a"
    odd = access.opening("/srv/a; reboot/b", Obstacle("/srv/a; reboot", missing=False))
    assert odd == "chmod o+x '/srv/a; reboot'"


def test_a_user_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        access.as_user("nobody-at-all", [])


# ---- Environment files


def test_variables_as_systemd_reads_them() -> None:
    text = (
        "# comment\n; another\n\nA=1\n B = two words \nC=\"x # y\" \nD='it''s'\nH=it's\n"
        'E=a\\\nb\nF="first\nsecond"\nG=\n'
    )
    values, lost = environment_file.read(text)
    assert lost == ()
    assert values == {
        "A": "1",
        "B": "two words",
        "C": "x # y",
        "D": "its",
        "H": "it's",
        "E": "ab",
        "F": "first\nsecond",
        "G": "",
    }


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("A=1\nexport B=2\n", 2, "export B is no name of a variable"),
        ("A=1\nnonsense\n", 2, "is no assignment"),
        ("A=1\n1B=2\n", 2, "1B is no name of a variable"),
        ('A=1\nB="x\nC=3\n', 2, "never closed"),
        ("# see C:\\\nA=1\n", 1, "the next line is a comment too"),
    ],
)
def test_lines_that_systemd_drops(text: str, line: int, what: str) -> None:
    _, (complaint,) = environment_file.read(text)
    assert complaint.line == line
    assert what in complaint.what


@pytest.mark.parametrize(
    ("name", "path", "found"),
    [
        ("PYQGIS_STARTUP", "/root/startup.py", ["sandbox-variable"]),
        ("PYQGIS_STARTUP", "/srv/edit/startup.py", ["sandbox-code"]),
        ("PYQGIS_STARTUP", "/usr/share/own/startup.py", []),
        ("QGIS_SERVER_API_RESOURCES_DIRECTORY", "/root/api", ["sandbox-variable"]),
        ("QGIS_SERVER_API_RESOURCES_DIRECTORY", "/srv/edit/api", []),
    ],
)
def test_variables_that_name_files_of_an_administrator(
    name: str, path: str, found: list[str]
) -> None:
    settings, variables = Settings(writable_folders=("/srv/edit",)), {name: path}
    findings = [
        *sandbox.check_environment(PACKAGE, settings, variables),
        *sandbox.check_code(PACKAGE, settings, variables, "env"),
    ]
    assert [finding.id for finding in findings] == found


# ---- Disks, fonts, memory


def test_a_full_disk() -> None:
    good = [Disk("/a", 5000, 0.5), Disk("/b", 100, None)]
    assert list(files.check_disks(good)) == []
    full = [Disk("/a", 3, 0.5), Disk("/b", 5000, 0.001)]
    assert [f.where for f in files.check_disks(full)] == ["/a", "/b"]


def test_fonts(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    (finding,) = files.check_fonts(host)
    assert finding.id == "fonts-missing"
    assert finding.remedy.startswith("apt install fonts-dejavu-core")
    there = tmp_path / "usr/local/share/fonts/own"
    there.mkdir(parents=True)
    (there / "fonts.dir").write_text("")
    assert len(list(files.check_fonts(host))) == 1
    (there / "Own.TTF").write_text("")
    assert list(files.check_fonts(host)) == []


def test_memory_for_all_workers_as_large_as_the_largest_one() -> None:
    assert list(units.check_memory(PACKAGE, [100, 100, 900], 3000)) == []
    assert list(units.check_memory(PACKAGE, [], 1)) == []
    assert list(units.check_memory(PACKAGE, [900], 100)) == []
    (finding,) = units.check_memory(PACKAGE, [100, 100, 900], 2000)
    assert finding.remedy == "qgis-serverctl scale 2"


def test_the_limit_is_that_of_the_slice_or_of_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "CGROUPS", str(tmp_path))
    machine = run.memory_limit(Host(PACKAGE))
    assert machine is not None
    pool = tmp_path / "qgis.slice" / "qgis-server.slice"
    pool.mkdir(parents=True)
    (pool / "memory.max").write_text("max\n")
    assert run.memory_limit(Host(PACKAGE)) == machine
    (pool.parent / "memory.max").write_text(f"{5 * 2**20}\n")
    assert run.memory_limit(Host(PACKAGE)) == 5


# ---- What somebody is told of them


def test_findings_are_told_once_and_their_end_too() -> None:
    disk = error("disk", "3 MB are left", "/srv", "rm")
    load = warning("load", "busy", "pool", "scale 3")
    first = notify.message(frozenset(), (disk, load), "ctl", "maps")
    assert first is not None
    assert first.startswith("Subject: QGIS Server on maps: 2 new, 0 gone\n\nerror: 3 MB are left")
    assert first.endswith("Now there are 1 error, 1 warning: ctl check\n")
    before = notify.known((disk, load))
    # Another number is no news.
    assert (
        notify.message(before, (replace(disk, what="2 MB are left"), load), "ctl", "maps") is None
    )
    last = notify.message(before, (load,), "ctl", "maps")
    assert last is not None
    assert "gone: [disk] /srv" in last
    assert "load" not in last


def test_what_everybody_may_read_has_no_line_of_a_log() -> None:
    loop = error("loop", quoting("it ends again and again", "password=x"), "a unit", "see logs")
    assert "; it says: password=x [loop]" in blocks([loop])
    noted = notify.noted((loop,))
    assert noted == [("error", "loop", "a unit", "it ends again and again", "see logs")]
    assert notify.read(json.dumps(noted)) == notify.known((loop,))


@pytest.mark.parametrize("text", [None, "", "{", "3", "[[1]]", "null"])
def test_what_was_told_before_is_nothing_where_nobody_wrote_it(text: str | None) -> None:
    assert notify.read(text) == frozenset()


@pytest.mark.parametrize("to", ["root", "gis@maps.example.org", "/usr/local/bin/tell", ""])
def test_who_can_be_told(to: str) -> None:
    assert recipient(to) == to


@pytest.mark.parametrize("to", ["-oQ/tmp", "a b", "./tell", "a\nBcc: b", "<a@b>"])
def test_who_can_not_be_told(to: str) -> None:
    with pytest.raises(ValueError, match=r"^$|line break"):
        recipient(to)


# ---- Remedies

UNTRIED = {
    "folder-silent": "the remedy is at the file server: see tests/server/test_fresh.py",
    "fonts-missing": "the remedy takes a package from Debian's archive",
    "pool-busy": "the remedy is for a load that stays",
    "sockets-unseen": "needs a kernel without a module",
}


def test_the_remedy_of_each_finding_is_carried_out_on_a_server() -> None:
    """Those of projects are words for their authors: tests/server/test_projects.py has them."""
    ids = finding_ids("error", "warning")
    assert len(ids) > 45
    cases = (TESTS / "server/test_check.py").read_text()
    tried = set(re.findall(r"Case\(\s*\"([a-z-]+)\"", cases))
    assert sorted(ids - tried) == sorted(UNTRIED)
