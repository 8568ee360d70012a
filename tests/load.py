# SPDX-License-Identifier: GPL-2.0-or-later
"""Steady load, run inside a testbed: python3 load.py CLIENTS FILE URL...

Each client sends GETs of the URLs in turn, one connection each, until FILE
exists. Prints JSON: how many requests, and those that failed (any status but
200, or a broken connection).
"""

import http.client
import json
import sys
import threading
import urllib.parse
from pathlib import Path


def client(urls: list[str], stop: Path, sent: list[str], failed: list[str]) -> None:
    turn = 0
    while not stop.exists():
        url = urllib.parse.urlsplit(urls[turn % len(urls)])
        turn += 1
        try:
            connection = http.client.HTTPConnection(url.netloc, timeout=120)
            connection.request("GET", f"{url.path}?{url.query}")
            reply = connection.getresponse()
            body = reply.read()
            connection.close()
            problem = "" if reply.status == 200 else f"{reply.status} {body[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
        sent.append(url.query)
        if problem:
            failed.append(problem)


def main() -> None:
    count, stop, urls = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    sent: list[str] = []
    failed: list[str] = []
    threads = [
        threading.Thread(target=client, args=(urls, stop, sent, failed)) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    Path(f"{stop}.started").touch()
    for thread in threads:
        thread.join()
    print(json.dumps({"sent": len(sent), "failed": failed}))


if __name__ == "__main__":
    main()
