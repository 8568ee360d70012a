# SPDX-License-Identifier: GPL-2.0-or-later
"""The lane for heavy requests: how they are told, where they go, and who is in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.planning import DROPIN, UPSTREAM, WANTED, machine, numbers
from shared.pool import HEAVY as SOCKET
from shared.pool import path

from qgis_server_systemd.qgis_serverctl.checks.lane import has_cpu_controller
from qgis_server_systemd.qgis_serverctl.config import names
from qgis_server_systemd.qgis_serverctl.config.names import HEAVY, Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.config.values import MAX_INSTANCES
from qgis_server_systemd.qgis_serverctl.front import heavy, nginx_config
from qgis_server_systemd.qgis_serverctl.pool import connections, instances
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.pool.roll_state import Rolling
from qgis_server_systemd.qgis_serverctl.reconcile import plan
from qgis_server_systemd.qgis_serverctl.units.dropins import Generated, lane

PACKAGE = Package()
SOCKETS = (path(1), path(2))


@given(st.integers(2, 10**7), st.integers(0, 10**8))
def test_a_number_is_told_by_its_digits(least: int, number: int) -> None:
    found = re.fullmatch(heavy.at_least(least), str(number))
    assert (found is not None) == (number >= least)


# ---- Who is in it


def test_its_workers_have_numbers_that_no_other_has() -> None:
    assert HEAVY > MAX_INSTANCES + 1
    for number in (1, 9, MAX_INSTANCES, HEAVY + 1, HEAVY + MAX_INSTANCES):
        assert names.number(names.label(number)) == number
        unit = PACKAGE.service_unit(number)
        assert instances.number(unit, PACKAGE.pool, "service") == number
        assert names.is_heavy(number) == ("heavy-" in unit)
    assert instances.listed(numbers(HEAVY + 2, 3)) == "3, heavy-2"
    assert instances.numbers(["qgis-server@heavy-1.service"], PACKAGE.pool, "service") == numbers()


@pytest.mark.parametrize("label", ["0", "01", "heavy-0", "heavy-", "heavy-01", "heavy", "x", "1\n"])
def test_what_is_no_instance(label: str) -> None:
    with pytest.raises(ValueError, match=re.escape(label)):
        names.number(label)


def test_they_have_one_socket() -> None:
    table = connections.Table()
    assert {connections.queue_of(PACKAGE, HEAVY + n, table) for n in (1, 2)} == {SOCKET}
    assert PACKAGE.units(HEAVY + 1) == ("qgis-server-heavy.socket", "qgis-server@heavy-1.service")


@pytest.mark.parametrize(
    ("value", "count", "workers"), [("auto", 4, 4), (2, 4, 2), (0, 4, 0), ("25%", 4, 4)]
)
def test_how_many_there_are(value: int | str, count: int, workers: int) -> None:
    settings = Settings(heavy_workers=value)
    assert settings.heavy_count(count) == workers
    assert settings.has_lane == (workers > 0)
    assert bool(settings.notes) == (value == "25%")


@pytest.mark.parametrize(
    ("lines", "timeout", "stop"),
    [
        ({}, 300, 330),
        ({"request_timeout": 60}, 60, 90),
        ({"request_timeout": 60, "kill_timeout": 200}, 60, 200),
        ({"heavy_timeout": 900}, 900, 930),
        ({"heavy_timeout": 20, "kill_timeout": 400}, 20, 50),
    ],
)
def test_its_timeouts(lines: dict[str, int], timeout: int, stop: int) -> None:
    settings = Settings(**lines)  # type: ignore[arg-type]
    assert (settings.lane_timeout, settings.lane_stop_timeout) == (timeout, stop)


# ---- Its drop-ins


def put(root: Path, files: tuple[Generated, ...]) -> None:
    for one in files:
        file = root / one.file.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(one.text or "") if one.text is not None else file.unlink(missing_ok=True)


def test_drop_ins_of_workers_that_are_no_more_go(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    many = lane(host, Settings(heavy_timeout=900), 3)
    put(tmp_path, many)
    texts = {one.file: one.text for one in lane(host, Settings(), 1)}
    kept, timeout = PACKAGE.heavy_dropins(HEAVY + 1)
    assert "\nSockets=qgis-server-heavy.socket\n" in (texts[kept] or "")
    assert texts[PACKAGE.heavy_workers_dropin] is not None
    gone = {file for n in (2, 3) for file in PACKAGE.heavy_dropins(HEAVY + n)}
    assert {file for file, text in texts.items() if text is None} == {
        *gone, timeout, PACKAGE.heavy_start_dropin,
    }  # fmt: skip
    none = {one.text for one in lane(host, Settings(heavy_workers=0), 0)}
    assert none == {None}


def test_one_of_an_administrators_stays(tmp_path: Path) -> None:
    host = Host(PACKAGE, tmp_path)
    own, _ = PACKAGE.heavy_dropins(HEAVY + 7)
    put(tmp_path, (Generated(own, "[Service]\nNice=5\n", "lane"),))
    assert own not in {one.file for one in lane(host, Settings(), 1)}
    assert own not in {one.file for one in lane(host, Settings(), 9)}


def test_a_timeout_of_its_own_comes_after_that_of_all_workers() -> None:
    queue, timeout = PACKAGE.heavy_dropins(HEAVY + 1)
    *_, settings = PACKAGE.settings_dropins
    assert Path(queue).name < Path(settings).name < Path(timeout).name
    assert Path(queue).name == Path(PACKAGE.queue_dropin).name


def test_workers_that_stay_start_with_the_pool(tmp_path: Path) -> None:
    files = lane(Host(PACKAGE, tmp_path), Settings(heavy_idle_minutes=0), 2)
    texts = {one.file: one.text for one in files}
    wanted = "\nWants=qgis-server@heavy-1.service qgis-server@heavy-2.service\n"
    assert wanted in (texts[PACKAGE.heavy_start_dropin] or "")
    assert wanted in (texts[PACKAGE.heavy_workers_dropin] or "")


# ---- NGINX


def block(text: str, start: str) -> list[str]:
    return [line.strip() for line in text.partition(start)[2].partition("\n}")[0].splitlines()]


def test_nginx_sends_them_to_their_socket() -> None:
    text = nginx_config.http_text(PACKAGE, Settings(), SOCKETS)
    line = f"server unix:{SOCKET} max_fails=0;"
    assert block(text, "upstream qgis-server-heavy {")[-2:] == [line] * 2
    assert SOCKET not in text.partition("upstream qgis-server-heavy")[0]
    assert block(text, "map $qgis_server_heavy $qgis_server_lane {")[1:] == [
        "default light;",
        "1 heavy;",
    ]
    location = nginx_config.location_text(PACKAGE, Settings())
    assert "if ($qgis_server_heavy) {" in location


@pytest.mark.parametrize("settings", [Settings(), Settings(heavy_workers=0)])
def test_without_a_lane_the_others_have_them(settings: Settings) -> None:
    text = nginx_config.http_text(PACKAGE, settings, SOCKETS, lane=False)
    assert SOCKET not in text
    assert path(2) in text.partition("upstream qgis-server-heavy {")[2].partition("}")[0]
    # No worker hands anything over.
    assert 'default "";' in text.partition("$qgis_server_lane {")[2].partition("}")[0]


def test_with_another_timeout_workers_judge_alone() -> None:
    settings = Settings(heavy_timeout=900)
    text = nginx_config.http_text(PACKAGE, settings, SOCKETS)
    assert block(text, 'map "" $qgis_server_lane {')[1] == "default light;"
    location = nginx_config.location_text(PACKAGE, settings)
    assert "$qgis_server_heavy" not in text + location
    assert "fastcgi_read_timeout 300s;" in location
    own = nginx_config.location_text(PACKAGE, settings, lane=True)
    assert "fastcgi_read_timeout 900s;" in own


# ---- The plan


FILE = "/etc/systemd/system/qgis-server@heavy-2.service.d/10-queue.conf"


def with_lane(running: frozenset[int], **changes: object) -> plan.Facts:
    facts = machine(numbers(1, 2))
    now = replace(facts.instances, heavy=running, lane_enabled=True, lane_open=True)
    now = replace(now, **changes)  # type: ignore[arg-type]
    return replace(facts, instances=now, files={UPSTREAM: "1, 2 and the lane", DROPIN: None})


def planned(wanted: plan.Wanted, facts: plan.Facts) -> list[str]:
    return list(map(str, plan.make(wanted, facts).actions))


LANE = replace(WANTED, heavy=2)


def test_a_lane_at_rest_needs_nothing() -> None:
    assert planned(LANE, with_lane(numbers())) == []
    assert planned(LANE, with_lane(numbers(HEAVY + 1, HEAVY + 2))) == []


def test_a_lane_is_open_before_nginx_names_it() -> None:
    assert planned(LANE, machine(numbers(1, 2))) == [
        "enable the socket of heavy requests",
        "make systemd read its units",
        "open the socket of heavy requests",
        "write NGINX's upstream: 1, 2",
        "reload NGINX, if nginx -t passes",
    ]


def test_a_lane_closes_once_nginx_has_forgotten_it() -> None:
    wanted = replace(WANTED, generated=(Generated(FILE, None, "lane"),))
    facts = with_lane(numbers(HEAVY + 1))
    facts = replace(facts, files={**facts.files, FILE: "there"})
    steps = plan.make(wanted, facts)
    assert plan.ReloadNginx(wait=True) in steps.actions
    assert list(map(str, steps.actions)) == [
        "disable the socket of heavy requests",
        "make systemd read its units",
        "write NGINX's upstream: 1, 2",
        "reload NGINX, if nginx -t passes",
        "close the socket of heavy requests, and stop its workers",
        f"remove {FILE}",
        "make systemd read its units",
    ]


def test_what_it_has_too_many_of_stops_and_keeps_its_drop_in_until_then() -> None:
    facts = with_lane(numbers(HEAVY + 1, HEAVY + 2))
    facts = replace(facts, files={**facts.files, FILE: "there"})
    wanted = replace(WANTED, heavy=1, generated=(Generated(FILE, None, "lane"),))
    assert planned(wanted, facts) == [
        "make systemd read its units",
        "stop instance heavy-2",
        f"remove {FILE}",
        "make systemd read its units",
    ]


@pytest.mark.parametrize(("stays", "running"), [(True, numbers()), (False, numbers(HEAVY + 1))])
def test_what_it_lacks_starts_if_the_lane_is_awake(stays: bool, running: frozenset[int]) -> None:
    wanted, facts = replace(LANE, stays=stays), with_lane(running)
    missing = wanted.lane - running
    assert planned(wanted, facts) == [f"start instance {instances.listed(missing)}"]
    assert planned(wanted, replace(facts, live=False)) == []


def test_workers_that_are_out_of_date_are_restarted() -> None:
    facts = with_lane(numbers(HEAVY + 1, HEAVY + 2), stale=numbers(HEAVY + 2))
    assert planned(LANE, facts) == ["restart, one after the other, the workers of heavy-2"]
    masked = replace(facts.instances, masked=numbers(HEAVY + 2))
    assert planned(LANE, replace(facts, instances=masked)) == []


def test_nginx_sends_them_elsewhere_while_their_socket_is_opened_again() -> None:
    facts = with_lane(numbers(), lane_old=True)
    assert planned(LANE, facts) == ["open the socket of heavy requests again"]
    for alive in (True, False):
        during = replace(facts, rolling=Rolling(lane=True, alive=alive))
        assert plan.names_lane(LANE, during) == (not alive)


def test_a_socket_that_is_masked_is_left_alone() -> None:
    facts = machine(numbers(1, 2))
    facts = replace(facts, instances=replace(facts.instances, lane_masked=True))
    steps = plan.make(WANTED, facts)
    assert steps.actions == ()
    assert any("their socket is masked" in text for text in steps.notes)


# ---- Its weight


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"cgroup.controllers": "cpuset cpu io memory pids\n"}, True),
        ({"cgroup.controllers": "memory pids\n"}, False),
        ({"cgroup.controllers": "cpuset memory\n"}, False),
        ({}, False),
        ({"cpu/tasks": ""}, True),
        (
            {
                "cgroup.controllers": "cpu memory\n",
                "qgis.slice/qgis-server.slice/qgis-server-heavy.slice/cgroup.controllers": "memory",
            },
            False,
        ),
    ],
)
def test_is_there_a_controller_for_it(tmp_path: Path, files: dict[str, str], there: bool) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert has_cpu_controller(PACKAGE, tmp_path) == there
