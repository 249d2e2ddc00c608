"""What a release is measured by: the sizes that a storm must have reached, and what must not have happened in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.havoc.recoveries import LIMITS, Recovery
from benchmarks.havoc.recovery import quantile
from benchmarks.havoc.trial import Trial, Verdict

RUNS = 2_000
STEPS = 20_000
KILLS = 300
BROKER_FAULTS = 20
DATABASE_RESTARTS = 10
MINUTES = 25.0

_KILLS = ("child killed", "worker killed", "worker's parent killed", "API killed")
_BROKER = ("broker killed", "broker flushed")
_LOST = ("every run ends", "whatever is triggered is accepted")
_DOUBLED = ("a transaction's effect is made once", "a keyed effect is made once", "one key, one run")
_EARLY = ("nothing starts before its parents' end",)
_FALSE = ("no false success", "no effect without its result")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the judgement."""

    what: str
    found: str
    wanted: str
    holds: bool


def at_goal(trial: Trial) -> Trial:
    """The storm of the goal: rates that clearly exceed its numbers within its time."""
    return replace(trial, runs=RUNS, minutes=MINUTES, workers=4, slots=2, at_once=32, intensity=0.6)


def judge(verdict: Verdict) -> list[Line]:
    """The storm against the goal."""
    faults = Counter(fault.kind for fault in verdict.faults)
    seconds = verdict.storm_seconds + (verdict.end_seconds or 0.0)
    lines = [
        _least("runs", verdict.runs.total(), RUNS),
        _least("steps", verdict.steps.total(), STEPS),
        _least("kills of processes", sum(faults[kind] for kind in _KILLS), KILLS),
        _least("restarts and flushes of the broker", sum(faults[kind] for kind in _BROKER), BROKER_FAULTS),
    ]
    if verdict.trial.database == "postgresql":
        lines.append(_least("restarts of the database", faults["database restarted"], DATABASE_RESTARTS))
    lines.append(Line("minutes", f"{seconds / 60:.1f}", f"<= {MINUTES:g}", seconds <= 60 * MINUTES))
    broken = Counter(violation.law for violation in verdict.violations)
    named = {"lost": _LOST, "doubled": _DOUBLED, "early": _EARLY, "false success": _FALSE}
    for name, laws in named.items():
        lines.append(_none(name, sum(broken.pop(law, 0) for law in laws)))
    lines.append(_none("any other law broken", broken.total()))
    return lines


def judge_recovery(found: Recovery) -> list[Line]:
    """One kind of fault against its limit."""
    limit = LIMITS[found.kind].p99_seconds
    worst = quantile(found.seconds, 0.99) if found.seconds else float("inf")
    return [
        Line(
            f"{found.kind}: p99 of {len(found.seconds)} recoveries", f"{worst:.2f} s", f"<= {limit:g} s", worst <= limit
        ),
        _none(f"{found.kind}: recoveries not seen, of {found.faults} faults", found.unseen),
    ]


def bound(verdict: Verdict) -> str:
    """What 0 violations in n runs say, and what they do not."""
    runs, steps = verdict.runs.total(), verdict.steps.total()
    if verdict.violations or not runs or not steps:
        return ""
    return (
        f"no violation in {runs} runs and {steps} steps: with 95 % confidence the rate lies below 3/n, "
        f"{300 / runs:.2g} % of runs and {300 / steps:.2g} % of steps, under faults of these kinds at these rates"
    )


def holds(lines: Sequence[Line]) -> bool:
    """Whether all do."""
    return all(line.holds for line in lines)


def _least(what: str, found: int, wanted: int) -> Line:
    return Line(what, f"{found}", f">= {wanted}", found >= wanted)


def _none(what: str, found: int) -> Line:
    return Line(what, f"{found}", "0", found == 0)
