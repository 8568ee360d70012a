# SPDX-License-Identifier: GPL-2.0-or-later
"""What the settings change in the unit of the workers, and what workers then see."""

import os
import re
from collections.abc import Iterator, Mapping

from ..config.names import Package
from ..config.settings import Settings
from ..system.unit_file import mount_units

DATABASES = ("/run/mysqld", "/run/postgresql")
"""Where databases of this machine have their sockets."""


SYSTEM = (
    "/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr",
    *DATABASES, "/var/cache/fontconfig",
)  # fmt: skip
"""What each worker sees of the system: as in its unit."""


RESOLVERS = (
    "/run/NetworkManager", "/run/connman", "/run/nscd", "/run/resolvconf", "/run/systemd/resolve",
)  # fmt: skip
"""Where programs that look up names for others have their sockets, and /etc/resolv.conf leads."""


AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""The certificates of the authorities that the machine trusts; update-ca-certificates(8) replaces
this file last."""


PRIVATE = ("/tmp", "/var/tmp")
"""Folders that workers have for themselves alone (PrivateTmp= in their unit)."""


PROTECTED = ("/home", "/root", "/run/user")
"""What ProtectHome= hides (systemd.exec(5))."""


VARIABLES = {
    "WMS_MAX_WIDTH": "image_size_max",
    "WMS_MAX_HEIGHT": "image_size_max",
    "API_WFS3_MAX_LIMIT": "api_results_max",
}
"""Limits that QGIS Server knows itself: the setting of each variable."""


def lines(package: Package, settings: Settings, *, databases: bool) -> Iterator[str]:
    """Whatever is not as the unit has it. `databases`: there is a service file."""
    usual = Settings()
    values = {
        "TimeoutStopSec": (settings.stop_timeout, usual.stop_timeout),
        "MemoryMax": (settings.memory_max, usual.memory_max),
        "TasksMax": (settings.tasks_max, usual.tasks_max),
        "LimitNOFILE": (settings.open_files_max, usual.open_files_max),
    }
    values |= {
        f"Environment=QGIS_SERVER_{name}": (getattr(settings, key), getattr(usual, key))
        for name, key in VARIABLES.items()
    }
    for key, (value, default) in values.items():
        if value != default:
            yield f"{key}={value}"
    if not settings.network:
        yield "PrivateNetwork=yes"
        # The first line takes back what the unit says.
        yield from ("RestrictAddressFamilies=", "RestrictAddressFamilies=AF_UNIX")
        yield "IPAddressDeny=any"
        # Whoever answers there looks up names in the network.
        yield f"InaccessiblePaths={' '.join(f'-+{folder}' for folder in RESOLVERS)}"
    if databases:
        yield f"Environment=PGSERVICEFILE={package.service_file}"
    if not settings.quick_replies:
        yield f"Environment={package.reply_wait_variable}="
    if settings.system_calls:
        yield f"SystemCallFilter={' '.join(settings.system_calls)}"


def bound(package: Package, settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders with projects and data that workers can read, and that they can write to
    as well: what a setting makes writable is so, whatever other settings name it or what is in
    it."""
    named = (package.projects, *settings.data_folders, *settings.project_folders)
    writable = settings.writable_folders
    readable = (folder for folder in dict.fromkeys(named) if not is_in(folder, writable))
    return tuple(readable), writable


def watched(package: Package, settings: Settings) -> tuple[str, ...]:
    """The folders that may come late or be replaced while workers run: those of projects and
    data, and where other services have their sockets. A service that is installed or started
    anew may make its folder again."""
    readable, writable = bound(package, settings)
    return *readable, *writable, *DATABASES, *(RESOLVERS if settings.network else ())


def read_at_start(package: Package) -> tuple[str, ...]:
    """Files, and folders of files, that workers keep as they were: QGIS reads some at its start,
    and a connection to PostgreSQL that is lost comes back with the password that it had."""
    passwords = package.master_password, package.service_file, f"{package.home}/.pgpass"
    return package.auth, *passwords, AUTHORITIES


def folders(package: Package, settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines of [Unit] and [Service] for the drop-in that takes the place of the package's,
    which has the default; none for the default."""
    readable, writable = bound(package, settings)
    if (readable, writable) == bound(package, Settings()):
        return (), ()
    every = (*readable, *writable)
    # Not Requires=: where a file system is missing, other projects are served all the same.
    mounts = dict.fromkeys(unit for folder in every for unit in mount_units(folder))
    hidden = any(is_in(folder, PROTECTED) for folder in every)
    lines = ["ProtectHome=tmpfs"] if hidden else []
    for key, paths in (("BindReadOnlyPaths", readable), ("BindPaths", writable)):
        lines += [f'{key}=-"{path.replace("%", "%%")}"' for path in paths]
    return tuple(f"After={unit.replace('%', '%%')}" for unit in mounts), tuple(lines)


def is_in(path: str, folders: tuple[str, ...]) -> bool:
    """Is an absolute path one of the folders, or in one?"""
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def readable(package: Package, settings: Settings) -> tuple[str, ...]:
    """All folders of which workers see something, but for those of each worker's own."""
    own = (
        *(package.state, package.run, package.projects, package.cache, f"/run/{package.pool}"),
        *(package.home, package.auth),
    )
    return (
        *SYSTEM,
        *filter(None, (package.program_folder,)),
        *PRIVATE,
        *own,
        *settings.data_folders,
        *settings.project_folders,
        *writable(package, settings),
    )


def writable(package: Package, settings: Settings) -> tuple[str, ...]:
    """The folders that all workers may write to, as far as permissions allow."""
    return *PRIVATE, *settings.writable_folders


def sees(package: Package, settings: Settings, path: str) -> bool:
    """Can workers see a file, as it is named and, if it is a link, where that leads?"""
    folders = readable(package, settings)
    return is_in(path, folders) and is_in(os.path.realpath(path), folders)


PATHS = (
    "GDAL_DATA", "PGPASSFILE", "PGSERVICEFILE", "PROJ_DATA", "PROJ_LIB", "PYQGIS_STARTUP",
    "QGIS_AUTH_DB_DIR_PATH", "QGIS_AUTH_PASSWORD_FILE", "QGIS_PLUGINPATH", "QGIS_PROJECT_FILE",
    "QGIS_SERVER_API_RESOURCES_DIRECTORY", "QGIS_SERVER_CACHE_DIRECTORY",
    "QGIS_SERVER_LANDING_PAGE_PROJECTS_DIRECTORIES", "QGIS_SERVER_LOG_FILE",
)  # fmt: skip
"""Variables that name files or folders; some several ones, with "||" or ":" between them."""


WRITTEN = ("QGIS_AUTH_DB_DIR_PATH", "QGIS_SERVER_CACHE_DIRECTORY")


WRITTEN_FILES = ("QGIS_SERVER_LOG_FILE",)
"""Those that workers write to: folders, and files that they make in one."""


CODE = (
    "GDAL_DRIVER_PATH", "GDAL_PYTHON_DRIVER_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "PYQGIS_STARTUP", "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "QGIS_CUSTOM_CONFIG_PATH",
    "QGIS_PLUGINPATH", "QT_PLUGIN_PATH", "XDG_DATA_HOME",
)  # fmt: skip
"""Those that name where workers find code to run when they start."""


def named(
    variables: Mapping[str, str], names: tuple[str, ...] = PATHS
) -> Iterator[tuple[str, str]]:
    """The paths in variables, with the variable's name."""
    for name in names:
        for path in re.split(r"\|\||:(?=/)", variables.get(name, "")):
            if path.startswith("/"):
                yield name, path


def is_allowed(package: Package, settings: Settings, name: str, path: str) -> bool:
    """May workers do with a variable's path what they do?"""
    if name not in (*WRITTEN, *WRITTEN_FILES):
        return sees(package, settings, path)
    folders = (package.cache, *writable(package, settings))
    return is_in(os.path.realpath(path), folders)


def is_left_by_workers(package: Package, settings: Settings, path: str) -> bool:
    """Can a worker put something there that another one, or its successor, finds?"""
    real = os.path.realpath(path)
    kept = map(os.path.realpath, (package.cache, *settings.writable_folders))
    return any(is_in(real, (folder,)) or is_in(folder, (real,)) for folder in kept)


def remedy(name: str, path: str) -> tuple[str, str]:
    """The setting and the folder to add to it."""
    if name in WRITTEN_FILES:
        return "writable_folders", os.path.dirname(path)
    if name in WRITTEN:
        return "writable_folders", path
    return "data_folders", path if os.path.isdir(path) else os.path.dirname(path)
