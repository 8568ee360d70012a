# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of projects: addresses, work that goes wrong, and what a stranger writes."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from qgis_server_systemd.qgis_serverctl.checks import projects as checks
from qgis_server_systemd.qgis_serverctl.checks.finding import Finding, blocks
from qgis_server_systemd.qgis_serverctl.commands import projects as command
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.config.values import NAME
from qgis_server_systemd.qgis_serverctl.pool import catalogue
from qgis_server_systemd.qgis_serverctl.pool.catalogue import Problem, Without
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.system.output import Failure
from qgis_server_systemd.worker_plugin import memory
from qgis_server_systemd.worker_plugin.catalogue import __main__ as look
from qgis_server_systemd.worker_plugin.catalogue import addresses, children, postgres, sources
from qgis_server_systemd.worker_plugin.catalogue.__main__ import VARIABLE, Catalogue, memory_limit
from qgis_server_systemd.worker_plugin.catalogue.addresses import Address
from qgis_server_systemd.worker_plugin.catalogue.children import Send

PACKAGE = Package()
SETTINGS = Settings()


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


# ---- Addresses


def found(*folders: Path, **given: Any) -> tuple[dict[str, str], dict[str, str]]:
    there = [(str(folder), addresses.entries(str(folder))) for folder in folders]
    listed, without = addresses.addresses(
        given.get("named", {}), given.get("project", ""), given.get("warm", ()), there, NAME
    )
    top = str(folders[0].parent)
    return (
        {one.name: one.path.removeprefix(top) for one in listed},
        {one.path.removeprefix(top): one.kind for one in without},
    )


def test_which_projects_have_an_address_and_why_others_have_none(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    touch(
        a,
        "city.qgz",
        "city.qgs",
        "Meine Karte.qgz",
        "Größe+(2).qgz",
        "A&B.qgs",
        "plan.QGZ",
        "nord/wege.qgs",
        ".x/y.qgs",
    )
    touch(a, "map.txt", "-x.qgs", "real.txt", "a;b.qgs")
    touch(b, "city.qgz", "b.qgs", "n.qgs")
    (a / "folder.qgz").mkdir()
    os.mkfifo(a / "pipe.qgz")
    (a / "gone.qgs").symlink_to("nowhere")
    (a / "linked.qgs").symlink_to("real.txt")
    names, without = found(a, b, named={"n": "/srv/n.qgz"})
    assert names == {
        "city": "/a/city.qgz", "linked": "/a/linked.qgs", "b": "/b/b.qgs", "n": "/srv/n.qgz",
        "Größe+(2)": "/a/Größe+(2).qgz", "Meine Karte": "/a/Meine Karte.qgz",
    }  # fmt: skip
    assert without == {
        "/a/city.qgs": "hidden", "/a/a;b.qgs": "name", "/a/plan.QGZ": "ending",
        "/a/A&B.qgs": "name",
        "/a/nord/wege.qgs": "below", "/a/-x.qgs": "name", "/a/folder.qgz": "folder",
        "/a/pipe.qgz": "special", "/a/gone.qgs": "broken", "/b/city.qgz": "hidden",
        "/b/n.qgs": "hidden",
    }  # fmt: skip


def test_projects_of_settings_are_listed_once() -> None:
    listed, _ = addresses.addresses({"n": "/n"}, "/p", ("/n", "/p", "/w"), (), NAME)
    assert listed == [
        Address("", "/p", "project"), Address("n", "/n", "named"), Address("", "/w", "warm"),
    ]  # fmt: skip


def test_hundreds_of_files_are_listed_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "MOST", 10)
    touch(tmp_path, *(f"{n}.qgs" for n in range(20)))
    assert len(addresses.entries(str(tmp_path))) == 10


# ---- Data


def test_what_keeps_a_file_away(tmp_path: Path) -> None:
    touch(tmp_path, "data.gpkg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")

    def of(name: str) -> tuple[str, str] | None:
        reason = sources.of_path(f"{tmp_path}/{name}")
        return (reason.kind, reason.part.removeprefix(f"{tmp_path}/")) if reason else None

    assert of("data.gpkg") is None
    assert of(".") is None
    assert of("a/b.gpkg") == ("missing", "a")
    assert of("data.gpkg/x") == ("missing", "data.gpkg/x")
    assert of("pipe") == ("special", "pipe")
    assert of("gone") == ("broken-link", "gone")
    assert of("n" * 300) == ("unreadable", "n" * 300)
    assert sources.signature(f"{tmp_path}/none") == []
    assert sources.signature(f"{tmp_path}/data.gpkg") != []


def test_what_keeps_a_server_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert sources.of_server("127.0.0.1", port) is None
    refused = sources.of_server("127.0.0.1", port)
    assert refused and (refused.kind, refused.place) == ("refused", f"127.0.0.1:{port}")
    assert (sources.of_server("no such host", 80) or refused).kind == "host-unknown"
    assert sources.of_server("127.0.0.1", 1 << 40)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('connection to server at "h" (1.2.3.4), port 5432 failed: FATAL:  28P01', "28P01"),
        ("connection to server ... failed: SCHWERWIEGEND:  3D000", "3D000"),
        ("fe_sendauth: no password supplied", ""),
        ('definition of service "x: 28P01" not found', ""),
    ],
)
def test_the_code_of_a_database(said: str, code: str) -> None:
    assert postgres.code_of(said) == code


def test_services_are_found_where_libpq_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pg_service.conf").write_text("[gis]\nhost=x\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "none"))
    monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path))
    assert postgres.has_service("gis")
    assert not postgres.has_service("gi")


# ---- Work that goes wrong


def hang(send: Send) -> None:
    send({"a": 1})
    threading.Event().wait()


def spin(send: Send) -> None:
    send({"a": 1})
    while True:
        pass


def crash(send: Send) -> None:
    send({"a": 1})
    os.kill(os.getpid(), signal.SIGTRAP)


def eat(send: Send) -> None:
    send({"a": 1})
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20)))


def babble(send: Send) -> None:
    while True:
        send({"a": "x" * 100_000})


def fail(send: Send) -> None:
    send({"a": 1})
    raise ValueError


@pytest.mark.parametrize(
    ("work", "end", "died_of"),
    [
        (lambda send: send({"a": 1}), "done", 0),
        (hang, "time", signal.SIGKILL),
        (spin, "time", signal.SIGKILL),
        (crash, "crash", signal.SIGTRAP),
        (eat, "memory", signal.SIGKILL),
        (babble, "words", signal.SIGKILL),
        (fail, "crash", 0),
    ],
)
def test_work_that_goes_wrong_ends_alone(work: Any, end: str, died_of: int) -> None:
    seconds = 0.3 if work in (hang, spin) else 60.0
    most = memory.private() + (64 << 20)
    outcome = children.run(work, seconds, most)
    assert outcome.end == end
    assert outcome.signal in (0, died_of)
    assert outcome.said[0]["a"] in (1, "x" * 100_000)


def test_what_the_memory_is_bounded_by() -> None:
    assert memory_limit("2G") == 2 << 30
    assert memory_limit("900M") == 900 << 20
    assert memory_limit("60%") > 0


def test_what_nginx_sends_to_workers_is_read() -> None:
    text = 'fastcgi_param A /x;\n#fastcgi_param B y;\n  fastcgi_param C "a b";\nfastcgi_param D $x;'
    assert [(n, v) for n, _, v in VARIABLE.findall(text)] == [("A", "/x"), ("C", "a b")]


def given(folder: Path) -> dict[str, Any]:
    """Settings of a look at a folder."""
    return {
        "guard": {"folders": [str(folder)], "projects": []},
        "addresses": {"folders": [str(folder)], "named": {}, "name": NAME},
        "catalogue": {
            "project": "", "warm": [], "memory": "2G", "program": __file__, "sent": "/nowhere",
        },
    }  # fmt: skip


def looked(folder: Path, result: Path, monkeypatch: pytest.MonkeyPatch, **orders: Any) -> list[str]:
    """Names of the projects that were read."""
    return [one for one in steps(folder, result, monkeypatch, **orders) if one[0] != "-"]


def steps(folder: Path, result: Path, monkeypatch: pytest.MonkeyPatch, **orders: Any) -> list[str]:
    """The same, and between them the projects whose files are looked at, with "-" before them."""
    read: list[str] = []
    first = Catalogue.first

    def seen(self: Catalogue, address: Address) -> dict[str, Any]:
        read.append(f"-{address.name}")
        return first(self, address)

    def with_qgis(self: Catalogue, record: dict[str, Any]) -> dict[str, Any]:
        read.append(record["name"])
        return record | {"read": True, "looked": self.begun}

    with monkeypatch.context() as patched:
        patched.setattr(Catalogue, "first", seen)
        patched.setattr(Catalogue, "with_qgis", with_qgis)
        Catalogue(given(folder), orders, result).look()
    return read


@pytest.mark.parametrize(
    ("orders", "problems", "seconds"),
    [
        ({}, [], 3600.0), ({}, [{"kind": "silent"}], 600.0),
        ({"id": "1", "remote": 60.0}, [], 60.0), ({"id": "1"}, [{"kind": "silent"}], 0.0),
    ],
)  # fmt: skip
def test_how_long_what_depends_on_servers_is_not_read_again(
    tmp_path: Path, orders: dict[str, Any], problems: list[Any], seconds: float
) -> None:
    found = Catalogue(given(tmp_path), orders, tmp_path / "catalogue.json")

    def is_good(age: float) -> bool:
        old = {"read": True, "files": {}, "remote": True, "problems": problems}
        return found.is_good(old | {"looked": time.time() - age}, {}, "a")

    assert not is_good(seconds + 1)
    assert is_good(max(0.0, seconds - 30)) == (seconds > 0)


def test_only_what_has_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = tmp_path / "p", tmp_path / "catalogue.json"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.qgs").write_text("<qgis/>")
    (folder / "c.qgs").write_text("<qgis")
    assert looked(folder, result, monkeypatch) == ["a", "b"]
    # Whoever has the unit started.
    monkeypatch.setenv("TRIGGER_PATH", "/run/wish")
    assert looked(folder, result, monkeypatch) == []
    assert looked(folder, result, monkeypatch, id="1", names=["b"]) == ["b"]
    # Orders count once.
    assert looked(folder, result, monkeypatch, id="1", names=["b"]) == []
    assert looked(folder, result, monkeypatch, id="2", names=["b"]) == ["b"]
    assert catalogue.parse(result.read_bytes()).orders == "2"
    (folder / "a.qgs").write_text("<qgis></qgis>")
    (folder / "c.qgs").unlink()
    # One that is new waits for no other.
    (folder / "n.qgs").write_text("<qgis/>")
    assert steps(folder, result, monkeypatch) == ["-n", "n", "-a", "-b", "a"]
    (folder / "n.qgs").unlink()
    assert looked(folder, result, monkeypatch) == []
    shown = catalogue.parse(result.read_bytes())
    assert [one.name for one in shown.projects] == ["a", "b"]
    assert shown.ended
    result.write_text("nonsense")
    assert looked(folder, result, monkeypatch) == ["a", "b"]


def test_what_comes_during_a_look_is_read_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = tmp_path / "p", tmp_path / "catalogue.json"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.qgs").write_text("<qgis/>")
    listings: list[str] = []
    listed = look.listed

    def come(folder: str, most: int) -> tuple[list[addresses.Entry], str]:
        listings.append(folder)
        if len(listings) == 2:
            (tmp_path / "p/new.qgs").write_text("<qgis/>")
        return ([], "folder-hangs") if folder.endswith("away") else listed(folder, most)

    monkeypatch.setattr(look, "listed", come)
    assert looked(folder, result, monkeypatch) == ["a", "new", "b", "c"]
    assert [one["name"] for one in json.loads(result.read_text())["projects"]] == [
        "a", "b", "c", "new",
    ]  # fmt: skip
    # Whoever looks next has them in their order, and reads none again.
    assert looked(folder, result, monkeypatch) == []
    assert [one.name for one in catalogue.parse(result.read_bytes()).projects] == [
        "a", "b", "c", "new",
    ]  # fmt: skip
    # A folder that hangs is waited for once.
    listings.clear()
    result.unlink()
    settings = given(folder)
    settings["addresses"]["folders"].append(str(tmp_path / "away"))
    monkeypatch.setattr(f"{__name__}.given", lambda folder: settings)
    assert looked(folder, result, monkeypatch) == ["a", "b", "c", "new"]
    assert listings.count(str(tmp_path / "away")) == 1


# ---- What a stranger writes


def project(**changes: Any) -> dict[str, Any]:
    return {
        "name": "a", "path": f"{SETTINGS.project_folders[0]}/a.qgz", "origin": "folder", "size": 1,
        "changed": 1.0, "looked": 1.0, "read": True, "title": "T", "abstract": "",
        "services": ["WMS", "evil"], "layers": 1, "remote": False, "files": {}, "problems": [],
    } | changes  # fmt: skip


def written(*projects: Any, **changes: Any) -> bytes:
    given = {
        "format": 1, "begun": 1.0, "ended": 2.0, "done": 0, "total": 0,
        "projects": projects, "without": [],
    }  # fmt: skip
    return json.dumps(given | changes).encode()


def test_what_the_look_writes_is_read() -> None:
    (one,) = catalogue.parse(written(project(title="x" * 9999))).projects
    assert one.services == ("WMS",)
    assert len(one.title) == catalogue.LONGEST
    assert catalogue.has_address(SETTINGS, one)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"\xff", b"{}", b"[" * 100_000, written(format=2), written(ended="x"),
        written(begun=float("inf")), written(done=1e400), written(3), written({}),
        written(project(name="../x")), written(project(name=3)), written(project(size="x")),
        written(project(changed=True)), written(project(problems={})),
        written(project(problems=[{"kind": 3}])), written(without=[{}]), written(begun=10**400),
    ],
)  # fmt: skip
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        catalogue.parse(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/etc/shadow"}, {"name": "b"}, {"path": f"{SETTINGS.project_folders[0]}/../a.qgz"},
        {"origin": "warm"}, {"name": ""},
    ],
)  # fmt: skip
def test_a_project_that_the_settings_do_not_know_is_none(changes: dict[str, Any]) -> None:
    found = catalogue.parse(written(project(**changes)))
    assert catalogue.of_settings(found, SETTINGS) == []


def test_a_link_or_pipe_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    file = host.path(PACKAGE.catalogue)
    assert catalogue.load(host) is None
    file.parent.mkdir(parents=True)
    (file.parent / "other").write_bytes(written())
    file.symlink_to("other")
    with pytest.raises(Failure, match="rm "):
        catalogue.load(host)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(Failure, match="is no file"):
        catalogue.load(host)
    file.unlink()
    file.write_bytes(written())
    assert catalogue.load(host)


# ---- Words


KINDS = {
    "missing", "broken-link", "denied", "unreadable", "special", "outside", "archive", "empty",
    "not-whole", "unloadable", "hangs", "memory", "crashes", "password", "service-unknown",
    "database-missing", "database-down", "database-full", "table-missing", "table-denied",
    "host-unknown", "refused", "silent", "unreachable", "provider-missing", "invalid", "\x1b[2J",
}  # fmt: skip
EVIL = "/srv/x\x1b]0;y\x07\n$(touch z)"


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("layer", ["", "L\x1b[2J\nerror: forged"])
def test_each_kind_has_words_that_no_terminal_obeys(kind: str, layer: str) -> None:
    problem = Problem(kind, layer, False, EVIL, EVIL, EVIL)
    (one,) = catalogue.parse(
        written(project(problems=[vars(problem)], title=EVIL, abstract=EVIL))
    ).projects
    (told,) = checks.told(PACKAGE, SETTINGS, one, ignores=False)
    assert told.finding.severity == "error"
    text = blocks([told.finding])
    assert len(text.splitlines()) == 3
    assert all(line.isprintable() for line in text.splitlines())


def test_a_layer_that_is_not_for_wms_or_is_ignored_is_a_warning() -> None:
    problems = (Problem("missing", "L", True, "/srv/x"), Problem("missing", "M", False, "/srv/x"))
    one = catalogue.Project("a", "/p", 1, 1.0, 1.0, "", "", (), 2, problems)
    severities = [
        [each.finding.severity for each in checks.told(PACKAGE, SETTINGS, one, ignores=ignores)]
        for ignores in (False, True)
    ]
    assert severities == [["warning", "error"], ["warning", "warning"]]


def test_data_outside_of_the_folders_are_told_with_the_setting() -> None:
    words = checks.layer_words(PACKAGE, SETTINGS, Problem("missing", "L", place="/data/a.gpkg"))
    assert words.id == "layer-outside"
    assert "data_folders" in words.remedy
    words = checks.layer_words(PACKAGE, SETTINGS, Problem("missing", "L", place="/srv/a.gpkg"))
    assert words.id == "layer-missing"


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("Meine Karte", "Meine_Karte"), ("Übersicht", "Uebersicht"), ("a+b", "a_b"),
        ("plan(2)", "plan_2"), ("Straße", "Strasse"), ("-x", "x"), ("日本", "project"),
        ("Crème brûlée", "Creme_brulee"), ("ready made", "ready_made_2"),
    ],
)  # fmt: skip
def test_what_to_rename_a_project_to(stem: str, name: str) -> None:
    assert checks.plain(stem, {"ready_made"}) == name


def test_a_file_is_renamed_by_a_command_or_by_hand() -> None:
    folder = SETTINGS.project_folders[0]
    given = written(without=[
        {"path": f"{folder}/Meine Karte.qgz", "kind": "name", "by": ""},
        {"path": f"{folder}/$(x)\x1b.qgz", "kind": "name", "by": ""},
        {"path": "/etc/x.qgz", "kind": "name", "by": ""},
    ])  # fmt: skip
    rest = checks.unserved(PACKAGE, SETTINGS, catalogue.parse(given))
    first, second = (finding.remedy for _, finding in rest)
    assert first == f"mv -n -- '{folder}/Meine Karte.qgz' {folder}/Meine_Karte.qgz"
    assert "$" not in second


@pytest.mark.parametrize(
    "kind",
    [
        "name", "ending", "below", "hidden", "folder", "special", "broken", "denied",
        "folder-missing", "folder-denied", "folder-hangs", "x",
    ],
)  # fmt: skip
def test_what_has_no_address_is_told_why(kind: str) -> None:
    words = checks.without_words(PACKAGE, Without(f"/srv/{EVIL}.qgz", kind, EVIL), ())
    text = blocks([Finding(words.id, "warning", words.what, EVIL, words.remedy)])
    assert all(line.isprintable() for line in text.splitlines())


def test_hundreds_of_problems_do_not_fill_the_screen() -> None:
    many = [Finding("a", "error", str(n), "x", "y") for n in range(300)]
    shown = list(checks.some([*many, Finding("b", "error", "b", "x", "y")], "ctl"))
    assert len(shown) == checks.SHOWN + 1
    assert shown[-2].what == f"{300 - checks.SHOWN + 1} more of these"
    assert len(list(checks.some(many[: checks.SHOWN], "ctl"))) == checks.SHOWN


def test_the_table() -> None:
    assert [command.bytes_of(n) for n in (None, 0, 999, 1500, 12_345_678)] == [
        "-", "0 B", "999 B", "1.5 kB", "12 MB",
    ]  # fmt: skip
    assert command.moment(1e300) == "-"
    assert command.moment(None) == "-"
