# SPDX-License-Identifier: GPL-2.0-or-later
"""Several clients add features by WFS-T at the same time, and read after each: run inside a
testbed. Prints what was refused, as JSON: the name of the feature, or "read", with the status and
the beginning of the reply.

    python3 edit.py CLIENTS EACH
"""

import http.client
import json
import sys
import threading

PATH = "/qgis/spare?SERVICE=WFS&VERSION=1.1.0&REQUEST="
BODY = (
    '<Transaction service="WFS" version="1.1.0" xmlns="http://www.opengis.net/wfs" '
    'xmlns:gml="http://www.opengis.net/gml"><Insert><scratch><name>{}</name><geometry><gml:Point>'
    "<gml:coordinates>1,2</gml:coordinates></gml:Point></geometry></scratch></Insert></Transaction>"
)


def ask(method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", timeout=120)
    connection.request(method, path, body, {"Content-Type": "text/xml"})
    reply = connection.getresponse()
    return reply.status, reply.read().decode(errors="replace")


def edit(client: int, count: int, start: threading.Barrier, failed: list[object]) -> None:
    start.wait()
    for number in range(count):
        name = f"added-{client}-{number}"
        status, text = ask("POST", f"{PATH}Transaction", BODY.format(name))
        if status != 200 or "totalInserted>1<" not in text.replace("wfs:", ""):
            failed.append((name, status, text[:300]))
        status, text = ask("GET", f"{PATH}GetFeature&TYPENAME=scratch&MAXFEATURES=1")
        if status != 200 or "scratch" not in text:
            failed.append(("read", status, text[:300]))


def main() -> None:
    clients, each = map(int, sys.argv[1:])
    failed: list[object] = []
    start = threading.Barrier(clients)
    threads = [threading.Thread(target=edit, args=(n, each, start, failed)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(failed))


if __name__ == "__main__":
    main()
