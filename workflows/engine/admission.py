"""Whether an accepted run may begin at once, or what its concurrency group makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, assert_never

from workflows.compile.plan import Plan
from workflows.db import groups, runs
from workflows.db.database import Transaction
from workflows.engine import blocks
from workflows.engine.settlement import Settlement
from workflows.model.errors import ExpressionError, ParamError
from workflows.model.expressions import render
from workflows.model.policies import Behavior

MAX_GROUP_LENGTH = 500


@dataclass(slots=True)
class Admission:
    """What has become of an accepted run.

    Attributes:
        may_begin: Its message is to be published.
        is_skipped: Its group was full, and it has ended.
        stopped: Of each run that was cancelled for it: key, plan, and what is to be published.
    """

    may_begin: bool = True
    is_skipped: bool = False
    stopped: list[tuple[int, Plan, Settlement]] = field(default_factory=list)


def group_of(plan: Plan, params: dict[str, Any]) -> str | None:
    """The concurrency group of a run with these params; None when its workflow has none.

    Raises:
        ParamError: the group cannot be told from these params.
    """
    if plan.concurrency is None:
        return None
    try:
        value = render(plan.concurrency.group, {"params": params})
    except ExpressionError as error:
        raise ParamError(f"the concurrency group of '{plan.workflow}': {error}", error.hint) from None
    group = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if len(group) > MAX_GROUP_LENGTH:
        raise ParamError(f"the concurrency group of '{plan.workflow}' has more than {MAX_GROUP_LENGTH} characters")
    return group


def admit(tx: Transaction, plan: Plan, group: str, run_pk: int) -> Admission:
    """Let a run that was just added to its group begin, wait, end, or take the place of others.

    The caller has taken the group's lock before it added the run.
    """
    assert plan.concurrency is not None
    limit, behavior = plan.concurrency.limit, plan.concurrency.behavior
    others = groups.others(tx, group, run_pk)
    admission = Admission()
    groups.let_wait(tx, run_pk)
    if not others.waiting and not groups.is_full(tx, group, limit):
        groups.give_on(tx, run_pk)
        return admission
    admission.may_begin = False
    match behavior:
        case Behavior.QUEUE:
            pass
        case Behavior.SKIP:
            groups.skip(tx, run_pk, f"skipped: {len(others.holding)} of {limit} runs of group '{group}' are at work")
            admission.is_skipped = True
        case Behavior.CANCEL_RUNNING:
            too_many = max(0, len(others.holding) - limit + 1)
            for victim in (*others.waiting, *others.holding[:too_many]):
                stop(tx, victim, admission)
        case _:
            assert_never(behavior)
    return admission


def stop(tx: Transaction, run_pk: int, admission: Admission) -> None:
    """Cancel a run; its last step, or this cancel if nothing of it runs, gives its slot on."""
    context = runs.load_context(tx, run_pk)
    if context is None:
        return
    plan = runs.load_plan(tx, context.version_id)
    settlement = Settlement()
    blocks.cancel(tx, plan, context, settlement)
    admission.stopped.append((run_pk, plan, settlement))
