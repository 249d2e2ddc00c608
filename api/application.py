"""The application, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import anyio.to_thread
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from api import (
    approvals,
    collections,
    cronjobs,
    events,
    keys,
    metrics,
    page,
    probes,
    quarantine,
    research,
    runs,
    schedules,
    session,
    workflows,
)
from api.access import require_declared
from api.bodies import MOST_BYTES
from api.documents import install_document
from api.feeds import Feeds
from api.guard import CSRF_HEADER, Guard, Rules
from api.keyring import Keyring
from api.problems import install_problems
from api.requests import Requests
from api.services import PATIENCE_SECONDS, Services
from workflows.engine import logs, traces
from workflows.model.errors import DatabaseUnavailableError
from workflows.settings import Config

_log = logging.getLogger(__name__)

PREPARE_AGAIN_SECONDS = 2.0
THREADS = 24
"""Requests at work at the same time; each of these threads keeps a connection to the database."""


ROUTERS = (
    cronjobs.router,
    workflows.router,
    events.router,
    runs.router,
    schedules.router,
    approvals.router,
    research.router,
    quarantine.router,
    collections.router,
    keys.router,
    session.router,
    probes.router,
    metrics.router,
    page.router,
)


def create_app(config: Config | None = None) -> FastAPI:
    """The API of an installation. Nothing is connected, loaded or read before the server starts it."""
    settings = config or Config.from_env()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if logs.is_json(settings):
            logs.install_json(logging.getLogger("uvicorn.error").level or logging.INFO)
            logging.getLogger("uvicorn.access").disabled = True  # `api.requests` logs the same with more to it
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        services = await run_in_threadpool(Services.make, settings)
        feeds, keyring = Feeds(services), Keyring(services)
        app.state.services, app.state.feeds, app.state.keyring = services, feeds, keyring
        preparation = asyncio.create_task(_prepare(services), name="celeriac-prepare")
        await asyncio.wait({preparation}, timeout=PATIENCE_SECONDS)
        background = [preparation]
        if settings.traces_endpoint is not None:
            background.append(asyncio.create_task(_tell_traces(services), name="celeriac-traces"))
        try:
            async with feeds.closing_on_signals():
                yield
        finally:
            for task in background:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await feeds.close()
            with suppress(DatabaseUnavailableError):
                await run_in_threadpool(keyring.write_used)
            await run_in_threadpool(services.close)

    app = FastAPI(
        title="Celeriac",
        version=version("celeriac"),
        summary="Trigger, watch and control workflow graphs on Celery.",
        lifespan=lifespan,
        docs_url=None,  # its page would load its program from another site
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
    )
    routes = [route for router in ROUTERS for route in router.routes]
    require_declared(routes)
    install_problems(app, routes)
    for router in ROUTERS:
        app.include_router(router)
    install_document(app, routes)
    rules = Rules.of(settings)
    app.add_middleware(Guard, rules=rules, routes=routes, most_bytes=MOST_BYTES)
    if rules.origins:
        # Without credentials: a page of another origin brings a key of its own, never this page's cookie.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(rules.origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Idempotency-Key", "Last-Event-ID", CSRF_HEADER],
            expose_headers=["Location", "Retry-After"],
        )
    app.add_middleware(Requests, logs_access=logs.is_json(settings))
    return app


async def _tell_traces(services: Services) -> None:
    """Tell runs that have ended to the collector of traces, for as long as the server runs."""
    teller = traces.TraceTeller(services.runtime, traces.make_exporter(services.config))
    try:
        while True:
            try:
                await run_in_threadpool(teller.tick)
            except Exception as error:  # noqa: BLE001 - whatever it is, what was not told is told later
                _log.warning("traces wait: %s", error)
            await asyncio.sleep(traces.TICK_SECONDS)
    finally:
        with suppress(Exception):
            teller.close()


async def _prepare(services: Services) -> None:
    """Bring the tables about as soon as the database answers; until then requests are answered by 503."""
    while not await run_in_threadpool(services.prepare):  # noqa: ASYNC110 - no database tells that it is back
        await asyncio.sleep(PREPARE_AGAIN_SECONDS)
