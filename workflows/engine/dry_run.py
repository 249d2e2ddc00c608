"""The dry-run: compile a workflow and weigh its messages, without broker and database."""

from __future__ import annotations

from collections.abc import Mapping

from celery import Celery
from celery.utils import uuid

from workflows.compile.budget import MessageSize
from workflows.compile.explain import explain
from workflows.compile.plan import Plan
from workflows.engine.broker_safety import impatience
from workflows.engine.canvas import execute_signature, fragment_canvas
from workflows.engine.measure import Origin, Scale
from workflows.model.spec import Block, Json
from workflows.settings import Config

RUN_PK = 10**9
"""Key of the run that is never made: as long as keys get in years of use."""


def dry_run(app: Celery, config: Config, plan: Plan, durations: Mapping[str, float] | None = None) -> dict[str, Json]:
    """What a run of this plan would send, as the JSON of `celeriac plan --json`; nothing is touched.

    Raises:
        BudgetError: the messages would be too large for the broker.
    """
    caution = impatience(config, [plan])
    return explain(plan, plan_messages(app, plan), durations, [caution] if caution else [])


def plan_messages(app: Celery, plan: Plan, run_pk: int = RUN_PK) -> list[MessageSize]:
    """Every message of an undisturbed run, as a Redis broker would get it; ranges of maps are left out."""
    scale = Scale(app)
    run_id = uuid()
    messages = scale.weigh(execute_signature(app, run_pk, run_id))
    origin = Origin(uuid(), run_id)  # a fragment is published by the job or by a step that completes
    for fragment in plan.fragments:
        if plan.steps[fragment.heads[0]].block is Block.ON_FAILURE:
            continue  # an undisturbed run does not fail
        messages += scale.weigh(fragment_canvas(app, plan, fragment, run_pk), origin)
    return messages
