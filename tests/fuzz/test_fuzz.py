# SPDX-License-Identifier: GPL-2.0-or-later
"""A slice of the generated requests; `make fuzz` sends more of them."""

from __future__ import annotations

import pytest
from testbed import Snapshot

from fuzz.running import describe, run, target_bed

SEED = 1


def test_nothing_is_told_or_kept_and_the_pool_stays_up(
    installed: Snapshot, pytestconfig: pytest.Config
) -> None:
    with target_bed(installed) as bed:
        outcome = run(bed, SEED, pytestconfig.getoption("fuzz_seconds"), print)
    assert [describe(made) for made in outcome.told] == []
    assert outcome.kept == []
    # Else it would show nothing: some are served, and some refused.
    assert outcome.sent["200"] > 0
    assert outcome.sent["403"] > 0
