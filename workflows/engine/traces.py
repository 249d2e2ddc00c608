"""OpenTelemetry traces, made from the database when a run has ended: a trace for each run, a span for each try.

Nothing is sent along with messages and nothing is written for it while a run goes on. Ids follow from what they name:
the trace id is the run's id, a span's id a hash of the try. So the code of a step can open spans of its own, below a
span that is told only later, and two who tell the same run tell the same spans.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from workflows.compile.plan import Plan
from workflows.db import queries, traces, upkeep
from workflows.db.traces import Cursor, EndedRun
from workflows.db.units import Claim
from workflows.engine.runtime import Runtime
from workflows.model.states import State
from workflows.settings import Config, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext

_log = logging.getLogger(__name__)

LEADER = "traces"
LEADER_LEASE_SECONDS = 30.0
TICK_SECONDS = 2.0
RUNS_AT_ONCE = 20
SPANS_AT_ONCE = 500
MOST_SPANS = 10_000
"""Of one run; a map that fails call by call has many tries."""

_NANOSECONDS = 1_000_000_000


def make_exporter(config: Config) -> SpanExporter:
    """What sends spans to `config.traces_endpoint`, as OTLP over HTTP.

    Raises:
        SettingsError: the packages of the extra `otel` are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed: {error}",
            "install the extra: pip install 'celeriac[otel]'",
        ) from error
    return OTLPSpanExporter(endpoint=config.traces_endpoint)


class TraceTeller:
    """Tells ended runs to an exporter. Of several, over all processes, one does at a time."""

    def __init__(self, runtime: Runtime, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource

        self._runtime = runtime
        self._exporter = exporter
        self._resource = Resource.create({"service.name": runtime.config.text("OTEL_SERVICE_NAME", "celeriac")})

    def tick(self) -> int:
        """Tell what has ended since; the number of runs. When the exporter fails, they are told next time."""
        database, node = self._runtime.database, self._runtime.node
        if not database.retrying(lambda tx: upkeep.lead(tx, LEADER, node, LEADER_LEASE_SECONDS), autocommit=True):
            return 0
        after = database.retrying(traces.cursor)
        runs = database.retrying(lambda tx: traces.ended_runs(tx, after, RUNS_AT_ONCE), autocommit=True)
        for number, run in enumerate(runs):
            if not self._tell(run):
                return number
            self._move(run.cursor)
        return len(runs)

    def close(self) -> None:
        """Let another process take over at once."""
        node = self._runtime.node
        self._runtime.database.retrying(
            lambda tx: upkeep.resign(tx, LEADER, node), autocommit=True, patience_seconds=2.0
        )
        self._exporter.shutdown()

    def _move(self, to: Cursor) -> None:
        self._runtime.database.retrying(lambda tx: traces.move_cursor(tx, to))

    def _tell(self, run: EndedRun) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        batch: list[ReadableSpan] = []
        for span in spans_of(self._runtime, run, self._resource):
            batch.append(span)
            if len(batch) == SPANS_AT_ONCE:
                if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
                    return False
                batch = []
        is_told = self._exporter.export(batch) is SpanExportResult.SUCCESS
        if not is_told:
            _log.warning("the trace of run %s could not be sent; it is sent again", run.run_id)
        return is_told


def spans_of(runtime: Runtime, run: EndedRun, resource: Resource) -> Iterator[ReadableSpan]:
    """The span of a run, and one for each try of its last generation."""
    plan = runtime.plan(run.version_id)
    yield _run_span(run, resource)
    after, told = queries.BEFORE_ALL_ATTEMPTS, 0
    while told < MOST_SPANS:
        page = partial(queries.attempts, run_pk=run.run_pk, limit=SPANS_AT_ONCE, after=after)
        rows = runtime.database.retrying(page, autocommit=True)
        for row in rows:
            if row["generation"] == run.generation and row["started_at"] is not None:
                told += 1
                yield _attempt_span(plan, run, row, resource)
        if len(rows) < SPANS_AT_ONCE:
            return
        last = rows[-1]
        after = (last["ordinal"], last["part"], last["item_index"], last["generation"], last["number"])


def within(runtime: Runtime, run_id: str, claim: Claim) -> AbstractContextManager[None]:
    """Let spans that the code of a step opens hang below the span of this try; nothing where traces are off."""
    if runtime.config.traces_endpoint is None:
        return nullcontext()
    unit = claim.unit
    return _within(_span_context(run_id, f"{claim.generation}/{unit.ordinal}/{unit.part}/-1/{claim.token}"))


@contextmanager
def _within(parent: SpanContext) -> Iterator[None]:
    from opentelemetry import context, trace

    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


def _span_context(run_id: str, name: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    digest = hashlib.blake2b(f"{run_id}/{name}".encode(), digest_size=8).digest()
    return SpanContext(uuid.UUID(run_id).int, int.from_bytes(digest), True, TraceFlags(TraceFlags.SAMPLED))


def _run_span(run: EndedRun, resource: Resource) -> ReadableSpan:
    attributes: dict[str, Any] = {
        "celeriac.run_id": run.run_id,
        "celeriac.workflow": run.workflow,
        "celeriac.fingerprint": run.fingerprint,
        "celeriac.status": run.status,
        "celeriac.generation": run.generation,
        "celeriac.manual_trigger": run.is_manual,
        "celeriac.waited_seconds": max(0.0, (run.started_at or run.finished_at) - run.created_at),
    }
    context = _span_context(run.run_id, str(run.generation))
    began = run.created_at
    return _span(run.workflow, context, None, resource, attributes, run.status, run.error, began, run.finished_at)


def _attempt_span(plan: Plan, run: EndedRun, row: dict[str, Any], resource: Resource) -> ReadableSpan:
    step = plan.steps[row["ordinal"]]
    key = "/".join(str(row[name]) for name in ("generation", "ordinal", "part", "item_index", "number"))
    attributes = {
        "celeriac.run_id": run.run_id,
        "celeriac.step": step.id,
        "celeriac.uses": step.uses,
        "celeriac.attempt": row["number"],
        "celeriac.status": row["status"],
        "celeriac.via": row["via"],
        "celeriac.queue": step.queue,
        "celeriac.part": row["part"] or None,
        "celeriac.item_index": row["item_index"] if row["item_index"] >= 0 else None,
        "celeriac.node": row["node"],
        "process.pid": row["pid"],
    }
    error = None if row["error"] is None else f"{row['error'].get('type')}: {row['error'].get('message')}"
    began, ended = row["started_at"], row["finished_at"]
    context = _span_context(run.run_id, key)
    parent = _span_context(run.run_id, str(run.generation))
    known = {name: value for name, value in attributes.items() if value is not None}
    return _span(step.id, context, parent, resource, known, row["status"], error, began, ended or began)


def _span(
    name: str,
    context: SpanContext,
    parent: SpanContext | None,
    resource: Resource,
    attributes: dict[str, Any],
    state: str,
    error: str | None,
    began: float,
    ended: float,
) -> ReadableSpan:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Status, StatusCode

    has_failed = state == State.FAILURE
    return ReadableSpan(
        name,
        context=context,
        parent=parent,
        resource=resource,
        attributes=attributes,
        instrumentation_scope=InstrumentationScope("celeriac"),
        status=Status(StatusCode.ERROR, error or state) if has_failed else Status(StatusCode.OK),
        start_time=int(began * _NANOSECONDS),
        end_time=int(max(began, ended) * _NANOSECONDS),
    )
