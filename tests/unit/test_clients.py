# SPDX-License-Identifier: GPL-2.0-or-later
"""What ordinary clients send is served: none of it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree

import pytest
from shared.allowed_table import DOCUMENT, table
from shared.corpus.cases import read
from shared.expressions import FUNCTIONS
from shared.paths import SHARED

from qgis_server_systemd.worker_plugin.rules import Rules

FILE = SHARED / "clients.txt"
USED = (
    "lower", "intersects", "geom_from_wkt", "to_date", "make_date", "coalesce", "array_contains",
    "string_to_array", "regexp_match", "concat",
)  # fmt: skip
"""Functions of QGIS that the requests use, besides those of FUNCTIONS."""
RULES = Rules(FUNCTIONS.union(USED), side=8192, dpi=600)


def requests() -> Iterator[tuple[str, str, str]]:
    """The client, path and query, and the body of each request."""
    client, lines = "", iter(FILE.read_text("utf-8").splitlines())
    for line in lines:
        if line.startswith("#"):
            client = line[2:]
        elif line.startswith("GET "):
            yield client, line.split(" ", 1)[1], ""
        elif line.startswith("POST "):
            body: list[str] = []
            while text := next(lines):
                body.append(text)
            yield client, line.split(" ")[1], "\n".join(body)


def parameters(query: str, body: str) -> dict[str, str]:
    """As QGIS Server has them: see QgsRequestHandler::parseInput."""
    found = parse_qsl(query, keep_blank_values=True)
    if body.startswith("<"):
        root = ElementTree.fromstring(body)
        found += [(name.rpartition("}")[2], value) for name, value in root.attrib.items()]
        found.append(("REQUEST", root.tag.rpartition("}")[2]))
        found.append(("REQUEST_BODY", body.replace("+", "%2B")))
    elif not body.startswith("{"):
        found += parse_qsl(body, keep_blank_values=True)
    return {name.upper(): value for name, value in found}


def refusal(rules: Rules, target: str, body: str) -> str:
    path, _, query = target.partition("?")
    return rules.refusal(parameters(query, body), body.encode(), unquote(path))


def test_the_requests_are_many_and_of_many_clients() -> None:
    found = list(requests())
    assert len({(target, body) for _, target, body in found}) == len(found) >= 400
    assert len({client for client, _, _ in found}) >= 10


def test_no_request_of_an_ordinary_client_is_refused() -> None:
    refused = [
        f"{reason}: {target[:200]} {body[:200]}"
        for _, target, body in requests()
        if (reason := refusal(RULES, target, body))
    ]
    assert refused == []


@pytest.mark.parametrize("side", ["a", "b"])
def test_no_request_of_the_corpus_is_refused(side: str) -> None:
    """Some of them need what their project allows."""
    rules = Rules(FUNCTIONS, remote=True, side=8192, dpi=600)
    refused = [
        f"{reason}: {request.name}"
        for request in read()
        if (reason := refusal(rules, request.target(side), request.content(side).decode().strip()))
    ]
    assert refused == []


def test_the_document_has_the_table_of_what_is_allowed() -> None:
    """Else run python -m shared.allowed_table in tests."""
    assert table() in DOCUMENT.read_text("utf-8")
