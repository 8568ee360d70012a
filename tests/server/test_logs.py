# SPDX-License-Identifier: GPL-2.0-or-later
"""``logs`` on a server whose projects are broken."""

from __future__ import annotations

import re
import shlex

from shared.pool import MAP, ctl, is_served, wait_for
from testbed import Testbed

BAD = MAP.replace("world.qgz", "nonsense.qgs")


def test_logs_of_a_broken_project(server: Testbed) -> None:
    ctl(server, "site", "enable")
    (server.root / "srv/maps/nonsense.qgs").write_text("<qgis><a></qgis>")
    is_served(server)
    assert server.fetch(BAD).status == 500
    loading = "Error when loading project file '/srv/maps/nonsense.qgs'"
    wait_for(lambda: loading in ctl(server, "logs"), "the journal has it")
    said = ctl(server, "logs", "--lines", "2000")
    assert "Started qgis-server@1.service" in said
    assert "Listening on qgis-server@2.socket" in said
    assert "Loading native module" in said

    # The text of an exception is in lines of its own that tell no level.
    critical = ctl(server, "logs", "--level", "critical").splitlines()
    assert all("CRITICAL" in line for line in critical)
    assert loading in critical[-1]
    assert re.match(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d testbed qgis-server\[\d+\]: ", critical[-1])
    warnings = ctl(server, "logs", "--level", "warning")
    assert "<ServerException>Project file error" in warnings
    assert "Loading native module" not in warnings
    assert "GDAL_SKIP" not in warnings
    assert len(ctl(server, "logs", "--level", "warning", "--lines", "1").splitlines()) == 1

    served_by = next(n for n in (1, 2) if loading in ctl(server, "logs", "--instance", str(n)))
    other = ctl(server, "logs", "--instance", str(3 - served_by))
    assert loading not in other
    assert f"qgis-server@{3 - served_by}.service" in other
    assert "qgis-server-apply" not in other
    assert ctl(server, "logs", "--since", "+1h") == "there is no such entry\n"
    assert loading in ctl(server, "logs", "--since", "-1h"), "as the documents have it"
    assert ctl(server, "logs", "--level", "info", "--since", "+1h") == "there is no such entry\n"

    # What comes while one follows, of a worker that is new as well.
    # Ctrl-C is a good end.
    for level in ((), ("--level", "critical")):
        follow = (
            "timeout --preserve-status --signal=INT 120 qgis-serverctl logs --follow "
            f"{' '.join(level)} >/root/followed 2>&1 & follower=$!; "
            # What there is comes first, and what is new follows it without a gap.
            "until [ -s /root/followed ]; do kill -0 $follower || exit 1; sleep 0.1; done; "
            "qgis-serverctl apply --instances 3; "
            f"for n in 1 2 3 4 5 6; do curl --silent --output /dev/null '{BAD}'; done; "
            f"until [ $(grep -c {shlex.quote(loading)} /root/followed) -ge 6 ]; "
            "do kill -0 $follower || exit 1; sleep 0.1; done; "
            "kill -INT $follower; wait $follower; echo $?"
        )
        assert server.out("sh", "-c", follow).splitlines()[-1] == "0"
        followed = (server.root / "root/followed").read_text()
        assert followed.count(loading) >= 6, followed
        assert "Traceback" not in followed

    done = server.run("/usr/sbin/qgis-serverctl", "logs", user="nobody", check=False)
    assert "Traceback" not in done.stderr
