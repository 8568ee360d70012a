# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo: the package in a throw-away container, serving a real map.

Prints its URLs, saves a map as demo.png, serves until Ctrl-C and leaves
nothing else behind.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path

from shared.pool import binary, install, put_package
from testbed import RELEASED, SUITES, Testbed, TestbedError

from qgis_server_systemd.build import build
from qgis_server_systemd.qgis_serverctl.system.output import Failure

MAP = (
    "?SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=countries&STYLES=&CRS=EPSG:4326"
    "&BBOX=-90,-180,90,180&WIDTH=1200&HEIGHT=600&FORMAT=image/png"
)
PROJECTS = "/var/lib/qgis-server/projects"


def say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def own_suite() -> str:
    """The machine's own release where it is one of the suites, else the newest that is released."""
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    codename = values.get("VERSION_CODENAME", "").strip('"')
    return codename if codename in SUITES else RELEASED[-1]


def serve(suite: str, port: int, address: str, picture: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="qgis-server-systemd-demo-") as folder:
        package = binary(build(Path(folder)))
        say(f"starting a container with {suite}")
        with Testbed(suite) as bed:
            put_package(bed, package)
            bed.boot()
            say("apt install ./qgis-server-systemd_*.deb nginx")
            install(bed, "nginx", maps=False)
            bed.run("cp", "-r", "/srv/maps/.", PROJECTS)
            say("qgis-serverctl site enable --project /srv/maps/world.qgz")
            bed.run("qgis-serverctl", "site", "enable", "--project", "/srv/maps/world.qgz")
            used = bed.forward(port=port, address=address)
            base = f"http://{address}:{used}/qgis-server"
            with urllib.request.urlopen(base + MAP, timeout=60) as reply:
                picture.write_bytes(reply.read())
            give_back(picture)
            say(f"saved {picture}")
            print(f"\n  front page:    {base}/")
            print(f"  a map:         {base}{MAP}")
            print(f"  capabilities:  {base}?SERVICE=WMS&REQUEST=GetCapabilities\n")
            say("serving until Ctrl-C")
            signal.pause()


def give_back(file: Path) -> None:
    """With sudo, the file belongs to whoever called it."""
    if "SUDO_UID" in os.environ:
        os.chown(file, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--suite", choices=SUITES, default=own_suite())
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--address", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--picture", type=Path, default=Path("demo.png"), metavar="FILE")
    args = parser.parse_args()
    try:
        serve(args.suite, args.port, args.address, args.picture)
    except KeyboardInterrupt:
        say("ended; nothing is left behind")
        return 0
    except (Failure, TestbedError, AssertionError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
