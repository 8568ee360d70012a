# SPDX-License-Identifier: GPL-2.0-or-later
"""What an installed pool serves: every request of serving.py, the URLs in replies, CORS,
compression, and clients that people use."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import itertools
import json
import re
import time
from collections.abc import Iterator
from urllib.parse import quote, urljoin, urlsplit

import pytest
from shared.book import recipe
from shared.origins import EVIL, headers, is_not_fooled, names_only
from shared.pool import listens, sockets, wait_for, workers
from shared.serving import (
    ADVERTISING,
    API_COLLECTIONS,
    API_ITEMS,
    BROKEN,
    CASES,
    DEADLY,
    EVERYTHING,
    GARBAGE,
    HTML,
    MAP,
    MAP_1_1_1,
    MAPS,
    NESTED,
    PDF,
    PREFIX,
    PROJECT_LIST,
    PROJECTS,
    SECOND,
    VECTORS,
    WMS_1_3_0,
    WORLD,
    Case,
    ask,
    ask_worker,
    comparable,
    fetch,
    get_map,
    png,
    render_by_hand,
    shown,
    wms,
)
from testbed import RELEASES, SUITES, Reply, Testbed

TOML = "/etc/qgis-server/server.toml"
VHOSTS = "/etc/nginx/conf.d/serving-test.conf"
CERTIFICATE = "/root/serving-test.pem"

# Clients take the URLs that capabilities name, and QGIS 3.22 turns the "map" of /srv/maps in them
# into "MAP". Hence the copy of the same project in the package's own folder.
WORLD_URL = f"http://127.0.0.1{PREFIX}?MAP={PROJECTS}/world.qgz"

CASE = {case.name: case for case in (*CASES, *GARBAGE)}


def each(*cases: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


# ---- Changes to the server, each undone at its end


@contextlib.contextmanager
def vhosts(bed: Testbed, text: str, *ports: int) -> Iterator[None]:
    """More server blocks of NGINX, on these ports."""
    bed.run("tee", VHOSTS, input=text)
    try:
        bed.run("systemctl", "reload", "nginx")
        # A reload ends before the new processes of NGINX have opened their sockets.
        wait_for(lambda: all(listens(bed, port) for port in ports), f"NGINX listens on {ports}")
        yield
    finally:
        bed.run("rm", VHOSTS)
        bed.run("systemctl", "reload", "nginx")
        wait_for(lambda: not any(listens(bed, port) for port in ports), f"{ports} are closed")


@contextlib.contextmanager
def settings(bed: Testbed, text: str) -> Iterator[None]:
    before = bed.run("cat", TOML).stdout
    bed.run("tee", TOML, input=f"{before}\n{text}\n")
    try:
        bed.run("qgis-serverctl", "apply")
        yield
    finally:
        bed.run("tee", TOML, input=before)
        bed.run("qgis-serverctl", "apply")


@pytest.fixture(scope="module", autouse=True)
def catalogue(pool: Testbed) -> Iterator[None]:
    """The projects of the landing page, which lists one folder."""
    pool.run("cp", "--archive", f"{MAPS}/.", PROJECTS)
    with settings(pool, 'front_page = "qgis"'):
        yield
    pool.run("find", PROJECTS, "-mindepth", "1", "-delete")


# ---- Requests and their replies


class ByHand:
    """Replies of QGIS Server run by hand, each made once."""

    def __init__(self, bed: Testbed) -> None:
        self.bed = bed
        self.made: dict[str, bytes] = {}

    def body(self, case: Case) -> bytes:
        if case.name not in self.made:
            self.made[case.name] = comparable(render_by_hand(self.bed, case))
        return self.made[case.name]


@pytest.fixture(scope="module")
def by_hand(pool: Testbed) -> ByHand:
    return ByHand(pool)


def judge(reply: Reply, case: Case, by_hand: ByHand) -> None:
    case.check(reply)
    if case.image:
        sent, expected = comparable(reply.body), by_hand.body(case)
        # Not "assert sent == expected": pytest would print megabytes of difference.
        same = sent == expected
        assert same, f"{len(sent)} bytes differ from the {len(expected)} that a run by hand makes"


@pytest.mark.testing
@each(*CASES)
def test_request(pool: Testbed, by_hand: ByHand, case: Case) -> None:
    judge(ask(pool, case), case, by_hand)


@pytest.mark.testing
def test_every_worker_renders_the_same(pool: Testbed, by_hand: ByHand) -> None:
    served = [comparable(ask_worker(pool, socket, MAP)) for socket in sockets(pool)]
    assert served
    assert all(body == by_hand.body(MAP) for body in served)


@pytest.mark.each
def test_the_axis_order_follows_the_version_of_wms(pool: Testbed) -> None:
    same = ask(pool, MAP).body == ask(pool, MAP_1_1_1).body
    assert same


@pytest.mark.each
def test_a_printed_map_is_one_page_of_a4(pool: Testbed) -> None:
    info = pool.run_bytes("pdfinfo", "-", input=ask(pool, PDF).body).stdout.decode()
    found = dict(re.findall(r"^(\w[\w ]*):\s+(.*)$", info, re.MULTILINE))
    assert found["Title"] == "World"
    assert found["Pages"] == "1"
    assert found["Page size"].endswith("(A4)")


def test_a_reply_over_2_mb_reaches_a_slow_client_whole(pool: Testbed) -> None:
    # Slow enough for NGINX to hold most of the reply in a temporary file.
    reply = ask(pool, EVERYTHING, "http://127.0.0.1", "--limit-rate", "5M")
    assert len(reply.body) > 2 << 20
    EVERYTHING.check(reply)


@pytest.mark.each
@each(MAP, WMS_1_3_0, API_COLLECTIONS)
def test_head_has_the_headers_of_get(pool: Testbed, case: Case) -> None:
    reply = ask(pool, case, "http://127.0.0.1", "--head")
    assert reply.status == 200
    assert reply.headers["content-type"] == ask(pool, case).headers["content-type"]


@pytest.mark.each
@each(
    CASE["OGC API landing page html"],
    CASE["OGC API collections html"],
    CASE["OGC API items html"],
    CASE["landing page html"],
)
def test_styles_and_scripts_of_a_page_are_served(pool: Testbed, case: Case) -> None:
    page = ask(pool, case).body.decode()
    url = f"http://127.0.0.1{case.target}"
    named = re.findall(r"(?:href|src)=[\"']?([^\"'\s>]+\.(?:css|js)(?:\?[^\"'\s>]*)?)", page)
    local = {urljoin(url, link) for link in named if urljoin(url, link).startswith("http://127.")}
    # The plain landing page for Debian 13 has its style and script inside.
    assert local or "<style>" in page
    for link in sorted(local):
        reply = fetch(pool, link)
        assert (reply.status, bool(reply.body)) == (200, True), f"{link}: {shown(reply)}"


def test_the_landing_page_names_maps_that_are_served(pool: Testbed) -> None:
    listed = json.loads(ask(pool, PROJECT_LIST).body)["projects"]
    (identifier,) = (project["id"] for project in listed if project["title"] == "World")
    on_the_page = dataclasses.replace(MAP, path=f"/project/{identifier}/", project=None)
    reply = ask(pool, on_the_page)
    assert reply.status == 307, shown(reply)
    assert reply.headers["location"] == f"/qgis/world?{MAP.query}"
    MAP.check(fetch(pool, urljoin("http://127.0.0.1", reply.headers["location"])))


# ---- Garbage


@pytest.fixture(scope="module")
def broken_projects(pool: Testbed) -> Iterator[None]:
    pool.run("mkdir", BROKEN)
    for whole, half in ((SECOND, "half.qgs"), (WORLD, "half.qgz")):
        size = int(pool.out("stat", "--format=%s", whole)) // 2
        pool.run("sh", "-c", f'head -c {size} "$0" >"$1"', whole, f"{BROKEN}/{half}")
    yield
    pool.run("rm", "-r", BROKEN)


@pytest.mark.each
@pytest.mark.usefixtures("broken_projects")
@each(*GARBAGE)
def test_garbage_gets_an_error_and_harms_no_worker(
    pool: Testbed, by_hand: ByHand, case: Case
) -> None:
    before = workers(pool)
    began = time.monotonic()
    reply = ask(pool, case)
    took = time.monotonic() - began
    case.check(reply)
    assert took < 60, f"the error took {took:.1f} s"
    test_every_worker_renders_the_same(pool, by_hand)
    assert workers(pool) == before, "a worker ended"


@pytest.mark.each
def test_a_deadly_request_ends_one_worker_which_comes_back(pool: Testbed, by_hand: ByHand) -> None:
    before = workers(pool)
    DEADLY.check(ask(pool, DEADLY))
    wait_for(lambda: all(workers(pool)) and workers(pool) != before, "the worker is back")
    assert len(set(before) - set(workers(pool))) == 1
    test_every_worker_renders_the_same(pool, by_hand)


@pytest.mark.parametrize(
    "path",
    [
        "/wfs3/static/" + "../" * 9 + "etc/passwd",
        "/wfs3/static/" + "..%2f" * 9 + "etc/passwd",
        "/wfs3/static/" + "%2e%2e/" * 9 + "etc/passwd",
        "/wfs3/static//etc/passwd",
        "/css/" + "..%2f" * 9 + "etc/passwd",
        "/js/" + "%252e%252e%252f" * 9 + "etc/passwd",
    ],
)
def test_no_file_of_the_server_is_served(pool: Testbed, path: str) -> None:
    reply = fetch(pool, f"http://127.0.0.1{PREFIX}{path}", "--path-as-is")
    assert b"root:" not in reply.body
    assert b"root:" in pool.run_bytes("cat", "/etc/passwd").stdout


# ---- The URLs that replies name


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a client sends a request, and what it must read in the reply."""

    name: str
    sent: str
    named: str = ""
    curl_args: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        return self.named or self.sent


# Any name is this server, at the port of the URL.
RESOLVE = ("--connect-to", "::127.0.0.1:", "--insecure")

DIRECT = (
    Origin("the standard port", "http://127.0.0.1"),
    Origin("a name", "http://maps.example.org", curl_args=RESOLVE),
    Origin("another port", "http://127.0.0.1:8191"),
    Origin("a name and another port", "http://maps.example.org:8191", curl_args=RESOLVE),
    Origin("https", "https://maps.example.org", curl_args=RESOLVE),
    Origin("https on another port", "https://maps.example.org:8443", curl_args=RESOLVE),
    Origin("an IPv6 address", "http://[::1]:8191"),
    # As where a port of the outside is mapped to port 80.
    Origin(
        "a port that only the client knows",
        "http://127.0.0.1",
        "http://maps.example.org:9090",
        ("--header", "Host: maps.example.org:9090"),
    ),
    Origin(
        "HTTP/1.0 without a Host header",
        "http://127.0.0.1",
        curl_args=("--http1.0", "--header", "Host:"),
    ),
)

SERVERS = f"""
server {{
    listen 8191;
    listen [::]:8191;
    include snippets/qgis-server.conf;
}}
server {{
    listen 443 ssl;
    listen 8443 ssl;
    ssl_certificate {CERTIFICATE};
    ssl_certificate_key {CERTIFICATE};
    include snippets/qgis-server.conf;
}}
"""


def each_origin(*origins: Origin) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("origin", origins, ids=[origin.name for origin in origins])


def make_certificate(pool: Testbed) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", CERTIFICATE, "-out", f"{CERTIFICATE}.crt")
    subject = ("-days", "2", "-subj", "/CN=maps.example.org")
    pool.run("openssl", "req", "-x509", *key, *files, *subject)
    pool.run("sh", "-c", 'cat "$0.crt" >>"$0"', CERTIFICATE)


@pytest.fixture(scope="class")
def servers(pool: Testbed) -> Iterator[None]:
    make_certificate(pool)
    with vhosts(pool, SERVERS, 8191, 443, 8443):
        yield


@pytest.mark.usefixtures("servers")
class TestUrls:
    @each_origin(*DIRECT)
    @each(*ADVERTISING)
    def test_urls_are_the_clients(self, pool: Testbed, case: Case, origin: Origin) -> None:
        reply = ask(pool, case, origin.sent, *origin.curl_args)
        case.check(reply)
        names_only(reply, origin.expected)

    @each_origin(*DIRECT)
    def test_the_landing_page_stays_at_the_clients_url(self, pool: Testbed, origin: Origin) -> None:
        case = CASE["landing page for browsers"]
        reply = ask(pool, case, origin.sent, *origin.curl_args)
        target = urljoin(f"{origin.expected}{case.target}", reply.headers["location"])
        assert target == f"{origin.expected}{PREFIX}/index.html"

    def test_the_advertised_url_of_a_path_with_spaces_serves_it(self, pool: Testbed) -> None:
        # Not in /srv/maps, see WORLD_URL.
        project = NESTED.replace(MAPS, PROJECTS)
        listing = CASE["WMS GetCapabilities of a path with spaces"]
        capabilities = ask(pool, dataclasses.replace(listing, project=project))
        case = CASE["WMS GetMap of a path with spaces"]
        (url,) = re.findall(
            r"<GetMap>.*?xlink:href=\"([^\"]*)\"", capabilities.body.decode(), re.DOTALL
        )
        # QGIS Server leaves it to the client to encode spaces and letters beyond ASCII.
        encoded = quote(url.replace("&amp;", "&"), safe=":/?&=%")
        case.check(fetch(pool, encoded + case.query))


@each(*ADVERTISING)
@pytest.mark.parametrize("header", EVIL)
def test_a_client_cannot_choose_urls(pool: Testbed, case: Case, header: str) -> None:
    reply = ask(pool, case, "http://127.0.0.1", *headers({header: EVIL[header]}))
    is_not_fooled(reply, case)
    names_only(reply, "http://127.0.0.1")


@each(*ADVERTISING)
def test_a_client_cannot_choose_urls_with_all_headers_at_once(pool: Testbed, case: Case) -> None:
    is_not_fooled(ask(pool, case, "http://127.0.0.1", *headers(EVIL)), case)


TCP = "http://127.0.0.1:80"
UNIX, REAL = (f"http://unix:/run/serving-{word}.sock:" for word in ("test", "real"))
"""By which a proxy reaches NGINX."""


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy in front of NGINX: what it tells it, and the URL that clients use. `path`: what it
    cuts off the path of a request. `by`: a proxy before it is another one."""

    name: str
    port: int
    tells: dict[str, str]
    origin: str
    path: str = ""
    by: str = TCP

    @property
    def server(self) -> str:
        # What a client says of it is for the proxy to remove.
        tells = {"X-Forwarded-Prefix": "", **self.tells}
        told = "".join(f"        proxy_set_header {k} '{v}';\n" for k, v in tells.items())
        return (
            f"server {{\n    listen {self.port};\n    location {self.path}/ {{\n{told}"
            f"        proxy_pass {self.by}/;\n    }}\n}}\n"
        )

    @property
    def here(self) -> str:
        """Where a client in the testbed reaches it."""
        return f"http://127.0.0.1:{self.port}{urlsplit(self.origin).path}"


PROXIES = (
    Proxy(
        "X-Forwarded-Host and -Proto",
        8201,
        {"X-Forwarded-Host": "gis.example.org", "X-Forwarded-Proto": "https"},
        "https://gis.example.org",
    ),
    Proxy(
        "X-Forwarded-Port",
        8202,
        {
            "X-Forwarded-Host": "gis.example.org",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Port": "8443",
        },
        "https://gis.example.org:8443",
    ),
    Proxy(
        "the standard X-Forwarded-Port",
        8203,
        {
            "X-Forwarded-Host": "gis.example.org",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Port": "443",
        },
        "https://gis.example.org",
    ),
    Proxy(
        "X-Forwarded-Host with a port",
        8204,
        {"X-Forwarded-Host": "gis.example.org:8443", "X-Forwarded-Proto": "https"},
        "https://gis.example.org:8443",
    ),
    Proxy(
        "the Host header and X-Forwarded-Proto",
        8205,
        {"Host": "gis.example.org", "X-Forwarded-Proto": "https"},
        "https://gis.example.org",
    ),
    Proxy(
        "Forwarded",
        8206,
        {"Forwarded": "for=192.0.2.1;host=gis.example.org;proto=https"},
        "https://gis.example.org",
    ),
    Proxy(
        "Forwarded with a port",
        8207,
        {"Forwarded": 'for="[2001:db8::1]:47011";proto=https;host="gis.example.org:8443"'},
        "https://gis.example.org:8443",
    ),
    Proxy(
        "an IPv6 address",
        8208,
        {"X-Forwarded-Host": "[2001:db8::1]:8443", "X-Forwarded-Proto": "https"},
        "https://[2001:db8::1]:8443",
    ),
    Proxy("nothing", 8209, {"Host": "gis.example.org"}, "http://gis.example.org"),
    Proxy(
        "X-Forwarded-Prefix",
        8210,
        {
            "X-Forwarded-Host": "gis.example.org",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Port": "443",
            "X-Forwarded-Prefix": "/gis",
        },
        "https://gis.example.org/gis",
        "/gis",
    ),
    Proxy(
        "X-Forwarded-Prefix of two parts, with a slash",
        8211,
        {
            "X-Forwarded-Host": "gis.example.org:8443",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Port": "8443",
            "X-Forwarded-Prefix": "/open-data/maps_1/",
        },
        "https://gis.example.org:8443/open-data/maps_1",
        "/open-data/maps_1",
    ),
    Proxy(
        "a Unix socket",
        8212,
        {
            "X-Forwarded-Host": "gis.example.org",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Port": "443",
            "X-Forwarded-Prefix": "/gis",
        },
        "https://gis.example.org/gis",
        "/gis",
        UNIX,
    ),
    # NGINX takes the client's address from the proxy (set_real_ip_from).
    Proxy(
        "a Unix socket behind which clients have addresses",
        8216,
        {
            "Host": "gis.example.org:8443",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "192.0.2.7",
        },
        "https://gis.example.org:8443",
        by=REAL,
    ),
    # The second one adds what it cuts off itself.
    Proxy(
        "two proxies",
        8213,
        {
            "X-Forwarded-Host": "gis.example.org",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Port": "443",
            "X-Forwarded-Prefix": "/outer",
        },
        "https://gis.example.org/outer/inner",
        "/outer",
        "http://127.0.0.1:8214",
    ),
)

INNER = f"""
server {{
    listen 8214;
    location /inner/ {{
        proxy_set_header X-Forwarded-Prefix $http_x_forwarded_prefix/inner;
        proxy_pass {TCP}/;
    }}
}}
server {{
    listen unix:/run/serving-test.sock;
    include snippets/qgis-server.conf;
}}
server {{
    listen unix:/run/serving-real.sock;
    set_real_ip_from unix:;
    real_ip_header X-Forwarded-For;
    include snippets/qgis-server.conf;
}}
"""


PREFIXED = tuple(proxy for proxy in PROXIES if proxy.path)


def each_proxy(*proxies: Proxy) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("proxy", proxies, ids=[proxy.name for proxy in proxies])


DOCUMENTED = 8215
DOCUMENTED_SERVER = f"""
server {{
    listen {DOCUMENTED};
    {recipe("Behind a proxy, on a path of its own")[0].replace("192.0.2.20", "127.0.0.1").text}
}}
"""


@pytest.fixture(scope="class")
def proxies(pool: Testbed) -> Iterator[None]:
    text = "".join(proxy.server for proxy in PROXIES) + INNER + DOCUMENTED_SERVER
    ports = [*(proxy.port for proxy in PROXIES), DOCUMENTED]
    lines = f"""
        trusted_proxies = ["127.0.0.1", "unix:"]
        named_projects = ["The World={WORLD}"]
    """
    with vhosts(pool, text, *ports), settings(pool, lines):
        yield


@pytest.mark.usefixtures("proxies")
class TestBehindATrustedProxy:
    @each_proxy(*PROXIES)
    @each(*ADVERTISING)
    def test_urls_are_the_proxys(self, pool: Testbed, case: Case, proxy: Proxy) -> None:
        reply = ask(pool, case, proxy.here)
        case.check(reply)
        names_only(reply, proxy.origin)

    @each_proxy(*PREFIXED)
    @each(*ADVERTISING[:-1])
    def test_so_are_those_of_a_named_project(self, pool: Testbed, case: Case, proxy: Proxy) -> None:
        """A worker that has just answered others; also where its name has a space."""
        origins = {TCP: TCP.removesuffix(":80"), proxy.here: proxy.origin}
        for here, name in itertools.product(origins, ("world", "The%20World")):
            named = dataclasses.replace(case, prefix=f"/qgis/{name}", project=None)
            reply = ask(pool, named, here)
            named.check(reply)
            names_only(reply, origins[here], named.prefix)

    @each_proxy(*PREFIXED)
    def test_pages_and_what_they_link_to_are_below_the_prefix(
        self, pool: Testbed, proxy: Proxy
    ) -> None:
        """Followed as a browser does: the client's origin is the proxy's here."""
        accept = ("--header", f"Accept: {HTML}")
        # The other server block has no page at its top.
        tops = [("/", f"{PREFIX}/")] if proxy.by != UNIX else []
        for start, end in (
            *tops,
            (f"{PREFIX}/", f"{PREFIX}/index.html"),
            (PREFIX, f"{PREFIX}/index.html"),
        ):
            place = fetch(pool, proxy.here + start, *accept).headers["location"]
            assert urljoin(proxy.origin + start, place) == proxy.origin + end
        for page in (f"{PREFIX}/index.html", "/qgis/world/wfs3/collections.html"):
            reply = fetch(pool, proxy.here + page, *accept)
            assert reply.status == 200, shown(reply)
            links = re.findall(r"(?:href|src)=[\"']?([^\"'\s>]+\.(?:css|js))", reply.body.decode())
            for link in {urljoin(f"{proxy.here}{page}", link) for link in links}:
                # Others are of the web.
                if link.startswith(f"http://127.0.0.1:{proxy.port}/"):
                    assert fetch(pool, link).status == 200, link

    @each_proxy(*PREFIXED)
    def test_the_landing_page_leads_below_the_prefix(self, pool: Testbed, proxy: Proxy) -> None:
        listed = json.loads(ask(pool, PROJECT_LIST, proxy.here).body)["projects"]
        (identifier,) = (project["id"] for project in listed if project["title"] == "World")
        second = dataclasses.replace(MAP, path=f"/project/{identifier}/", project=None)
        reply = ask(pool, second, proxy.here)
        assert reply.headers["location"] == f"{urlsplit(proxy.origin).path}/qgis/world?{MAP.query}"

    # The proxy replaces X-Forwarded-*; what else the client sends reaches the server.
    @each_proxy(*(proxy for proxy in PROXIES if "X-Forwarded-Port" in proxy.tells))
    @each(*ADVERTISING)
    def test_a_client_cannot_choose_urls(self, pool: Testbed, case: Case, proxy: Proxy) -> None:
        reply = ask(pool, case, proxy.here, *headers(EVIL))
        is_not_fooled(reply, case)
        names_only(reply, proxy.origin)

    @each(*ADVERTISING)
    def test_the_proxy_that_the_documents_show(self, pool: Testbed, case: Case) -> None:
        origin = f"http://127.0.0.1:{DOCUMENTED}/gis"
        reply = ask(pool, case, origin, *headers(EVIL))
        is_not_fooled(reply, case)
        names_only(reply, origin)

    @each(*ADVERTISING)
    def test_others_are_not_trusted(self, pool: Testbed, case: Case) -> None:
        reply = ask(pool, case, "http://[::1]", *headers(EVIL))
        is_not_fooled(reply, case)
        names_only(reply, "http://[::1]")


@each(*ADVERTISING)
def test_a_unix_socket_is_not_trusted_by_itself(pool: Testbed, case: Case) -> None:
    with vhosts(pool, INNER, 8214), settings(pool, 'trusted_proxies = ["0.0.0.0/0"]'):
        socket = ("--unix-socket", "/run/serving-test.sock")
        reply = ask(pool, case, "http://maps.example.org", *socket, *headers(EVIL))
        is_not_fooled(reply, case)
        names_only(reply, "http://maps.example.org")


# ---- Protocols

OVER_QUIC = f"""
server {{
    listen 443 quic reuseport;
    listen 8443 quic reuseport;
    listen 443 ssl;
    listen 8443 ssl;
    http2 on;
    ssl_certificate {CERTIFICATE};
    ssl_certificate_key {CERTIFICATE};
    include snippets/qgis-server.conf;
}}
"""


@pytest.fixture
def quic(pool: Testbed) -> Iterator[None]:
    make_certificate(pool)
    with vhosts(pool, OVER_QUIC, 443, 8443):
        yield


@pytest.mark.testing
@pytest.mark.only(*(suite for suite in SUITES if RELEASES[suite].http_3))
@pytest.mark.usefixtures("quic")
@pytest.mark.parametrize("port", ["", ":8443"])
@pytest.mark.parametrize("protocol", ["1.1", "2", "3-only"])
def test_urls_do_not_depend_on_the_version_of_http(pool: Testbed, protocol: str, port: str) -> None:
    """Debian 12's NGINX knows no HTTP/3, which has no Host header."""
    origin = f"https://maps.example.org{port}"
    for case in ADVERTISING:
        reply = ask(pool, case, origin, *RESOLVE, f"--http{protocol}")
        case.check(reply)
        names_only(reply, origin)


# ---- A project has one address

PASSWORDS = "/etc/nginx/passwords/city"
PROTECTED = f"""
{recipe("A password for one project or several")[0].replace("/qgis/city", "/qgis/second").text}
server {{
    listen 8220;
    include snippets/qgis-server.conf;
}}
"""


@pytest.fixture(scope="class")
def protected(pool: Testbed) -> Iterator[str]:
    """The number that the landing page has for the protected project."""
    pool.run("install", "-D", "/dev/stdin", PASSWORDS, input="user:{PLAIN}password\n")
    with vhosts(pool, PROTECTED, 8220):
        yield hashlib.md5(f"{PROJECTS}/second.qgs".encode()).hexdigest()
    pool.run("rm", PASSWORDS)


SECOND_MAP = get_map("land")
SECOND_ADDRESSES = (
    "/qgis-server/project/{number}",
    "/qgis-server/project/{number}/",
    "/qgis-server/project/x/{number}/",
    "/qgis-server/%70roject/{number}/",
    "/qgis-server//project/{number}/",
    "//qgis-server/project/{number}/",
    "/qgis-server/./project/{number}/",
    "/qgis-server/project/{number}/wfs3/collections",
    "/qgis-server/project/{number}/wfs3/collections.json",
    "/qgis-server/project/{number}/../../../qgis/world",
    "/qgis-server/project/{number}/..%2f..%2f..%2fqgis/world",
    "/qgis/world/../../qgis-server/project/{number}/",
    "/qgis/world/project/{number}/",
    "/qgis/world/qgis-server/project/{number}/",
    "/qgis/second",
    "/qgis/second/",
    "/qgis//second",
    "/qgis/%73econd",
    "/qgis/world/../second",
    "/qgis/world/..%2fsecond",
    "/qgis/second/wfs3/collections",
)


class TestOneAddress:
    @pytest.mark.parametrize("address", SECOND_ADDRESSES)
    @pytest.mark.parametrize("query", ["", wms("GetCapabilities"), SECOND_MAP, "f=json"])
    def test_a_password_protects_a_project(
        self, pool: Testbed, protected: str, address: str, query: str
    ) -> None:
        url = f"http://127.0.0.1:8220{address.format(number=protected)}?{query}"
        for more in ((), ("--data", SECOND_MAP)):
            curl = ("curl", "--silent", "--path-as-is", "--location", "--max-time", "60")
            last = pool.run_bytes(*curl, *more, "--", url).stdout
            for told in (b"Second", b'"land"', b">land<", b"\x89PNG"):
                assert told not in last, last[:500]

    def test_who_knows_it_comes_to_the_project_by_either(
        self, pool: Testbed, protected: str
    ) -> None:
        for address in ("/qgis/second", f"/qgis-server/project/{protected}/"):
            url = f"http://127.0.0.1:8220{address}?{SECOND_MAP}"
            options = ("--silent", "--location", "--user", "user:password")
            assert pool.run_bytes("curl", *options, url).stdout.startswith(b"\x89PNG")

    def test_one_that_has_no_name_has_no_address(self, pool: Testbed) -> None:
        file = f"{PROJECTS}/Karte & Plan.qgs"
        pool.run("cp", SECOND, file)
        try:
            number = hashlib.md5(file.encode()).hexdigest()
            reply = fetch(pool, f"http://127.0.0.1{PREFIX}/project/{number}/?{SECOND_MAP}")
            assert reply.status == 404
            assert b"no name leads to this project" in reply.body
        finally:
            pool.run("rm", file)


# ---- NGINX's own words

ALL_OF_IT = """
named_projects = [
    'a=/srv/$a.qgz', 'b=/srv/$b.qgz', 'c=/srv/$c.qgz', 'd=/srv/$d.qgz', 'e=/srv/$e.qgz',
    "city=/srv/maps/world.qgz", 'plan=postgresql://?service=gis&schema=public&project=plan',
]
trusted_proxies = ["192.0.2.1", "unix:"]
cors_origins = ["https://app.example.org"]
reply_cache = "50M"
client_rate = 1000
client_connections = 100
"""


@pytest.mark.testing
def test_nginx_warns_of_nothing_whatever_is_set(pool: Testbed) -> None:
    with settings(pool, ALL_OF_IT):
        done = pool.run("nginx", "-t")
        assert "warn" not in done.stderr
        case = dataclasses.replace(MAP, prefix="/qgis/city", project=None)
        case.check(ask(pool, case))


def test_a_project_with_a_dollar_in_its_path(pool: Testbed) -> None:
    file = "/srv/maps/$world_$1 a.qgz"
    pool.run("cp", WORLD, file)
    try:
        with settings(pool, f"named_projects = ['cash={file}']"):
            case = dataclasses.replace(MAP, prefix="/qgis/cash", project=None)
            case.check(ask(pool, case))
    finally:
        pool.run("rm", file)


# ---- Scripts of other origins

ALLOWED = "https://app.example.org"
ALLOW_ORIGIN = "access-control-allow-origin"

FROM_SCRIPTS = (MAP, WMS_1_3_0, API_ITEMS, CASE["an unknown layer"], CASE["WFS GetFeature by POST"])


def from_origin(origin: str) -> tuple[str, str]:
    return "--header", f"Origin: {origin}"


def preflight(bed: Testbed, case: Case, origin: str) -> Reply:
    asks = ("--header", "Access-Control-Request-Method: POST")
    wants = ("--header", "Access-Control-Request-Headers: content-type")
    url = f"http://127.0.0.1{case.target}"
    return fetch(bed, url, "--request", "OPTIONS", *from_origin(origin), *asks, *wants)


def listed(value: str) -> set[str]:
    return {item.strip().lower() for item in value.split(",")}


@each(*FROM_SCRIPTS)
def test_no_other_origin_may_read_replies_unless_told(pool: Testbed, case: Case) -> None:
    reply = ask(pool, case, "http://127.0.0.1", *from_origin(ALLOWED))
    case.check(reply)
    assert ALLOW_ORIGIN not in reply.headers


@pytest.fixture(scope="class")
def origins(pool: Testbed) -> Iterator[None]:
    with settings(pool, f'cors_origins = ["{ALLOWED}"]'):
        yield


@pytest.mark.usefixtures("origins")
class TestCors:
    @each(*FROM_SCRIPTS)
    def test_an_allowed_origin(self, pool: Testbed, case: Case) -> None:
        reply = ask(pool, case, "http://127.0.0.1", *from_origin(ALLOWED))
        case.check(reply)
        assert reply.headers[ALLOW_ORIGIN] == ALLOWED
        assert "origin" in listed(reply.headers["vary"])

    @each(*FROM_SCRIPTS)
    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "http://app.example.org",
            "https://app.example.org.evil.example",
            "https://app.example.org:8443",
            "https://appxexample.org",
            "null",
        ],
    )
    def test_another_origin(self, pool: Testbed, case: Case, origin: str) -> None:
        reply = ask(pool, case, "http://127.0.0.1", *from_origin(origin))
        case.check(reply)
        assert ALLOW_ORIGIN not in reply.headers
        # A cache in between must not give this reply to the allowed origin.
        assert "origin" in listed(reply.headers["vary"])

    @each(*FROM_SCRIPTS)
    def test_no_origin(self, pool: Testbed, case: Case) -> None:
        reply = ask(pool, case)
        case.check(reply)
        assert ALLOW_ORIGIN not in reply.headers

    @each(*FROM_SCRIPTS)
    def test_a_preflight_request(self, pool: Testbed, case: Case) -> None:
        reply = preflight(pool, case, ALLOWED)
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers[ALLOW_ORIGIN] == ALLOWED
        assert listed(reply.headers["access-control-allow-methods"]) >= {"get", "post"}
        assert "content-type" in listed(reply.headers["access-control-allow-headers"])

    @each(*FROM_SCRIPTS)
    def test_a_preflight_request_of_another_origin(self, pool: Testbed, case: Case) -> None:
        assert ALLOW_ORIGIN not in preflight(pool, case, "https://evil.example").headers


# ---- Compression

# The media types that QGIS Server sends for text, one request for each:
#   text/xml; charset=utf-8                        capabilities, GetFeatureInfo, errors
#   text/xml; subtype=gml/2.1.2; charset=utf-8     WFS GetFeature
#   text/xml; subtype=gml/3.1.1; charset=utf-8     WFS GetFeature
#   text/plain; charset=utf-8                      WMS GetFeatureInfo
#   text/html; charset=utf-8                       WMS GetFeatureInfo
#   application/json; charset=utf-8                WMS GetFeatureInfo
#   application/vnd.ogc.gml; charset=utf-8         WMS GetFeatureInfo
#   application/vnd.geo+json; charset=utf-8        WFS GetFeature
#   application/json                               OGC API, landing page
#   application/geo+json                           OGC API
#   application/vnd.oai.openapi+json;version=3.0   OGC API
#   text/html                                      OGC API, landing page
#   text/css                                       OGC API
COMPRESSED = tuple(
    CASE[name]
    for name in (
        "WMS GetCapabilities 1.1.1",
        "WMS GetCapabilities 1.3.0",
        "WMS GetFeatureInfo xml",
        "WMS GetFeatureInfo json",
        "WMS GetFeatureInfo html",
        "WMS GetFeatureInfo plain text",
        "WMS GetFeatureInfo gml",
        "WFS GetCapabilities 1.1.0",
        "WFS GetFeature GML2",
        "WFS GetFeature GML3",
        "WFS GetFeature GeoJSON",
        "WFS GetFeature by POST",
        "WCS GetCapabilities",
        "WMTS GetCapabilities",
        "OGC API collections",
        "OGC API collections html",
        "OGC API items",
        "OGC API description",
        "OGC API style sheet",
        "landing page json",
        "landing page html",
    )
)
UNCOMPRESSED = tuple(case for case in CASES if case.image and case is not EVERYTHING)

GZIP = ("--header", "Accept-Encoding: gzip")


@pytest.mark.each
@each(*COMPRESSED)
def test_text_is_compressed_when_asked_for(pool: Testbed, case: Case) -> None:
    assert "content-encoding" not in ask(pool, case).headers
    reply = ask(pool, case, "http://127.0.0.1", *GZIP)
    assert reply.headers.get("content-encoding") == "gzip", shown(reply)
    assert "accept-encoding" in listed(reply.headers["vary"])
    unpacked = gzip.decompress(reply.body)
    assert len(unpacked) > len(reply.body)
    case.check(dataclasses.replace(reply, body=unpacked))


@pytest.mark.each
@each(*UNCOMPRESSED)
def test_images_are_not_compressed_again(pool: Testbed, by_hand: ByHand, case: Case) -> None:
    reply = ask(pool, case, "http://127.0.0.1", *GZIP)
    assert "content-encoding" not in reply.headers
    judge(reply, case, by_hand)


LARGE_TILE = Case(
    "large tile",
    get_map("states_provinces", WIDTH=768, HEIGHT=768, BBOX="-60,-180,80,180"),
    png(768, 768),
)
WARNINGS = "/var/log/nginx/warnings.log"
WARNING_HOST = f"""
server {{
    listen 8085 sndbuf=16k;
    error_log {WARNINGS} warn;
    include snippets/qgis-server.conf;
}}
"""


def test_no_tile_goes_through_a_file(pool: Testbed) -> None:
    """Not even to a client that takes its time."""
    with vhosts(pool, WARNING_HOST, 8085):
        log, origin = pool.root / WARNINGS[1:], "http://127.0.0.1:8085"
        reply = ask(pool, LARGE_TILE, origin, "--limit-rate", "200k")
        assert 160 << 10 < len(reply.body) < 256 << 10
        assert "temporary file" not in log.read_text()
        # Such a file is told of, if there is one.
        slow = ("curl", "--silent", "--output", "/dev/null", "--limit-rate", "100k")
        pool.run(*slow, "--max-time", "3", f"{origin}{EVERYTHING.target}", check=False)
        assert "buffered to a temporary file" in log.read_text()


# ---- Clients

OWSLIB = """
import json, sys
from owslib.ogcapi.features import Features
from owslib.wcs import WebCoverageService
from owslib.wfs import WebFeatureService
from owslib.wms import WebMapService
from owslib.wmts import WebMapTileService

url = sys.argv[1]
wms = WebMapService(url, version="1.3.0")
image = wms.getmap(
    layers=["countries"], styles=[""], srs="EPSG:4326", bbox=(-20, 30, 40, 70),
    size=(600, 400), format="image/png",
).read()
with open(sys.argv[2], "wb") as file:
    file.write(image)
wfs = WebFeatureService(url, version="1.1.0")
features = wfs.getfeature(typename=["countries"], maxfeatures=2, outputFormat="GeoJSON").read()
wmts = WebMapTileService(url)
tile = wmts.gettile(
    layer="countries", tilematrixset="EPSG:3857", tilematrix="2", row=1, column=2,
    format="image/png",
).read()
base, _, query = url.partition("?")
api = Features(f"{base}/wfs3?{query}", headers={"Accept": "application/json"})
print(json.dumps({
    "wms": sorted(wms.contents),
    "wfs": sorted(wfs.contents),
    "wcs": sorted(WebCoverageService(url, version="1.0.0").contents),
    "wmts": sorted(wmts.contents),
    "features": len(json.loads(features)["features"]),
    "tile": len(tile),
    "links": len(api.links),
}))
"""

QGIS = """
import json, sys
from urllib.parse import quote
from qgis.core import QgsApplication, QgsRasterLayer, QgsRectangle, QgsVectorLayer

url = sys.argv[1]
application = QgsApplication([], False)
application.initQgis()
wms = QgsRasterLayer(
    f"crs=EPSG:4326&format=image/png&layers=countries&styles=&url={quote(url)}", "wms", "wms"
)
block = wms.dataProvider().block(1, QgsRectangle(-20, 30, 40, 70), 600, 400)
assert block.image().save(sys.argv[2])
wfs = QgsVectorLayer(
    f"url='{url}' typename='countries' srsname='EPSG:4326' version='1.1.0'", "wfs", "WFS"
)
base, _, query = url.partition("?")
api = QgsVectorLayer(f"url='{base}/wfs3?{query}' typename='countries'", "api", "OAPIF")
print(json.dumps({
    "wms": wms.isValid(),
    "sublayers": sorted(wms.dataProvider().subLayers()),
    "wfs": [wfs.isValid(), sum(1 for _ in wfs.getFeatures())],
    "api": [api.isValid(), sum(1 for _ in api.getFeatures())],
    "errors": [layer.error().message() for layer in (wms, wfs, api)],
}))
del wms, wfs, api
application.exitQgis()
"""


def python(bed: Testbed, program: str, *args: str) -> dict[str, object]:
    """Run a program that prints JSON in its last line."""
    environment = {"QT_QPA_PLATFORM": "offscreen"}
    lines = bed.run("python3", "-", *args, input=program, env=environment).stdout.splitlines()
    found = json.loads(lines[-1])
    assert isinstance(found, dict)
    return found


def fetched(bed: Testbed, file: str) -> bytes:
    return bed.run_bytes("cat", file).stdout


def test_owslib_lists_layers_and_fetches_a_map(pool: Testbed, by_hand: ByHand) -> None:
    found = python(pool, OWSLIB, WORLD_URL, "/tmp/owslib.png")
    assert set(VECTORS) | {"relief"} <= set(found["wms"])  # type: ignore[call-overload]
    assert found["wfs"] == sorted(VECTORS)
    assert found["wcs"] == ["relief"]
    assert found["features"] == 2
    same = fetched(pool, "/tmp/owslib.png") == by_hand.body(MAP)
    assert same


def test_gdal_lists_layers_and_fetches_a_map(pool: Testbed) -> None:
    layers = pool.out("ogrinfo", "-ro", f"WFS:{WORLD_URL}")
    assert set(re.findall(r"^\d+: (?:qgs:)?(\w+)", layers, re.MULTILINE)) == set(VECTORS), layers
    summary = pool.out("ogrinfo", "-ro", "-so", f"WFS:{WORLD_URL}", "countries")
    assert "Feature Count: 240" in summary
    # The query that GDAL makes its own requests of.
    map_url = (
        f"WMS:{WORLD_URL}&SERVICE=WMS&VERSION=1.1.1&REQUEST=GetMap&LAYERS=countries&STYLES="
        "&SRS=EPSG:4326&BBOX=-180,-90,180,90&FORMAT=image/png"
    )
    box = ("-projwin", "-20", "70", "40", "30", "-outsize", "600", "400")
    pool.run("gdal_translate", "-q", "-of", "PNG", *box, map_url, "/tmp/gdal.png")
    MAP.check(Reply(200, {"content-type": "image/png"}, fetched(pool, "/tmp/gdal.png")))


@pytest.mark.each
def test_qgis_lists_layers_and_fetches_a_map(pool: Testbed) -> None:
    found = python(pool, QGIS, WORLD_URL, "/tmp/qgis.png")
    assert found["wms"] is True, found
    assert found["wfs"] == [True, 240], found
    assert found["api"] == [True, 240], found
    MAP.check(Reply(200, {"content-type": "image/png"}, fetched(pool, "/tmp/qgis.png")))


# ---- After a reboot, last: all the above has been served before it


@pytest.fixture(scope="class")
def rebooted(pool: Testbed) -> None:
    pool.reboot()


@pytest.mark.usefixtures("rebooted")
class TestAfterReboot:
    @each(*CASES[::4])
    def test_request(self, pool: Testbed, by_hand: ByHand, case: Case) -> None:
        judge(ask(pool, case), case, by_hand)

    def test_every_worker_renders_the_same(self, pool: Testbed, by_hand: ByHand) -> None:
        test_every_worker_renders_the_same(pool, by_hand)
