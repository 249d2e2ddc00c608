"""A run in a few lines, for people."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from celeriac.output import console, count_text, print_json, seconds_text, status_text

if TYPE_CHECKING:
    from workflows.db.queries import RunReport, StepView

_MOST_ERRORS = 5
_MOST_CHARACTERS = 400


def print_end(report: RunReport, *, as_json: bool) -> None:
    """How a run has ended: one JSON object, or a few lines."""
    if as_json:
        print_json(report.to_json())
    else:
        print_outcome(report)
    sys.stdout.flush()


def print_outcome(report: RunReport) -> None:
    """How a run has ended: state, errors, outputs, and what to type next."""
    from rich.text import Text

    run = report.run
    out = console()
    line = Text.assemble(
        status_text(run.status),
        "  ",
        (run.workflow, "bold"),
        f"  {run.run_id}  {seconds_text(run.seconds)}",
    )
    out.print(line)
    failed = [step for step in report.steps if step.status == "FAILURE"]
    for step in failed[:_MOST_ERRORS]:
        out.print(Text.assemble("  ", (step.step_id, "bold"), f": {error_text(step)}"))
    if len(failed) > _MOST_ERRORS:
        out.print(f"  and {count_text(len(failed) - _MOST_ERRORS, 'more failed step')}")
    if run.error and not failed:
        out.print(Text(f"  {run.error}"))
    outputs = run.outputs if run.status == "SUCCESS" else None  # of a failed run they are gaps and half sums
    for name, value in (outputs or {}).items():
        out.print(Text.assemble("  ", (name, "dim"), f"  {value_text(value)}"))
    if run.status in ("FAILURE", "REVOKED"):
        short = run.run_id[:8]
        out.print(
            Text(f"  celeriac logs {short}    what its steps said\n  celeriac retry {short}   go on with it", "dim")
        )


def error_text(step: StepView) -> str:
    """The error of a step's last failed try, shortened; for a map without one, how many calls failed."""
    if step.error is not None:
        message = f"{step.error['type']}: {step.error['message']}"
        return message if len(message) <= _MOST_CHARACTERS else message[: _MOST_CHARACTERS - 1] + "…"
    if step.items_failure:
        return f"{step.items_failure:,} of {step.items_total or 0:,} calls failed"
    return (step.reason or "").replace("_", " ")


def value_text(value: Any) -> str:
    """A JSON value on one line, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
