# SPDX-License-Identifier: GPL-2.0-or-later
"""The environment variables that QGIS Server reads.

Sources: the source packages of QGIS 3.22.16 (Debian 12) and 3.40.6 (Debian 13),
src/server/qgsserversettings.{h,cpp} and each getenv() of src/server, src/core,
src/providers, src/auth and src/python; the names in the libraries of these two
and of 3.44.15 (testing); a trace of each getenv() of qgis_mapserv.fcgi 3.22.16
and 3.40.6, apart for the start and for the requests. Releases: the "since" marks
of the header, NEWS.md and the dates in ChangeLog of 3.40.6, and QGIS pull
request 61332. A meaning or default below that differs from the QGIS documentation
was tried with both binaries, the addresses of single services with 3.44.15's, too.

What holds for all variables that begin with QGIS_SERVER_:

- The order is environment, then QGIS3.ini, then the default. An empty value
  counts as unset. That isn't so for the others: QGIS_CUSTOM_CONFIG_PATH= makes
  QGIS write below the root folder, DISPLAY= makes it abort.
- A bool is off with 0, false or nothing, and on with any other text: "off" and
  "no" switch it on. A number that isn't one counts as 0.

Left out, as no administrator should set them: NOT_OFFERED, and the parameters of
a request (REQUEST_URI, HTTPS, HTTP_HOST ...), which NGINX sends. Unknown to these
releases: MAX_CACHE_LAYERS (gone since 3.18), and from later ones
QGIS_SERVER_RETRY_BAD_LAYERS, QGIS_SERVER_API_WFS3_ROOT_PATH and
QGIS_SERVER_IGNORE_RENDERING_ERRORS. Only other programs read QGIS_SERVER_ADDRESS,
QGIS_SERVER_PORT (qgis_mapserver) and QGIS_GLOBAL_SETTINGS_FILE (QGIS Desktop).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One environment variable.

    kind: "bool", "int", "text", "path", "url", or "list" of what its help says.
    default: what holds without it; empty for unset.
    since: the first QGIS release that knows it. "3.0" also stands for a variable of
        a library below QGIS, which works with each QGIS 3.
    help: at most 3 lines of 76 characters.
    example: a value that needs no quotes, in an EnvironmentFile= nor in NGINX.
    per_request: looked up (also) while a request is served. libfcgi replaces the
        environment at each request, so that NGINX must send it as fastcgi_param.
    until: the last QGIS release that knows it, if later ones don't.
    """

    name: str
    kind: str
    default: str
    since: str
    help: str
    group: str
    example: str = ""
    per_request: bool = False
    until: str = ""


NOT_OFFERED: tuple[str, ...] = (
    "GITHUB_SHA",
    "QGIS_CONTINUOUS_INTEGRATION_RUN",
    "QGIS_DEBUG_FILE",
    "QGIS_DELIMITED_TEXT_FILE_BUFFER_SIZE",
    "QGIS_GDAL_FORCE_USE_SAME_DATASET",
    "QGIS_LOG_FILE",
    "QGIS_NO_OVERRIDE_IMPORT",
    "QGIS_TEST_REPORT",
    "QGIS_UNTWINE_EXECUTABLE",
    "QGIS_USE_SHARED_MEMORY_KEEP_ALIVE",
    "QGIS_WFS_ITERATOR_TRANSFER_THRESHOLD",
)
"""Read by QGIS as well, for its own tests, for debugging or for QGIS Desktop."""


VARIABLES: tuple[Variable, ...] = (
    Variable(
        name="QGIS_PROJECT_FILE",
        kind="path",
        default="",
        since="2.2",
        help="The one project to serve. Set here, it beats MAP in the address: no other\n"
        "project is served, even if the landing page lists some. Leave it unset to\n"
        "serve many. Also postgresql://... for a project in a database.",
        group="Project and log",
        example="/srv/qgis/projects/world.qgz",
    ),
    Variable(
        name="QGIS_SERVER_LOG_STDERR",
        kind="bool",
        default="false",
        since="3.4",
        help="Write the log to standard error, so that it is in the journal.\n"
        "Here as in each on/off variable of QGIS Server: 1 or true is on, 0 or\n"
        "false is off, and any other text, even 'off' or 'no', is on as well.",
        group="Project and log",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_LOG_LEVEL",
        kind="int",
        default="4, nothing at all",
        since="2.4",
        help="0 everything, with each request and its duration; 1 warnings and errors;\n"
        "2 errors. With 3, which many a recipe has, not even errors are logged.\n"
        "0 also logs query strings, and passwords given in them.",
        group="Project and log",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_LOG_PROFILE",
        kind="bool",
        default="false",
        since="3.16",
        help="Log the time that each step of a request took: loading the project and\n"
        "its layers, rendering. Works with QGIS_SERVER_LOG_LEVEL=0 only.",
        group="Log details",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_LOG_FILE",
        kind="path",
        default="",
        since="2.4",
        help="Log to this file instead; it beats QGIS_SERVER_LOG_STDERR. Deprecated:\n"
        "all workers write into it, and after a rotation they go on writing\n"
        "to the old file until they are restarted.",
        group="Log details",
        example="/var/log/qgis-server/qgis-server.log",
    ),
    Variable(
        name="QGIS_SERVER_PARALLEL_RENDERING",
        kind="bool",
        default="false",
        since="3.0",
        help="Render the layers of one map in several threads. A lone map is ready\n"
        "sooner; with as many workers as cores, a busy server gains nothing and\n"
        "needs more memory and database connections.",
        group="Rendering",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_MAX_THREADS",
        kind="int",
        default="-1, one per core",
        since="3.0",
        help="Threads per worker for parallel rendering, not for all workers together.\n"
        "More than the number of cores counts as -1. Never 1: in QGIS 3.22 it can\n"
        "deadlock (3.40 takes 2 instead).",
        group="Rendering",
        example="2",
    ),
    Variable(
        name="QGIS_SERVER_WMS_MAX_WIDTH",
        kind="int",
        default="-1, no limit",
        since="3.6.2",
        help="Widest image in pixels that WMS renders; a lower limit in the project wins.\n"
        "Without one, a single request can take all memory of a worker.\n"
        "Text that isn't a number counts as 0 and refuses each map.",
        group="Rendering",
        example="8192",
    ),
    Variable(
        name="QGIS_SERVER_WMS_MAX_HEIGHT",
        kind="int",
        default="-1, no limit",
        since="3.6.2",
        help="Highest image in pixels that WMS renders; a lower limit in the project\n"
        "wins. Set it together with QGIS_SERVER_WMS_MAX_WIDTH.",
        group="Rendering",
        example="8192",
    ),
    Variable(
        name="QGIS_SERVER_IGNORE_BAD_LAYERS",
        kind="bool",
        default="false",
        since="3.14",
        help="Serve a project without its layers that can't be opened. Otherwise one\n"
        "broken layer makes each request fail. A layer that was missing stays\n"
        "so until the project is loaded anew, even if its source is back.",
        group="Loading of projects",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_TRUST_LAYER_METADATA",
        kind="bool",
        default="false",
        since="3.16",
        help="Take extents and unique keys of layers from the project instead of asking\n"
        "the data source: large projects on databases load faster. Wrong if the\n"
        "data outgrew the extent after the project was saved.",
        group="Loading of projects",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_FORCE_READONLY_LAYERS",
        kind="bool",
        default="false",
        since="3.28",
        help="Open all layers for reading only. Data files stay unchanged, also a\n"
        "GeoPackage that many workers read; changes by WFS (WFS-T) no longer work.",
        group="Loading of projects",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_DISABLE_GETPRINT",
        kind="bool",
        default="false",
        since="3.16",
        help="Don't load the print layouts of projects, and refuse WMS GetPrint.\n"
        "Projects with many layouts load much faster.",
        group="Loading of projects",
        example="1",
    ),
    Variable(
        name="QGIS_SERVER_PROJECT_CACHE_STRATEGY",
        kind="text",
        default="filesystem",
        since="3.26",
        help="How a changed project is noticed. filesystem: by the kernel, at once, but\n"
        "not on NFS nor in PostgreSQL. periodic: by its time stamp; works with\n"
        "all. off: never; it is kept until the worker is restarted.",
        group="Caches of projects and capabilities",
        example="periodic",
    ),
    Variable(
        name="QGIS_SERVER_PROJECT_CACHE_CHECK_INTERVAL",
        kind="int",
        default="0",
        since="3.26",
        help="Milliseconds between two looks at the projects, with the strategy periodic\n"
        "only. A worker looks when a request comes, so 0 is at each request.\n"
        "Each look asks for all projects in the cache.",
        group="Caches of projects and capabilities",
        example="10000",
    ),
    Variable(
        name="QGIS_SERVER_PROJECT_CACHE_SIZE",
        kind="int",
        default="100",
        since="3.44",
        help="Projects that each worker keeps in memory. When there are more, the one\n"
        "that wasn't used for longest goes and is loaded again when asked for.\n"
        "Before 3.44 the number is always 100.",
        group="Caches of projects and capabilities",
        example="20",
    ),
    Variable(
        name="QGIS_SERVER_CAPABILITIES_CACHE_SIZE",
        kind="int",
        default="40",
        since="3.32",
        help="Projects whose capabilities documents each worker keeps. If there are more,\n"
        "the documents are made anew again and again.\n"
        "Before 3.32 the number is always 40.",
        group="Caches of projects and capabilities",
        example="200",
    ),
    Variable(
        name="QGIS_SERVER_CACHE_DIRECTORY",
        kind="path",
        default="folder cache in the profile",
        since="3.0",
        help="Folder for what workers download from other servers. What rendering\n"
        "threads download (in QGIS 3.40 the tiles and maps) goes to\n"
        "XDG_CACHE_HOME instead, or to cache/directory of QGIS3.ini.",
        group="Cache of downloads",
        example="/var/cache/qgis-server/network",
    ),
    Variable(
        name="QGIS_SERVER_CACHE_SIZE",
        kind="int",
        default="0; in QGIS 3.22 it is 268435456",
        since="3.0",
        help="Size of this cache in bytes (not in MB, as some manuals say). 0 isn't\n"
        "automatic, but no cache. It doesn't hold for rendering threads, either:\n"
        "theirs is 256 MiB or automatic.",
        group="Cache of downloads",
        example="268435456",
    ),
    Variable(
        name="QGIS_SERVER_SERVICE_URL",
        kind="url",
        default="the address of the request",
        since="3.20",
        help="Public address in the capabilities of all projects and services that don't\n"
        "state their own. It replaces MAP as well, so use it with one project.\n"
        "Better: let NGINX send the right host and scheme.",
        group="Public addresses",
        example="https://maps.example.org/ows",
    ),
    Variable(
        name="QGIS_SERVER_WMS_SERVICE_URL",
        kind="url",
        default="",
        since="3.20",
        help="Public address of WMS alone. QGIS 3.22 and 3.40 ignore it: set the address in\n"
        "the project, or send the header X-Qgis-WMS-Service-Url from NGINX.",
        group="Public addresses",
        example="https://maps.example.org/wms",
    ),
    Variable(
        name="QGIS_SERVER_WFS_SERVICE_URL",
        kind="url",
        default="",
        since="3.20",
        help="The same for WFS.",
        group="Public addresses",
        example="https://maps.example.org/wfs",
    ),
    Variable(
        name="QGIS_SERVER_WCS_SERVICE_URL",
        kind="url",
        default="",
        since="3.20",
        help="The same for WCS.",
        group="Public addresses",
        example="https://maps.example.org/wcs",
    ),
    Variable(
        name="QGIS_SERVER_WMTS_SERVICE_URL",
        kind="url",
        default="",
        since="3.20",
        help="The same for WMTS.",
        group="Public addresses",
        example="https://maps.example.org/wmts",
    ),
    Variable(
        name="QGIS_SERVER_API_RESOURCES_DIRECTORY",
        kind="path",
        default="/usr/share/qgis/resources/server/api",
        since="3.10",
        help="Folder with the HTML templates and static files of OGC API Features and\n"
        "the landing page. To change them, copy the default one as a whole.",
        group="OGC API and landing page",
        example="/etc/qgis-server/api",
    ),
    Variable(
        name="QGIS_SERVER_API_WFS3_MAX_LIMIT",
        kind="int",
        default="10000",
        since="3.10",
        help="Most features that one request to OGC API Features can ask for.",
        group="OGC API and landing page",
        example="1000",
    ),
    Variable(
        name="QGIS_SERVER_LANDING_PAGE_PREFIX",
        kind="text",
        default="",
        since="3.20",
        help="Path below which the landing page answers. It must be the one of the\n"
        "location in NGINX. Needs the Debian package qgis-server-landingpage.",
        group="OGC API and landing page",
        example="/maps",
    ),
    Variable(
        name="QGIS_SERVER_LANDING_PAGE_PROJECTS_DIRECTORIES",
        kind="list",
        default="",
        since="3.16",
        help="Folders with the projects that the landing page shows, with || between\n"
        "them. Folders inside them aren't searched. It hides nothing: MAP in the\n"
        "address still opens any project that a worker can read.",
        group="OGC API and landing page",
        example="/srv/qgis/projects||/srv/qgis/drafts",
    ),
    Variable(
        name="QGIS_SERVER_LANDING_PAGE_PROJECTS_PG_CONNECTIONS",
        kind="list",
        default="",
        since="3.16",
        help="PostgreSQL schemas with the projects that the landing page shows, with ||\n"
        "between them. Give no password here: use a service or PGPASSFILE.\n"
        "The list is read from the database at each visit of the page.",
        group="OGC API and landing page",
        example="postgresql://db.example.org:5432?dbname=qgis&schema=projects",
    ),
    Variable(
        name="QGIS_SERVER_DISABLED_APIS",
        kind="text",
        default="",
        since="3.16",
        help="Switches off the landing page if it has the words Landing Page in it.\n"
        "Without that Debian package there is none anyway.",
        group="OGC API and landing page",
        example='"Landing Page"',
        per_request=True,
    ),
    Variable(
        name="QGIS_SERVER_ALLOWED_EXTRA_SQL_TOKENS",
        kind="list",
        default="",
        since="3.28",
        help="Further words that the parameter FILTER of WMS accepts, with commas and no\n"
        "blanks between them. The words go into the SQL of the data source: allow\n"
        "names of harmless functions only.",
        group="Filters and names",
        example="RANDOM,LOWER",
    ),
    Variable(
        name="QGIS_SERVER_APPLICATION_NAME",
        kind="text",
        default="QGIS3 server",
        since="3.30",
        help="A name that only plugins can ask for. In spite of the manual, the name\n"
        "that PostgreSQL sees comes from QGIS_APPLICATION_FULL_NAME.",
        group="Filters and names",
        example="maps",
    ),
    Variable(
        name="QGIS_APPLICATION_FULL_NAME",
        kind="text",
        default="QGIS3 server",
        since="3.30",
        help="Name of the connections in PostgreSQL (application_name), to tell servers\n"
        "apart in pg_stat_activity. QGIS 3.22 always gives QGIS.",
        group="Filters and names",
        example="maps",
    ),
    Variable(
        name="QGIS_SERVER_OVERRIDE_SYSTEM_LOCALE",
        kind="text",
        default="",
        since="3.8",
        help="Language and country for numbers and dates in maps, layouts and feature\n"
        "info, instead of those of LANG.",
        group="Language and numbers",
        example="de_CH",
    ),
    Variable(
        name="QGIS_SERVER_SHOW_GROUP_SEPARATOR",
        kind="bool",
        default="false",
        since="3.8",
        help="Write large numbers with separators, such as 1,234,567.",
        group="Language and numbers",
        example="1",
    ),
    Variable(
        name="LANG",
        kind="text",
        default="that of the system",
        since="3.0",
        help="Language of messages, and format of numbers and dates unless\n"
        "QGIS_SERVER_OVERRIDE_SYSTEM_LOCALE is set.",
        group="Language and numbers",
        example="C.UTF-8",
    ),
    Variable(
        name="LC_ALL",
        kind="text",
        default="",
        since="3.0",
        help="Overrides LANG and the other variables that begin with LC_.",
        group="Language and numbers",
        example="C.UTF-8",
    ),
    Variable(
        name="TZ",
        kind="text",
        default="that of the system",
        since="3.0",
        help="Time zone of the log and of now() in expressions. Where it is unset, the C\n"
        "library looks for a change of /etc/localtime whenever it converts a time,\n"
        "30 times for a map; with the value :/etc/localtime it is that zone, but a\n"
        "change is seen by new workers alone.",
        group="Language and numbers",
        example="Europe/Zurich",
        per_request=True,
    ),
    Variable(
        name="QGIS_OPTIONS_PATH",
        kind="path",
        default="",
        since="2.4",
        help="The profile folder: QGIS/QGIS3.ini, qgis.db and python/plugins are\n"
        "looked for right in it. It beats QGIS_CUSTOM_CONFIG_PATH.\n"
        "Workers write into it.",
        group="Profile and folders",
        example="/var/lib/qgis-server/profile",
    ),
    Variable(
        name="QGIS_CUSTOM_CONFIG_PATH",
        kind="path",
        default="folder QGIS/QGIS3 in XDG_DATA_HOME",
        since="2.18",
        help="Folder that holds the profile as profiles/default, with QGIS/QGIS3.ini in\n"
        "it. Workers write into it. Never leave it empty: they would use\n"
        "/profiles/default.",
        group="Profile and folders",
        example="/var/lib/qgis-server/qgis",
    ),
    Variable(
        name="HOME",
        kind="path",
        default="that of the user",
        since="3.0",
        help="Home folder. Needed at the start and at each request: when NGINX doesn't\n"
        "send it, QGIS and GDAL take / for it, can't write there and lose\n"
        "their cache of downloads.",
        group="Profile and folders",
        example="/var/lib/qgis-server/home",
        per_request=True,
    ),
    Variable(
        name="XDG_CACHE_HOME",
        kind="path",
        default="folder .cache in HOME",
        since="3.0",
        help="Parent of QGIS/QGIS3, the cache of what rendering threads download from\n"
        "other servers. It must come with each request. cache/directory in\n"
        "QGIS3.ini does the same and can differ from worker to worker.",
        group="Profile and folders",
        example="/var/cache/qgis-server",
        per_request=True,
    ),
    Variable(
        name="XDG_DATA_HOME",
        kind="path",
        default="folder .local/share in HOME",
        since="3.0",
        help="Parent of the profile, if neither QGIS_OPTIONS_PATH nor\n"
        "QGIS_CUSTOM_CONFIG_PATH is set; also where fonts are looked for.",
        group="Profile and folders",
        example="/var/lib/qgis-server/share",
    ),
    Variable(
        name="XDG_CONFIG_HOME",
        kind="path",
        default="folder .config in HOME",
        since="3.0",
        help="Folder for small settings files that Qt writes beside the profile.",
        group="Profile and folders",
        example="/var/lib/qgis-server/config",
        per_request=True,
    ),
    Variable(
        name="XDG_RUNTIME_DIR",
        kind="path",
        default="a folder in the one for temporary files",
        since="3.0",
        help="Folder for sockets and the like. Without it, each start logs a warning.",
        group="Profile and folders",
        example="/run/qgis-server",
    ),
    Variable(
        name="TMPDIR",
        kind="path",
        default="/tmp",
        since="3.0",
        help="Folder for temporary files: printed pages, downloads of WFS layers,\n"
        "unpacked .qgz projects. These can be large.",
        group="Profile and folders",
        example="/var/tmp",
        per_request=True,
    ),
    Variable(
        name="QGIS_PREFIX_PATH",
        kind="path",
        default="/usr",
        since="1.8",
        help="Where QGIS is installed. Only for a QGIS outside of the Debian packages:\n"
        "with a wrong one, data providers and services aren't found and each\n"
        "request fails.",
        group="Profile and folders",
        example="/opt/qgis",
    ),
    Variable(
        name="QGIS_AUTH_DB_DIR_PATH",
        kind="path",
        default="the profile folder",
        since="2.12",
        help="Folder of qgis-auth.db, the store of passwords that projects refer to as\n"
        "authcfg. Without this variable each worker has a copy of\n"
        "/var/lib/qgis-server/auth, made when it starts. The workers must be able to\n"
        "write into the folder; if not, it is ignored without a word, and the store of\n"
        "the profile is used.",
        group="Authentication",
        example="/srv/qgis/auth",
    ),
    Variable(
        name="QGIS_AUTH_DB_URI",
        kind="url",
        default="",
        since="3.40",
        help="The same store in a database, for several servers. PostgreSQL needs Qt's\n"
        "driver for it (Debian 13: libqt5sql5-psql). The address holds a password:\n"
        "keep this file unreadable for others.",
        group="Authentication",
        example="QPSQL://qgis:secret@db.example.org:5432/qgis?schema=auth",
    ),
    Variable(
        name="QGIS_AUTH_PASSWORD_FILE",
        kind="path",
        default="",
        since="2.12",
        help="File with the master password of this store in its first line. It must\n"
        "stay readable: QGIS 3.40 opens it at the first use of the store.\n"
        "%d isn't replaced here; for a credential use a drop-in of the unit.",
        group="Authentication",
        example="/etc/qgis-server/auth-password",
    ),
    Variable(
        name="QGIS_PLUGINPATH",
        kind="list",
        default="",
        since="1.5",
        help="Folders with further Python plugins, with : between them. Each plugin with\n"
        "server=True in its metadata.txt is loaded, and can see and change all\n"
        "requests. Those in the profile and in QGIS's own folder come as well.",
        group="Python and plugins",
        example="/usr/share/qgis-server/plugins",
    ),
    Variable(
        name="PYTHONPATH",
        kind="list",
        default="",
        since="3.0",
        help="Folders with Python modules for plugins, with : between them. A plugin sees\n"
        "in os.environ what is in this file, and never what NGINX sends.",
        group="Python and plugins",
        example="/usr/local/lib/qgis-server/python",
    ),
    Variable(
        name="PYTHONFAULTHANDLER",
        kind="bool",
        default="",
        since="3.0",
        help="With any value, a crash writes the stack of the Python code to the\n"
        "journal: a help to find the plugin behind it.",
        group="Python and plugins",
        example="1",
    ),
    Variable(
        name="PYTHONDONTWRITEBYTECODE",
        kind="bool",
        default="",
        since="3.0",
        help="With any value, Python writes no __pycache__ beside the plugins.",
        group="Python and plugins",
        example="1",
    ),
    Variable(
        name="PYQGIS_STARTUP",
        kind="path",
        default="",
        since="2.2",
        help="Python file that each worker runs when it starts, before the plugins.\n"
        "Nobody but root should be able to change it. The package's own, in whose\n"
        "place it comes, makes workers start quicker.",
        group="Python and plugins",
        example="/etc/qgis-server/startup.py",
    ),
    Variable(
        name="DISPLAY",
        kind="text",
        default="",
        since="3.0",
        help="X server, only for plugins or prints that need a real one. When nothing\n"
        "answers there, or with an empty value, a worker aborts at its start.\n"
        "Without it QGIS draws in memory: images and fonts work.",
        group="Display and fonts",
        example=":99",
    ),
    Variable(
        name="QT_QPA_PLATFORM",
        kind="text",
        default="offscreen without DISPLAY, else xcb",
        since="3.0",
        help="How Qt draws. Without DISPLAY, QGIS sets it to offscreen, whatever stands\n"
        "here; with DISPLAY, offscreen keeps QGIS from looking for an X server.",
        group="Display and fonts",
        example="offscreen",
    ),
    Variable(
        name="FONTCONFIG_FILE",
        kind="path",
        default="/etc/fonts/fonts.conf",
        since="3.0",
        help="Configuration of fonts. After new fonts, restart the workers.",
        group="Display and fonts",
        example="/etc/qgis-server/fonts.conf",
    ),
    Variable(
        name="FONTCONFIG_PATH",
        kind="path",
        default="/etc/fonts",
        since="3.0",
        help="Folder where the configuration of fonts is looked for.",
        group="Display and fonts",
        example="/etc/qgis-server/fonts",
    ),
    Variable(
        name="PGSERVICEFILE",
        kind="path",
        default=".pg_service.conf in HOME",
        since="3.0",
        help="File with PostgreSQL services, so that projects need to hold just\n"
        "service=NAME. Debian also reads /etc/postgresql-common/pg_service.conf,\n"
        "which needs no variable.",
        group="PostgreSQL",
        example="/etc/qgis-server/pg_service.conf",
        per_request=True,
    ),
    Variable(
        name="PGPASSFILE",
        kind="path",
        default=".pgpass in HOME",
        since="3.0",
        help="File with PostgreSQL passwords. If its mode lets others than its owner, the\n"
        "user of the workers, read it, it is ignored.",
        group="PostgreSQL",
        example="/var/lib/qgis-server/pgpass",
        per_request=True,
    ),
    Variable(
        name="PGSYSCONFDIR",
        kind="path",
        default="/etc/postgresql-common",
        since="3.0",
        help="Folder of the pg_service.conf for the whole system.",
        group="PostgreSQL",
        example="/etc/qgis-server",
        per_request=True,
    ),
    Variable(
        name="PGSERVICE",
        kind="text",
        default="",
        since="3.0",
        help="Service for all layers that name none.",
        group="PostgreSQL",
        example="maps",
        per_request=True,
    ),
    Variable(
        name="PGHOST",
        kind="text",
        default="/var/run/postgresql",
        since="3.0",
        help="Server, or folder of the socket, for layers that name none.",
        group="PostgreSQL",
        example="db.example.org",
        per_request=True,
    ),
    Variable(
        name="PGPORT",
        kind="int",
        default="5432",
        since="3.0",
        help="Port for layers that name none.",
        group="PostgreSQL",
        example="5432",
        per_request=True,
    ),
    Variable(
        name="PGDATABASE",
        kind="text",
        default="the name of the user",
        since="3.0",
        help="Database for layers that name none.",
        group="PostgreSQL",
        example="maps",
        per_request=True,
    ),
    Variable(
        name="PGUSER",
        kind="text",
        default="the user of the workers",
        since="3.0",
        help="User for layers that name none.",
        group="PostgreSQL",
        example="qgis",
        per_request=True,
    ),
    Variable(
        name="PGPASSWORD",
        kind="text",
        default="",
        since="3.0",
        help="Password for layers that have none. Anybody who can read the configuration\n"
        "of NGINX sees it, and so does the expression env('PGPASSWORD') of any\n"
        "project: use PGPASSFILE instead.",
        group="PostgreSQL",
        example="secret",
        per_request=True,
    ),
    Variable(
        name="PGSSLMODE",
        kind="text",
        default="prefer",
        since="3.0",
        help="Encryption for layers that state none. verify-full also checks who the\nserver is.",
        group="PostgreSQL",
        example="verify-full",
        per_request=True,
    ),
    Variable(
        name="PGSSLROOTCERT",
        kind="path",
        default=".postgresql/root.crt in HOME",
        since="3.0",
        help="Certificates of the authorities that verify-ca and verify-full trust.",
        group="PostgreSQL",
        example="/etc/ssl/certs/ca-certificates.crt",
        per_request=True,
    ),
    Variable(
        name="PGSSLCERT",
        kind="path",
        default=".postgresql/postgresql.crt in HOME",
        since="3.0",
        help="Certificate of this client.",
        group="PostgreSQL",
        example="/etc/qgis-server/client.crt",
        per_request=True,
    ),
    Variable(
        name="PGSSLKEY",
        kind="path",
        default=".postgresql/postgresql.key in HOME",
        since="3.0",
        help="Key of this certificate. No other user than that of the workers may be able\n"
        "to read it.",
        group="PostgreSQL",
        example="/var/lib/qgis-server/client.key",
        per_request=True,
    ),
    Variable(
        name="PGOPTIONS",
        kind="text",
        default="",
        since="3.0",
        help="Settings of each new connection, such as a limit in milliseconds for\n"
        "queries: a hanging database then no longer blocks all workers.",
        group="PostgreSQL",
        example='"-c statement_timeout=60000"',
        per_request=True,
    ),
    Variable(
        name="PGTARGETSESSIONATTRS",
        kind="text",
        default="any",
        since="3.0",
        help="Which one of several servers to take: read-write, read-only, or\n"
        "prefer-standby to spare the primary one.",
        group="PostgreSQL",
        example="prefer-standby",
        per_request=True,
    ),
    Variable(
        name="GDAL_CONFIG_FILE",
        kind="path",
        default=".gdal/gdalrc in HOME",
        since="3.0",
        help="File with lines NAME=VALUE below [configoptions], for any option of GDAL.\n"
        "It is read at the start and holds for all requests, so it can replace\n"
        "the GDAL variables that NGINX has to send (GDAL 3.3 and later).",
        group="GDAL",
        example="/etc/qgis-server/gdalrc",
    ),
    Variable(
        name="GDAL_CACHEMAX",
        kind="text",
        default="5%",
        since="3.0",
        help="Memory of each worker for blocks of rasters: below 100000 in MB, else in\n"
        "bytes, or a share of the machine's memory such as 2%. Mind the number\n"
        "of workers. The first request that reads a raster fixes it.",
        group="GDAL",
        example="256",
        per_request=True,
    ),
    Variable(
        name="GDAL_NUM_THREADS",
        kind="text",
        default="1",
        since="3.0",
        help="Threads for unpacking rasters and the like; ALL_CPUS for one per core.\n"
        "With as many workers as cores it gains nothing.",
        group="GDAL",
        example="2",
        per_request=True,
    ),
    Variable(
        name="GDAL_DISABLE_READDIR_ON_OPEN",
        kind="text",
        default="FALSE",
        since="3.0",
        help="TRUE or EMPTY_DIR: don't list the folder of each file that is opened.\n"
        "Faster with large folders and with files on web servers. EMPTY_DIR\n"
        "also overlooks files beside it, such as .ovr and .tfw.",
        group="GDAL",
        example="EMPTY_DIR",
        per_request=True,
    ),
    Variable(
        name="VSI_CACHE",
        kind="bool",
        default="FALSE",
        since="3.0",
        help="TRUE: keep parts of files that were read, for each open file on its own.\n"
        "Helps with network folders and web servers.",
        group="GDAL",
        example="TRUE",
        per_request=True,
    ),
    Variable(
        name="VSI_CACHE_SIZE",
        kind="int",
        default="25000000",
        since="3.0",
        help="Size of VSI_CACHE in bytes, for each open file.",
        group="GDAL",
        example="5000000",
        per_request=True,
    ),
    Variable(
        name="CPL_VSIL_CURL_CACHE_SIZE",
        kind="int",
        default="16777216",
        since="3.0",
        help="Memory in bytes for parts of files on web servers (/vsicurl/, /vsis3/).",
        group="GDAL",
        example="67108864",
        per_request=True,
    ),
    Variable(
        name="CPL_VSIL_CURL_ALLOWED_EXTENSIONS",
        kind="list",
        default="all",
        since="3.0",
        help="Endings of the files that GDAL reads from web servers, with commas between\n"
        "them. Saves requests for files beside a raster that aren't there.",
        group="GDAL",
        example=".tif,.vrt",
        per_request=True,
    ),
    Variable(
        name="GDAL_HTTP_TIMEOUT",
        kind="int",
        default="no limit",
        since="3.0",
        help="Seconds that GDAL waits for a web server. Without a limit, a hanging one\n"
        "holds a worker for ever.",
        group="GDAL",
        example="30",
        per_request=True,
    ),
    Variable(
        name="GDAL_HTTP_CONNECTTIMEOUT",
        kind="int",
        default="that of curl, 300",
        since="3.0",
        help="Seconds that GDAL waits until a web server takes the connection.",
        group="GDAL",
        example="5",
        per_request=True,
    ),
    Variable(
        name="GDAL_HTTP_MAX_RETRY",
        kind="int",
        default="0",
        since="3.0",
        help="How often GDAL asks again when a web server fails for the moment.",
        group="GDAL",
        example="2",
        per_request=True,
    ),
    Variable(
        name="AWS_REGION",
        kind="text",
        default="us-east-1",
        since="3.0",
        help="Region of the object store behind /vsis3/.",
        group="GDAL",
        example="eu-central-1",
        per_request=True,
    ),
    Variable(
        name="AWS_S3_ENDPOINT",
        kind="text",
        default="s3.amazonaws.com",
        since="3.0",
        help="Server of the object store behind /vsis3/, if it isn't Amazon's.",
        group="GDAL",
        example="s3.example.org",
        per_request=True,
    ),
    Variable(
        name="AWS_NO_SIGN_REQUEST",
        kind="bool",
        default="NO",
        since="3.0",
        help="YES: read public files of /vsis3/ without keys.",
        group="GDAL",
        example="YES",
        per_request=True,
    ),
    Variable(
        name="CPL_AWS_CREDENTIALS_FILE",
        kind="path",
        default=".aws/credentials in HOME",
        since="3.0",
        help="File with the keys for /vsis3/. Better than keys in the configuration of\n"
        "NGINX, which more people can read.",
        group="GDAL",
        example="/var/lib/qgis-server/aws-credentials",
        per_request=True,
    ),
    Variable(
        name="OGR_SQLITE_JOURNAL",
        kind="text",
        default="that of the file",
        since="3.0",
        help="Journal of SQLite files other than GeoPackages. Those have DELETE:\n"
        "with WAL, several workers would lose edits.",
        group="GDAL",
        example="DELETE",
        per_request=True,
    ),
    Variable(
        name="QGIS_GPKG_FC_THRESHOLD",
        kind="int",
        default="100000",
        since="3.2",
        help="Number of features up to which QGIS counts those of a GeoPackage layer\n"
        "exactly when it opens one without a stored count.",
        group="GDAL",
        example="10000",
        per_request=True,
    ),
    Variable(
        name="GDAL_PAM_ENABLED",
        kind="bool",
        default="YES",
        since="3.0",
        help="NO: neither read nor write the .aux.xml files beside rasters.",
        group="GDAL",
        example="NO",
        per_request=True,
    ),
    Variable(
        name="CPL_TMPDIR",
        kind="path",
        default="TMPDIR",
        since="3.0",
        help="Folder for temporary files of GDAL.",
        group="GDAL",
        example="/var/tmp",
        per_request=True,
    ),
    Variable(
        name="CPL_DEBUG",
        kind="text",
        default="OFF",
        since="3.0",
        help="ON, or names such as GPKG,GTIFF: GDAL tells in the journal what it does.\n"
        "For the search of an error only.",
        group="GDAL",
        example="ON",
        per_request=True,
    ),
    Variable(
        name="GDAL_DATA",
        kind="path",
        default="/usr/share/gdal",
        since="3.0",
        help="Folder of GDAL's own tables. Only for a GDAL outside of the Debian packages.",
        group="GDAL",
        example="/opt/gdal/share/gdal",
    ),
    Variable(
        name="GDAL_DRIVER_PATH",
        kind="list",
        default="that of the package",
        since="3.0",
        help="Folders with further drivers of GDAL, with : between them; disable for none.",
        group="GDAL",
        example="/opt/gdal/lib/gdalplugins",
    ),
    Variable(
        name="OGR_SKIP",
        kind="list",
        default="",
        since="3.0",
        help="Vector drivers that GDAL doesn't load, with commas between them. For rasters\n"
        "use gdal/skipDrivers in QGIS3.ini: QGIS overwrites GDAL_SKIP.",
        group="GDAL",
        example="ODBC,CAD",
    ),
    Variable(
        name="PROJ_DATA",
        kind="list",
        default="/usr/share/proj",
        since="3.0",
        help="Folders of PROJ's database and of grids for datum shifts, with : between\n"
        "them; they replace the default one (PROJ 9.1 and later). Needed at the\n"
        "start, too: set it in both files.",
        group="PROJ",
        example="/srv/qgis/proj:/usr/share/proj",
        per_request=True,
    ),
    Variable(
        name="PROJ_LIB",
        kind="list",
        default="",
        since="3.0",
        help="Old name of PROJ_DATA, still read if that is unset.",
        group="PROJ",
        example="/srv/qgis/proj:/usr/share/proj",
        per_request=True,
    ),
    Variable(
        name="PROJ_NETWORK",
        kind="bool",
        default="OFF",
        since="3.0",
        help="ON: fetch missing grids for datum shifts from cdn.proj.org while a request\n"
        "waits. Better: put the grids into /usr/share/proj.",
        group="PROJ",
        example="ON",
        per_request=True,
    ),
    Variable(
        name="PROJ_USER_WRITABLE_DIRECTORY",
        kind="path",
        default="folder proj in XDG_DATA_HOME",
        since="3.0",
        help="Folder where PROJ keeps the grids that it fetched.",
        group="PROJ",
        example="/var/cache/qgis-server/proj",
    ),
    Variable(
        name="http_proxy",
        kind="url",
        default="",
        since="3.0",
        help="Proxy for downloads of GDAL. For WMS, WFS and tiles set it in QGIS3.ini.\n"
        "HTTP_PROXY in capitals would come from a header of the client.",
        group="Network",
        example="http://proxy.example.org:3128",
        per_request=True,
    ),
    Variable(
        name="https_proxy",
        kind="url",
        default="",
        since="3.0",
        help="The same for https addresses.",
        group="Network",
        example="http://proxy.example.org:3128",
        per_request=True,
    ),
    Variable(
        name="no_proxy",
        kind="list",
        default="",
        since="3.0",
        help="Servers to ask without the proxy, with commas between them.",
        group="Network",
        example="localhost,.example.org",
        per_request=True,
    ),
    Variable(
        name="SSL_CERT_FILE",
        kind="path",
        default="that of the system",
        since="3.0",
        help="Certificates of the authorities that GDAL and PROJ trust.",
        group="Network",
        example="/etc/ssl/certs/ca-certificates.crt",
        per_request=True,
    ),
    Variable(
        name="LIBFCGI_IS_AF_UNIX_KEEPER_POLL_TIMEOUT",
        kind="int",
        default="2000",
        since="3.0",
        help="Milliseconds that a worker waits on a new connection for its request.",
        group="FastCGI library",
        example="2000",
    ),
    Variable(
        name="LIBFCGI_OS_CLOSE_POLL_TIMEOUT",
        kind="int",
        default="2000",
        since="3.0",
        help="Milliseconds that a worker waits after a reply for the other side to close.",
        group="FastCGI library",
        example="2000",
    ),
    Variable(
        name="FCGI_WEB_SERVER_ADDRS",
        kind="list",
        default="all",
        since="3.0",
        help="IPv4 addresses that may connect. Without effect on UNIX sockets and IPv6:\n"
        "it protects nothing here.",
        group="FastCGI library",
        example="127.0.0.1",
    ),
    Variable(
        name="MALLOC_ARENA_MAX",
        kind="int",
        default="8 per core",
        since="3.0",
        help="Memory pools of each worker. A few keep it smaller when rendering in\n"
        "threads, at the price of some speed.",
        group="Memory and threads",
        example="2",
    ),
    Variable(
        name="OMP_NUM_THREADS",
        kind="int",
        default="one per core",
        since="3.0",
        help="Threads of numeric libraries with OpenMP. 1 is right for many workers.",
        group="Memory and threads",
        example="1",
    ),
    Variable(
        name="OPENBLAS_NUM_THREADS",
        kind="int",
        default="one per core",
        since="3.0",
        help="Threads that OpenBLAS starts in each worker, for numpy and others, even if\n"
        "nothing uses them. 1 is right for many workers.",
        group="Memory and threads",
        example="1",
    ),
    Variable(
        name="QGIS_PROVIDER_FILE",
        kind="text",
        default="all",
        since="2.10",
        help="Regular expression: only data providers with a matching file name are\n"
        "loaded, which saves memory. Layers of another one are broken then.",
        group="For experts",
        example="postgres|wms|wfs",
    ),
    Variable(
        name="QGIS_AUTHMETHOD_FILE",
        kind="text",
        default="all",
        since="2.12",
        help="The same for authentication methods.",
        group="For experts",
        example="basic|pkipaths",
    ),
    Variable(
        name="QT_LOGGING_RULES",
        kind="text",
        default="",
        since="3.0",
        help="Which messages of Qt to log, such as qt.network.ssl.warning=false; more\n"
        "than one with ; between them.",
        group="For experts",
        example="qt.network.ssl.warning=false",
    ),
    Variable(
        name="QGIS_DEBUG",
        kind="int",
        default="0",
        since="1.7",
        help="How much a QGIS built for debugging tells. Debian's isn't: no effect.",
        group="For experts",
        example="1",
    ),
)
