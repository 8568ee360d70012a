# SPDX-License-Identifier: GPL-2.0-or-later
"""What the documents show: links that lead somewhere, and commands that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from shared.book import BOOK, recipe
from shared.documents import README, SHOWN, commands, sections
from shared.looks import finding_ids
from shared.paths import TESTS, TOP

from qgis_server_systemd import cli, documents
from qgis_server_systemd.qgis_serverctl import cli as server_cli
from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.metrics import places
from qgis_server_systemd.render import environment
from qgis_server_systemd.site import load

PARSERS = {
    "qgis-serverctl": lambda: server_cli.parser(Package()),
    "qgis-server-systemd": cli.parser,
}


def test_each_command_is_in_a_section_that_is_run() -> None:
    run = {"Install", "Daily tasks", "Your own package", "Your own repository",
           "Try it and develop"}  # fmt: skip
    assert {name for name, found in SHOWN.items() if found} == run


DOCUMENTS = sorted([README, *TOP.glob("docs/*.md")])

PARTS = {
    f"{file.stem}: {command}": command
    for file in DOCUMENTS
    for command in commands(file.read_text())
    if command.split()[0] in PARSERS and not re.search("[…]|COMMAND", command)
}


def anchors(file: Path) -> set[str]:
    """What a link may name of a document: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)", file.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_links_lead_somewhere(file: Path) -> None:
    for name, anchor in re.findall(r"\]\(([^:)#]*)(?:#([^)]*))?\)", file.read_text()):
        target = file.parent / name if name else file
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_the_tests_it_names_are_there(file: Path) -> None:
    sources = sorted(TESTS.rglob("test_*.py"))
    texts = "".join(source.read_text() for source in sources)
    for name, cut in re.findall(r"`(?:[\w/]*/)?(test_[\w.]+)(…)?`", file.read_text()):
        if not cut and (name.endswith(".py") or f"{name}.py" in (file.name for file in sources)):
            assert name.removesuffix(".py") in {source.stem for source in sources}, name
        else:
            assert f"def {name}{'' if cut else '('}" in texts, name


def test_the_status_page_leads_to_more_of_each_finding() -> None:
    ids = finding_ids("error", "warning", "Finding", "Words")
    assert len(ids) > 50
    assert [id for id in ids if not places.place(id)] == []
    index = TOP / "debian/root/usr/share/qgis-server-systemd/status/index.html"
    links = re.findall(r'href="([a-z]+)\.html(#[^"]+)?"', index.read_text())
    assert len(links) > 5
    pages = documents.pages(environment(), Package())
    for place in (*places.PLACES.values(), *map("".join, links)):
        name, _, anchor = place.partition("#")
        assert re.fullmatch("[a-z]+(#[a-z0-9-]+)?", place), place
        assert not anchor or f' id="{anchor}">' in pages[f"{name}.html"], place


def test_documents_as_pages() -> None:
    source = """\
# The `title`
See [this](recipes.md#a-b), [that](#c), [a third](https://acme.example) and <b>.

| One | Two |
|---|--:|
| `1` | 2 |

* An item

      a command
"""
    assert documents.page(source) == (
        "The `title`",
        """\
<h1 id="the-title">The <code>title</code></h1>
<p>See <a href="recipes.html#a-b">this</a>, <a href="#c">that</a>, \
<a title="https://acme.example">a third</a> and &lt;b&gt;.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table or commands 1"><table>
<thead>
<tr>
<th scope="col">One</th>
<th scope="col">Two</th>
</tr>
</thead>
<tbody>
<tr>
<td><code>1</code></td>
<td>2</td>
</tr>
</tbody>
</table></div>
<ul>
<li>
<p>An item</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table or commands 2">\
<pre><code>a command
</code></pre></div>
</li>
</ul>
""",
    )
    # The policy of the page would refuse a style.
    pages = documents.pages(environment(), Package())
    assert [name for name, text in pages.items() if " style=" in text or "<script" in text] == []


@pytest.mark.parametrize("command", PARTS.values(), ids=PARTS.keys())
def test_the_documents_show_commands_that_there_are(command: str) -> None:
    program, *words = shlex.split(command)
    try:
        PARSERS[program]().parse_args(words)
    except SystemExit as end:
        assert end.code == 0, command  # --help and --version


RECIPES = sections(BOOK)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_tried(name: str) -> None:
    tests = [TESTS / "server" / f"test_{file}.py" for file in ("recipes", "corpus")]
    assert any(f'recipe("{name}")' in test.read_text() for test in tests)


def test_a_site_in_the_book_is_right(tmp_path: Path) -> None:
    (site,) = (step.text for name in RECIPES for step in recipe(name) if "[package]" in step.text)
    file = tmp_path / "site.toml"
    file.write_text(site)
    assert load(file).package.name == "acme-city-systemd"
