"""The step `celery`: a task of somebody's own Celery application, called by its name and waited for.

Its workers need to know nothing of Celeriac. They are reached through the broker and the result backend that
`CELERIAC_TASKS_BROKER_URL` and `CELERIAC_TASKS_RESULT_BACKEND` name, else through our own.
"""

from __future__ import annotations

import uuid
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from celery import Celery, states
from celery.exceptions import BackendError
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from workflows.builtin.wait import Duration
from workflows.settings import NO_RESULTS, Config
from workflows.steps import PermanentError, StepContext, StepError, TransientError, step

ALLOWED = "CELERIAC_TASKS_ALLOW"
BROKER = "CELERIAC_TASKS_BROKER_URL"
RESULTS = "CELERIAC_TASKS_RESULT_BACKEND"

SHORTEST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 1.0, 30.0
_AWAY = (OperationalError, RedisError, BackendError, ConnectionError, TimeoutError)


class Call(BaseModel):
    """What is called, and how long its result is waited for.

    Attributes:
        task: Its registered name, such as `shop.tasks.resize`; `CELERIAC_TASKS_ALLOW` has to allow it.
        queue: Where its workers listen; Celery's own default, `celery`, when it is left out.
        wait: False sends it and is done.
        within: No result in so long is a failure, which `retry` may try again by calling the task anew.
    """

    model_config = ConfigDict(extra="forbid")

    task: str = Field(min_length=1, max_length=255)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: str | None = Field(default=None, min_length=1, max_length=255)
    wait: bool = True
    within: Duration = 86_400.0


class Called(BaseModel):
    """The task's id in Celery, and what it has returned; null when nobody waits for that."""

    task_id: str
    result: Any


class TaskRevokedError(PermanentError):
    """Somebody has revoked the task."""


@step("celery")
def call_task(inp: Call, ctx: StepContext) -> Called:
    """Send the task, leave the worker, and look again until there is a result.

    Raises:
        PermanentError: it is not allowed, or there is no result backend to look into.
        TransientError: the broker or the backend is away, or the time is over.
        Exception: what the task has raised, under the name of its class.
    """
    config = Config.from_env()
    _check_allowed(config, inp.task)
    app = application(*_places(config, inp))
    # The same until the step fails: sent twice after a crash, it is the same task for whoever looks at its result.
    task_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"celeriac:{ctx.round_key}"))
    try:
        found = AsyncResult(task_id, app=app)
        if not (inp.wait and found.ready()) and ctx.parked_since is None:
            app.send_task(inp.task, args=inp.args, kwargs=inp.kwargs, task_id=task_id, queue=inp.queue)
            ctx.log.info("sent %s as %s", inp.task, task_id)
        if not inp.wait:
            return Called(task_id=task_id, result=None)
        is_done = found.ready()
    except _AWAY as error:
        raise TransientError(f"the broker or result backend of '{inp.task}' is away: {error}") from error
    if not is_done:
        _leave(inp, ctx)
    # What the task has raised may be a ConnectionError, too: it is the task's.
    return Called(task_id=task_id, result=_result(inp, ctx, found))


def _leave(inp: Call, ctx: StepContext) -> None:
    waited = 0.0 if ctx.parked_since is None else ctx.started_at - ctx.parked_since
    left = inp.within - waited
    if left <= 0:
        raise TransientError(
            f"task '{inp.task}' has no result after {inp.within:g} s: do its workers run, listen on its queue and keep "
            "results?"
        )
    ctx.park(min(left, max(SHORTEST_LOOK_SECONDS, waited / 4), LONGEST_LOOK_SECONDS))


def _result(inp: Call, ctx: StepContext, found: AsyncResult[Any]) -> Any:
    if found.state == states.SUCCESS:
        return found.result
    if found.state == states.REVOKED:
        raise TaskRevokedError(f"task '{inp.task}' ({found.id}) was revoked")
    if found.traceback:
        ctx.log.error("%s failed:\n%s", inp.task, found.traceback)
    if isinstance(found.result, Exception):
        raise found.result
    raise StepError(f"task '{inp.task}' failed: {found.result}")


def _check_allowed(config: Config, task: str) -> None:
    patterns = config.text(ALLOWED, "").replace(",", " ").split()
    if any(fnmatchcase(task, pattern) for pattern in patterns):
        return
    allowed = f"it allows {', '.join(patterns)}" if patterns else "it is not set"
    raise PermanentError(
        f"steps may not call the task '{task}': {ALLOWED} on the workers has to name it, and {allowed}"
    )


def _places(config: Config, inp: Call) -> tuple[str, str]:
    broker = config.text(BROKER, config.broker_url)
    own = config.result_backend if broker == config.broker_url else NO_RESULTS
    backend = config.text(RESULTS, broker if broker.startswith("redis") else own)
    if inp.wait and (backend == NO_RESULTS or backend.startswith("rpc")):
        raise PermanentError(
            f"nobody can look for the result of '{inp.task}': set {RESULTS} to the result backend of its application, "
            "or say `wait: false`"
        )
    return broker, backend


@lru_cache(maxsize=4)
def application(broker: str, backend: str) -> Celery:
    """An application that sends tasks and reads results, with none of its own. A process keeps those it has made."""
    app = Celery("celeriac-calls", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.4},
        redis_socket_timeout=5.0,
        redis_socket_connect_timeout=5.0,
        broker_connection_timeout=5,
        result_backend_always_retry=False,
    )
    return app
