# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pool may be called, so that two of them never have a unit, file, user or NGINX
name in common, whatever the two are called."""

import re

LONGEST = 20
"""PCRE2 takes names of groups of up to 32 letters (pcre2pattern(3)); NGINX's variables
become such names with up to nine more."""

RESERVED = frozenset(
    (
        "adopt", "apply", "cache", "connections", "env", "facts", "front", "heavy", "landing",
        "leave", "maintenance", "metrics", "monitor", "none", "notify", "projects", "rate",
        "replies", "requests", "roll", "settings", "site", "systemd", "unavailable", "wake",
    )
)  # fmt: skip
"""Words that this package appends to the name of its pool: the cache unit of the pool a-b
would write to the folder of a pool a-b-cache."""

FOREIGN = ("debian", "systemd", "www")
"""First words of users, units and folders of Debian's own, such as www-data."""


SHAPE = r"[a-z][a-z0-9]*(-[a-z0-9]+)+"
"""A regular expression for two words or more."""


def fault(name: str) -> str:
    """Why a pool can't be called so; empty if it can."""
    words = name.split("-")
    if not re.fullmatch(SHAPE, name):
        return "is not two or more words of small letters and digits with dashes between them"
    if len(name) > LONGEST:
        return f"has more than {LONGEST} letters"
    if words[0] in FOREIGN:
        return f"begins like names of Debian's own ({words[0]}-)"
    if words[-1] in RESERVED:
        return f"ends like names that the package makes of its pool's (-{words[-1]})"
    if words[-1].isdigit():
        return "ends like the name of an instance's socket, with a number"
    return ""
