# SPDX-License-Identifier: GPL-2.0-or-later
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import Settings
from qgis_server_systemd.qgis_serverctl.front import facts, nginx, nginx_config, site
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.render import render_debian
from qgis_server_systemd.worker_plugin.allowed import HEAVY_REQUESTS
from qgis_server_systemd.worker_plugin.times import DRAWN, WAITED, WORKER

PACKAGE = Package()


SOCKETS = tuple(map(PACKAGE.socket, (1, 2)))


def lines(*sockets: str) -> list[str]:
    return nginx_config.servers(PACKAGE, sockets).split("\n")


def test_one_line_for_each_instance() -> None:
    assert lines(*SOCKETS) == [
        "    server unix:/run/qgis-server-1.sock max_fails=0;",
        "    server unix:/run/qgis-server-2.sock max_fails=0;",
    ]


def test_a_single_worker_is_listed_twice_so_that_a_lost_request_is_tried_again() -> None:
    assert lines(SOCKETS[0]) == ["    server unix:/run/qgis-server-1.sock max_fails=0;"] * 2


def test_the_shared_queue_is_listed_twice_however_many_workers_it_has() -> None:
    line = "    server unix:/run/qgis-server.sock max_fails=0;"
    assert lines(PACKAGE.shared_socket) == lines(*[PACKAGE.shared_socket] * 3) == [line] * 2


def test_while_workers_move_the_shared_queue_weighs_as_much_as_it_has_workers() -> None:
    assert lines(PACKAGE.shared_socket, SOCKETS[1], PACKAGE.shared_socket) == [
        "    server unix:/run/qgis-server.sock max_fails=0 weight=2;",
        "    server unix:/run/qgis-server-2.sock max_fails=0;",
    ]


def test_a_dead_line_where_there_is_no_instance() -> None:
    (line,) = lines()
    assert re.fullmatch(r" *server unix:/run/qgis-server-none.sock; .*", line)


def test_no_placeholder_is_left() -> None:
    settings = Settings(
        cors_origins=("https://a.example",),
        trusted_proxies=("10.0.0.0/8",),
        heavy_workers=1,
        reply_cache="1G",
        request_log=True,
    )
    for text in (
        nginx_config.health_text(PACKAGE, settings),
        nginx_config.http_text(PACKAGE, settings, SOCKETS),
        nginx_config.location_text(PACKAGE, settings),
        nginx_config.location_text(PACKAGE, Settings()),
    ):
        assert not re.search(r"@[a-z{]", text)


@pytest.mark.parametrize("project", ["", "postgresql://host/db", "/srv/$a.qgz"])
def test_only_a_project_that_is_a_file_is_for_the_cache(project: str) -> None:
    text = nginx_config.http_text(PACKAGE, Settings(project=project, reply_cache="1G"), SOCKETS)
    assert '"~^[a-z]+\\|$" "";' in text


def test_cors_touches_no_header_unless_asked_for() -> None:
    """add_header in a location would undo those of the administrator's server."""
    assert "add_header" not in nginx_config.location_text(PACKAGE, Settings())


def test_quoting() -> None:
    assert nginx_config.quoted('a "b" \\ c') == '"a \\"b\\" \\\\ c"'


def test_the_project_of_a_name(tmp_path: Path) -> None:
    host = Host(Package(), tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    for file in (one / "city.qgs", two / "city.qgz", two / "plan.qgs", two / "plan.qgz"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    settings = Settings(
        project_folders=("/one", "/two"), named_projects=("town=/srv/a.qgz", "plan=/srv/b.qgz")
    )
    found = {name: site.project_of(host, settings, name) for name in ("city", "town", "plan", "x")}
    assert found == {
        "city": "/one/city.qgs",
        "town": "/srv/a.qgz",
        "plan": "/srv/b.qgz",
        "x": None,
    }
    assert site.names(host, settings) == ["city", "plan", "town"]


def test_all_projects_take_one_variable() -> None:
    settings = Settings(
        named_projects=(
            *("city=/srv/a b.qgz", "cash=/srv/$x.qgz", "coin=/srv/$y$z.qgz"),
            'more=postgresql://?x="y"',
        )
    )
    text = nginx_config.http_text(PACKAGE, settings, SOCKETS)
    assert '    "~^city$" "/srv/a b.qgz";\n' in text
    assert '    "~^more$" "postgresql://?x=\\"y\\"";\n' in text
    assert '    "~^cash$" "/srv/${qgis_server_dollar}x.qgz";\n' in text
    assert '"/srv/${qgis_server_dollar}y${qgis_server_dollar}z.qgz";\n' in text


@pytest.mark.parametrize(
    ("cancels", "connections", "ignore"),
    [(True, 0, "off"), (True, 5, "on"), (False, 0, "on"), (False, 5, "on")],
)
def test_a_request_counts_until_it_is_done(cancels: bool, connections: int, ignore: str) -> None:
    settings = Settings(client_connections=connections)
    text = nginx_config.location_text(PACKAGE, settings, cancels=cancels)
    assert f"\nfastcgi_ignore_client_abort {ignore};\n" in text


# ---- NGINX's processes


def test_a_process_leaves_when_it_has_closed_what_listens(tmp_path: Path) -> None:
    """Whatever its title says."""
    me = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "a.sock"))
        local.listen()
        there = nginx._listening(me)
        inodes = {os.fstat(one.fileno()).st_ino for one in (tcp, local)}
        assert inodes <= there
        with socket.create_connection(tcp.getsockname()) as client:
            assert os.fstat(client.fileno()).st_ino not in nginx._listening(me)
        mine = frozenset(inodes)
        assert not nginx._is_leaving(me, mine)
        tcp.close()
        assert not nginx._is_leaving(me, mine)
    assert nginx._is_leaving(me, mine)
    assert nginx._is_leaving(2**22 + 1, mine), "there is no such process"


# ---- Facts of each request


def test_facts_go_to_the_metrics_and_to_a_file_if_asked_for() -> None:
    """An access_log beside those of the same level; none of them is one of the location, where it
    would take their place."""
    text = nginx_config.http_text(PACKAGE, Settings(request_log=True), SOCKETS)
    socket, file = re.findall(r"^access_log .*", text, re.M)
    where = "syslog:server=unix:/run/qgis-server-systemd/facts.sock,nohostname,tag=facts"
    assert socket == f"access_log {where} qgis-server-facts if=$qgis_server_told;"
    # Not a write for each request.
    where = "/var/log/nginx/qgis-server-requests.log"
    said = "qgis-server-facts buffer=64k flush=1s if=$qgis_server_told;"
    assert file == f"access_log {where} {said}"
    assert file not in nginx_config.http_text(PACKAGE, Settings(), SOCKETS)
    # Nobody listens there to a pool that was made by hand.
    by_hand = nginx_config.http_text(PACKAGE, Settings(), SOCKETS, counted=False)
    assert "access_log" not in by_hand
    assert "access_log" not in nginx_config.location_text(PACKAGE, Settings())


def test_no_word_of_a_client_is_among_the_facts() -> None:
    """But for names in URLs of projects, which are letters, digits, dots, - and _."""
    text = nginx_config.http_text(PACKAGE, Settings(request_log=True), SOCKETS)
    used = set(re.findall(r"\$\{?(\w+)", text[text.index("log_format") : text.index("if=")]))
    assert used <= {
        "time_iso8601", "qgis_server_id", "status", "body_bytes_sent", "qgis_server_named",
        "qgis_server_service", "qgis_server_request", "server_protocol", "request_time",
        "upstream_http_x_worker", "upstream_http_x_worker_waited",
        "upstream_http_x_worker_drawn", "upstream_addr", "upstream_status",
        "upstream_cache_status", "upstream_response_time",
    }  # fmt: skip


def test_each_request_that_is_heavy_has_a_word() -> None:
    known = {word.upper() for word in facts.REQUESTS}
    assert known >= set(HEAVY_REQUESTS) - {""}


def test_headers_of_a_worker_are_kept_from_clients(tmp_path: Path) -> None:
    render_debian(tmp_path)
    text = (tmp_path / f"root{PACKAGE.nginx_request}").read_text()
    for header in (WORKER, WAITED, DRAWN):
        assert f"fastcgi_hide_header {header};" in text


@pytest.mark.parametrize(
    ("config", "built", "user"),
    [
        ("user nginx;\n", "--user=web", "nginx"),
        ("# user nginx;\nevents {}\n", "--user=web", "web"),
        ("events {}\n", "--prefix=/etc/nginx", "nobody"),
        # Its packages are being installed: that of the program comes before that of the file.
        (None, "--prefix=/etc/nginx", "www-data"),
    ],
)
def test_whom_nginx_runs_as(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str | None, built: str, user: str
) -> None:
    said = subprocess.CompletedProcess((), 0, "", f"configure arguments: {built}")
    monkeypatch.setattr(Host, "outside", lambda *_: said)
    for name, text in ((nginx.PROGRAM, ""), (nginx.MAIN, config)):
        if text is not None:
            file = tmp_path / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    assert nginx.gather(Host(Package(), tmp_path)).user == user
