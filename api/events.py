"""`/api/v1/runs/{id}/events`: the history of a run as server-sent events, then what is new, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.access import Scope, needs
from api.documents import problems
from api.feeds import AFTER_ERROR_SECONDS, Event, Feeds, Watched
from api.services import Served
from workflows.compile.plan import Plan
from workflows.db import progress, runs
from workflows.db.progress import RunHead
from workflows.model.errors import DatabaseUnavailableError, NotFoundError

router = APIRouter(prefix="/api/v1/runs", tags=["runs"], dependencies=[needs(Scope.READ)])

RECONNECT_MILLISECONDS = 1000


LastEventId = Annotated[
    str | None,
    Header(pattern=r"^(\d{1,15}|null)?$", description="Go on after this event; a browser sends it by itself."),
]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a stream needs; made before the answer begins, so that what is wrong has a status of its own."""

    feeds: Feeds
    watched: Watched
    plan: Plan
    after: int


async def _subscription(
    run_id: str, served: Served, request: Request, last_event_id: LastEventId = None
) -> AsyncIterator[Subscription]:
    """Watch the run until the answer has ended.

    Not in the generator that makes the answer: when a client vanishes while an event is on its way to it, that one is
    left where it stands and ends only when its memory is collected.
    """
    head, plan = await run_in_threadpool(_read_start, served, run_id)
    is_resumed = last_event_id is not None and last_event_id.isdecimal()  # some clients send `null` at first
    after = min(int(last_event_id or 0), head.event_seq) if is_resumed else 0
    if head.is_ended and is_resumed and after == head.event_seq:
        raise HTTPException(204)  # nothing will come any more: an EventSource does not connect again
    feeds: Feeds = request.app.state.feeds
    with feeds.watch(head) as watched:
        yield Subscription(feeds, watched, plan, after)


def _read_start(served: Served, run_id: str) -> tuple[RunHead, Plan]:
    run = served.run(run_id)
    head, plan = served.read(
        lambda tx: (progress.heads(tx, [run.run_pk]).get(run.run_pk), runs.load_plan(tx, run.version_id))
    )
    if head is None:
        raise NotFoundError(f"there is no run '{run_id}'")
    return head, plan


@router.get(
    "/{run_id}/events",
    response_class=EventSourceResponse,
    responses={204: {"description": "The run has ended and `Last-Event-ID` was its last event."}, **problems(404)},
)
async def stream_events(
    subscription: Annotated[Subscription, Depends(_subscription)],
) -> AsyncIterator[ServerSentEvent]:
    """Every transition since the beginning, or since `Last-Event-ID`, and then each new one.

    Events: `step` and `run` (with an id), `progress` whenever it changes, and at last `end`, after which the stream
    closes.
    """
    feeds, watched, plan, after = subscription.feeds, subscription.watched, subscription.plan, subscription.after
    shown: tuple[int, int] | None = None
    yield ServerSentEvent(retry=RECONNECT_MILLISECONDS)
    while not feeds.is_closing:
        head = watched.head
        if head is None:
            return  # the run was deleted
        while after < head.event_seq:
            events = await _patiently(feeds, watched, after)
            if not events:
                break
            for event in events:
                after = event["seq"]
                yield _sent(event, plan)
        if (head.progress, head.steps_open) != shown:
            shown = (head.progress, head.steps_open)
            yield ServerSentEvent(event="progress", data=_progress(head))
        if head is not watched.head:
            continue
        if head.is_ended:
            yield ServerSentEvent(event="end", data=_progress(head))
            return
        await watched.change()


async def _patiently(feeds: Feeds, watched: Watched, after: int) -> list[Event]:
    """The next events; waits while the database is away."""
    while not feeds.is_closing:
        try:
            return await feeds.events(watched, after)
        except DatabaseUnavailableError:
            await asyncio.sleep(AFTER_ERROR_SECONDS)
    return []


def _sent(event: Event, plan: Plan) -> ServerSentEvent:
    ordinal = event["ordinal"]
    data: dict[str, Any] = {
        "seq": event["seq"],
        "at": event["at"],
        "step": None if ordinal is None else plan.steps[ordinal].id,
        "part": event["part"],
        "status": event["status"],
        "detail": event["detail"],
    }
    return ServerSentEvent(event="run" if ordinal is None else "step", id=str(event["seq"]), data=data)


def _progress(head: RunHead) -> dict[str, Any]:
    return {
        "status": head.status,
        "progress": head.progress,
        "steps_total": head.steps_total,
        "steps_done": head.steps_total - head.steps_open,
        "steps_failed": head.steps_failed,
    }
