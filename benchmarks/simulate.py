"""`python -m benchmarks.simulate`: the engine on one thread, with time, chance, messages and deaths from a seed.

Exit code 1 when a law was broken; what is printed then plays the same history again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.simulation.bugs import BUGS, planted
from benchmarks.simulation.episode import Episode, Setting, make_template, simulate

console = Console()
if not console.is_terminal:
    console = Console(width=150)


@click.command()
@click.option("--steps", default=5_000, show_default=True, help="Play episodes until so many bodies were started.")
@click.option("--seed", default=1, show_default=True)
@click.option("--episode", type=int, help="Play this one episode of the seed, and print its last moves.")
@click.option("--minutes", default=60.0, show_default=True, help="Begin no more episodes after this time.")
@click.option("--runs", default=5, show_default=True, help="Of an episode.")
@click.option("--workers", default=2, show_default=True)
@click.option("--slots", default=2, show_default=True, help="Children of each worker.")
@click.option("--intensity", default=1.0, show_default=True, help="How often processes and servers fail, as a factor.")
@click.option("--harm", default=1.0, show_default=True, help="How often messages are harmed, as a factor.")
@click.option("--break", "bug", type=click.Choice(list(BUGS)), help="Plant a bug, which must be caught.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    steps: int,
    seed: int,
    episode: int | None,
    minutes: float,
    runs: int,
    workers: int,
    slots: int,
    intensity: float,
    harm: float,
    bug: str | None,
    json_file: Path | None,
) -> None:
    """Play histories of the real engine in which everything fails, and check every change."""
    began = time.perf_counter()
    first = Setting(seed, episode or 0, runs, workers, slots, intensity, harm)
    played: list[Episode] = []
    with tempfile.TemporaryDirectory(prefix="celeriac-simulate-") as folder, planted(bug):
        template = make_template(Path(folder))
        for setting in [first] if episode is not None else _settings(first):
            played.append(found := simulate(setting, template))
            for violation in found.violations:
                console.print(f"[red]{escape(violation)}[/red]  --seed {seed} --episode {setting.number}")
            is_enough = sum(other.steps for other in played) >= steps or time.perf_counter() - began > 60 * minutes
            if is_enough or (bug and found.violations):
                break
    figures = summary(played, time.perf_counter() - began)
    if episode is not None:
        console.print("\n".join(played[0].history), highlight=False, markup=False)
    _print(figures)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if figures["violations"] else 0)


def _settings(first: Setting) -> Iterator[Setting]:
    for number in count():
        yield Setting(first.seed, number, first.runs, first.workers, first.slots, first.intensity, first.harm)


def summary(played: list[Episode], seconds: float) -> dict[str, object]:
    """The figures of many episodes."""
    totals: dict[str, Counter[str]] = {"runs": Counter(), "ended": Counter(), "faults": Counter(), "borders": Counter()}
    for found in played:
        for name, counter in totals.items():
            counter.update(getattr(found, name))
    return {
        "seed": played[0].setting.seed,
        "episodes": len(played),
        "steps": sum(found.steps for found in played),
        "moves": sum(found.moves for found in played),
        "changes": sum(found.changes for found in played),
        "messages": sum(found.messages for found in played),
        "simulated_seconds": round(sum(found.simulated_seconds for found in played), 1),
        "worst_end_seconds": round(max(found.end_seconds for found in played), 1),
        "seconds": round(seconds, 1),
        **{name: dict(sorted(counter.items())) for name, counter in totals.items()},
        "violations": [violation for found in played for violation in found.violations],
    }


def _print(figures: dict[str, object]) -> None:
    table = Table("figure", "value", show_header=False)
    for name, value in figures.items():
        if name != "violations":
            text = ", ".join(f"{n} {key}" for key, n in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(name.replace("_", " "), text)
    console.print(table)
    violations = figures["violations"]
    assert isinstance(violations, list)
    if violations:
        console.print(f"{len(violations)} laws broken", style="red")
    else:
        console.print("every law held", style="green")


if __name__ == "__main__":
    main()
