# SPDX-License-Identifier: GPL-2.0-or-later
"""What NGINX tells of each request, for metrics and for a log (setting request_log). Pure
functions."""

import re

from ..config.names import Package
from ..config.settings import Settings
from ..config.values import NAME
from ..system.template import render

SERVICES = ("WMS", "WFS", "WCS", "WMTS")
"""In capitals; those of the OGC API are told by their path."""

REQUESTS = (
    "DescribeFeatureType", "DescribeLayer", "GetCapabilities", "GetContext", "GetCoverage",
    "DescribeCoverage", "GetFeature", "GetFeatureInfo", "GetLegendGraphic", "GetLegendGraphics",
    "GetMap", "GetPrint", "GetPrintAtlas", "GetProjectSettings", "GetSchemaExtension",
    "GetStyles", "GetTile", "Transaction",
)  # fmt: skip
"""As the standards and QGIS Server write them. Anything else is "other"."""


def http_text(package: Package, settings: Settings, *, counted: bool) -> str:
    """The part of NGINX's file at http level. `counted`: somebody listens to them."""
    name = f"{package.pool}-facts"
    logs = [f"syslog:server=unix:{package.facts_socket},nohostname,tag=facts {name}"] * counted
    # Each process writes once a second, not once for each request.
    logs += [f"{package.request_log} {name} buffer=64k flush=1s"] * settings.request_log
    return render(
        "nginx-http-facts.conf",
        {
            "pool": package.pool,
            "var": package.nginx_variable,
            "landing": re.escape(package.url_prefix),
            "below": re.escape(package.projects_prefix),
            "name": NAME,
            "services": "\n".join(f"    {word} {word};" for word in SERVICES),
            "requests": "\n".join(f"    {word} {word};" for word in REQUESTS),
            "logs": "\n".join(
                f"access_log {log} if=${package.nginx_variable}_told;" for log in logs
            ),
        },
    )
