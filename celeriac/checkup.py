"""What `celeriac doctor` looks at: each check answers how things are and, when they are not well, what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workflows.model.errors import CeleriacError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from workflows.db.census import Unstarted
    from workflows.engine.health import Seen
    from workflows.settings import Config

Verdict = Literal["ok", "warn", "fail"]

STUCK_SECONDS = 60.0
"""A step that could run and has waited longer is worth a word."""

LEAST_FREE_BYTES = 500_000_000
"""On the disk of the home, and of memory."""

LARGEST_SHARE = 0.4
"""Of the machine's memory, for one process of a worker."""

DAY_SECONDS = 86_400.0


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
        ("settings", _settings),
        ("home", _home),
        ("database", _database),
        ("broker", _broker),
        ("workers", _workers),
        ("reconciler", _reconciler),
        ("pending", _pending),
        ("waiting", _waiting),
        ("schedules", _schedules),
        ("memory", _memory),
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


def _settings(config: Config) -> Finding:
    from workflows.engine.app import celery_settings
    from workflows.engine.logs import is_json

    celery_settings(config)
    is_json(config)
    numbers = (config.lease_seconds, config.redispatch_seconds, config.max_crashes, config.retention_days)
    if any(number < 0 for number in numbers):
        return Finding("settings", "fail", "a CELERIAC_ setting is negative", "see docs/operations.md")
    given = sorted(name for name in config.env if name.startswith(("CELERIAC_", "CELERY_", "REDIS_", "DATABASE_URL")))
    return Finding("settings", "ok", f"{', '.join(given) or 'none given'}: all can be read")


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
    from workflows.engine.app import QUEUES

    workers = _seen(config).workers
    if not workers:
        if not config.has_explicit_broker:
            return Finding("workers", "ok", "none; `celeriac run` brings them up")
        if _others_answer(config):
            return Finding(
                "workers",
                "warn",
                "workers answer at this broker, but none uses this database",
                "give them and this command the same DATABASE_URL",
            )
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


def _seen(config: Config) -> Seen:
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.engine import health

    with reading(config) as database:
        return database.retrying(health.look, autocommit=True, patience_seconds=READ_PATIENCE_SECONDS)


def _others_answer(config: Config) -> bool:
    from celeriac.backends import runtime_of

    with suppress(Exception):  # any trouble of the broker means no answer, and is told by its own check
        return bool(runtime_of(config).app.control.ping(timeout=1.0))
    return False


def _reconciler(config: Config) -> Finding:
    from workflows.engine.health import check_reconciler

    seen = _seen(config)
    if not seen.workers:
        return Finding("reconciler", "ok", "runs in workers, and there is none")
    found = check_reconciler(seen)
    fact, _, advice = found.detail.partition("; ")
    return Finding("reconciler", "ok" if found.ok else "fail", fact, advice)


def _pending(config: Config) -> Finding:
    """Why accepted runs do not start: of all troubles the one that people meet first."""
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import census
    from workflows.engine.canvas import RUN_QUEUE

    with reading(config) as database:
        found = database.retrying(census.unstarted, autocommit=True, patience_seconds=READ_PATIENCE_SECONDS)
    if found is None or found.waiting_seconds < STUCK_SECONDS:
        return Finding("pending", "ok", "no accepted run waits for its start" if found is None else _unstarted(found))
    seen = _seen(config)
    if not seen.workers:
        why, remedy = "no worker runs", "start one with `celeriac worker`"
    elif RUN_QUEUE not in seen.served:
        why = f"no worker takes from the queue '{RUN_QUEUE}', in which runs are started"
        remedy = f"start one with `-Q {RUN_QUEUE}`, or without `-Q`"
    else:
        slots = sum(worker.slots for worker in seen.workers)
        running = sum(figures.running for figures in seen.queues.values())
        why = f"{running} of {slots} slots are at work"
        remedy = (
            "wait, or start more workers" if running >= slots else "look into the workers' logs: is the broker away?"
        )
    return Finding("pending", "warn", f"{_unstarted(found)}: {why}", remedy)


def _unstarted(found: Unstarted) -> str:
    return f"{found.count} accepted, the oldest ({found.run_id[:8]}) for {found.waiting_seconds:.0f} s"


def _waiting(config: Config) -> Finding:
    seen = _seen(config)
    step = seen.oldest_ready
    if step is None:
        return Finding("waiting", "ok", "no step waits for a worker")
    message = f"step '{step.step_id}' of run {step.run_id[:8]} is ready for {step.waiting_seconds:.0f} s"
    if step.waiting_seconds < STUCK_SECONDS:
        return Finding("waiting", "ok", message)
    if step.queue in seen.served:
        return Finding("waiting", "warn", message, f"start more workers for queue '{step.queue}'")
    return Finding(
        "waiting",
        "warn",
        f"{message}, in queue '{step.queue}', which no worker takes from",
        f"start one with CELERIAC_QUEUES={step.queue}, or `celeriac cancel {step.run_id[:8]}`",
    )


def _schedules(config: Config) -> Finding:
    """Whether somebody fires them, and all of them can."""
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import census

    with reading(config) as database:
        found = database.retrying(census.schedules, autocommit=True, patience_seconds=READ_PATIENCE_SECONDS)
    message = f"{found.enabled} enabled" if found.enabled or found.disabled else "none"
    if found.late_seconds > STUCK_SECONDS:
        return Finding(
            "schedules",
            "warn",
            f"{message}; one should have fired {found.late_seconds:.0f} s ago: no scheduler runs, or it cannot work",
            "start one with `celery -A celery_app beat`, or look into its log",
        )
    if found.troubled:
        return Finding(
            "schedules", "warn", f"{message}, of which {found.troubled} cannot fire", "see `celeriac schedule ls`"
        )
    return Finding("schedules", "ok", message)


def _memory(config: Config) -> Finding:
    """Whether processes are, or were, too large: a step that takes its process down has mostly run out of memory."""
    import socket

    import psutil

    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import census

    with reading(config) as database:
        crashed = database.retrying(
            lambda tx: census.crashed(tx, DAY_SECONDS), autocommit=True, patience_seconds=READ_PATIENCE_SECONDS
        )
    if crashed:
        step = crashed[0]
        return Finding(
            "memory",
            "warn",
            f"step '{step.step_id}' of run {step.run_id[:8]} took its process down {step.crashes} times"
            + (f", and so did {len(crashed) - 1} more in the last day" if len(crashed) > 1 else ""),
            "look for the kernel's `Out of memory` and give them a queue with fewer slots, or smaller inputs",
        )
    machine = psutil.virtual_memory()
    mine = [worker.pid for worker in _seen(config).workers if worker.hostname == socket.gethostname()]
    largest = max((size for pid in mine for size in _sizes(pid)), default=0)
    message = f"{machine.available // 1_000_000:,} of {machine.total // 1_000_000:,} MB free"
    if largest:
        message += f"; the largest process of a worker has {largest // 1_000_000:,} MB"
    if machine.available < LEAST_FREE_BYTES or largest > machine.total * LARGEST_SHARE:
        return Finding(
            "memory",
            "warn",
            message,
            "lower CELERY_WORKER_MAX_TASKS_PER_CHILD, so that processes are replaced sooner, or give fewer slots",
        )
    return Finding("memory", "ok", message)


def _sizes(pid: int) -> Iterator[int]:
    """Resident bytes of the processes of a worker."""
    import psutil

    with suppress(psutil.Error):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.Error):
                yield process.memory_info().rss


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
    from pipeline.embedding import embedder

    found = embedder()
    found.embed_query("a sentence")
    model = found.model
    return Finding("model", "ok", f"{model.name} ({model.revision}), {model.dimension} dimensions")
