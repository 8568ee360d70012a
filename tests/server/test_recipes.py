# SPDX-License-Identifier: GPL-2.0-or-later
"""The book of recipes, carried out as it is written, on a server that serves five projects. The
recipe for PostGIS is tried in test_corpus.py, where there is PostGIS."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator

import pytest
from shared.book import Step, carry_out, only, recipe, seen
from shared.pool import ctl, has_rolled, listens, nothing_is_found, settled, wait_for
from shared.serving import PROJECTS, get_map, get_print, png, wms
from testbed import RELEASES, Snapshot, Testbed

HOSTS = ("maps.acme.example", "city.acme.example", "www.acme.example")
CERTIFICATE = "/root/fullchain.pem"
FOLDERS = ("/etc/nginx", "/etc/qgis-server", PROJECTS)
"""What recipes change, and each test puts back."""

LOCAL = "http://127.0.0.1"
CAPABILITIES = wms("GetCapabilities")
COUNTRIES, LAND = get_map("countries"), get_map("land")

PUT_BACK = """
for folder in "$@"; do
    cp --archive --remove-destination "/root/kept$folder/." "$folder"
    cd "$folder"
    find . -mindepth 1 -depth | while read -r file; do
        [ -e "/root/kept$folder/$file" ] || [ -L "/root/kept$folder/$file" ] || rm -r "$file"
    done
done
qgis-serverctl apply
systemctl reload nginx
"""


@pytest.fixture(scope="module")
def server(pool: Testbed) -> Testbed:
    """With projects, names for this machine, and a certificate that it trusts."""
    maps = f"cp /srv/maps/*.gpkg /srv/maps/*.tif {PROJECTS}; cd /srv/maps"
    copies = [f"cp world.qgz {PROJECTS}/{name}.qgz" for name in ("city", "world")]
    copies += [f"cp second.qgs {PROJECTS}/{name}.qgs" for name in ("roads", "water", "park")]
    names = " ".join(HOSTS)
    trust = "/usr/local/share/ca-certificates/maps.crt"
    key = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj /CN={HOSTS[0]} -addext subjectAltName={','.join(f'DNS:{name}' for name in HOSTS)} \
        -keyout /root/privkey.pem -out {CERTIFICATE}"
    pool.run("sh", "-ec", "; ".join([maps, *copies]))
    pool.run("sh", "-ec", f"echo '127.0.0.1 {names}' >>/etc/hosts; {key}")
    pool.run("sh", "-ec", f"cp {CERTIFICATE} {trust}; update-ca-certificates")
    # As it is on an administrator's: clients can't choose projects.
    pool.run("rm", "/etc/qgis-server/server.auto.toml")
    ctl(pool, "apply")
    # Else the monitor would have it done, during a recipe, for the new authority.
    ctl(pool, "restart")
    wait_for(lambda: has_rolled(pool), "no other restart is under way")
    pool.run("mkdir", "/root/kept")
    pool.run("cp", "--archive", "--parents", *FOLDERS, "/root/kept")
    return pool


@pytest.fixture
def book(server: Testbed) -> Iterator[Testbed]:
    """That server; what a recipe has changed is put back."""
    yield server
    server.run("sh", "-ec", PUT_BACK, "sh", *FOLDERS)
    wait_for(lambda: settled(server), "all is as it was")


def names_only(text: str, origin: str) -> None:
    """Do all links in it begin so?"""
    links = re.findall(r'href="(http[^"]*)"', text)
    here = [link for link in links if "acme.example" in link or "127.0.0.1" in link]
    assert here and all(link.startswith(f"{origin}/") for link in here), here


# ---- HTTPS

HTTPS = recipe("HTTPS with a certificate of your own")
HTTP_2 = recipe("HTTP/2 and HTTP/3")


def test_https_with_a_certificate_and_newer_versions_of_http(book: Testbed) -> None:
    *there, undo = HTTPS
    carry_out(book, there)
    place, *links = seen(book, there).splitlines()
    assert place.startswith("Location: https://maps.acme.example/qgis/city")
    assert links and all(link.startswith('href="https://maps.acme.example/') for link in links)
    nothing_is_found(book)
    url = f"https://maps.acme.example/qgis/city?{COUNTRIES}"

    def version(option: str) -> str:
        done = book.run(
            "curl", "--silent", option, "--output", "/dev/null", "--write-out", "%{http_version}",
            url, check=False,
        )  # fmt: skip
        return done.stdout

    assert version("--http2") == "1.1"
    for_debian_12, *for_debian_13 = only(HTTP_2, "run", "write")
    carry_out(book, for_debian_13 if RELEASES[book.suite].http_3 else [for_debian_12])
    assert seen(book, HTTP_2) == "2"
    assert book.fetch(url, "--http1.1").status == 200
    if RELEASES[book.suite].http_3:
        assert version("--http3-only") == "3"
        assert book.fetch(url).headers["alt-svc"] == 'h3=":443"; ma=86400'
    nothing_is_found(book)
    carry_out(book, [undo])
    wait_for(lambda: book.fetch(f"{LOCAL}/qgis/city?{CAPABILITIES}").status == 200, "undone")


def as_certbot_leaves_it(site: str) -> str:
    """What certbot 4.0 makes of a site, with --redirect: it moves what listens on port 80 into a
    server block of its own."""
    plain = re.findall(r"^    listen .*80.*\n", site, re.M)
    tls = [
        "listen [::]:443 ssl ipv6only=on", "listen 443 ssl", f"ssl_certificate {CERTIFICATE}",
        "ssl_certificate_key /root/privkey.pem", "include /root/options-ssl-nginx.conf",
    ]  # fmt: skip
    managed = "".join(f"    {line}; # managed by Certbot\n" for line in tls)
    for line in plain:
        site = site.replace(line, "")
    return f"""{site.rstrip().removesuffix("}")}
{managed}
}}


server {{
    if ($host = maps.acme.example) {{
        return 301 https://$host$request_uri;
    }} # managed by Certbot


{"".join(plain)}    server_name maps.acme.example;
    return 404; # managed by Certbot


}}"""


OPTIONS = """ssl_session_cache shared:le_nginx_SSL:10m;
ssl_session_timeout 1440m;
ssl_session_tickets off;
ssl_protocols TLSv1.2 TLSv1.3;
ssl_prefer_server_ciphers off;
"""


def test_https_with_certbot(book: Testbed) -> None:
    """But for certbot itself, which needs the Internet."""
    steps = recipe("HTTPS with certbot")
    site = "/etc/nginx/sites-available/qgis-server"
    carry_out(book, only(steps, "run"))
    text = book.run("cat", site).stdout
    assert "server_name maps.acme.example;" in text
    book.run("tee", "/root/options-ssl-nginx.conf", input=OPTIONS)
    book.run("tee", site, input=as_certbot_leaves_it(text))
    book.run("sh", "-ec", "nginx -t && systemctl reload nginx")
    seen(book, HTTPS)
    nothing_is_found(book)
    # A renewal changes nothing of it, and neither does what the package does on its own.
    ctl(book, "apply")
    ctl(book, "site", "enable")
    seen(book, HTTPS)
    carry_out(book, only(steps, "undo"))
    plain = f"http://maps.acme.example/qgis/city?{CAPABILITIES}"
    wait_for(lambda: book.fetch(plain).status == 200, "undone")


# ---- Who may see what


def with_passwords(steps: list[Step]) -> list[Step]:
    """What people answer to the prompt, as arguments."""
    (run,) = only(steps, "run")
    for user in ("anna", "emil"):
        asked = f"{user}:$(openssl passwd -apr1)"
        run = run.replace(asked, asked.replace("-apr1", f"-apr1 of-{user}"))
    return [run if one.kind == "run" else one for one in steps]


USERS = """
server {{
    listen 8221;
    add_header X-User $qgis_server_user;
    {known}
    include snippets/qgis-server.conf;
}}
"""


def test_a_password(book: Testbed) -> None:
    book.run("sh", "-ec", "echo 'reply_cache = \"50M\"' >>/etc/qgis-server/server.toml")
    ctl(book, "apply")
    steps = with_passwords(recipe("A password for one project or several"))
    carry_out(book, steps)
    seen(book, steps)
    nothing_is_found(book)
    number = hashlib.md5(f"{PROJECTS}/city.qgz".encode()).hexdigest()
    # The last two are for the lane of heavy requests.
    addresses = {
        "city": (
            f"/qgis/city?{CAPABILITIES}", f"/qgis/city?{COUNTRIES}", "/qgis/city/wfs3/collections",
            "/qgis/city?SERVICE=WFS&REQUEST=GetCapabilities", "/qgis/city/",
            f"/qgis-server/project/{number}/?{COUNTRIES}",
            f"/qgis/city?{get_map('countries', WIDTH=3000, HEIGHT=16)}",
            f"/qgis/city?{get_print('pdf')}",
        ),
        "roads": (f"/qgis/roads?{LAND}",),
        "water": (f"/qgis/water?{LAND}", "/qgis/water/wfs3/"),
    }  # fmt: skip
    anna, emil = ("--user", "anna:of-anna"), ("--user", "emil:of-emil")
    for project, urls in addresses.items():
        stranger = emil if project == "city" else anna
        for url in urls:
            for user in ((), stranger, ("--user", "anna:x")):
                reply = book.fetch(f"{LOCAL}{url}", "--location", *user)
                assert reply.status == 401, (url, user, reply.status)
    assert book.fetch(f"{LOCAL}/qgis/city", "--data", COUNTRIES).status == 401
    # Those who may.
    for url in addresses["city"]:
        if url != "/qgis/city/":  # asks for nothing
            assert book.fetch(f"{LOCAL}{url}", "--location", *anna).status == 200, url
    png(600, 400)(book.fetch(f"{LOCAL}{addresses['roads'][0]}", *emil))
    # Plugins are told the user of a project that has asked for a password.
    (known,) = only(steps, "elsewhere")
    book.run("tee", "/etc/nginx/conf.d/users.conf", input=USERS.format(known=known.text))
    book.run("systemctl", "reload", "nginx")
    wait_for(lambda: listens(book, 8221), "NGINX listens")
    for project, expected in (("city", "anna"), ("park", "")):
        url = f"http://127.0.0.1:8221/qgis/{project}?{CAPABILITIES}"
        told = book.fetch(url, *anna).headers.get("x-user", "")
        assert told == expected, project
    # Nothing of it is kept, and what needs no password is.
    assert kept(book) == set()

    def public() -> bool:
        tile = get_map("land", WIDTH=256, HEIGHT=256)
        assert book.fetch(f"{LOCAL}/qgis/park?{tile}").status == 200
        return bool(kept(book))

    wait_for(public, "a tile that needs no password is kept")


def kept(bed: Testbed) -> set[str]:
    """Files of the reply cache."""
    return set(bed.out("find", "/var/cache/qgis-server-replies", "-type", "f").split())


def test_cors(book: Testbed) -> None:
    steps = recipe("Scripts of other origins (CORS)")
    carry_out(book, steps)
    assert seen(book, steps).endswith("https://app.acme.example")
    other = ("--header", "Origin: https://other.example")
    reply = book.fetch(f"{LOCAL}/qgis/city?{CAPABILITIES}", *other)
    assert "access-control-allow-origin" not in reply.headers


def test_hide_a_project(book: Testbed) -> None:
    def listed() -> set[str]:
        reply = book.fetch(f"{LOCAL}/qgis-server/page/projects.json")
        given = json.loads(reply.body) if reply.status == 200 else {"projects": []}
        return {one["name"] for one in given["projects"]}

    wait_for(lambda: "city" in listed(), "it is listed")
    before = listed()
    steps = recipe("Hide a project")
    carry_out(book, steps)
    wait_for(lambda: "city" not in listed(), "it is not")
    served, *page = seen(book, steps).splitlines()
    assert " 200" in served
    shown = {one["name"] for one in json.loads("".join(page))["projects"]}
    assert shown == before - {"city"}
    png(600, 400)(book.fetch(f"{LOCAL}/qgis/city?{COUNTRIES}"))
    nothing_is_found(book)


# ---- What is in front


PROXY = """
server {{
    listen 443 ssl;
    server_name www.acme.example;
    ssl_certificate {certificate};
    ssl_certificate_key /root/privkey.pem;
    {location}
}}
"""


def test_a_proxy_on_a_path_of_its_own(book: Testbed) -> None:
    location, trusted, *rest = recipe("Behind a proxy, on a path of its own")
    location = location.replace("192.0.2.20", "127.0.0.1")
    text = PROXY.format(location=location.text, certificate=CERTIFICATE)
    book.run("tee", "/etc/nginx/conf.d/proxy.conf", input=text)
    book.run("sh", "-ec", "nginx -t && systemctl reload nginx")
    steps = [trusted.replace("192.0.2.10", "127.0.0.1"), *rest]
    carry_out(book, steps)
    seen(book, steps)
    origin = "https://www.acme.example/gis"
    for address in (f"/qgis/city?{CAPABILITIES}", "/qgis/city?SERVICE=WFS&REQUEST=GetCapabilities"):
        names_only(book.fetch(f"{origin}{address}").body.decode(), origin)
    page = json.loads(book.fetch(f"{origin}/qgis/city/wfs3/collections").body)
    assert all(link["href"].startswith(f"{origin}/qgis/city/") for link in page["links"])
    png(600, 400)(book.fetch(f"{origin}/qgis/city?{COUNTRIES}"))


def test_host_names_with_projects_of_their_own(book: Testbed) -> None:
    steps = recipe("Host names with projects of their own")
    carry_out(book, steps)
    seen(book, steps)
    nothing_is_found(book)
    city = "http://city.acme.example"
    names_only(book.fetch(f"{city}/qgis/city?{CAPABILITIES}").body.decode(), city)
    png(600, 400)(book.fetch(f"{city}/qgis/roads?{LAND}"))
    assert book.fetch(f"{city}/qgis/city/wfs3/collections").status == 200
    for address in (
        "/", "/qgis-server", "/qgis-server/", "/qgis-server/index.json", "/qgis/water/wfs3/",
        f"/qgis/cityx?{CAPABILITIES}", "/qgis/city/../water", "/qgis/city/..%2fwater",
    ):  # fmt: skip
        assert book.fetch(f"{city}{address}", "--path-as-is").status == 404, address
    assert book.fetch(f"{LOCAL}/qgis/water?{LAND}").status == 200


def test_qwc2(book: Testbed) -> None:
    page = "<!DOCTYPE html><html><title>QWC2</title></html>\n"
    book.run("install", "-D", "/dev/stdin", "/var/www/qwc2/index.html", input=page)
    steps = recipe("QWC2 in front")
    carry_out(book, steps)
    assert "QWC2" in seen(book, steps)
    host = "http://maps.acme.example"
    names_only(book.fetch(f"{host}/qgis/city?{CAPABILITIES}").body.decode(), host)
    png(600, 400)(book.fetch(f"{host}/qgis/city?{COUNTRIES}"))
    nothing_is_found(book)


# As the plugin of Lizmap: a service, and an API that tells of the server.
PLUGIN = """
import os
from qgis.server import QgsServerApi, QgsService


class Service(QgsService):
    def name(self):
        return "LIZMAP"

    def version(self):
        return "1.0.0"

    def executeRequest(self, request, response, project):
        response.setHeader("Content-Type", "application/json")
        response.write('{"layers": %d}' % len(project.mapLayers()))


class Api(QgsServerApi):
    def name(self):
        return "Lizmap"

    def description(self):
        return "Lizmap"

    def rootPath(self):
        return "/lizmap"

    def executeRequest(self, context):
        context.response().setHeader("Content-Type", "application/json")
        told = os.environ["QGIS_SERVER_LIZMAP_REVEAL_SETTINGS"]
        context.response().write('{"reveals": "%s"}' % told)


KEPT = []


def serverClassFactory(iface):
    KEPT.extend((Service(), Api(iface)))
    iface.serviceRegistry().registerService(KEPT[0])
    iface.serviceRegistry().registerApi(KEPT[1])
"""
METADATA = "[general]\nname=Lizmap server\nqgisMinimumVersion=3.0\nserver=True\nversion=1\n"


def test_lizmap(book: Testbed) -> None:
    plugin = "/srv/lizmap/plugins/lizmap_server"
    book.run("install", "-D", "/dev/stdin", f"{plugin}/__init__.py", input=PLUGIN)
    book.run("tee", f"{plugin}/metadata.txt", input=METADATA)
    projects = "/srv/lizmap/projects"
    copies = f"cp second.qgs {projects}/city.qgs; cp world_map.gpkg {projects}"
    book.run("sh", "-ec", f"chmod -R go+rX /srv/lizmap; mkdir {projects}; cd /srv/maps; {copies}")
    steps = recipe("Lizmap in front")
    carry_out(book, steps)
    wait_for(lambda: settled(book), "the settings are applied")
    assert '"reveals": "TRUE"' in seen(book, steps)
    nothing_is_found(book)
    own = f"127.0.0.1:8095/qgis-server?MAP={projects}/city.qgs"
    png(600, 400)(book.fetch(f"http://{own}&{LAND}"))
    assert (
        b'"layers": ' in book.fetch(f"http://{own}&SERVICE=LIZMAP&REQUEST=GetServerSettings").body
    )
    # Nobody else.
    public = f"{LOCAL}/qgis-server?MAP={projects}/city.qgs&{LAND}"
    assert book.run("curl", "--silent", "--fail", public, check=False).returncode
    assert book.out("ss", "-ltnH", "sport = :8095").split()[3] == "127.0.0.1:8095"
    book.run("rm", "-r", "/srv/lizmap")


# ---- Editing

CHANGE = """
<wfs:Transaction service="WFS" version="1.1.0"
    xmlns:wfs="http://www.opengis.net/wfs" xmlns:ogc="http://www.opengis.net/ogc">
  <wfs:Update typeName="land">
    <wfs:Property><wfs:Name>NAME</wfs:Name><wfs:Value>Changed</wfs:Value></wfs:Property>
    <ogc:Filter><ogc:FeatureId fid="land.1"/></ogc:Filter>
  </wfs:Update>
</wfs:Transaction>
"""


def editable(text: str, source: str) -> str:
    """The second project with its data elsewhere, and with all ticks that WFS-T needs."""
    layers = re.search(r"<WFSLayers type=\"QStringList\">(.*?)</WFSLayers>", text, re.S)
    assert layers
    ticks = "".join(
        f'<{what} type="QStringList">{layers[1]}</{what}>'
        for what in ("Update", "Insert", "Delete")
    )
    text = text.replace(layers[0], f"{layers[0]}<WFSTLayers>{ticks}</WFSTLayers>")
    return text.replace("./world_map.gpkg", source)


def test_wfs_t_on_files(book: Testbed) -> None:
    text = book.run("cat", "/srv/maps/second.qgs").stdout
    project = editable(text, "/srv/editable/places.gpkg")
    book.run("tee", f"{PROJECTS}/places.qgs", input=project)
    book.run("cp", "/srv/maps/world_map.gpkg", "/root/places.gpkg")
    steps = recipe("Edit files by WFS-T")
    install, *rest = steps
    carry_out(book, [install])
    url = f"{LOCAL}/qgis/places?SERVICE=WFS&VERSION=1.1.0"
    capabilities = book.fetch(f"{url}&REQUEST=GetCapabilities")
    assert capabilities.status == 200
    assert b"insert</" not in capabilities.body.lower()
    carry_out(book, rest)
    wait_for(lambda: settled(book), "the setting is applied")
    assert seen(book, steps)
    body = ("--header", "Content-Type: text/xml", "--data", CHANGE)
    reply = book.fetch(f"{LOCAL}/qgis/places", *body)
    assert b"totalUpdated>1<" in reply.body, reply.body
    assert b"Changed" in book.fetch(f"{url}&REQUEST=GetFeature&FEATUREID=land.1").body
    nothing_is_found(book)
    book.run("rm", "-r", "/srv/editable", "/root/places.gpkg")


# ---- The server as a whole


def test_backup_and_restore_on_another_server(
    book: Testbed, suite: str, installed: Snapshot
) -> None:
    steps = recipe("Backup and restore")
    save, restore = only(steps, "run")
    (trial,) = recipe("Move to another server")
    carry_out(book, HTTPS[:-1])
    book.run("sh", "-ec", "echo 'tasks_max = 99' >>/etc/qgis-server/server.toml")
    ctl(book, "apply")
    carry_out(book, [save])
    file = "root/maps-backup.tar.gz"
    assert (book.root / file).stat().st_mode & 0o077 == 0
    with Testbed(suite, like=installed) as new:
        new.boot()
        new.put(book.root / file, f"/{file}")
        new.put(book.root / CERTIFICATE[1:], CERTIFICATE)
        carry_out(new, [restore])
        seen(new, steps)
        here = trial.replace("192.0.2.30", "127.0.0.1").replace("http:", "https:")
        assert "<Layer" in seen(new, [here.replace("curl", f"curl --cacert {CERTIFICATE}")])
        wait_for(lambda: settled(new), "all is as it was on the old one")
        nothing_is_found(new)
        shown = new.out("systemctl", "show", "--property=TasksMax", "qgis-server@1.service")
        assert shown == "TasksMax=99"
        there = ("--cacert", CERTIFICATE, "--connect-to", "::127.0.0.1:")
        png(600, 400)(new.fetch(f"https://maps.acme.example/qgis/city?{COUNTRIES}", *there))
    book.run("rm", f"/{file}")


def test_keep_logs(book: Testbed) -> None:
    steps = recipe("Keep logs for so long")
    rotation = "/etc/logrotate.d/nginx"
    before = book.run("cat", rotation).stdout
    carry_out(book, steps)
    seen(book, steps)
    told = ("journalctl", "--identifier=systemd-journald", "--lines=5", "--output=cat")
    limit = re.compile(r"max 2(\.0)?G\b")
    wait_for(lambda: bool(limit.search(book.out(*told))), "journald keeps to the limit")
    book.run("tee", rotation, input=before)
    book.run("sh", "-ec", "rm /etc/systemd/journald.conf.d/maps.conf")
    book.run("systemctl", "restart", "systemd-journald")


def test_monitoring(book: Testbed) -> None:
    mail = '#!/bin/sh\n{ echo "$*"; cat; } >>/root/mail\n'
    book.run("install", "/dev/stdin", "/usr/sbin/sendmail", input=mail)
    steps = recipe("Monitoring")
    sent = book.root / "root/mail"
    carry_out(book, only(steps, "write", "add", "run"))
    assert "qgis-server-notify.timer" in seen(book, steps)
    book.run("systemctl", "stop", "nginx")
    try:
        book.run("systemctl", "start", "qgis-server-notify.service")
        assert "systemctl start nginx" in sent.read_text()
    finally:
        book.run("systemctl", "start", "nginx")
    assert "-i root" in sent.read_text()
    carry_out(book, only(steps, "undo"))
    assert not book.out("systemctl", "list-timers", "--no-legend", "qgis-server-notify.timer")
    book.run("sh", "-ec", "rm /usr/sbin/sendmail /root/mail")
