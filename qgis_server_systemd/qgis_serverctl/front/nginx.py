# SPDX-License-Identifier: GPL-2.0-or-later
"""NGINX on this machine: what of it is there, and how it is brought to read its files."""

import contextlib
import fnmatch
import hashlib
import os
import pwd
import re
import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from ..pool import connections
from ..pool.host import STOP_TIMEOUT, Host
from ..system import ports, processes, unix_sockets
from ..system.files import read_or_none, write
from ..system.output import Failure, die, warn
from .nginx_config import generated

SERVICE = "nginx.service"


PROGRAM = "/usr/sbin/nginx"


MAIN = "/etc/nginx/nginx.conf"


NEW_WORKERS_TIMEOUT = 10
"""Seconds that NGINX may take to read its configuration."""


STOCK = ("/etc/nginx/sites-enabled/default", "/etc/nginx/conf.d/default.conf")
"""The welcome pages that come with NGINX's packages (Debian, nginx.org)."""


USER = "www-data"
"""Whom Debian's NGINX runs as; the package's units say the same."""


@dataclass(frozen=True)
class Nginx:
    """`user`: whom its workers run as. `uses`: some location may lead to the
    package's upstream. `bars_replies`: the reply cache has files of another user, of which it
    makes errors."""

    installed: bool
    running: bool
    user: str
    uses: bool = True
    bars_replies: bool = False


def _config(host: Host) -> str:
    """NGINX's main file, read as text, since `nginx -T` fails wherever any included
    file has a mistake."""
    return re.sub(r"#.*", "", read_or_none(host.path(MAIN)) or "")


def reads(host: Host, file: str) -> bool:
    """Does NGINX's main file include another one, itself or through one that it includes? By
    the text: `nginx -T` fails where one is missing."""
    seen: set[str] = set()
    due = [MAIN]
    while due:
        now = due.pop()
        if now == file:
            return True
        if now in seen:
            continue
        seen.add(now)
        # A file that is included may hold other text than UTF-8.
        here = host.path(now)
        text = here.read_bytes().decode(errors="replace") if here.is_file() else ""
        for word in re.findall(r"\binclude\s+([^\s;]+)", re.sub(r"#.*", "", text)):
            pattern = os.path.join(os.path.dirname(MAIN), word.strip("\"'"))
            if fnmatch.fnmatchcase(file, pattern):
                return True
            found = host.root.glob(pattern.lstrip("/"))
            due += (f"/{each.relative_to(host.root)}" for each in found)
    return False


def has_conf_d(host: Host) -> bool:
    """Does it read the package's file at http level?"""
    return reads(host, host.package.nginx_http)


INCLUDE = f"sed -i '0,/^http[[:space:]]*{{/s||&\\n    include /etc/nginx/conf.d/*.conf;|' {MAIN}"
"""What has it read that, as with NGINX's packages."""


def endpoints(text: str) -> tuple[ports.Endpoint, ...]:
    """Where NGINX listens by TCP, by the text of its files; without names of hosts."""
    found: dict[ports.Endpoint, None] = {}
    for word, rest in re.findall(r"^\s*listen\s+([^\s;]+)([^;]*);", text, re.MULTILINE):
        if word.startswith("unix:") or "quic" in rest.split():
            continue
        at = re.fullmatch(r"(?:(\[[0-9a-fA-F:]*\]|\*|[0-9.]+|localhost):)?([0-9]+)", word)
        host, port = (at[1], int(at[2])) if at else (word, 80)
        host = {None: "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)
        with contextlib.suppress(ValueError):
            found[ports.Endpoint(ip_address(host.strip("[]")), port)] = None
    return tuple(found)


@dataclass(frozen=True)
class Taken:
    """`endpoint`: where NGINX is to listen, and somebody else does. `holder`: None if it can't
    be told who."""

    endpoint: ports.Endpoint
    holder: ports.Holder | None

    def __str__(self) -> str:
        by = self.holder or "another program"
        return f"NGINX can't listen on {self.endpoint}, where {by} does"


def blocked(
    wanted: Iterable[ports.Endpoint], there: Mapping[int, ports.Endpoint], own: Set[int]
) -> dict[ports.Endpoint, int]:
    """Where NGINX can't listen, with the inode of the socket that is in the way. `own`: inodes of
    its own sockets."""
    others = {inode: at for inode, at in there.items() if inode not in own}
    has = {at for inode, at in there.items() if inode in own}
    found = {}
    for due in wanted:
        if due not in has:
            ways = (inode for inode, at in others.items() if at.excludes(due))
            if (inode := next(ways, None)) is not None:
                found[due] = inode
    return found


def taken(host: Host) -> tuple[Taken, ...]:
    """The ports that NGINX is to have, and another program has."""
    if not host.live or not is_installed(host):
        return ()
    wanted = endpoints(host.outside(PROGRAM, "-T", "-q").stdout)
    master = host.main_pid(SERVICE)
    try:
        own = connections.socket_inodes(master) if master else frozenset()
    except OSError:
        return ()  # only root can tell which ones are its own
    found = blocked(wanted, ports.listening(), own)
    return tuple(Taken(due, ports.holder(inode)) for due, inode in found.items())


def is_installed(host: Host) -> bool:
    return host.path(PROGRAM).exists()


def is_running(host: Host) -> bool:
    up = ("active", "reloading")
    return host.live and host.show(SERVICE, "ActiveState").get("ActiveState") in up


def gather(host: Host) -> Nginx:
    """All that the plan needs to know; runs `nginx -T` where NGINX runs."""
    installed, running = is_installed(host), is_running(host)
    user = _user(host) if installed else USER
    return Nginx(
        installed=installed,
        running=running,
        user=user,
        uses=not running or _uses(host),
        bars_replies=installed and host.live and _bars_replies(host, user),
    )


def _bars_replies(host: Host, user: str) -> bool:
    """NGINX itself gives the folder to its user, but nothing in it."""
    try:
        own = pwd.getpwnam(user).pw_uid
        with os.scandir(host.path(host.package.replies)) as found:
            return any(each.stat(follow_symlinks=False).st_uid != own for each in found)
    except (KeyError, OSError):
        return False


def empty_replies(host: Host) -> None:
    """NGINX stores them again. No link is followed: whose folder it is has no rights of root."""
    top = str(host.path(host.package.replies))
    host.outside("find", top, "-mindepth", "1", "-maxdepth", "1", "-exec", "rm", "-r", "{}", "+")


def _user(host: Host) -> str:
    """As its main file says, else as it was built. While its packages are being installed, the
    program may be there before that file: then whom Debian's runs as."""
    config = _config(host)
    if not config:
        return USER
    if said := re.search(r"^\s*user\s+([^\s;]+)", config, re.MULTILINE):
        return said[1]
    built = host.outside(PROGRAM, "-V").stderr
    if said := re.search(r"\s--user=(\S+)", built):
        return said[1]
    return "nobody" if "configure arguments" in built else USER


def is_set_up(host: Host) -> bool:
    """Has dpkg configured NGINX's package? True where it came another way."""
    owner = host.command("dpkg-query", "-S", PROGRAM).stdout.partition(":")[0]
    asked = host.command("dpkg-query", "-W", "-f", "${db:Status-Status}", owner)
    return not owner or asked.stdout in ("installed", "triggers-awaited", "triggers-pending")


def _uses(host: Host) -> bool:
    """Without such a location there is nothing to reload for, and a reload is not
    free: with buffers of their default size, Debian 12's NGINX cuts replies off."""
    done = host.outside(PROGRAM, "-T", "-q")
    passes = rf"^[^#\n]*\bfastcgi_pass\s+({re.escape(host.package.pool)}\s*;|\S*\$)"
    return done.returncode != 0 or bool(re.search(passes, done.stdout, re.MULTILINE))


def test(host: Host) -> str:
    """What `nginx -t` has to complain about, else an empty string."""
    done = host.outside(PROGRAM, "-t", "-q")
    if done.returncode == 0:
        return ""
    lines = [
        line for line in done.stderr.splitlines() if "[emerg]" in line
    ] or done.stderr.splitlines()
    return lines[0].removeprefix("nginx: [emerg] ") if lines else f"exit status {done.returncode}"


def _files(host: Host) -> tuple[Path, ...]:
    """All files of the package that NGINX reads, also those shipped in it."""
    package = host.package
    params = f"{package.etc}/fastcgi_params"
    own = (package.nginx_snippet, package.nginx_request, package.nginx_site, params)
    return tuple(host.path(file) for file in (*generated(package), *own))


def _digest(host: Host) -> str:
    texts = (read_or_none(file) or "" for file in _files(host))
    return hashlib.sha256("\0".join(texts).encode(errors="surrogateescape")).hexdigest()


def _loaded_mark(host: Host) -> Path:
    return host.path(f"{host.package.run}/nginx-loaded")


def is_loaded(host: Host) -> bool:
    """Has every running NGINX read the package's files as they are now?

    The mark holds their digest as of the last reload by the command. It lies in /run: after a
    boot there is none. An NGINX that somebody else has started or reloaded since the files'
    last change has read them, too.
    """
    if read_or_none(_loaded_mark(host)) == _digest(host):
        return True
    return _has_read(_began(host), _files(host))


COARSE = 0.05
"""Seconds: the clock of /proc is coarse, and so is that of files. No more, since programs such as
certbot change a file and reload NGINX at once."""


def _began(host: Host) -> float | None:
    """When the first of NGINX's processes that take requests began, in seconds since boot; None
    where that can't be told, or none runs."""
    if not is_running(host):
        return None
    master = host.main_pid(SERVICE)
    listening = _listening(master)
    workers = [pid for pid in _worker_pids(master) if not _is_leaving(pid, listening)]
    began = [processes.started(pid) for pid in workers]
    known = [one for one in began if one is not None]
    return min(known, default=None) if len(known) == len(began) else None


def _has_read(began: float | None, files: Iterable[Path]) -> bool:
    """Did processes that began then do so after the last change of the files?"""
    changes = [file.stat().st_ctime for file in files if file.exists()]
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - time.time()
    return began is not None and began > max(changes, default=0.0) + since_boot + COARSE


CERTIFICATE = r"""(?:^|[;{])\s*ssl_(?:(?:client_|trusted_)?certificate(?:_key)?|crl)
\s+["']?([^\s;"'$]+)["']?\s*(?=;)"""
"""A file of which NGINX keeps what was there when it was started or reloaded; one whose name has a
variable is read for each connection."""


def certificates(text: str) -> frozenset[str]:
    """The files with certificates and their keys, by the text of NGINX's files."""
    found = re.findall(CERTIFICATE, text, re.MULTILINE | re.VERBOSE)
    return frozenset(os.path.join(os.path.dirname(MAIN), file) for file in found)


def unread_certificates(host: Host) -> tuple[str, ...]:
    """Those that have changed since NGINX has read them."""
    named = sorted(certificates(host.outside(PROGRAM, "-T", "-q").stdout))
    began = _began(host)
    return tuple(file for file in named if not _has_read(began, (host.path(file),)))


def mark_loaded(host: Host) -> None:
    write(_loaded_mark(host), _digest(host))


def _worker_pids(master: int) -> frozenset[int]:
    """NGINX's worker processes, also those that are shutting down."""
    try:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    except OSError:
        return frozenset()
    return frozenset(map(int, children))


def _listening(master: int) -> frozenset[int]:
    """Inodes of all sockets that listen where NGINX does."""
    found = set(ports.listening(Path(f"/proc/{master}/net")))
    with contextlib.suppress(OSError):
        found |= {one.inode for one in unix_sockets.dump() if one.listening}
    return frozenset(found)


def _is_leaving(pid: int, listening: frozenset[int]) -> bool:
    """Has a worker of NGINX closed its listening sockets? Its title says so, too, but that is
    in its own memory, and one that was taken over can have whoever reads it wait for ever."""
    try:
        return not connections.socket_inodes(pid) & listening
    except OSError:
        return True


def put(host: Host, files: Mapping[str, str]) -> bool:
    """Write generated files; should nginx -t dislike them, put the old ones back
    and raise Failure. Where it complained before, it has no say. Returns whether it was asked, and
    has no complaint."""
    old = {file: read_or_none(host.path(file)) for file in files}
    testable = host.root == Path("/") and is_installed(host)
    _write(host, files)
    if testable and (problem := test(host)):
        _write(host, old)
        if not test(host):
            raise Failure(f"nginx -t: {problem}", "the former files are back")
        _write(host, files)
        return False
    return testable


def _write(host: Host, files: Mapping[str, str | None]) -> None:
    for file, text in files.items():
        if text is None:
            host.path(file).unlink()
        else:
            write(host.path(file), text)


def reload(
    host: Host, *, wait: bool, patience: float = STOP_TIMEOUT, tested: bool = False
) -> frozenset[int]:
    """Make NGINX read its configuration and return once every new request is
    served by it; with `wait`, once no process is left that knows the old one,
    for at most `patience` seconds. `tested`: `put` has just done so.

    Returns the processes that knew the old one. Raises Failure; NGINX then runs
    as before, or an old process still serves.
    """
    if not tested and (problem := test(host)):
        die(f"nginx -t: {problem}", hint="NGINX was not reloaded")
    master = host.main_pid(SERVICE)
    old, listening = _worker_pids(master), _listening(master)
    # Cut off from here on, nobody knows what NGINX has read.
    _loaded_mark(host).unlink(missing_ok=True)
    host.systemctl("reload", SERVICE)
    deadline = time.monotonic() + NEW_WORKERS_TIMEOUT
    while staying := [pid for pid in sorted(old) if not _is_leaving(pid, listening)]:
        if time.monotonic() > deadline:
            why = "; ".join(map(str, taken(host)))
            die(
                f"NGINX did not take up its new configuration: processes {staying} still listen",
                hint=why or "/var/log/nginx/error.log tells why",
            )
        time.sleep(0.02)
    mark_loaded(host)
    if wait:
        wait_until_gone(host, old, patience)
    return old


def wait_until_gone(host: Host, old: frozenset[int], patience: float) -> None:
    """Wait for processes of NGINX to end. Raises Failure after `patience` seconds."""
    master = host.main_pid(SERVICE)
    start = time.monotonic()
    told = False
    while left := old & _worker_pids(master):
        if time.monotonic() > start + patience:
            die(
                f"NGINX's old processes {sorted(left)} still serve requests",
                hint=f"no instance was stopped; run {host.package.command} apply later",
            )
        if not told and time.monotonic() > start + 3:
            warn(f"waiting for requests that NGINX's old processes {sorted(left)} still serve")
            told = True
        time.sleep(0.05)
