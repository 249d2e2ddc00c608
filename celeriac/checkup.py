"""What `celeriac doctor` looks at: each check answers how things are and, when they are not well, what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workflows.model.errors import CeleriacError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from workflows.settings import Config

Verdict = Literal["ok", "warn", "fail"]

STUCK_SECONDS = 60.0
"""A step that could run and has waited longer is worth a word."""

LEAST_FREE_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is.

    Attributes:
        verdict: `fail` when runs cannot work, `warn` when they may not.
        hint: What to do; empty when all is well.
    """

    name: str
    verdict: Verdict
    message: str
    hint: str = ""


def examine(config: Config) -> Iterator[Finding]:
    """All checks, one after the other; none of them changes anything."""
    checks: tuple[tuple[str, Callable[[Config], Finding]], ...] = (
        ("home", _home),
        ("database", _database),
        ("broker", _broker),
        ("workers", _workers),
        ("waiting", _waiting),
        ("steps", _steps),
        ("timeouts", _timeouts),
        ("model", _model),
    )
    for name, check in checks:
        try:
            yield check(config)
        except NotFoundError as error:  # no database yet: said once, by the check of the database
            yield Finding(name, "ok", f"nothing yet: {error}")
        except CeleriacError as error:
            yield Finding(name, "fail", str(error), error.hint)
        except Exception as error:  # noqa: BLE001 - one check that breaks must not hide the others
            yield Finding(name, "fail", f"{type(error).__name__}: {error}", "run again with CELERIAC_DEBUG=1")


def _home(config: Config) -> Finding:
    home = config.home
    existing = _existing(home)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("home", "fail", f"{existing} is not writable", "set CELERIAC_HOME to a folder of your own")
    free = shutil.disk_usage(existing).free
    if free < LEAST_FREE_BYTES:
        return Finding("home", "warn", f"{home} has {free // 1_000_000} MB left", "make room on that disk")
    return Finding("home", "ok", f"{home}" + ("" if home.exists() else ", made by the first run"))


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _database(config: Config) -> Finding:
    from sqlalchemy.engine import make_url

    from celeriac.backends import reading
    from workflows.db import migrate

    name = make_url(config.database_url).render_as_string(hide_password=True)
    try:
        with reading(config) as database:
            pending = migrate.pending(database)
    except NotFoundError:
        return Finding("database", "ok", f"{name}, made by the first run")
    if pending:
        listed = ", ".join(pending)
        return Finding("database", "fail", f"{name} lacks tables of {listed}", "run `celeriac db upgrade` once")
    return Finding("database", "ok", f"{name} answers, its tables are of this version")


def _broker(config: Config) -> Finding:
    if not config.has_explicit_broker:
        return _embedded_broker(config)
    from kombu.utils.url import maybe_sanitize_url

    from celeriac.backends import runtime_of
    from workflows.engine.broker import Broker

    broker = Broker(runtime_of(config).app)
    try:
        caution = broker.check()
    finally:
        broker.close()
    answers = f"{maybe_sanitize_url(config.broker_url)} answers"
    if caution:
        fact, _, advice = caution.partition("; ")
        return Finding("broker", "warn", f"{answers}; {fact}", advice)
    return Finding("broker", "ok", answers)


def _embedded_broker(config: Config) -> Finding:
    from workflows.stack import find
    from workflows.stack.broker import find_server

    server = find_server()
    status = find(config)
    if status is None:
        return Finding("broker", "ok", f"embedded ({server.name}), comes up with the first run")
    if not status.broker_answers:
        return Finding("broker", "warn", f"embedded, {status.phase}, does not answer", f"see {config.home / 'logs'}")
    return Finding("broker", "ok", f"embedded, up, {status.users} in use")


def _workers(config: Config) -> Finding:
    from celeriac.backends import reading
    from celeriac.follow import read_workers
    from workflows.engine.app import QUEUES

    with reading(config) as database:
        workers = read_workers(database)
    if not workers:
        if not config.has_explicit_broker:
            return Finding("workers", "ok", "none; `celeriac run` brings them up")
        return Finding("workers", "warn", "none is seen on this database", "start one with `celeriac worker`")
    served = {queue for worker in workers for queue in worker.queues}
    missing = sorted({*QUEUES, *config.queues} - served)
    slots = sum(worker.slots for worker in workers)
    message = f"{len(workers)} with {slots} slots; queues {', '.join(sorted(served))}"
    if missing:
        return Finding(
            "workers", "warn", f"{message}; none takes from {', '.join(missing)}", "start one for these queues too"
        )
    return Finding("workers", "ok", message)


def _waiting(config: Config) -> Finding:
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import queries

    with reading(config) as database:
        step = database.retrying(queries.oldest_ready, autocommit=True, patience_seconds=READ_PATIENCE_SECONDS)
    if step is None:
        return Finding("waiting", "ok", "no step waits for a worker")
    message = f"step '{step.step_id}' of run {step.run_id[:8]} is ready for {step.waiting_seconds:.0f} s"
    if step.waiting_seconds < STUCK_SECONDS:
        return Finding("waiting", "ok", message)
    return Finding(
        "waiting",
        "warn",
        message,
        f"let a worker take from queue '{step.queue}', or `celeriac cancel {step.run_id[:8]}`",
    )


def _steps(config: Config) -> Finding:
    from workflows.steps.registry import load_steps

    names = load_steps(config.step_modules).names()
    return Finding("steps", "ok", f"{len(names)}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}")


def _timeouts(config: Config) -> Finding:
    from workflows.catalogue import Catalogue
    from workflows.engine.broker_safety import impatience
    from workflows.steps.registry import load_steps, schemas

    entries = Catalogue(config.definition_folders, schemas(load_steps(config.step_modules))).all()
    caution = impatience(config, [entry.plan for entry in entries if entry.plan is not None])
    if caution:
        fact, _, advice = caution.partition("; ")
        return Finding("timeouts", "warn", fact, advice)
    return Finding("timeouts", "ok", f"the broker waits for the longest step of {len(entries)} definitions")


def _model(_config: Config) -> Finding:
    from pipeline.embedding import bundled_model, embedder

    model = bundled_model()
    embedder().embed(["a sentence"])
    return Finding("model", "ok", f"{model.name} ({model.revision}), {model.dimension} dimensions")
