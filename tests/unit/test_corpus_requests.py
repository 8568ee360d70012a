# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests of the corpus."""

from __future__ import annotations

from shared.corpus.cases import read

REQUESTS = {request.name: request for request in read()}


def test_the_corpus_is_what_it_is_meant_to_be() -> None:
    assert len(list(read())) == len(REQUESTS) >= 150, "each request has a name of its own"
    assert len({request.project for request in REQUESTS.values()}) >= 12
    assert all(request.unlike in {"", *REQUESTS} for request in REQUESTS.values())
