"""`python -m benchmarks.chaos`: random runs on a system that is broken all the time, and whether it keeps its promises.

Exit code 1 when a promise was broken.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.havoc.faults import MEAN_SECONDS
from benchmarks.havoc.goal import Line, at_goal, bound, holds, judge, judge_recovery
from benchmarks.havoc.raw_trial import RawVerdict, carry_out_raw
from benchmarks.havoc.recoveries import LIMITS, measure
from benchmarks.havoc.recovery import quantile
from benchmarks.havoc.sabotage import BUGS
from benchmarks.havoc.systems import Database, open_folder
from benchmarks.havoc.trial import Trial, Verdict, carry_out

SHOWN = 30

console = Console()
if not console.is_terminal:
    console = Console(width=150)


@click.command()
@click.option("--runs", default=60, show_default=True, help="Runs to trigger.")
@click.option("--seed", default=1, show_default=True, help="Of graphs, faults and their times.")
@click.option("--database", type=click.Choice(get_args(Database)), default="postgresql", show_default=True)
@click.option("--minutes", default=30.0, show_default=True, help="Trigger no more runs after this time.")
@click.option("--break", "bug", type=click.Choice(list(BUGS)), help="Plant a bug, which must be caught.")
@click.option("--workers", default=3, show_default=True)
@click.option("--slots", default=2, show_default=True, help="Processes of each worker.")
@click.option("--at-once", default=14, show_default=True, help="Runs open at the same time.")
@click.option("--intensity", default=1.0, show_default=True, help="How often faults hit, as a factor.")
@click.option("--only", multiple=True, type=click.Choice(list(MEAN_SECONDS)), help="Kinds of faults; may be repeated.")
@click.option("--keep", type=click.Path(path_type=Path), help="Move logs, ledger and a SQLite database here.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--goal", is_flag=True, help="The storm that a release is measured by; about 25 minutes on two cores.")
@click.option("--recovery", is_flag=True, help="Measure how long it takes to go on after one fault; about 25 minutes.")
@click.option("--samples", type=int, help="Of --recovery: so many faults of each kind, instead of 20 to 100.")
@click.option("--raw", is_flag=True, help="The same on a raw Celery canvas afterwards, and both side by side.")
def main(
    runs: int,
    seed: int,
    database: Database,
    minutes: float,
    bug: str | None,
    workers: int,
    slots: int,
    at_once: int,
    intensity: float,
    only: tuple[str, ...],
    keep: Path | None,
    json_file: Path | None,
    goal: bool,
    recovery: bool,
    samples: int | None,
    raw: bool,
) -> None:
    """Break everything at random, and see whether every promise was kept."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # leaves no process behind
    trial = Trial(runs, seed, database, minutes, bug or "", workers, slots, at_once, intensity, only)
    if goal:
        trial = at_goal(trial)
    figures: dict[str, object] = {}
    lines: list[Line] = []
    is_kept = True
    if goal or not recovery:
        with open_folder(keep) as folder:
            verdict = carry_out(trial, folder, _tell)
        _print(verdict)
        figures, is_kept = to_json(verdict), not verdict.violations
        lines += judge(verdict) if goal else []
        if raw:
            with open_folder(None) as folder:
                other = carry_out_raw(trial, folder, _tell)
            _print_arms(verdict, other)
            figures["raw"] = {**asdict(other), "faults": len(other.faults)}
    for kind in (only or LIMITS) if recovery else ():
        with open_folder(None if keep is None else keep / kind.replace(" ", "-")) as folder:
            found = measure(kind, samples or LIMITS[kind].faults, database, folder, _tell)
        figures[kind] = asdict(found)
        lines += judge_recovery(found)
    if lines:
        _print_judgement(lines)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(0 if is_kept and holds(lines) else 1)


def to_json(verdict: Verdict) -> dict[str, object]:
    """For programs."""
    return {
        "seed": verdict.trial.seed,
        "database": verdict.trial.database,
        "bug": verdict.trial.bug,
        "runs": dict(verdict.runs),
        "steps": dict(verdict.steps),
        "tries": dict(verdict.tries),
        "faults": [asdict(fault) for fault in verdict.faults],
        "recovery_seconds": verdict.recovery,
        "storm_seconds": verdict.storm_seconds,
        "end_seconds": verdict.end_seconds,
        "violations": [violation.to_json() for violation in verdict.violations],
    }


def _print(verdict: Verdict) -> None:
    trial = verdict.trial
    planted = f", planted bug: {trial.bug}" if trial.bug else ""
    console.rule(f"seed {trial.seed}, {trial.database}, {trial.workers} workers of {trial.slots}{planted}")
    console.print(f"runs   {verdict.runs.total():6}   {_counts(verdict.runs)}", highlight=False)
    console.print(f"steps  {verdict.steps.total():6}   {_counts(verdict.steps)}", highlight=False)
    console.print(
        f"bodies {verdict.tries['start']:6}   started (calls of maps included); keyed effects asked for "
        f"{verdict.tries['effect']} times, {verdict.tries['effects again']} of them again",
        highlight=False,
    )
    faults = Counter(fault.kind for fault in verdict.faults)
    console.print(f"faults {faults.total():6}   in {verdict.storm_seconds:.0f} s", highlight=False)
    table = Table("fault", "times", "recoveries seen", "p50 s", "p99 s", "worst s")
    for kind, times in sorted(faults.items()):
        seconds = verdict.recovery.get(kind, [])
        figures = [f"{quantile(seconds, share):.2f}" for share in (0.5, 0.99, 1.0)] if seconds else ["", "", ""]
        table.add_row(kind, str(times), str(len(seconds) or ""), *figures)
    console.print(table)
    end = "not all ended" if verdict.end_seconds is None else f"{verdict.end_seconds:.1f} s later"
    console.print(f"after the last fault all runs had ended: {end}; runs were read {verdict.looks} times meanwhile")
    if not verdict.violations:
        console.print("every promise was kept", style="green")
        console.print(bound(verdict), highlight=False)
        return
    console.print(f"{len(verdict.violations)} violations (seed {trial.seed})", style="red")
    for violation in verdict.violations[:SHOWN]:
        console.print(escape(str(violation)), highlight=False)


def _print_arms(ours: Verdict, raw: RawVerdict) -> None:
    """Both arms under the same seed."""
    broken = Counter(violation.law for violation in ours.violations)
    table = Table("arm", "runs", "seconds", "runs that hang", "effects lost", "effects doubled", "steps early")
    cells = (
        broken["every run ends"],
        broken["no false success"],
        broken["a transaction's effect is made once"],
        broken["nothing starts before its parents' end"],
    )
    table.add_row("Celeriac", str(ours.runs.total()), f"{ours.storm_seconds:.0f}", *map(str, cells))
    cells = (raw.hung, raw.lost, raw.doubled, raw.early)
    table.add_row("raw canvas", str(raw.runs), f"{raw.seconds:.0f}", *map(str, cells))
    console.print(table)


def _print_judgement(lines: list[Line]) -> None:
    table = Table("", "judged", "found", "wanted")
    for line in lines:
        table.add_row("PASS" if line.holds else "FAIL", line.what, line.found, line.wanted)
    console.print(table)
    console.print("PASS" if holds(lines) else "FAIL")


def _tell(text: str) -> None:
    console.print(text, highlight=False)


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


if __name__ == "__main__":
    main()
