# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of a server, each declared once.

The command line, ``server.toml`` as shipped, its validation and the manual
all come from the fields of `Settings`.
"""

from dataclasses import dataclass
from typing import Any

from .declaration import Declaration, declarations, setting
from .names import Package
from .values import (
    MAX_INSTANCES,
    Count,
    OneOf,
    Projects,
    Whole,
    WordOr,
    account,
    count,
    folders,
    heavy_workers,
    host_lines,
    kilobytes,
    megabytes,
    named,
    names_of_projects,
    networks,
    origins,
    picture,
    plain_folders,
    project,
    recipient,
    size,
    size_or_share,
    switch,
    system_calls,
    text,
)

QUEUES = ("per-worker", "shared")


PAGES = ("list", "qgis", "off")


LEARNED = 256
"""MB that a worker may have after it has loaded what it was asked for lately; one that has
loaded nothing has about 100."""


FOLDERS = "a list of absolute paths without colons, quotes and backslashes"


NAMED_URL = f"{Package().projects_prefix}/NAME"


@dataclass(frozen=True)
class Settings:
    """All settings with their values."""

    instances: Count = setting(
        "auto",
        count,
        allowed=f'"auto" or a number from 1 to {MAX_INSTANCES}',
        help=(
            'How many workers the pool has. "auto" is one for each core that the pool\n'
            "may use (CPU affinity, cpuset and CPU quota count), checked again at each\n"
            "boot; an upgrade of the package never lowers it."
        ),
        example="4",
        option="N",
    )
    queue: str = setting(
        "per-worker",
        OneOf(QUEUES),
        allowed='"per-worker" or "shared"',
        help=(
            "Where requests wait. per-worker: each worker has a queue of its own, and\n"
            "NGINX sends a request to the shortest one. shared: there is one queue, and\n"
            "whichever worker is free takes the next request; better where slow requests\n"
            "are more than a few."
        ),
        example='"shared"',
    )
    project: str = setting(
        "",
        project,
        allowed="an absolute path of a project file, a project URI, or an empty string",
        help=(
            "The project that answers requests which name none, such as\n"
            '"/srv/qgis/city.qgz". Empty: such requests are refused by QGIS Server.'
        ),
        example='"/srv/qgis/city.qgz"',
    )
    warm: tuple[str, ...] | str = setting(
        "auto",
        WordOr("auto", Projects()),
        allowed='"auto", or a list of absolute paths of project files, and of project URIs',
        help=(
            "Projects that each worker loads and draws once whenever it starts, before\n"
            'it takes a request. The one of the setting project always is. "auto": those\n'
            "that the worker was asked for lately, the most wanted first, for 10 seconds at\n"
            "most."
        ),
        example='["/srv/qgis/city.qgz"]',
    )
    project_folders: tuple[str, ...] = setting(
        (Package().projects,),
        plain_folders,
        allowed="a list of absolute paths of folders, without $, quotes and backslashes",
        help=(
            "A project NAME.qgz or NAME.qgs in one of these folders is served below\n"
            f"{NAMED_URL} as soon as it is there. Names are made of letters of any\n"
            "script, digits, spaces and any of _ - . , + ( ) ', and begin with a letter or digit.\n"
            "NGINX's user must be able to look into the folders."
        ),
        example='["/var/lib/qgis-server/projects", "/srv/qgis"]',
    )
    named_projects: tuple[str, ...] = setting(
        (),
        named,
        allowed='a list of "name=project", each name once',
        help=(
            "More projects with a name of their own, for those that are not simply files in\n"
            f"project_folders: each is served below {NAMED_URL}. A project is an absolute\n"
            "path or a project URI."
        ),
        example='["city=/srv/qgis/city.qgz", "plan=postgresql://?service=gis&schema=public&project=plan"]',
    )
    front_page: str = setting(
        "list",
        OneOf(PAGES),
        allowed='"list", "qgis" or "off"',
        help=(
            "What a browser sees at the URL that ends with a slash. list: this package's page,\n"
            "with all projects that have an address and are in order. qgis: QGIS Server's own\n"
            "landing page. off: neither. Of the two pages only the chosen one answers."
        ),
        example='"qgis"',
    )
    front_title: str = setting(
        "",
        text,
        allowed="a text of one line",
        help='The heading of the front page; empty: "Maps", in the language of the browser.',
        example='"Maps of Acme"',
    )
    front_text: str = setting(
        "",
        text,
        allowed="a text of one line",
        help="What stands below the heading of the front page.",
        example='"Questions: gis@acme.example"',
    )
    front_logo: str = setting(
        "",
        picture,
        allowed=(
            "an absolute path of a .png, .jpg, .jpeg, .webp or .svg, without $, quotes and "
            "backslashes"
        ),
        help=(
            "A picture beside the heading of the front page, small and square or wide. NGINX's\n"
            "user must be able to read it."
        ),
        example='"/etc/qgis-server/logo.png"',
    )
    unlisted_projects: tuple[str, ...] = setting(
        (),
        names_of_projects,
        allowed="a list of names of projects",
        help=(
            "Projects that the front page does not show. They are served all the same to\n"
            "whoever knows the address."
        ),
        example='["draft"]',
    )
    front_hosts: tuple[str, ...] = setting(
        (),
        host_lines,
        allowed=(
            'a list of "host key=value", the keys title, text, logo and page each once for a host '
            "and project for each, page only off"
        ),
        help=(
            "What host names of this server have of their own on the front page. title, text\n"
            "and logo are as the settings above. With project the page shows that one alone,\n"
            "or those, in a line each. page=off: this host has no page. It is the name that\n"
            "the client used."
        ),
        example='["city.acme.example title=Maps of the city", "city.acme.example project=city"]',
    )
    map_parameter: bool = setting(
        False,
        switch,
        allowed="true or false",
        help=(
            f"May clients name the project of a request to {Package().url_prefix} by a parameter\n"
            "MAP? It must be a file in data_folders, project_folders or the folder of the\n"
            "landing page, links resolved, or one that a setting names. false: such requests\n"
            f"are refused with status 403. Below {NAMED_URL} they always are."
        ),
        example="true",
    )
    data_folders: tuple[str, ...] = setting(
        ("/srv",),
        folders,
        allowed=FOLDERS,
        help=(
            "The folders that hold projects and their data. Workers can read what is in\n"
            "them, as far as its permissions allow, and see nothing else but the system: no\n"
            "project outside is opened for a client."
        ),
        example='["/srv", "/home/gis/projects"]',
    )
    remote_references: bool = setting(
        False,
        switch,
        allowed="true or false",
        help=(
            "May a request make QGIS Server fetch what it refers to: a style by SLD=, layers\n"
            "of other servers by EXTERNAL_WMS:, graphics that a style names, pages in\n"
            "prints? QGIS Server then asks any server that the machine can reach, and reads\n"
            "files of its own, for any client. false: such requests are refused with status 403."
        ),
        example="true",
    )
    quick_replies: bool = setting(
        True,
        switch,
        allowed="true or false",
        help=(
            "QGIS Server 3.40 and 3.44 end no reply before 10 milliseconds are over. true:\n"
            "workers skip that wait, so that maps that are drawn sooner come sooner. false: QGIS\n"
            "Server is left as it is."
        ),
        example="false",
    )
    request_timeout: int = setting(
        300,
        Whole(1, 86400),
        allowed="a number of seconds from 1 to 86400",
        help=(
            "How long NGINX waits for a reply, the wait for a free worker included;\n"
            "then the client gets status 504."
        ),
        example="120",
    )
    kill_timeout: int | str = setting(
        "auto",
        WordOr("auto", Whole(2, 172800)),
        allowed='"auto" or a number of seconds above request_timeout',
        help=(
            "A worker that has had one request in hand for so long is killed: it hangs.\n"
            'So is one that takes as long to start or to stop. "auto" is 30 seconds\n'
            "more than request_timeout, so that nobody waits for that reply any more."
        ),
        example="150",
    )
    backlog: int = setting(
        64,
        Whole(1, 4096),
        allowed="a number from 1 to 4096",
        help=(
            "How many requests may wait in each queue. What comes on top is refused\n"
            "at once with status 503 and Retry-After."
        ),
        example="128",
    )
    memory_max: str = setting(
        "60%",
        size_or_share,
        allowed='a size such as "900M" or "4G", or a share of the memory such as "60%"',
        help="A worker that needs more memory is killed by the kernel (MemoryMax=).",
        example='"4G"',
    )
    memory_recycle: str = setting(
        "auto",
        WordOr("auto", size),
        allowed='"auto" or a size such as "900M" or "2G"',
        help=(
            "A worker that has grown beyond this is restarted between two requests, one\n"
            'worker at a time. "auto" is an equal part of 60% of the memory, but at\n'
            "least 512M."
        ),
        example='"2G"',
    )
    max_age_hours: int = setting(
        24,
        Whole(0, 8760),
        allowed="a number of hours up to 8760; 0 is for ever",
        help=(
            "Workers older than this are restarted between two requests, one at a time\n"
            "and spread over half as long."
        ),
        example="168",
    )
    heavy_workers: int | str = setting(
        "auto",
        heavy_workers,
        allowed=f'"auto" or a number of workers from 0 to {MAX_INSTANCES}',
        help=(
            "How many workers there are beside the others for heavy requests: prints, large\n"
            "images, coverages, DXF and large exports of features. These wait in a queue of\n"
            "their own, and their workers get what the others leave of the processor. They\n"
            'start with the first such request. "auto": as many as the others. 0: heavy\n'
            "requests are treated like others."
        ),
        example="2",
    )
    heavy_idle_minutes: int = setting(
        10,
        Whole(0, 10080),
        allowed="a number of minutes up to 10080; 0: they start with the pool, and stay",
        help="Workers for heavy requests (heavy_workers) end after so long without one.",
        example="60",
    )
    heavy_timeout: int | str = setting(
        "auto",
        WordOr("auto", Whole(1, 86400)),
        allowed='"auto" or a number of seconds from 1 to 86400',
        help=(
            "How long NGINX waits for the reply to a heavy request (heavy_workers), the wait\n"
            'for its worker included. "auto" is request_timeout.'
        ),
        example="900",
    )
    heavy_pixels: int = setting(
        3000,
        Whole(2, 100000),
        allowed="a number of pixels from 2 to 100000",
        help="A map of this width or height, or more, is a heavy request (heavy_workers).",
        example="4000",
    )
    heavy_features: int = setting(
        1000,
        Whole(2, 10000000),
        allowed="a number of features from 2 to 10000000",
        help=(
            "A request for features is heavy (heavy_workers) if it asks for so many, for\n"
            "more, or without a limit."
        ),
        example="5000",
    )
    reply_cache: str = setting(
        "off",
        WordOr("off", size),
        allowed='"off" or a size such as "500M" or "2G"',
        help=(
            "Disk space for replies that NGINX keeps: tiles of up to 1024 pixels a side,\n"
            "legends and capabilities of projects that are files, asked for by GET without\n"
            "Authorization and Cookie. What was kept of a project ends when its file\n"
            "changes. Not for projects whose replies depend on anything else of a client."
        ),
        example='"500M"',
    )
    reply_cache_seconds: int = setting(
        600,
        Whole(1, 31536000),
        allowed="a number of seconds from 1 to 31536000",
        help=(
            "How old a reply from the cache may be before it is made again, which counts\n"
            "where data change, but not the project. One that is older is still sent once\n"
            "while it is made again, up to twice this age or this and a minute; and while the\n"
            "pool does not answer."
        ),
        example="3600",
    )
    writable_folders: tuple[str, ...] = setting(
        (),
        folders,
        allowed=FOLDERS,
        help=(
            "Folders that workers may also write to, as far as permissions allow: for\n"
            "files that clients edit by WFS-T, with their folder, where SQLite puts its\n"
            "journal."
        ),
        example='["/srv/qgis/editable"]',
    )
    network: bool = setting(
        True,
        switch,
        allowed="true or false",
        help=(
            "May workers use the network? Databases over TCP and remote layers need it;\n"
            "files and databases with a Unix socket in one of the folders do not."
        ),
        example="false",
    )
    system_calls: tuple[str, ...] = setting(
        (),
        system_calls,
        allowed='a list of system calls and of groups of them such as "@resources"',
        help=(
            "System calls that workers may use beyond those of ordinary services: for a\n"
            "plugin of QGIS Server that needs them (SystemCallFilter= in systemd.exec(5))."
        ),
        example='["@resources"]',
    )
    tasks_max: int = setting(
        512,
        Whole(16, 32768),
        allowed="a number from 16 to 32768",
        help="How many threads and processes a worker may have (TasksMax=).",
        example="1024",
    )
    open_files_max: int = setting(
        1024,
        Whole(256, 65536),
        allowed="a number from 256 to 65536",
        help="How many files a worker may have open (LimitNOFILE=).",
        example="4096",
    )
    image_size_max: int = setting(
        8192,
        Whole(256, 65536),
        allowed="a number of pixels from 256 to 65536",
        help=(
            "How wide or high an image may be that a request asks for: a map, a legend, a\n"
            "coverage. A larger one is refused."
        ),
        example="4096",
    )
    dpi_max: int = setting(
        600,
        Whole(72, 2400),
        allowed="a number from 72 to 2400",
        help="The finest resolution of a map or print, in dots per inch.",
        example="300",
    )
    api_results_max: int = setting(
        10000,
        Whole(1, 1000000),
        allowed="a number from 1 to 1000000",
        help=(
            "How many features a reply of the OGC API may have. WFS knows no such limit:\n"
            "request_timeout and memory_max bound it, and heavy_workers."
        ),
        example="1000",
    )
    request_body_max: str = setting(
        "10M",
        size,
        allowed='a size such as "10M"',
        help="The largest body of a request: of a WFS-T transaction, or of a long filter.",
        example='"50M"',
    )
    request_header_max: str = setting(
        "32K",
        kilobytes,
        allowed='a size such as "16K"',
        help=(
            "The longest URL, and the longest header, in the ready site. In a server block\n"
            "of your own it is for large_client_header_buffers to say."
        ),
        example='"16K"',
    )
    client_rate: int = setting(
        0,
        Whole(0, 100000),
        allowed="a number of requests a second up to 100000; 0 is no limit",
        help=(
            "How many requests a second a client may send, by its address, of IPv6 by its\n"
            "network of 64 bits; it may send those of five seconds at once. More are refused\n"
            "with status 429."
        ),
        example="50",
    )
    client_connections: int = setting(
        0,
        Whole(0, 10000),
        allowed="a number up to 10000; 0 is no limit",
        help=(
            "How many requests of a client may be in the making at a time, by its address, of\n"
            "IPv6 by its network of 64 bits; more are refused with status 429."
        ),
        example="20",
    )
    request_log: bool = setting(
        False,
        switch,
        allowed="true or false",
        help=(
            "true: NGINX also writes the facts of each request to\n"
            f"{Package().request_log}, a line of JSON each: time, status, size, project, service\n"
            "and request, how long it waited and took, which worker had it. No query, user or\n"
            "address of a client is in it. NGINX's package rotates it."
        ),
        example="true",
    )
    monitoring_clients: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1/128"),
        networks,
        allowed='a list of IP addresses, networks in CIDR notation, and "unix:"',
        help=(
            "Who may read the metrics of the pool, such as a Prometheus on another host, and see\n"
            "the status page. Both name projects. Whoever comes through a proxy may not."
        ),
        example='["127.0.0.0/8", "::1/128", "192.0.2.10"]',
    )
    notify: str = setting(
        "",
        recipient,
        allowed="an address for mail, an absolute path of a program, or an empty string",
        help=(
            "Who is told when the findings of check change, looked at every five minutes: an\n"
            "address, by the program sendmail of a mail server such as postfix; or a program,\n"
            "which gets the message on its standard input. Empty: nobody."
        ),
        example='"root"',
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        networks,
        allowed='a list of IP addresses, networks in CIDR notation, and "unix:"',
        help=(
            "Proxies in front of this NGINX. From these alone X-Forwarded-Host, -Proto,\n"
            "-Port and -Prefix, or Forwarded, decide the URLs that replies name. The proxy\n"
            'must set or remove each of these headers itself. "unix:" is whatever comes over\n'
            "a Unix socket on which NGINX listens."
        ),
        example='["192.0.2.10", "2001:db8::/64", "unix:"]',
    )
    leave_seconds: int = setting(
        0,
        Whole(0, 300),
        allowed="a number of seconds up to 300; 0: nothing is in front",
        help=(
            "How long a load balancer in front of this server takes to notice what\n"
            f"{Package().url_prefix}/health says. A restart of all workers, an upgrade and a\n"
            "shutdown then first have it send no more requests, and wait for so long and until\n"
            "none is in hand. Once the workers are back it is told to send some again."
        ),
        example="5",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        origins,
        allowed='a list of origins such as "https://app.example.org", or ["*"]',
        help="Web applications on other origins whose scripts may read the replies (CORS).",
        example='["https://app.example.org"]',
    )
    socket_user: str = setting(
        "auto",
        account,
        allowed='"auto" or the name of a system user',
        help=(
            'The user that may talk to the workers. "auto" is the one that NGINX runs\n'
            "as: www-data with Debian's package, nginx with the one from nginx.org."
        ),
        example='"www-data"',
    )

    @property
    def is_shared(self) -> bool:
        return self.queue == "shared"

    @property
    def lists(self) -> bool:
        """Is there a front page of the package's own?"""
        return self.front_page == "list"

    @property
    def caches(self) -> bool:
        return self.reply_cache != "off"

    def heavy_count(self, count: int) -> int:
        """How many workers the lane for heavy requests has beside `count` others; 0: there is
        no lane."""
        return self.heavy_workers if isinstance(self.heavy_workers, int) else count

    @property
    def has_lane(self) -> bool:
        """Have heavy requests workers of their own?"""
        return self.heavy_workers != 0

    @property
    def lane_timeout(self) -> int:
        """Seconds that NGINX waits for the reply to a heavy request."""
        return self.heavy_timeout if isinstance(self.heavy_timeout, int) else self.request_timeout

    @property
    def lane_stop_timeout(self) -> int:
        """As stop_timeout, for a worker of the lane for heavy requests."""
        own = self.heavy_timeout
        return own + 30 if isinstance(own, int) else self.stop_timeout

    @property
    def notes(self) -> tuple[str, ...]:
        """What the administrator should know of values that have another meaning by now."""
        if self.heavy_workers == "auto" or isinstance(self.heavy_workers, int):
            return ()
        return (
            f'heavy_workers = "{self.heavy_workers}" was a share of the workers; heavy requests'
            ' have workers beside the others now: it counts as "auto", which is as many as these',
        )

    @property
    def stop_timeout(self) -> int:
        """Seconds that a request may be in a worker's hand, and that a stop or a
        start may take."""
        limit = self.kill_timeout
        return limit if isinstance(limit, int) else self.request_timeout + 30

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        """What host names have of their own on the front page, by the keys of front_hosts, but
        `projects` for `project`: a list of names."""
        found: dict[str, dict[str, Any]] = {}
        for line in self.front_hosts:
            host, _, given = line.partition(" ")
            key, _, value = given.partition("=")
            own = found.setdefault(host, {})
            if key == "project":
                own.setdefault("projects", []).append(value)
            else:
                own[key] = value
        return found

    @property
    def named(self) -> dict[str, str]:
        """The projects of named_projects by their names."""
        return dict(line.split("=", 1) for line in self.named_projects)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Projects that settings name, wherever they are."""
        named = (self.project, *self.warmed, *self.named.values())
        return tuple(dict.fromkeys(filter(None, named)))

    @property
    def warmed(self) -> tuple[str, ...]:
        """Projects that workers load when they start, whoever has asked for them."""
        listed = () if isinstance(self.warm, str) else self.warm
        return tuple(dict.fromkeys(filter(None, (self.project, *listed))))

    @property
    def learned(self) -> int:
        """MB up to which a worker loads those that it was asked for lately: a part of what it
        may grow to (memory_recycle) before it is restarted. 0: none."""
        if self.warm != "auto":
            return 0
        return LEARNED if self.memory_recycle == "auto" else megabytes(self.memory_recycle) // 2


SETTINGS: tuple[Declaration, ...] = declarations(Settings)
