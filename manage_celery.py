#!/usr/bin/env python3
"""Start, watch and check the workers of an installation: `python manage_celery.py --help`."""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from urllib.parse import unquote, urlsplit

import click
import psutil
import redis

from celeriac.backends import check_broker, prepare, runtime_of
from celeriac.programs import api_service, beat_service, check_port, environment, flower_service, worker_service
from workflows.db import queries
from workflows.db.migrate import upgrade
from workflows.db.queries import WorkerView
from workflows.engine import health as engine_health
from workflows.engine.runtime import Runtime
from workflows.model.errors import BrokerUnavailableError, CeleriacError
from workflows.settings import Config
from workflows.stack import broker as broker_program
from workflows.stack.services import Service, Services

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BROKER_SECONDS = 20.0
_HEADINGS = ("worker", "pid", "slots", "cpu", "memory", "queues")

loglevel_option = click.option(
    "--loglevel", type=click.Choice(LOG_LEVELS, case_sensitive=False), default="INFO", show_default=True
)
flower_port_option = click.option("--flower-port", type=click.IntRange(1, 65535), default=5555, show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Start, watch and check Celeriac's workers."""


@cli.command()
@click.option("--workers", "-w", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker programs.")
@click.option("--concurrency", "-c", type=click.IntRange(1, 512), default=2, show_default=True, help="Slots of each.")
@click.option("--flower", is_flag=True, help="Flower too, on 127.0.0.1.")
@click.option("--beat", is_flag=True, help="The scheduler too; one for the whole installation.")
@flower_port_option
@loglevel_option
def start(workers: int, concurrency: int, flower: bool, beat: bool, flower_port: int, loglevel: str) -> None:
    """Run workers until Ctrl-C; one that dies is started again."""
    config = Config.from_env()
    runtime = runtime_of(config)
    prepare(runtime.database)
    runtime.database.close()
    check_broker(runtime)
    services = Services(environment(config), _say)
    with _stopping(services):
        for number in range(1, workers + 1):
            services.start(worker_service(number, concurrency, loglevel, events=flower))
        if beat:
            services.start(beat_service(loglevel))
        if flower:
            check_port(flower_port)
            services.start(flower_service(flower_port))
        _say(f"{workers} workers with {concurrency} slots each; Ctrl-C stops them")
        services.run()


@cli.command("dev")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the API.")
@click.option("--concurrency", "-c", type=click.IntRange(1, 512), default=2, show_default=True, help="Worker slots.")
@click.option("--reload/--no-reload", default=True, show_default=True, help="Restart the API when code changes.")
@flower_port_option
@loglevel_option
def dev(port: int, concurrency: int, reload: bool, flower_port: int, loglevel: str) -> None:
    """Run all of it for development: broker, worker, beat, Flower, migrations, API. Ctrl-C ends all."""
    config = Config.from_env()
    for taken in (port, flower_port):
        check_port(taken)
    services = Services(environment(config), _say)
    with _stopping(services):
        _bring_up_broker(services, config)
        runtime = runtime_of(config)
        upgrade(runtime.database)
        runtime.database.close()
        services.start(worker_service(1, concurrency, loglevel, events=True))
        services.start(beat_service(loglevel))
        services.start(flower_service(flower_port))
        services.start(api_service(port, reload=reload))
        _say(f"API on http://localhost:{port}, Flower on http://localhost:{flower_port}; Ctrl-C ends all")
        services.run()


@cli.command()
@json_option
def status(as_json: bool) -> None:
    """Workers, queues and runs."""
    with _runtime() as runtime:
        workers = runtime.database.retrying(queries.live_workers, autocommit=True, patience_seconds=5.0)
        runs = runtime.database.retrying(
            lambda tx: queries.list_runs(tx, limit=10), autocommit=True, patience_seconds=5.0
        )
        lengths = engine_health.queue_lengths(runtime)
        if as_json:
            value = {
                "workers": [{"node": w.node, "pid": w.pid, "slots": w.slots, "queues": w.queues} for w in workers],
                "queues": lengths,
                "runs": [{"run_id": r.run_id, "workflow": r.workflow, "status": r.status} for r in runs],
            }
            click.echo(json.dumps(value))
            return
        _print_workers(workers)
        click.echo(f"queues: {_queue_text(lengths)}")
        for run in runs:
            click.echo(f"{run.run_id}  {run.status:<8} {run.progress:>3} %  {run.workflow}")


@cli.command()
@json_option
def health(as_json: bool) -> None:
    """Check database, broker and workers; exit code 1 when something is missing."""
    with _runtime() as runtime:
        found = engine_health.examine(runtime)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        for name in ("database", "broker", "workers", "reconciler", "queues"):
            check = getattr(found, name)
            click.echo(f"{'ok     ' if check.ok else 'MISSING'} {name}: {check.detail}")
    sys.exit(0 if found.is_healthy else 1)


@cli.command()
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds.")
@click.option("--count", type=click.IntRange(1), help="Looks in all. [default: until Ctrl-C]")
def monitor(interval: float, count: int | None) -> None:
    """Show the processes of the workers, with processor and memory, again and again."""
    pause = Event()
    with _runtime() as runtime:
        look = 0
        while True:
            look += 1
            workers = runtime.database.retrying(queries.live_workers, autocommit=True, patience_seconds=5.0)
            _print_workers(workers)
            click.echo(f"queues: {_queue_text(engine_health.queue_lengths(runtime))}\n")
            if count is not None and look >= count:
                return
            pause.wait(interval)


def broker_service(config: Config) -> Service:
    """A broker of one's own at the place that the settings name.

    Raises:
        BrokerUnavailableError: the settings name a place that is not on this machine, or no Redis.
    """
    url = urlsplit(config.broker_url)
    if url.scheme != "redis" or url.hostname not in _LOOPBACK:
        raise BrokerUnavailableError(
            f"the broker at {url.scheme}://{url.hostname} does not answer, and is not one to be started here",
            "start it, or unset CELERY_BROKER_URL and REDIS_HOST for a broker of this machine",
        )
    data = config.home / "dev-broker"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [
        f"port {url.port or 6379}", "bind 127.0.0.1", f'dir "{data}"', "appendonly yes", 'save ""',
        "maxmemory-policy noeviction", "daemonize no", "loglevel warning",
    ]  # fmt: skip
    if url.password:
        lines.append(f"requirepass {json.dumps(unquote(url.password))}")
    return Service("broker", [str(broker_program.find_server()), "-"], "\n".join(lines) + "\n")


def _bring_up_broker(services: Services, config: Config) -> None:
    if _answers(config):
        _say("using the broker that answers already")
        return
    services.start(broker_service(config))
    if not services.wait_for(lambda: _answers(config), _BROKER_SECONDS) and not services.is_told_to_stop:
        raise BrokerUnavailableError(f"the broker did not answer within {_BROKER_SECONDS:.0f} s")


def _answers(config: Config) -> bool:
    if not config.broker_url.startswith(("redis://", "rediss://")):
        return True  # whether another kind of broker answers, the worker says
    try:
        with redis.Redis.from_url(config.broker_url, socket_connect_timeout=1, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.exceptions.AuthenticationError as error:
        raise BrokerUnavailableError(f"the broker refuses the password: {error}", "correct REDIS_PASSWORD") from error
    except (redis.RedisError, OSError):
        return False


@contextmanager
def _stopping(services: Services) -> Iterator[None]:
    try:
        yield
    finally:
        services.stop()


@contextmanager
def _runtime() -> Iterator[Runtime]:
    logging.getLogger().addHandler(logging.NullHandler())
    runtime = runtime_of(Config.from_env())
    try:
        yield runtime
    finally:
        runtime.database.close()
        runtime.app.close()


def _print_workers(workers: list[WorkerView]) -> None:
    if not workers:
        click.echo("no worker has been seen in the last 15 s; `manage_celery.py start` starts some")
        return
    lines = [_HEADINGS, *(_worker_line(worker) for worker in workers)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _worker_line(worker: WorkerView) -> tuple[str, ...]:
    cpu = memory = "-"
    if worker.hostname == socket.gethostname():
        try:
            parent = psutil.Process(worker.pid)
            family = [parent, *parent.children(recursive=True)]
            cpu = f"{sum(process.cpu_percent(0.05) for process in family):.0f} %"
            memory = f"{sum(process.memory_info().rss for process in family) / 1e6:.0f} MB"
        except psutil.Error:
            pass  # it has just ended
    return (worker.node, str(worker.pid), str(worker.slots), cpu, memory, ",".join(worker.queues))


def _queue_text(lengths: dict[str, int | None]) -> str:
    if None in lengths.values():
        return "the broker does not answer"
    return ", ".join(f"{queue} {length}" for queue, length in lengths.items())


def _say(text: str) -> None:
    click.echo(f"manage_celery: {text}", err=True)


def main(run: Callable[[], None] = cli) -> None:
    """Run a command; what a person can mend is told in one line."""
    try:
        run()
    except CeleriacError as error:
        click.echo(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
