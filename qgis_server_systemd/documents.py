# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents as pages, for the links of the status page."""

import re
from itertools import count, pairwise

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token

from .qgis_serverctl.config.names import Package
from .sources import HERE, TOP

SHOWN = ("administration", "performance", "recipes", "reliability", "security")

TEMPLATE = HERE / "templates" / "document.html"

WIDE = re.compile(r"<(pre|table)>.*?</\1>", re.DOTALL)
"""What may be wider than a screen."""


def pages(env: jinja2.Environment, package: Package) -> dict[str, str]:
    """The pages by file name. Each is static, and none has a link to another host."""
    template = env.from_string(TEMPLATE.read_text(encoding="utf-8"))
    found = {}
    for name in SHOWN:
        title, text = page((TOP / "docs" / f"{name}.md").read_text(encoding="utf-8"))
        found[f"{name}.html"] = template.render(
            package=package, usual=Package(), title=title, text=text
        )
    return found


def page(source: str) -> tuple[str, str]:
    """The title, and the HTML of all. Headings have the ids that their links name."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(source)
    headings = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            headings.append(inline.content)
            token.attrSet("id", anchor(inline.content))
        elif token.type == "th_open":
            token.attrs = {"scope": "col"}
        elif token.type == "td_open":
            # How it is aligned would be a style, which the page's policy forbids.
            token.attrs = {}
        for link in inline.children or ():
            lead(link)
    numbers = count(1)
    text = WIDE.sub(
        lambda found: (
            '<div class="scroll" tabindex="0" role="region" '
            f'aria-label="Table or commands {next(numbers)}">{found[0]}</div>'
        ),
        parser.renderer.render(tokens, parser.options, {}),
    )
    # Debian takes a file with lines of over 512 characters for one that was generated.
    return headings[0], text.replace("</code>, <code>", "</code>,\n<code>")


def lead(link: Token) -> None:
    """Have a link lead to another page, or nowhere but say to what it would."""
    if link.type != "link_open":
        return
    target = str(link.attrs["href"])
    file, hash_, section = target.partition("#")
    name = file.removesuffix(".md")
    if not file or name in SHOWN:
        link.attrs = {"href": f"{name and f'{name}.html'}{hash_}{section}"}
    else:
        link.attrs = {"title": target}


def anchor(heading: str) -> str:
    """As the places where the documents are read as they are make it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
