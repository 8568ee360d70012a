# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated requests follow from a seed."""

from __future__ import annotations

from fuzz.making import make

SEED = 1


def test_a_request_follows_from_its_seed_and_number() -> None:
    assert make(SEED, 5) == make(SEED, 5)
    raw = {make(SEED, number).raw for number in range(1000)}
    assert len(raw) > 970
    # The shortest ones happen twice.
    assert len(raw & {make(SEED + 1, number).raw for number in range(1000)}) < 20
