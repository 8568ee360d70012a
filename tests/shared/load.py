# SPDX-License-Identifier: GPL-2.0-or-later
"""Steady load, run inside a testbed: python3 load.py [OPTIONS] CLIENTS FILE URL...

Each client sends GETs of the URLs in turn, one connection each, until FILE
exists, with a pause in between (--pause): this is a steady load, which does not
starve what is done meanwhile. With --kept N, so many more clients keep their
connection; as HTTP lets them (RFC 9110, 9.2.2), they repeat a GET once if a
connection that was used before is closed before the first byte of the reply. With
--same, each reply must be what the URL gave before the load began. With --posts N, so
many more send POSTs of the first URL, one connection each.

Prints JSON: how many requests, and those that failed (any status but 200, a broken
connection, a reply that is cut off or another one, none in --timeout SECONDS), all
together and for each kind of client. `begun` counts the failures of which the client
had seen the beginning of a good reply, `repeated` the repetitions, `slowest` is in
seconds.
"""

import argparse
import hashlib
import http.client
import json
import socket
import threading
import time
import urllib.parse
from pathlib import Path


class Closed(Exception):
    """The connection was closed, and not a byte of the reply had come."""


class Client:
    """Counts what it sends. `same`: digests of what the URLs must give."""

    def __init__(
        self,
        urls: list[str],
        same: dict[str, str],
        timeout: float,
        *,
        keeps: bool = False,
        posts: bool = False,
    ) -> None:
        self.urls, self.same, self.timeout, self.keeps = urls, same, timeout, keeps
        self.method = "POST" if posts else "GET"
        self.body = b"A=1" if posts else None
        self.connection: http.client.HTTPConnection | None = None
        self.sent = self.begun = self.repeated = 0
        self.failed: list[str] = []
        self.slowest = 0.0

    def run(self, stop: Path, turn: int, pause: float) -> None:
        while not stop.exists():
            self.send(self.urls[turn % len(self.urls)])
            turn += 1
            time.sleep(pause)
        self.hang_up()

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def send(self, url: str) -> None:
        start = time.monotonic()
        try:
            problem, begun = self.get(url)
        except Closed as error:
            problem, begun = str(error), False
        self.sent += 1
        self.slowest = max(self.slowest, time.monotonic() - start)
        if problem:
            seconds = time.monotonic() - start
            self.failed.append(f"after {seconds:.1f} s: {problem}: {url[-160:]}")
            self.begun += begun
        if problem or not self.keeps:
            self.hang_up()

    def get(self, url: str) -> tuple[str, bool]:
        if self.connection is not None:
            try:
                return self.ask(self.connection, url)
            except Closed:
                self.hang_up()
                self.repeated += 1
        host = urllib.parse.urlsplit(url).netloc
        self.connection = http.client.HTTPConnection(host, timeout=self.timeout)
        return self.ask(self.connection, url)

    def ask(self, connection: http.client.HTTPConnection, url: str) -> tuple[str, bool]:
        """What is wrong with the reply, and whether it had begun well."""
        parts = urllib.parse.urlsplit(url)
        try:
            connection.request(self.method, f"{parts.path}?{parts.query}", self.body)
            if not connection.sock.recv(1, socket.MSG_PEEK):
                raise Closed("closed without a reply")
        except TimeoutError as error:
            return repr(error), False
        except OSError as error:
            raise Closed(repr(error)) from error
        begun = False
        try:
            reply = connection.getresponse()
            begun = reply.status == 200
            body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)[:200], begun
        if reply.status != 200:
            return f"{reply.status} {body[:200]!r}", False
        # A body that is shorter than its Content-Length, or lacks its last chunk, has
        # raised IncompleteRead.
        if self.same and hashlib.sha256(body).hexdigest() != self.same[url]:
            return f"another reply, of {len(body)} bytes", True
        if reply.will_close:
            self.hang_up()
        return "", True


def total(clients: list[Client]) -> dict[str, object]:
    return {
        "sent": sum(client.sent for client in clients),
        "failed": [problem for client in clients for problem in client.failed],
        "begun": sum(client.begun for client in clients),
        "repeated": sum(client.repeated for client in clients),
        "slowest": max((client.slowest for client in clients), default=0.0),
    }


def digest(url: str) -> str:
    """Of what the URL gives at rest."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=120)
    connection.request("GET", f"{parts.path}?{parts.query}")
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    assert reply.status == 200, f"{url}: {reply.status} {body[:300]!r}"
    return hashlib.sha256(body).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kept", type=int, default=0)
    parser.add_argument("--posts", type=int, default=0)
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--pause", type=float, default=0.15, metavar="SECONDS")
    parser.add_argument("clients", type=int)
    parser.add_argument("stop", type=Path)
    parser.add_argument("urls", nargs="+")
    args = parser.parse_args()
    same = {url: digest(url) for url in args.urls} if args.same else {}
    single = [Client(args.urls, same, args.timeout) for _ in range(args.clients)]
    kept = [Client(args.urls, same, args.timeout, keeps=True) for _ in range(args.kept)]
    posts = [Client(args.urls[:1], same, args.timeout, posts=True) for _ in range(args.posts)]
    threads = [
        threading.Thread(target=client.run, args=(args.stop, turn, args.pause))
        for turn, client in enumerate(single + kept + posts)
    ]
    for thread in threads:
        thread.start()
    Path(f"{args.stop}.started").touch()
    for thread in threads:
        thread.join()
    kinds = {"single": total(single), "kept": total(kept), "posts": total(posts)}
    print(json.dumps(total(single + kept + posts) | kinds))


if __name__ == "__main__":
    main()
