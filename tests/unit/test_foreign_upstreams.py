# SPDX-License-Identifier: GPL-2.0-or-later
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.front.foreign import knows, named, warnings

PACKAGE = Package()
OWN = "/etc/nginx/sites-enabled/maps"


def dump(**texts: str) -> str:
    """As `nginx -T` prints it."""
    paths = {"main": "/etc/nginx/nginx.conf", "own": OWN, "ours": PACKAGE.nginx_http}
    return "".join(f"# configuration file {paths[n]}:\n{text}\n\n" for n, text in texts.items())


def of_own(*lines: str) -> frozenset[int]:
    return named(PACKAGE, dump(own="\n".join(lines))).get(OWN, frozenset())


def test_an_upstream_of_the_administrators_own() -> None:
    text = dump(
        main="user www-data;\nhttp {\n    include sites-enabled/*;\n}",
        ours="upstream qgis-server {\n    server unix:/run/qgis-server-1.sock max_fails=0;\n}",
        own="upstream own {\n  server unix:/var/run/qgis-server-3.sock;\n"
        "  server unix:/run/qgis-server-12.sock max_fails=0;\n}",
    )
    assert named(PACKAGE, text) == {OWN: {3, 12}}


def test_other_ways_to_name_a_socket() -> None:
    assert of_own("fastcgi_pass unix:/run/qgis-server-2.sock;") == {2}
    assert of_own("fastcgi_pass fastcgi://unix:/run/qgis-server-2.sock:;") == {2}
    assert of_own("""server "unix:/run/qgis-server-2.sock" weight=5; server 127.0.0.1:9;""") == {2}
    both = "server unix:/run/qgis-server-1.sock;server unix:/run/qgis-server-2.sock;"
    assert of_own(both) == {1, 2}


def test_what_names_none() -> None:
    assert not of_own("# server unix:/run/qgis-server-2.sock;")
    assert not of_own("keepalive 4;# unix:/run/qgis-server-2.sock")
    assert not of_own("server unix:/srv/run/qgis-server-2.sock;")
    assert not of_own("server unix:/run/qgis-server-2.sock.old;")
    assert not of_own("server unix:/run/qgis-server-02.sock;")
    assert not of_own("server unix:/run/qgis-server-none.sock;")
    assert named(PACKAGE, "") == {}


def test_a_hash_within_a_word_begins_no_comment() -> None:
    assert of_own("set $a b#c; fastcgi_pass unix:/run/qgis-server-2.sock;") == {2}


def test_those_that_go_are_told_by_file() -> None:
    found = {"/b": frozenset({1, 2, 3}), "/a": frozenset({3}), "/c": frozenset({1})}
    told = warnings(found, frozenset({2, 3, 4}))
    end = ": NGINX tries it in vain, so take it out there"
    assert told == [
        f"/a still names the socket of instance 3{end}",
        f"/b still names the socket of instance 2, 3{end}",
    ]
    assert warnings(found, frozenset()) == []


def test_sockets_with_names_of_their_own() -> None:
    text = dump(
        ours="upstream qgis-server {\n    server unix:/run/qgis-server-1.sock;\n}",
        own="upstream own {\n  server unix:/var/run/qgis/a.sock;\n# server unix:/run/b;\n}",
    )
    assert knows(PACKAGE, text, {"/run/qgis/a.sock", "/run/x"})
    assert not knows(PACKAGE, text, {"/run/b"})
    assert not knows(PACKAGE, text, {"/run/qgis-server-1.sock"}), "that is the package's own file"
