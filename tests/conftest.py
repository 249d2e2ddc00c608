"""Fixtures that every test may ask for: a broker, databases, a home.

Servers are private and real. `TEST_REDIS_URL` and `TEST_DATABASE_URL` name others, which must be throw-away. A server
that cannot be had fails the tests that need it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
import redis
from psycopg import sql

from tests.support.rabbitmq import empty_queues, rabbitmq_server
from tests.support.servers import postgres_server, shared_folder, valkey_server
from workflows.db.database import Database
from workflows.db.migrate import upgrade

hypothesis.settings.register_profile("celeriac", deadline=None, print_blob=True)
hypothesis.settings.load_profile("celeriac")

# A developer's own settings must not reach the tests, nor the tests a developer's servers.
for _name in [name for name in os.environ if name.startswith(("CELERY_", "REDIS_", "CELERIAC_"))]:
    del os.environ[_name]
os.environ.pop("DATABASE_URL", None)


@pytest.fixture(scope="session", autouse=True)
def _default_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A test that forgets to name a home gets one that is thrown away."""
    os.environ["CELERIAC_HOME"] = str(tmp_path_factory.mktemp("default-home"))


@pytest.fixture(scope="session")
def run_id(request: pytest.FixtureRequest) -> str:
    """Names this test run; equal in all its processes."""
    worker_input = getattr(request.config, "workerinput", None)
    return str(worker_input["testrunuid"] if worker_input else uuid.uuid4().hex)[:12]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home, which `Config.from_env()` and child processes see as CELERIAC_HOME."""
    path = tmp_path / "home"
    monkeypatch.setenv("CELERIAC_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def _valkey(run_id: str, worker_id: str) -> Iterator[str]:
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        # Processes of one run share the server: each has a database of its own.
        number = int(worker_id.removeprefix("gw")) if worker_id != "master" else 0
        yield urlsplit(given)._replace(path=f"/{number}").geturl()
        return
    with valkey_server(shared_folder(run_id, f"valkey-{worker_id}")) as url:
        yield url


@pytest.fixture
def broker_url(_valkey: str) -> str:
    """URL of an empty Valkey or Redis that nobody else uses during the test; for kombu and for redis-py."""
    with redis.Redis.from_url(_valkey) as client:
        client.flushdb()
    return _valkey


@pytest.fixture
def broker_client(broker_url: str) -> Iterator[redis.Redis]:
    """A client of the server behind `broker_url`."""
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture(scope="session")
def _rabbitmq(run_id: str, worker_id: str) -> Iterator[str]:
    # It takes seconds to come up, so the processes of a run share one; each has a virtual host of its own.
    with rabbitmq_server(shared_folder(run_id, "rabbitmq")) as url:
        yield f"{url}/{worker_id}"


@pytest.fixture
def amqp_url(_rabbitmq: str) -> str:
    """URL of an empty virtual host of a RabbitMQ that nobody else uses during the test."""
    empty_queues(_rabbitmq)
    return _rabbitmq


@pytest.fixture(scope="session")
def _postgres(run_id: str) -> Iterator[str]:
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield urlsplit(given)._replace(scheme="postgresql").geturl()
        return
    with postgres_server(shared_folder(run_id, "postgres")) as url:
        yield url


@pytest.fixture
def postgres_url(_postgres: str) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, empty PostgreSQL database (pgvector can be created in it)."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(_postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield urlsplit(_postgres)._replace(scheme="postgresql+psycopg", path=f"/{name}").geturl()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """SQLAlchemy URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLAlchemy URL of a fresh, empty database; the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])
    return url


# Most tests need the tables: they get a copy of a database that was migrated once, which is much quicker.


def _migrate(url: str) -> None:
    database = Database(url)
    upgrade(database)
    database.close()


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def _postgres_template(_postgres: str) -> Iterator[sql.Identifier]:
    name = f"template_{uuid.uuid4().hex}"
    with psycopg.connect(_postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        _migrate(urlsplit(_postgres)._replace(scheme="postgresql+psycopg", path=f"/{name}").geturl())
        yield sql.Identifier(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def _sqlite_copy(_sqlite_template: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(_sqlite_template, tmp_path / 'test.db')}"


@pytest.fixture
def _postgres_copy(_postgres: str, _postgres_template: sql.Identifier) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(_postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), _postgres_template))
        yield urlsplit(_postgres)._replace(scheme="postgresql+psycopg", path=f"/{name}").geturl()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """SQLAlchemy URL of a fresh database with all tables; the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue({"sqlite": "_sqlite_copy", "postgresql": "_postgres_copy"}[request.param])
    return url
