"""Text of a definition -> `Workflow`, or everything that is wrong with it."""

from __future__ import annotations

from workflows.model.checks import StepSchemas, check
from workflows.model.diagnostics import Report
from workflows.model.drafts import ConcurrencyDraft, Draft, read_definition
from workflows.model.errors import DefinitionError, Diagnostic
from workflows.model.nodes import to_json
from workflows.model.policies import Concurrency
from workflows.model.reader import Reader
from workflows.model.spec import ForEach, StepSpec, Workflow
from workflows.model.step_drafts import ForEachDraft, StepDraft
from workflows.model.yaml_nodes import load


def parse_workflow(text: str | bytes, filename: str = "<string>", *, steps: StepSchemas | None = None) -> Workflow:
    """Read and check a definition.

    Args:
        text: YAML; bytes are read as UTF-8 (or UTF-16 with its mark).
        filename: What diagnostics call the file.
        steps: `workflows.steps.registry.schemas(registry)`; when given, `uses` and `with` and the fields that
            expressions read are checked against the registered steps.

    Raises:
        DefinitionError: with everything that was found, warnings included, in the order of the file.
    """
    return parse_with_warnings(text, filename, steps=steps)[0]


def parse_with_warnings(
    text: str | bytes, filename: str = "<string>", *, steps: StepSchemas | None = None
) -> tuple[Workflow, tuple[Diagnostic, ...]]:
    """Like `parse_workflow`; gives the warnings too."""
    report = Report(filename)
    root = load(text, report)
    if root is None:
        raise DefinitionError(report.sorted())
    draft = read_definition(root, Reader(report))
    needs = check(draft, report, steps)
    if report.has_errors:
        raise DefinitionError(report.sorted())
    return _workflow(draft, needs), report.sorted()


def _workflow(draft: Draft, needs: dict[str, tuple[str, ...]]) -> Workflow:
    return Workflow(
        id=draft.id,
        description=draft.description,
        params=draft.params,
        schedules=draft.schedules,
        steps=tuple(_step(step, needs[step.id]) for step in draft.steps.values()),
        outputs={entry.key: to_json(entry.node) for entry in draft.outputs},
        timeout_seconds=draft.timeout_seconds,
        rate_limits=draft.rate_limits,
        pools=draft.pools,
        concurrency=None if draft.concurrency is None else _concurrency(draft.id, draft.concurrency),
    )


def _concurrency(workflow_id: str, draft: ConcurrencyDraft) -> Concurrency:
    group = workflow_id if draft.group is None else str(draft.group.value)
    return Concurrency(group, draft.limit, draft.behavior)


def _step(draft: StepDraft, needs: tuple[str, ...]) -> StepSpec:
    assert draft.uses is not None, "a step without 'uses' is an error of the definition"
    return StepSpec(
        id=draft.id,
        uses=draft.uses.name,
        needs=needs,
        with_={} if draft.with_ is None else to_json(draft.with_),
        for_each=None if draft.for_each is None else _for_each(draft.for_each),
        retry=draft.retry,
        timeout_seconds=draft.timeout_seconds,
        queue=draft.queue,
        run_if=draft.run_if,
        when=None if draft.when is None else to_json(draft.when),
        block=draft.block,
        rate_limit=None if draft.rate_limit is None else draft.rate_limit.name,
        pool=None if draft.pool is None else draft.pool.name,
        priority=draft.priority,
        cache_seconds=draft.cache_seconds,
        position=draft.position,
    )


def _for_each(draft: ForEachDraft) -> ForEach:
    assert draft.items is not None, "a for_each without 'items' is an error of the definition"
    return ForEach(
        items=to_json(draft.items),
        key=None if draft.key is None else str(draft.key.value),
        batch=draft.batch,
        batch_bytes=draft.batch_bytes,
        max_parallel=draft.max_parallel,
        tolerate=draft.tolerate,
    )
