# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers that systemd can't start, since the machine refuses a part of their sandbox."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from shared.looks import HOST, UP, seen
from shared.paths import TOP

from qgis_server_systemd.qgis_serverctl.checks import refused, units
from qgis_server_systemd.qgis_serverctl.pool.host import Host, properties
from qgis_server_systemd.qgis_serverctl.pool.instances import failed_step

FAILED = {
    "MainPID": "0", "SubState": "auto-restart", "ExecMainCode": "1", "ExecMainStatus": "217",
    "ExecMainStartTimestampMonotonic": "900", "NRestarts": "4",
}  # fmt: skip
UNIT = TOP / "debian/root/usr/lib/systemd/system/qgis-server@.service"


@dataclass(frozen=True)
class Machine(Host):
    """One that refuses parts of the sandbox, and whose systemd says so."""

    parts: tuple[str, ...] = ()
    words: str = ""

    def command(
        self, *argv: str, timeout: float = 60, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        bad = any(f"--property={part}" in word for part in self.parts for word in argv)
        said = self.words if argv[0] == "journalctl" else ""
        return subprocess.CompletedProcess(argv, int(bad), said, "")


def machine(*parts: str, words: str = "") -> Machine:
    return Machine(HOST.package, HOST.root, parts=parts, words=words)


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({}, "USER"),
        ({"ExecMainStatus": "226"}, "NAMESPACE"),
        ({"ExecMainStatus": "3"}, ""),
        ({"ExecMainCode": "2"}, ""),
        ({"MainPID": "7"}, ""),
        ({"ActiveEnterTimestampMonotonic": "800"}, "USER"),
        # The program ran, and ended so by itself.
        ({"ActiveEnterTimestampMonotonic": "901"}, ""),
    ],
)
def test_a_start_that_failed_before_the_program_ran(change: Mapping[str, str], step: str) -> None:
    assert failed_step({**FAILED, **change}) == step


def test_a_command_before_it_that_could_not_be_run() -> None:
    words = "{{ path=/usr/x ; argv[]=/usr/x 1 ; ignore_errors={} ; start_time=[n/a] "
    words += "; stop_time=[n/a] ; pid=7 ; code=exited ; status={} }}"
    lines = (words.format("no", 226), words.format("yes", 217))
    block = "MainPID=0\n" + "\n".join(f"ExecStartPre={line}" for line in lines)
    assert failed_step(properties(block)) == "NAMESPACE"
    assert failed_step(properties(block.replace("226", "1"))) == "", "the other may fail"
    assert failed_step(properties(block.replace("MainPID=0", "MainPID=9"))) == ""


def test_the_part_that_is_refused_is_named_with_a_drop_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refused, "limit", lambda part: "user.max_user_namespaces")
    look = seen(FAILED, FAILED, UP)
    (found,) = refused.check(machine("PrivateUsers=yes"), look)
    assert found.id == "sandbox-refused"
    assert found.what == (
        "systemd can't start the workers of instances 1, 2 (step USER): this machine refuses "
        "PrivateUsers (user.max_user_namespaces = 0)"
    )
    units_of_it, _, rest = found.remedy.removeprefix("for unit in ").partition("; ")
    folder = "/etc/systemd/system/$unit.d"
    assert rest == (
        f"do mkdir -p {folder} && printf '[Service]\\nPrivateUsers=no\\n' "
        f">{folder}/50-refused.conf; done && systemctl daemon-reload"
    )
    # All that have a part of it.
    shown = re.compile(rf"^(?:{'|'.join(refused.PARTS)})=(?!no$)", re.MULTILINE)
    having = [file.name for file in UNIT.parent.glob("*.service") if shown.search(file.read_text())]
    assert len(having) > 5
    begin = tuple(unit.removesuffix(".service") for unit in units_of_it.split())
    assert all(name.startswith(begin) for name in having)
    assert list(units.check_workers(HOST.package, frozenset({1}), look.units, look.units, {})) == []


def test_what_systemd_says_is_quoted_where_no_part_is_refused() -> None:
    words = (
        "an old line of QGIS\nFailed to set up mount namespacing: /x: No such file\n"
        "qgis-server@1.service: Failed at step NAMESPACE spawning /usr/bin/x: No such file\n"
    )
    (found,) = refused.check(machine(words=words), seen({**FAILED, "ExecMainStatus": "226"}))
    assert found.id == "start-refused"
    assert found.what.endswith(
        "(step NAMESPACE); it says: Failed to set up mount namespacing: /x: No such file"
    )


def test_where_nothing_starts_no_part_is_blamed() -> None:
    (found,) = refused.check(machine("User=", "PrivateUsers"), seen(FAILED))
    assert found.id == "start-refused"
    assert list(refused.check(machine("PrivateUsers"), seen(UP, UP))) == [], "nothing is tried"


def test_the_limit_of_the_kernel(tmp_path: Path) -> None:
    for name, text in (("user", "0\n"), ("mnt", "0\n"), ("ipc", "100\n")):
        (tmp_path / f"max_{name}_namespaces").write_text(text)
    assert refused.limit("PrivateUsers", tmp_path) == "user.max_user_namespaces"
    assert refused.limit("PrivateTmp", tmp_path) == "user.max_mnt_namespaces"
    assert refused.limit("PrivateIPC", tmp_path) == refused.limit("ProtectHostname", tmp_path) == ""


def test_each_part_is_one_that_workers_have() -> None:
    there = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.M)[::-1])
    for name, (value, _) in refused.PARTS.items():
        assert there[name] == value, name
