"""A guard against becoming slower by a multiple. The margins are wide, so that a busy machine fails nothing."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import raw
from benchmarks.arms import servers
from benchmarks.graphs import chain
from benchmarks.measuring import measure_all
from benchmarks.works import MAP_DEFINITION, Work

CHAIN = Work("chain", "chain of 40 steps", chain(40).definition(), {"chain": raw.chains(1, 40)}, 40)
MAP = Work("map", "map of 400 items", MAP_DEFINITION, {"chord": raw.fan(400)}, 402, params={"count": 400})


def test_a_chain_and_a_map_stay_near_the_raw_canvas(tmp_path: Path) -> None:
    with servers(tmp_path, postgres=False) as running:
        chained, mapped = measure_all(
            [CHAIN, MAP], ["sqlite"], running, tmp_path, repeat=2, environment=dict(os.environ), tell=lambda _: None
        )
    # The better of two rounds: usually 1 and 0.2.
    assert min(chained.ratios("sqlite", "raw: chain")) < 5
    assert min(mapped.ratios("sqlite", "raw: chord")) < 1.5
