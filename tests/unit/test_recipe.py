# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read from the files of a pool made by hand, and one FastCGI request."""

import struct
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from shared.hand_made import SERVICE, SOCKET, site
from shared.planning import DROPIN, UPSTREAM, WANTED, machine, numbers

from qgis_server_systemd.qgis_serverctl.adopt import hand_made
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.pool import overrides
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.pool.overrides import Shadows
from qgis_server_systemd.qgis_serverctl.pool.state import State
from qgis_server_systemd.qgis_serverctl.reconcile import plan
from qgis_server_systemd.qgis_serverctl.system import fastcgi

PACKAGE = Package()
FOREIGN = Shadows(files=("/etc/x",), foreign=True, advice="adopt it")


# ---- The plan beside a pool made by hand


def test_a_foreign_pool_is_named_to_nginx_and_left_alone() -> None:
    facts = replace(
        machine(numbers(1, 2, 3), ours=numbers(), stale=numbers(1), old_sockets=numbers(2)),
        shadows=FOREIGN,
        files={UPSTREAM: "", DROPIN: None},
    )
    wanted = replace(WANTED, count=1, socket_user="nginx", dropins=((DROPIN, "text"),))
    steps = plan.make(wanted, facts)
    assert steps.actions == (plan.WriteUpstream(numbers(1, 2, 3)), plan.ReloadNginx(wait=False))
    assert steps.notes == ("adopt it",)


def test_nginx_is_not_reloaded_for_files_that_it_does_not_use() -> None:
    facts = machine(numbers(1, 2), ours=numbers())
    facts = replace(facts, shadows=FOREIGN, loaded=False, nginx=replace(facts.nginx, uses=False))
    assert plan.make(WANTED, facts).actions == ()
    own = replace(machine(numbers(1, 2)), loaded=False, nginx=facts.nginx)
    assert plan.make(WANTED, own).actions == ()
    assert plan.ReloadNginx(wait=True) in plan.make(replace(WANTED, count=1), own).actions


# ---- Units


def host(tmp_path: Path) -> Host:
    return Host(PACKAGE, tmp_path)


def link(tmp_path: Path, folder: str, name: str, target: str) -> None:
    wants = tmp_path / f"etc/systemd/system/{folder}.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / name).symlink_to(target)


def test_masks_drop_ins_and_other_units_shadow_nothing(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    (units / "qgis-server@.socket.d").mkdir(parents=True)
    (units / "qgis-server@1.service").symlink_to("/dev/null")
    (units / "qgis-server@2.service").touch()
    (units / "qgis-server-extra@.service").write_text("x")
    (units / "qgis-server.service").write_text("x")
    assert overrides.find(host(tmp_path), State()) == Shadows()


def test_a_pool_of_the_package_stays_so_when_a_unit_is_copied(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    link(tmp_path, "sockets.target", "qgis-server@1.socket", f"{overrides.PACKAGED}/x.socket")
    (units / "qgis-server@.service").write_text("x")
    assert overrides.find(host(tmp_path), State()).foreign, "enabled by somebody else"
    found = overrides.find(host(tmp_path), State(numbers(1)))
    assert (found.files, found.links) == (("/etc/systemd/system/qgis-server@.service",), ())
    assert not found.foreign
    assert found.advice


def test_links_that_lead_nowhere_any_more_are_found(tmp_path: Path) -> None:
    link(tmp_path, "multi-user.target", "qgis-server@1.service", "../qgis-server@.service")
    found = overrides.find(host(tmp_path), State())
    assert found.links == ("/etc/systemd/system/multi-user.target.wants/qgis-server@1.service",)
    assert not found.foreign


def test_nothing_of_the_recipe_is_lost() -> None:
    assert hand_made.read_unit(PACKAGE, SOCKET) == hand_made.Unit((), ())
    assert hand_made.read_unit(PACKAGE, SERVICE) == hand_made.Unit((), (), "www-data")


def test_what_goes_beyond_the_recipe() -> None:
    text = SERVICE.replace(PACKAGE.mapserv, "/opt/qgis/mapserv").replace(
        "[Service]",
        "Requires=xvfb.service\n[Service]\n# A=b\nEnvironment=A=0\nEnvironment=\n"
        "Environment=A=1 \\\n  B=2\nEnvironmentFile=-/srv/env",
    )
    assert hand_made.read_unit(PACKAGE, text) == hand_made.Unit(
        ("Environment=A=1  B=2", "EnvironmentFile=-/srv/env"),
        ("Requires=xvfb.service", "ExecStart=/opt/qgis/mapserv"),
        "www-data",
    )


def test_variables() -> None:
    assert hand_made.assignments("\"A=1 2\" B=3 'C='") == {"A": "1 2", "B": "3", "C": ""}


def test_places_in_nginx_that_lead_to_the_pool() -> None:
    own = "location /m {\n  # fastcgi_pass unix:/run/qgis-server-1.sock;\n"
    texts = [
        ("/a", site(2)),
        ("/b", own + "  fastcgi_pass unix:/run/qgis-server-1.sock;\n}\n"),
        ("/c", "location / { fastcgi_pass qgis-server; }\nupstream x { server 127.0.0.1; }\n"),
    ]
    line = site(2).splitlines().index("        fastcgi_pass qgis-server_backend;") + 1
    assert hand_made.passes("qgis-server", texts) == [f"/a:{line}", "/b:3"]


# ---- FastCGI


def record(kind: int, content: bytes, padding: int = 0) -> bytes:
    head = struct.pack(">BBHHBx", 1, kind, 1, len(content), padding)
    return head + content + bytes(padding)


@given(st.data())
def test_a_reply_is_read_in_whatever_pieces_it_comes(data: st.DataObject) -> None:
    text = b"Status: 404 Not Found\r\nContent-Type: text/xml\r\n\r\nStatus: 200\r\n"
    whole = record(7, b"log") + record(6, text[:9], 7) + record(6, text[9:]) + record(3, bytes(8))
    reply = fastcgi.Reply()
    while whole:
        cut = data.draw(st.integers(1, len(whole)))
        reply.feed(whole[:cut])
        whole = whole[cut:]
    assert (reply.complete, reply.written, reply.status) == (True, text, 404)


def test_without_a_status_it_is_200() -> None:
    reply = fastcgi.Reply()
    reply.feed(record(6, b"Content-Type: image/png\n\nStatus: 500"))
    assert (reply.complete, reply.status) == (False, 200)
