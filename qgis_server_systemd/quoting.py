# SPDX-License-Identifier: GPL-2.0-or-later
"""How a text is written so that who reads the file reads that text. Pure functions, for
texts of one line that print (see `identity.text`)."""

import re
import textwrap

from .qgis_serverctl.front import nginx_config

_PLAIN = re.compile(r"[A-Za-z0-9_./:,@%+=-]+")

WIDTH = 78


def comment(text: str) -> str:
    """Lines of a comment in a shell script, unit, TOML or NGINX file."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


_TROFF = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)


def troff(text: str) -> str:
    """Text of a manual page that stands there as it is. A dot at the start of a
    line would make it a request; the quote, the other such sign, is replaced anyway."""
    lines = text.translate(_TROFF).splitlines()
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in lines)


def environment(value: str) -> str:
    """A value in an environment file (systemd.exec(5), EnvironmentFile=): in double quotes
    a backslash keeps each of these four signs."""
    if not value or _PLAIN.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\`$])', r"\\\1", value) + '"'


def parameter(value: str) -> str:
    """A value in NGINX's configuration. There is no way to write a dollar."""
    return value if _PLAIN.fullmatch(value) else nginx_config.quoted(value)


def control(value: str) -> str:
    """A text in debian/control, where ${} stands for a dollar (deb-substvars(5))."""
    return value.replace("$", "${}")


def paragraphs(text: str) -> str:
    """The lines of a package's description (deb-control(5)): each with a space before it,
    empty ones as a dot. A second space keeps a line that begins with a dot."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = textwrap.wrap(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)
        parts.append("\n".join(f" {' ' if line.startswith('.') else ''}{line}" for line in lines))
    return control("\n .\n".join(filter(None, parts)))
