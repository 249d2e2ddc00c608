"""`celeriac serve`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from celeriac.output import count_text, json_option, note, print_json_line
from workflows.settings import Config

if TYPE_CHECKING:
    from workflows.stack import EmbeddedStack

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_TICK_SECONDS = 0.5
_GRACEFUL_SECONDS = 5
"""How long answers in progress may take when the API is stopped."""


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--with-worker", is_flag=True, help="A worker and the scheduler too; without a broker, the embedded one.")
@click.option("--concurrency", "-c", type=click.IntRange(1, 512), metavar="N", help="Slots of the worker.")
@click.option(
    "--loglevel", "-l", type=click.Choice(LOG_LEVELS, case_sensitive=False), default="INFO", show_default=True
)
@json_option("Print what is served as one JSON object on a line.")
def command(host: str, port: int, with_worker: bool, concurrency: int | None, loglevel: str, as_json: bool) -> None:
    """Serve the API until Ctrl-C.

    Alone it accepts runs for workers that are started elsewhere. With --with-worker everything that runs need comes
    with it: a worker, the scheduler and, without CELERY_BROKER_URL, the embedded broker of the home.
    """
    from celeriac.programs import check_port

    config = Config.from_env()
    if concurrency is not None and not with_worker:
        raise click.UsageError("--concurrency is for the worker: add --with-worker")
    check_port(port, host)
    _check_address(config, host)
    if with_worker:
        _serve_all(config, host, port, concurrency, loglevel, as_json)
    else:
        _serve_api(config, host, port, loglevel, as_json)


def _check_address(config: Config, host: str) -> None:
    """Where other machines can reach it, only an installation with keys is served."""
    from api.guard import is_loopback, require_keys_beyond_loopback
    from celeriac.backends import prepare
    from workflows.db.database import Database

    if is_loopback(host):
        return
    database = Database(config.database_url)
    try:
        prepare(database)
        require_keys_beyond_loopback(host, database)
    finally:
        database.close()


def _serve_api(config: Config, host: str, port: int, loglevel: str, as_json: bool) -> None:
    """The API in this process, so that signals are its own to answer."""
    import uvicorn

    from api.application import create_app
    from celeriac.backends import backend

    with backend(config, start=False) as using:
        app = create_app(using.config)
    _tell(host, port, as_json=as_json)
    uvicorn.run(app, host=host, port=port, log_level=loglevel.lower(), timeout_graceful_shutdown=_GRACEFUL_SECONDS)


def _serve_all(config: Config, host: str, port: int, concurrency: int | None, loglevel: str, as_json: bool) -> None:
    """API, scheduler and worker, each a process that is kept up; the embedded stack keeps its worker up itself."""
    from celeriac.backends import check_broker, prepare, runtime_of
    from celeriac.programs import api_service, beat_service, environment, worker_service
    from workflows.stack import EmbeddedStack
    from workflows.stack.services import Services

    with ExitStack() as cleanup:
        stack: EmbeddedStack | None = None
        if not config.has_explicit_broker:
            stack = cleanup.enter_context(EmbeddedStack(config, concurrency))
            config = Config.from_env(stack.env())
        runtime = runtime_of(config)
        prepare(runtime.database)
        runtime.database.close()
        check_broker(runtime)
        services = Services(environment(config), note)
        cleanup.callback(services.stop)
        if stack is None:
            services.start(worker_service(1, concurrency, loglevel))
        services.start(beat_service(loglevel))
        services.start(api_service(port, host=host))
        _tell(host, port, as_json=as_json, stack=stack, slots=concurrency)
        while not services.is_told_to_stop:
            services.tick(_TICK_SECONDS)
            if stack is not None:
                stack.ensure()


def _tell(host: str, port: int, *, as_json: bool, stack: EmbeddedStack | None = None, slots: int | None = None) -> None:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    status = stack.status() if stack is not None else None
    if as_json:
        print_json_line({"url": url, "embedded": stack is not None, "slots": status.slots if status else slots})
    elif status is not None:
        click.echo(f"API on {url}; embedded worker with {count_text(status.slots, 'slot')}; Ctrl-C ends all")
    else:
        click.echo(f"API on {url}; Ctrl-C ends it")
    sys.stdout.flush()
