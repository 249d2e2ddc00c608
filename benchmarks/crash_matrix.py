"""`python -m benchmarks.crash_matrix`: at every border of the engine a process is killed, or stopped beyond its lease.

Exit code 1 when a run did not end as if nothing had happened.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.havoc.borders import BORDERS
from benchmarks.havoc.matrix import Case, Result, cases, matrix
from benchmarks.havoc.recovery import quantile
from benchmarks.havoc.sabotage import BUGS
from benchmarks.havoc.systems import Database, open_folder

console = Console()
if not console.is_terminal:
    console = Console(width=150)


@click.command()
@click.option("--database", "databases", multiple=True, type=click.Choice(get_args(Database)), help="Both by default.")
@click.option("--border", "only", multiple=True, type=click.Choice(list(BORDERS)), help="Only these; may be repeated.")
@click.option("--every", default=1, show_default=True, help="Only each n-th case.")
@click.option("--break", "bug", type=click.Choice(list(BUGS)), help="Plant a bug, which must be caught.")
@click.option("--keep", type=click.Path(path_type=Path), help="Move logs and ledger here.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the results here.")
def main(
    databases: Sequence[Database],
    only: Sequence[str],
    every: int,
    bug: str | None,
    keep: Path | None,
    json_file: Path | None,
) -> None:
    """Strike a process at every border, and see whether its run ends right."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # leaves no process behind
    began = time.monotonic()
    results: list[Result] = []
    for database in databases or get_args(Database):
        wanted = [case for case in cases([database]) if not only or case.strike.border in only][::every]
        kept = None if keep is None else keep / database
        with open_folder(kept) as folder, matrix(database, folder, bug or "") as system:
            for case in wanted:
                results.append(system.try_case(case))
                _tell(results[-1], len(results))
    _print(results, time.monotonic() - began)
    if json_file is not None:
        json_file.write_text(json.dumps([_to_json(result) for result in results], indent=2) + "\n")
    sys.exit(0 if all(not result.violations for result in results) else 1)


def _tell(result: Result, number: int) -> None:
    seconds = "" if result.seconds is None else f"{result.seconds:.1f} s"
    console.print(f"{number:4} {'FAIL' if result.violations else 'ok':4} {result.case} {seconds}", highlight=False)
    for violation in result.violations:
        console.print(escape(f"       {violation}"), highlight=False)


def _print(results: list[Result], seconds: float) -> None:
    table = Table("border", "struck", "cases", "right", "end of the run, p50 s", "worst s")
    for border, role in BORDERS.items():
        of_border = [result for result in results if result.case.strike.border == border]
        if of_border:
            times = [result.seconds for result in of_border if result.seconds is not None] or [float("nan")]
            right = sum(not result.violations for result in of_border)
            figures = f"{quantile(times, 0.5):.1f}", f"{max(times):.1f}"
            table.add_row(border, role, str(len(of_border)), str(right), *figures)
    console.print(table)
    right = sum(not result.violations for result in results)
    verdict = "PASS" if right == len(results) else "FAIL"
    console.print(f"{verdict} {right} of {len(results)} cases right, in {seconds:.0f} s", highlight=False)


def _to_json(result: Result) -> dict[str, object]:
    case: Case = result.case
    return {
        "case": str(case),
        "seconds": result.seconds,
        "violations": [violation.to_json() for violation in result.violations],
    }


if __name__ == "__main__":
    main()
