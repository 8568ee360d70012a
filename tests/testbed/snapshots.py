# SPDX-License-Identifier: GPL-2.0-or-later
"""What testbeds begin with beyond a suite's tree: the files of another one, kept as layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from .bed import Snapshot, Testbed
from .layers import cache_folder, cached_layer, digest, hold_layer
from .trees import hold_layers


@contextlib.contextmanager
def cached_snapshot(
    kind: str,
    suite: str,
    fill: Callable[[Testbed], None],
    *recipe: bytes,
    architecture: str = "",
) -> Iterator[Snapshot]:
    """The files of a testbed that `fill` has changed and left at rest. They are made once, for
    all processes and runs, and again when the recipe or the trees below have changed.
    `architecture`: see hold_layers."""
    with contextlib.ExitStack() as stack:
        below = hold_layers(suite, stack, architecture=architecture)
        built = [str((layer / ".built").stat().st_mtime_ns) for layer in below]
        name = digest(*(layer.name for layer in below), *built, *recipe)
        kept = cache_folder() / architecture / kind / f"{suite}-{name}"
        kept.parent.mkdir(parents=True, exist_ok=True)

        def build(new: Path, guard: int) -> None:
            with Testbed(suite, like=Snapshot(suite, tuple(below))) as bed:
                fill(bed)
                bed.snapshot().layers[0].rename(new)

        layer = stack.enter_context(hold_layer(lambda: cached_layer(kept, build)))
        yield Snapshot(suite, (layer, *below))
