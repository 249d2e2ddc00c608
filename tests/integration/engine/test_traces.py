"""A trace for each run and a span for each try, received by an OTLP collector of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.hands import Given, Hands
from workflows.engine.traces import TraceTeller, make_exporter
from workflows.steps import PermanentError, StepContext, TransientError

DEFINITION = """
id: traced
steps:
  first: {uses: own.first}
  flaky: {needs: first, uses: own.flaky, retry: {max_attempts: 3, delay: 1s}}
  bad: {needs: flaky, uses: own.bad}
"""


class Collector:
    """Keeps the spans that it receives; `is_away` lets it refuse them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.is_away = False
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                if not collector.is_away:
                    collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(400 if collector.is_away else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for told in request.resource_spans:
            self.services |= {a.value.string_value for a in told.resource.attributes if a.key == "service.name"}
            for scope in told.scope_spans:
                self.spans += scope.spans

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def traced(hands: Hands, collector: Collector) -> Hands:
    """The engine by hand, with traces on."""
    env = {**hands.runtime.config.env, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "mine"}
    hands.runtime.config = replace(hands.runtime.config, env=env)
    return hands


def _attributes(span: Span) -> dict[str, Any]:
    found = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        assert kind is not None
        found[attribute.key] = getattr(attribute.value, kind)
    return found


def _teller(hands: Hands) -> TraceTeller:
    teller = TraceTeller(hands.runtime, make_exporter(hands.runtime.config))
    assert teller.tick() == 0
    hands.change("UPDATE leader_leases SET lease_until = lease_until - 1000 WHERE name = 'traces cursor'")
    return teller


def test_a_run_is_a_trace_with_a_span_for_each_try_below_which_steps_hang_their_own(
    traced: Hands, collector: Collector
) -> None:
    tries: list[int] = []
    seen: list[trace.SpanContext] = []

    def first(inp: Given, ctx: StepContext) -> None:
        seen.append(trace.get_current_span().get_span_context())

    def flaky(inp: Given, ctx: StepContext) -> None:
        tries.append(ctx.attempt)
        if len(tries) == 1:
            raise TransientError("busy")

    def bad(inp: Given, ctx: StepContext) -> None:
        raise PermanentError("never")

    traced.define(own_first=first, own_flaky=flaky, own_bad=bad)
    teller = _teller(traced)
    run = traced.start(DEFINITION)
    traced.drain()
    assert teller.tick() == 0  # it ended just now: another one that ended before may not be visible yet
    traced.change("UPDATE job_runs SET finished_at = finished_at - 6")
    assert teller.tick() == 1
    assert teller.tick() == 0

    assert collector.services == {"mine"}
    assert {span.trace_id.hex() for span in collector.spans} == {run.run_id.replace("-", "")}
    root, *attempts = collector.spans
    assert (root.name, root.parent_span_id, root.status.code) == ("traced", b"", Status.STATUS_CODE_ERROR)
    assert _attributes(root)["celeriac.status"] == "FAILURE"
    assert {span.parent_span_id for span in attempts} == {root.span_id}
    assert [(span.name, _attributes(span)["celeriac.status"]) for span in attempts] == [
        ("first", "SUCCESS"), ("flaky", "FAILURE"), ("flaky", "SUCCESS"), ("bad", "FAILURE"),
    ]  # fmt: skip
    assert attempts[1].status.message == "TransientError: busy"
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in attempts)
    assert len({span.span_id for span in collector.spans}) == 5
    assert seen[0].span_id == int.from_bytes(attempts[0].span_id, "big")
    assert seen[0].trace_id == int.from_bytes(root.trace_id, "big")


def test_what_a_collector_refused_is_told_when_it_is_back(traced: Hands, collector: Collector) -> None:
    traced.define(own_first=lambda inp, ctx: None)
    teller = _teller(traced)
    traced.start("id: one\nsteps:\n  a: {uses: own.first}")
    traced.drain()
    traced.change("UPDATE job_runs SET finished_at = finished_at - 6")
    collector.is_away = True
    assert teller.tick() == 0
    collector.is_away = False
    assert teller.tick() == 1
    assert [span.name for span in collector.spans] == ["one", "a"]


def test_one_process_at_a_time_tells(traced: Hands, collector: Collector) -> None:
    first = _teller(traced)
    node, traced.runtime.node = traced.runtime.node, "another"
    second = TraceTeller(traced.runtime, make_exporter(traced.runtime.config))
    traced.start("id: one\nsteps:\n  a: {uses: ledger.nop, with: {node: a}}".replace("nop", "nap"))
    traced.drain()
    traced.change("UPDATE job_runs SET finished_at = finished_at - 6")
    assert second.tick() == 0
    traced.runtime.node = node
    first.close()
    traced.runtime.node = "another"
    assert second.tick() == 1
    assert collector.spans


def test_without_an_endpoint_nothing_hangs_anywhere(hands: Hands) -> None:
    seen: list[bool] = []
    hands.define(own_first=lambda inp, ctx: seen.append(trace.get_current_span().get_span_context().is_valid))
    hands.start("id: one\nsteps:\n  a: {uses: own.first}")
    hands.drain()
    assert seen == [False]
