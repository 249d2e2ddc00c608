"""The API on real ports: one without workers on each database, and one beside a worker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from tests.support.api import Live, Served, served, write_definitions
from tests.support.cluster import PROJECT, STEPS, cluster


@pytest.fixture
def settings(tmp_path: Path, database_url: str, broker_url: str) -> dict[str, str]:
    """Environment of an API of its own, on each database; no worker runs."""
    return {
        "DATABASE_URL": database_url,
        "CELERY_BROKER_URL": broker_url,
        "CELERIAC_HOME": str(tmp_path / "home"),
        "CELERIAC_STEP_MODULES": STEPS,
        "CELERIAC_DEFINITIONS": str(write_definitions(tmp_path / "definitions")),
        "PYTHONPATH": str(PROJECT),
    }


@pytest.fixture
def api(settings: dict[str, str]) -> Iterator[Served]:
    """An API without workers, on each database."""
    with served(settings) as answering:
        yield answering


@pytest.fixture(scope="module")
def _live(tmp_path_factory: pytest.TempPathFactory, _valkey: str, _postgres: str) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    name = f"live_{uuid.uuid4().hex}"
    with psycopg.connect(_postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = urlsplit(_postgres)._replace(path=f"/{name}").geturl()
    definitions = write_definitions(folder / "definitions")
    with cluster(folder, url, _valkey, CELERIAC_DEFINITIONS=str(definitions)) as made:
        made.start_worker(slots=2)
        with served(made.env) as answering:
            yield Live(answering, made)


@pytest.fixture
def live(_live: Live) -> Live:
    """An API and a worker on PostgreSQL, shared by the tests of a module."""
    return _live
