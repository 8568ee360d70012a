# SPDX-License-Identifier: GPL-2.0-or-later
"""site.toml: what it may say, and what is said of its mistakes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgis_server_systemd import cli, site
from qgis_server_systemd.init import site_toml
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.settings import SETTINGS
from qgis_server_systemd.qgis_serverctl.front.site import address
from qgis_server_systemd.qgis_serverctl.pool.host import Host
from qgis_server_systemd.qgis_serverctl.pool.settings import load_settings
from qgis_server_systemd.qgis_serverctl.system import environment_file
from qgis_server_systemd.qgis_serverctl.system.output import Failure
from qgis_server_systemd.qgis_serverctl.units.dropins import generated
from qgis_server_systemd.qgis_variables import VARIABLES
from qgis_server_systemd.render import render_debian
from qgis_server_systemd.schema import site_schema
from qgis_server_systemd.toml_lines import line_of

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(text: str) -> Path:
        file = tmp_path / "site.toml"
        file.write_text(text)
        return file

    return to


def said(file: Path) -> list[str]:
    """What is wrong, without the folder before the file's name."""
    _, mistakes = site.examine(file)
    return [str(mistake).removeprefix(f"{file.parent}/") for mistake in mistakes]


def test_no_file_is_this_projects_own_package() -> None:
    assert site.load(None).package == Package()


def test_all_names_follow_from_one(write: Write) -> None:
    found = site.load(write('[package]\nname = "acme-maps"\n')).package
    assert found == Package.of("acme-maps")
    assert (found.command, found.etc) == ("acme-mapsctl", "/etc/acme-maps")
    named = (
        '[package]\nname = "acme-maps"\nbinary = "acme-server"\nuser = "acme"\nurl_prefix = "/m"'
    )
    found = site.load(write(named)).package
    assert (found.name, found.user, found.group) == ("acme-server", "acme", "acme")
    assert (found.url_prefix, found.replaces) == ("/m", "acme-maps-systemd")


def test_init_writes_every_setting_and_sets_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    assert cli.main(["init", str(file)]) == 0
    text = file.read_text()
    assert tomllib.loads(text) == {table.name: {} for table in site.TABLES}
    assert site.load(file) == site.Site()
    keys = re.findall(r"^#([A-Za-z_0-9]+) = ", text, re.MULTILINE)
    declared = [one.key for table in site.TABLES for one in table.known]
    assert keys == declared + [variable.name for variable in VARIABLES]
    assert {setting.key for setting in SETTINGS} <= set(keys)
    assert cli.main(["init", str(file)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_what_init_writes_is_right_with_every_example(write: Write) -> None:
    lines = site_toml(Path("site.toml")).splitlines()
    text = "\n".join(re.sub(r"^#(?=[A-Za-z_0-9]+ = )", "", line) for line in lines)
    file = write(text)
    assert said(file) == []
    found = site.load(file)
    assert found.package.pool == "acme-maps"
    assert len(found.environment) == len(VARIABLES)
    jsonschema.validate(tomllib.loads(text), site_schema())


def test_all_mistakes_are_told_at_once(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("""\
name = "acme-maps"

[package]
nmae = "x"
maintainer = "nobody"
url_prefix = "/maps"  # right
depends = [
    "postgresql-client",
    "no; such",
]

[settings]
instances = 0
backlog = 10
memory_max = "much"
tls_key = "/etc/key"

[enviroment]

[environment]
QGIS_SERVER_LOG_LEVL = 1
QGIS_SERVER_CACHE_SIZE = "a\\nb"

[files]
"/usr/local/bin/x" = "x"
"/etc/x" = "missing"
""")
    expected = [
        (1, "name", "unknown key name (it belongs to [package])"),
        (4, "package.nmae", "unknown key package.nmae (did you mean name?)"),
        (5, "package.maintainer", 'package.maintainer = "nobody" is not "NAME <USER@DOMAIN>"'),
        (7, "package.depends", "is not a list of dependencies"),
        (13, "settings.instances", 'instances = 0 is not "auto" or a number from 1 to 512'),
        (15, "settings.memory_max", 'settings.memory_max = "much" is not a size'),
        (16, "settings.tls_key", "unknown key settings.tls_key (it belongs to [nginx])"),
        (18, "enviroment", "unknown table enviroment (did you mean environment?)"),
        (21, "environment.QGIS_SERVER_LOG_LEVL", "did you mean QGIS_SERVER_LOG_LEVEL?"),
        (22, "environment.QGIS_SERVER_CACHE_SIZE", "line break"),
        (25, "files./usr/local/bin/x", "a package puts files below"),
        (26, "files./etc/x", "there is no file"),
    ]
    _, mistakes = site.examine(file)
    assert [(one.line, one.key) for one in mistakes] == [(line, key) for line, key, _ in expected]
    for mistake, (_, _, what) in zip(mistakes, expected, strict=True):
        assert what in str(mistake)
        assert "\n" not in str(mistake)
    assert cli.main(["validate", str(file)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count(f"{file}:") == len(expected)
    assert cli.main(["validate", "--json", str(file)]) == 1
    listed = json.loads(capsys.readouterr().out)
    assert [one["line"] for one in listed] == [line for line, *_ in expected]
    with pytest.raises(Failure, match=r"site\.toml:1: unknown key name .*; 11 more: "):
        site.load(file)
    assert cli.main(["render", "--site", str(file)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[package\n", "site.toml:1: Expected ']'"),
        ('[package]\nname = "a', "site.toml:2: Unterminated string"),
        ("package = 3", "site.toml:1: package = 3 is not a table (write [package])"),
        ("[package]\nsockets = '/srv/run'", "is not /run, or a folder below it"),
        (
            "[package]\nurl_prefix = '/qgis'",
            "package.url_prefix /qgis and package.projects_prefix /qgis are not apart",
        ),
        ("[nginx]\ntls_key = '/k'", "site.toml:2: nginx.tls_key needs nginx.tls_certificate"),
        ("[nginx]\ntls_certificate = '/c'", "needs nginx.tls_key and nginx.server_names"),
        ("[settings]\nkill_timeout = 9", "kill_timeout = 9 is not above request_timeout = 300"),
        (
            '[package]\nname = "acme-maps"\nbinary = "qgis-server-systemd"',
            "site.toml:3: package.binary = \"qgis-server-systemd\" is the package of the pool",
        ),
        ('[package]\nbinary = "qgis-server"', "Debian has a package of that name"),
        ("[environment]\nCPL_TMPDIR = '/a$b'", "NGINX sends this one"),
        ("[environment]\n'A B' = '1'", "no name of a variable"),
        ("[environment]\nX = ['1']", "a variable is a text or a number"),
        ("[files]\n'/usr/share/qgis-server-systemd/x' = 'site.toml'", "the package's own folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(write: Write, text: str, expected: str) -> None:
    (line,) = said(write(text))
    assert expected in line


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(tmp_path / "none.toml")]) == 1
    assert capsys.readouterr().err == (
        f"qgis-server-systemd: {tmp_path}/none.toml: can't be read: No such file or directory "
        "(qgis-server-systemd init writes one)\n"
    )


def test_a_folder_of_files_is_taken_with_all_that_is_in_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "maps/city").mkdir(parents=True)
    (tmp_path / "maps/city/a.qgz").write_bytes(b"\0\xff")
    found = site.load(write('[files]\n"/var/lib/qgis-server/projects" = "maps"'))
    target = "/var/lib/qgis-server/projects/city/a.qgz"
    assert found.files == {target: tmp_path / "maps/city/a.qgz"}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 2), (("b", "c"), 6), (("b", "d"), 8), (("b", "d", "e"), 8), (("f",), 13),
        (("f", "g.h"), 14), (("missing",), 1),
    ],
)  # fmt: skip
def test_lines_of_keys(path: tuple[str, ...], line: int) -> None:
    text = '''# a = 1
a = """
c = 3
d = 4 """
[b] # c = 1
c = [
  1, 2]
d.e = 1

# f


[f]
'g.h' = 1'''
    assert line_of(text, path) == line


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), st.text(max_size=9)))
def test_any_key_is_told_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    """Also one that no setting is called."""
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in values.items()]
    text = "[package]\n" + "\n".join(lines)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    file = tmp_path_factory.mktemp("site") / "site.toml"
    file.write_text(text)
    assert len(said(file)) == len(values)
    assert not any(set(line) & {"\n", "\r", "\x1b"} for line in said(file))


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("backlog", "settings.backlog"):
        assert cli.main(["explain", key]) == 0
        told = capsys.readouterr().out
        assert told.startswith("settings.backlog\n")
        assert "Allowed: a number from 1 to 4096.\nDefault: 64\nExample: backlog = 128" in told
    assert cli.main(["explain", "--json", "QGIS_SERVER_LOG_LEVEL"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == "environment.QGIS_SERVER_LOG_LEVEL"
    assert cli.main(["explain", "backlok"]) == 1
    assert capsys.readouterr().err.endswith("unknown key backlok (did you mean backlog?)\n")
    assert cli.main(["explain"]) == 0
    table = capsys.readouterr().out
    assert cli.main(["explain", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == len(table.splitlines()) > len(SETTINGS) + len(VARIABLES)


def test_the_schema_is_one_and_knows_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(found)
    for right in ({"backlog": 1}, {"queue": "shared"}, {"instances": "auto"}, {"warm": ["/a"]}):
        jsonschema.validate({"settings": right}, found)
    wrong = (
        {"settings": {"backlog": 0}}, {"settings": {"queue": "x"}}, {"settings": {"warm": "/a"}},
        {"package": {"url_prefix": "maps"}}, {"package": {"nmae": "x"}}, {"x": 1},
    )  # fmt: skip
    for values in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(values, found)


def test_the_settings_of_a_site_are_its_packages_defaults(write: Write, tmp_path: Path) -> None:
    text = '[package]\nname = "acme-maps"\n[settings]\nbacklog = 9\nwarm = ["/srv/ü \\"1\\".qgz"]\n'
    found = site.load(write(text))
    render_debian(tmp_path / "debian", found)
    root = tmp_path / "debian/root"
    host = Host(Package.load(root / "usr/share/acme-maps-systemd/package.toml"), root)
    resolved = load_settings(host)
    assert resolved.settings.backlog == 9
    assert resolved.settings.warm == ('/srv/ü "1".qgz',)
    assert {key for key, place in resolved.source.items() if place == "package"} == {
        "backlog", "project_folders", "warm",
    }  # fmt: skip
    assert resolved.settings.project_folders == ("/var/lib/acme-maps/projects",)
    # The units are as in every package: what differs becomes a drop-in.
    dropins = {one.file: one.text for one in generated(host, resolved.settings, 2)}
    assert "\nBacklog=9\n" in (dropins[host.package.settings_dropins[0]] or "")
    assert "Default: 9." in (root / "etc/acme-maps/server.toml").read_text()
    (root / "etc/acme-maps/server.toml").write_text("backlog = 8\n")
    assert load_settings(host).settings.backlog == 8


def test_this_projects_own_package_ships_no_defaults(tmp_path: Path) -> None:
    render_debian(tmp_path)
    assert not (tmp_path / f"root{Package().defaults}").exists()


FULL = r"""
[package]
binary = "acme-server"
maintainer = "ACME Geo-Team Zürich <gis@acme.example>"
synopsis = "maps of ACME & Co, for $5"
description = '''
The maps of ACME, on maps.acme.example, with ${misc:Depends} as a text.

.hidden words after a very long first line that has to be broken somewhere, as each line must.
'''
qgis_binary = "/opt/qgis/bin/qgis_mapserv.fcgi"
qgis_package = ""
depends = ["postgresql-client (>= 15) | psql", "postgresql-client (>= 15) | psql"]
user = "acme"
group = "gis"
sockets = "/run/acme"

[nginx]
server_names = ["maps.acme.example", "*.acme.example"]
tls_certificate = "/etc/ssl/certs/acme.pem"
tls_key = "/etc/ssl/private/acme.key"

[environment]
QGIS_SERVER_LOG_LEVEL = 0
QGIS_SERVER_LOG_PROFILE = true
GDAL_CACHEMAX = "64"
no_proxy = 'a;} "b" \c'
ACME_TITLE = 'Karten "für" alle: 5 \ `x` $HOME %h #1'

[files]
"/usr/share/acme/logo.png" = "logo.png"
"/usr/bin/acme-import" = "import.sh"
"/var/lib/qgis-server/projects" = "maps"
"""


@pytest.fixture
def full(write: Write, tmp_path: Path) -> site.Site:
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\0\xff")
    (tmp_path / "import.sh").write_text("#!/bin/sh\n")
    (tmp_path / "import.sh").chmod(0o755)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/city.qgs").write_text("<qgis/>\n")
    return site.load(write(FULL))


def test_what_a_site_says_is_in_its_package(full: site.Site, tmp_path: Path) -> None:
    debian = tmp_path / "debian"
    render_debian(debian, full)
    root = debian / "root"
    control = (debian / "control").read_text()
    for line in (
        "Source: acme-server",
        "Maintainer: ACME Geo-Team Zürich <gis@acme.example>",
        "Depends: python3 (>= 3.11), python3-prometheus-client, systemd (>= 252), "
        "postgresql-client (>= 15) | psql, ${misc:Depends}, ${python3:Depends}",
        "Provides: qgis-server-systemd (= ${binary:Version})",
        "Conflicts: qgis-server-systemd",
        "Replaces: qgis-server-systemd",
        "Description: maps of ACME & Co, for ${}5",
        " The maps of ACME, on maps.acme.example, with ${}{misc:Depends} as a text.",
        "  .hidden words after a very long first line that has to be broken somewhere, as",
    ):
        assert f"\n{line}\n" in f"\n{control}", line
    assert max(map(len, control.partition("Description")[2].splitlines())) <= 80
    assert (debian / "acme-server.postinst").is_file()
    assert address(Host(full.package, root)) == "https://maps.acme.example"
    unit = (root / "usr/lib/systemd/system/qgis-server@.service").read_text()
    assert "\nUser=acme\nGroup=gis\n" in unit
    assert '; exec /opt/qgis/bin/qgis_mapserv.fcgi"\n' in unit
    # Else the workers would not see it.
    assert "\nBindReadOnlyPaths=-/opt/qgis\n" in unit
    # Its OGC API has pages of its own.
    assert "API_RESOURCES" not in unit
    assert not (debian / "acme-server.links").exists()
    socket = (root / "usr/lib/systemd/system/qgis-server@.socket").read_text()
    assert "\nListenStream=/run/acme/qgis-server-%i.sock\n" in socket
    assert (debian / "acme-server.sysusers").read_text().splitlines() == [
        "g gis -", 'u acme -:gis "QGIS Server" /var/lib/qgis-server/home',
    ]  # fmt: skip
    nginx = (root / "etc/nginx/sites-available/qgis-server").read_text()
    assert nginx.count("server_name maps.acme.example *.acme.example;") == 2
    assert "default_server" not in nginx
    assert "    ssl_certificate /etc/ssl/certs/acme.pem;\n" in nginx
    env, lost = environment_file.read((root / "etc/qgis-server/env").read_text())
    assert lost == ()
    assert env["ACME_TITLE"] == 'Karten "für" alle: 5 \\ `x` $HOME %h #1'
    assert (env["QGIS_SERVER_LOG_LEVEL"], env["QGIS_SERVER_LOG_PROFILE"]) == ("0", "1")
    assert env["GDAL_CACHEMAX"] == "64"
    params = (root / "etc/qgis-server/fastcgi_params").read_text()
    assert "\nfastcgi_param GDAL_CACHEMAX 64;\n" in params
    assert '\nfastcgi_param no_proxy "a;} \\"b\\" \\\\c";\n' in params
    assert (root / "usr/share/acme/logo.png").read_bytes() == b"\x89PNG\0\xff"
    assert (root / "usr/bin/acme-import").stat().st_mode & 0o777 == 0o755
    assert (root / "var/lib/qgis-server/projects/city.qgs").stat().st_mode & 0o777 == 0o644


def test_a_file_of_the_packages_own_is_not_replaced(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("/etc/qgis-server/env", "/etc/qgis-server/env/x"):
        file = write(f'[files]\n"{path}" = "site.toml"\n')
        assert cli.main(["validate", str(file)]) == 1
        assert f"files.{path}: the package itself has a file there" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["/", "..", ".", "", "maps/../../x", "/etc/passwd"])
def test_no_file_comes_from_elsewhere(write: Write, source: str) -> None:
    (line,) = said(write(f'[files]\n"/etc/x" = "{source}"\n'))
    assert line.endswith("a path below the folder of this file")


@pytest.mark.parametrize("name", ["lib.so", "x.a/y", "CVS/y"])
def test_a_file_that_dpkg_would_leave_out_is_refused(write: Write, name: str) -> None:
    (line,) = said(write(f'[files]\n"/usr/share/acme/{name}" = "site.toml"\n'))
    assert "dpkg-source leaves files of such names out" in line
