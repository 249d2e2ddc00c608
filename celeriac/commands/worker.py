"""`celeriac worker`."""

from __future__ import annotations

import os
import sys
from threading import Event

import click

from celeriac.output import count_text, json_option, print_json_line
from workflows.settings import Config

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_TICK_SECONDS = 1.0


@click.command("worker")
@click.option("--concurrency", "-c", type=click.IntRange(1, 512), metavar="N", help="Processes. [default: the cores]")
@click.option(
    "--loglevel", "-l", type=click.Choice(LOG_LEVELS, case_sensitive=False), default="INFO", show_default=True
)
@json_option("Print what is up as one JSON object on a line.")
def command(concurrency: int | None, loglevel: str, as_json: bool) -> None:
    """Run a worker until Ctrl-C.

    It takes steps from the broker of CELERY_BROKER_URL, from all queues. Without one it holds up the embedded stack of
    the home, which other commands of the home then share, and fires the schedules.
    """
    config = Config.from_env()
    if config.has_explicit_broker:
        _become_worker(config, concurrency, loglevel, as_json)
    else:
        _hold_stack(config, concurrency, as_json)


def _become_worker(config: Config, concurrency: int | None, loglevel: str, as_json: bool) -> None:
    """Turn this process into a Celery worker, so that signals are its own to answer."""
    from celeriac.backends import check_broker, prepare, runtime_of
    from workflows.steps.registry import load_steps

    runtime = runtime_of(config, load_steps(config.step_modules))
    prepare(runtime.database)
    runtime.database.close()
    check_broker(runtime)
    if as_json:
        print_json_line({"embedded": False, "slots": concurrency, "queues": list(runtime.app.amqp.queues)})
    line = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--loglevel", loglevel]
    line += ["--hostname", f"celeriac-{os.getpid()}@%h"]
    if concurrency is not None:
        line += ["--concurrency", str(concurrency)]
    sys.stdout.flush()
    os.execve(sys.executable, line, dict(config.env))  # noqa: S606 - a list of arguments, and no shell


def _hold_stack(config: Config, concurrency: int | None, as_json: bool) -> None:
    """Use the embedded stack for as long as nobody presses Ctrl-C."""
    from celeriac.backends import backend, prepare, runtime_of
    from celeriac.follow import Interrupts, LeftError
    from workflows.catalogue import Catalogue
    from workflows.scheduling.scheduler import Scheduler
    from workflows.steps.registry import load_steps, schemas

    with backend(config, slots=concurrency) as using:
        # While the stack comes up; what cannot be imported is an error here, not a line in a log.
        steps = load_steps(config.step_modules)
        runtime = runtime_of(using.config, steps)
        prepare(runtime.database)
        runtime.database.close()
        using.ready()
        slots = using.slots() or 0
        log = config.home / "logs" / "worker.log"
        if as_json:
            queues = list(runtime.app.amqp.queues)
            print_json_line({"embedded": True, "slots": slots, "queues": queues, "log": str(log)})
        else:
            click.echo(f"the stack of {config.home} is up: {count_text(slots, 'slot')}, log in {log}")
            click.echo("Ctrl-C leaves; the last one who uses the stack stops it")
        sys.stdout.flush()
        pause = Event()
        scheduler = Scheduler(runtime, Catalogue(config.definition_folders, schemas(steps)))
        scheduler.start()
        with Interrupts(warnings=0) as interrupts:
            try:
                while True:
                    pause.wait(_TICK_SECONDS)
                    interrupts.check(lambda: None)
                    using.keep_up()
            except LeftError:
                pass
            finally:
                scheduler.stop()
        if not as_json:
            click.echo("stopping: steps in progress may finish")
