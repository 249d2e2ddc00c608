"""W2m beyond what a raw canvas is timed for: whether a map's time grows in step with its items."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.arms import Servers, celeriac_arm
from benchmarks.goals import Figure
from benchmarks.works import map_work

ITEMS = (1_000, 10_000, 100_000)
MOST_OVER_FEWER = 1.3
"""An item of the largest map may cost so many times what one of the second largest does."""

WARM_UP = 3
SLOTS = 2


def measure(
    servers: Servers, folder: Path, databases: list[str], repeat: int
) -> tuple[list[Figure], dict[str, dict[int, list[float]]]]:
    """Medians of `repeat` runs for each size; by database and number of items, the seconds of every run."""
    figures: list[Figure] = []
    found: dict[str, dict[int, list[float]]] = {}
    for database in databases:
        with celeriac_arm(folder / database, servers, database, SLOTS) as arm:
            for _ in range(WARM_UP):
                arm.measure(map_work(ITEMS[0]))
            found[database] = {
                count: [arm.measure(map_work(count)).wall_seconds for _ in range(repeat)] for count in ITEMS
            }
        each = {count: median(seconds) / count for count, seconds in found[database].items()}
        for count in ITEMS:
            figures.append(Figure(f"{database}: {count:,} items", each[count] * count, "s"))
            figures.append(Figure(f"{database}: {count:,} items, an item", each[count] * 1e6, "us"))
        growth = each[ITEMS[-1]] / each[ITEMS[-2]]
        figures.append(
            Figure(f"{database}: an item of {ITEMS[-1]:,} to one of {ITEMS[-2]:,}", growth, "times", MOST_OVER_FEWER)
        )
    return figures, found
