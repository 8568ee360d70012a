# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the documents tell more of a finding, for the links of the status page."""

SITE = "administration#the-site-of-nginx"
CHANGE = "administration#change-settings"
SANDBOX = "security#the-sandbox-of-a-worker"

PLACES = {
    "cache": "performance#reply-cache",
    "certificate": "administration#what-comes-late-or-changes",
    "conf-d": SITE,
    "disk": "administration#files",
    "drained": "administration#run-the-pool",
    "env": CHANGE,
    "folder": SANDBOX,
    "fonts": "administration#installation",
    "front": "administration#the-front-page",
    "instance": "administration#run-the-pool",
    "layer": "administration#health-of-projects",
    "location": SITE,
    "maintenance": "administration#health-for-load-balancers",
    "memory": "security#limits",
    "metrics": "administration#metrics-for-prometheus",
    "monitor": "reliability",
    "nginx": SITE,
    "out-of-balance": "administration#health-for-load-balancers",
    "pending": CHANGE,
    "pool-busy": "performance#heavy-requests",
    "pool-stopped": "administration#run-the-pool",
    "port": SITE,
    "project": "administration#health-of-projects",
    "queue": CHANGE,
    "sandbox": SANDBOX,
    "secret": "security#secrets",
    "settings": CHANGE,
    "socket": "security#the-sockets",
    "sockets": "security#the-sockets",
    "start-refused": SANDBOX,
    "system-call": SANDBOX,
    "unit": CHANGE,
    "upstream": SITE,
    "user": "administration#installation",
    "worker": "reliability",
}
"""Document and section, by the id of a finding or what it begins with."""


def place(id: str) -> str:
    """Empty if nothing is told."""
    words = id.split("-")
    begins = ("-".join(words[:count]) for count in range(len(words), 0, -1))
    return next((PLACES[begin] for begin in begins if begin in PLACES), "")
