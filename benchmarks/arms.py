"""The ways to do a work: through Celeriac on either database, and as a raw Celery canvas. Same broker, same workers."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psutil
import psycopg
import redis
from psycopg import sql

from benchmarks import raw
from benchmarks.processor import Parts, children, family, own, processor_time
from benchmarks.profiling import PROFILE_VARIABLE
from benchmarks.works import Work
from tests.support.cluster import PROJECT, Cluster, cluster
from tests.support.servers import postgres_server, valkey_server
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.db.database import Statement
from workflows.engine import launch
from workflows.model.parser import parse_workflow

POLL_SECONDS = 0.005
LIMIT_SECONDS = 600.0

_OPEN = Statement("SELECT count(*) FROM job_runs WHERE id >= :first AND finished_at IS NULL")
_TIMES = Statement("""
    SELECT max(finished_at) - min(created_at), min(status), max(status), sum(redispatches)
    FROM job_runs WHERE id >= :first""")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement.

    Attributes:
        wall_seconds: From the first call that submits to the end as seen from outside, looked for every 5 ms.
        database_seconds: From `created_at` to `finished_at` of the runs; None for the raw canvas.
        broker_bytes: What the broker was sent meanwhile, by all of the arm's processes.
        processor_seconds: By part: submitter, worker parent, worker children, broker, database.
    """

    wall_seconds: float
    database_seconds: float | None
    broker_bytes: int
    processor_seconds: Mapping[str, float]


class Arm(Protocol):
    """One way to do a work."""

    @property
    def name(self) -> str:
        """`raw: ...`, or the database of Celeriac."""

    def measure(self, work: Work) -> Sample:
        """Do it once."""


class CeleriacArm:
    """Runs the definition."""

    def __init__(self, name: str, engine: Cluster, parts: Parts) -> None:
        self._name = name
        self._engine = engine
        self._parts = parts

    @property
    def name(self) -> str:
        return self._name

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL."""
        return self._engine.runtime.config.database_url

    def measure(self, work: Work) -> Sample:
        runtime = self._engine.runtime
        # Compiling is done once a version, and is no part of a run.
        plan = compile_workflow(parse_workflow(work.definition))
        with processor_time(self._parts) as spent, _bytes_of(runtime.config.broker_url) as sent:
            began = time.perf_counter()
            first = launch.submit(runtime, plan, work.definition, work.params)
            for _ in range(work.runs - 1):
                launch.submit(runtime, plan, work.definition, work.params)
            key = {"first": first.run_pk}
            wait_until(
                lambda: self._engine.runtime.database.retrying(lambda tx: tx.row(_OPEN, key), autocommit=True) == (0,),
                LIMIT_SECONDS,
                f"the end of {work.key}",
                POLL_SECONDS,
            )
            wall = time.perf_counter() - began
        row = runtime.database.retrying(lambda tx: tx.row(_TIMES, key), autocommit=True)
        assert row is not None
        seconds, *statuses, redispatches = row
        assert statuses == ["SUCCESS", "SUCCESS"], f"{work.key} ended as {statuses}"
        assert not redispatches, f"{work.key}: the reconciler dispatched {redispatches} in an undisturbed run"
        return Sample(wall, seconds, sent[0], spent)


@dataclass(frozen=True, slots=True)
class RawWorker:
    """A worker of the raw canvas: its broker, and whose processor time counts."""

    broker_url: str
    parts: Parts


class RawArm:
    """Applies one variant of the raw canvas."""

    def __init__(self, variant: str, worker: RawWorker) -> None:
        self._variant = variant
        self._worker = worker
        self._client = redis.Redis.from_url(worker.broker_url)

    @property
    def name(self) -> str:
        return f"raw: {self._variant}"

    def measure(self, work: Work) -> Sample:
        mark = f"mark:{uuid.uuid4().hex}"
        canvases = list(work.raws[self._variant](mark))
        expected = sum(count for _, count in canvases)
        with processor_time(self._worker.parts) as spent, _bytes_of(self._worker.broker_url) as sent:
            began = time.perf_counter()
            for canvas, _ in canvases:
                canvas.apply_async()
            wait_until(
                lambda: int(self._client.get(mark) or 0) == expected,
                LIMIT_SECONDS,
                f"the end of the raw {work.key}",
                POLL_SECONDS,
            )
            wall = time.perf_counter() - began
        self._client.delete(mark)
        # Results unsubscribe when they are collected; that must not happen within the time of another arm.
        gc.collect()
        return Sample(wall, None, sent[0], spent)


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers that keep their data as in production."""

    broker_url: str
    postgres_url: str | None

    def parts(self, database: str) -> Parts:
        """This process and the servers that an arm on `database` uses."""
        with redis.Redis.from_url(self.broker_url) as client:
            broker = psutil.Process(int(client.info("server")["process_id"]))
        found = {"submitter": own(psutil.Process()), "broker": own(broker)}
        if database == "postgresql" and self.postgres_url is not None:
            with psycopg.connect(self.postgres_url) as connection:
                postmaster = psutil.Process(connection.info.backend_pid).parent()
            assert postmaster is not None
            found["database"] = children(postmaster)
        return found


@contextmanager
def servers(folder: Path, *, postgres: bool) -> Iterator[Servers]:
    """A broker, and a PostgreSQL when asked for."""
    with ExitStack() as stack:
        broker = stack.enter_context(valkey_server(folder / "valkey", durable=True))
        database = stack.enter_context(postgres_server(folder / "postgres", durable=True)) if postgres else None
        yield Servers(broker, database)


@contextmanager
def celeriac_arm(
    folder: Path, servers: Servers, database: str, slots: int, profile: Path | None = None
) -> Iterator[CeleriacArm]:
    """Celeriac on a new database, with one worker of `slots` processes."""
    folder.mkdir()
    number = {"sqlite": 1, "postgresql": 2}[database]
    settings = {"CELERIAC_STEP_MODULES": "benchmarks.steps"}
    if profile is not None:
        settings[PROFILE_VARIABLE] = str(profile)
    with cluster(
        folder, new_database(servers, database, folder), _database_of(servers.broker_url, number), **settings
    ) as engine:
        worker = engine.start_worker(slots, fresh=True)
        yield CeleriacArm(database, engine, {**family(worker.process.pid), **servers.parts(database)})
        worker.stop()


@contextmanager
def raw_worker(
    folder: Path, servers: Servers, slots: int, environment: dict[str, str], profile: Path | None = None
) -> Iterator[RawWorker]:
    """A worker for the raw canvas, started as Celeriac's."""
    url = _database_of(servers.broker_url, 0)
    raw.app.conf.update(broker_url=url, result_backend=url)
    env = {**environment, "CELERY_BROKER_URL": url, "PYTHONPATH": str(PROJECT)}
    if profile is not None:
        env[PROFILE_VARIABLE] = str(profile)
    command = [
        *(sys.executable, "-m", "celery", "-A", "benchmarks.raw", "worker", "--loglevel", "info"),
        *("--concurrency", str(slots), "--without-mingle", "--without-gossip", "-n", "raw@%h"),
    ]
    with (folder / f"raw-{slots}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=env, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            raw.task.si(mark="up").apply_async()
            client = redis.Redis.from_url(url)
            wait_until(lambda: process.poll() is not None or client.get("up"), 60, "the raw worker")
            assert process.poll() is None, Path(log.name).read_text()
            client.delete("up")
            yield RawWorker(url, {**family(process.pid), **servers.parts("none")})
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        finally:
            if process.poll() is None:
                process.kill()
            # Or else results that are collected at the end of this process look for a broker that is gone.
            raw.app.backend.result_consumer.subscribed_to.clear()


@contextmanager
def _bytes_of(broker_url: str) -> Iterator[list[int]]:
    """What the broker's server gets over its connections while inside, in a list of one when done."""
    with redis.Redis.from_url(broker_url) as client:
        before = int(client.info("stats")["total_net_input_bytes"])
        found: list[int] = []
        yield found
        found.append(int(client.info("stats")["total_net_input_bytes"]) - before)


def _database_of(broker_url: str, number: int) -> str:
    return urlsplit(broker_url)._replace(path=f"/{number}").geturl()


def new_database(servers: Servers, database: str, folder: Path) -> str:
    """SQLAlchemy URL of an empty database."""
    if database == "sqlite":
        return f"sqlite:///{folder / 'bench.db'}"
    assert servers.postgres_url is not None
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(servers.postgres_url)._replace(scheme="postgresql+psycopg", path=f"/{name}").geturl()
