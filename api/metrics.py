"""`/metrics`, as Prometheus reads it: from the database and the queues, asked when somebody scrapes.

Labels are bounded: states, and the queues that the settings name; steps of other queues are counted as `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from api.access import Scope, needs
from api.services import PATIENCE_SECONDS, Served, Services
from workflows.db import census
from workflows.db.census import Census, Ended, QueueFigures
from workflows.engine import health
from workflows.engine.app import QUEUES
from workflows.engine.reconciler import LEADER, LEADER_LEASE_SECONDS
from workflows.model.errors import DatabaseUnavailableError

router = APIRouter(tags=["probes"], dependencies=[needs(Scope.READ)])

WINDOW_SECONDS = 300.0
"""Runs that ended within are counted; a scraper asks more often."""

ENDED = ("SUCCESS", "FAILURE", "REVOKED")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Figures in Prometheus' text format.", "content": {"text/plain": {}}}},
)
def metrics(served: Served) -> Response:
    """Figures of the installation and of this process; `celeriac_up` is 0 for a part that does not answer."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Installation(served))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Installation(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector.collect`."""
        runtime = self._services.runtime
        try:
            found = runtime.database.retrying(
                lambda tx: census.take(tx, LEADER, LEADER_LEASE_SECONDS, WINDOW_SECONDS),
                autocommit=True,
                patience_seconds=PATIENCE_SECONDS,
            )
        except DatabaseUnavailableError:
            found = None
        lengths = health.queue_lengths(runtime)
        parts = {"database": found is not None, "broker": None not in lengths.values()}
        yield _by("celeriac_up", "Whether a part answers.", "part", {name: int(ok) for name, ok in parts.items()})
        if parts["broker"]:
            waiting = {name: length or 0 for name, length in lengths.items()}
            yield _by("celeriac_queue_messages", "Messages that wait in a queue of the broker.", "queue", waiting)
        if found is not None:
            yield from _of_census(found, tuple(lengths))


def _of_census(found: Census, queues: tuple[str, ...]) -> Iterator[Metric]:
    yield _by("celeriac_runs_open", "Runs that have not ended.", "status", found.open_runs)
    ended = {state: found.ended_runs.get(state, Ended(0, 0.0)) for state in ENDED}
    minutes = f"of the last {found.window_seconds / 60:.0f} minutes"
    counts = {state: figures.count for state, figures in ended.items()}
    yield _by("celeriac_runs_ended_recently", f"Runs that ended, {minutes}.", "status", counts)
    seconds = {state: figures.seconds for state, figures in ended.items()}
    text = f"Seconds from acceptance to end, of all runs that ended, {minutes}."
    yield _by("celeriac_runs_ended_recently_seconds", text, "status", seconds)
    text = "What the reconciler had to send again, of the runs in progress."
    yield GaugeMetricFamily("celeriac_redispatches_open_runs", text, value=found.redispatches)

    by_queue = {name: QueueFigures() for name in (*queues, "other")}
    for name, figures in found.queues.items():
        by_queue[name if name in by_queue else "other"] = _sum(by_queue.get(name, by_queue["other"]), figures)
    for attribute, metric, text in (
        ("ready", "celeriac_steps_ready", "Steps, and ranges of calls of maps, that wait for a worker."),
        ("delayed", "celeriac_steps_delayed", "Those that wait for their next try."),
        ("running", "celeriac_steps_running", "Those that a worker runs."),
        ("oldest_ready_seconds", "celeriac_steps_ready_oldest_seconds", "How long the first of the ready has waited."),
    ):
        yield _by(metric, text, "queue", {name: getattr(figures, attribute) for name, figures in by_queue.items()})

    yield GaugeMetricFamily("celeriac_workers", "Workers that live.", value=len(found.workers))
    slots = {name: sum(w.slots for w in found.workers if name in w.queues) for name in queues or QUEUES}
    yield _by("celeriac_worker_slots", "Slots of the workers that take from a queue.", "queue", slots)
    if found.reconciler is not None:
        text = "Seconds since the reconciler has renewed its lead."
        yield GaugeMetricFamily("celeriac_reconciler_age_seconds", text, value=found.reconciler.silent_seconds)

    plans = found.schedules
    counts = {"enabled": plans.enabled, "disabled": plans.disabled, "troubled": plans.troubled}
    yield _by("celeriac_schedules", "Schedules; a troubled one is enabled and cannot fire.", "state", counts)
    text = "How long ago the first schedule should have fired that has not."
    yield GaugeMetricFamily("celeriac_schedules_late_seconds", text, value=plans.late_seconds)


def _sum(one: QueueFigures, other: QueueFigures) -> QueueFigures:
    return QueueFigures(
        one.ready + other.ready,
        one.delayed + other.delayed,
        one.running + other.running,
        max(one.oldest_ready_seconds, other.oldest_ready_seconds),
    )


def _by(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> Metric:
    """A gauge with one label."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
