"""A cluster on each database; leases and waits are short, so that recovery is seen quickly."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support.cluster import Cluster, cluster

QUICK = {"CELERIAC_LEASE_SECONDS": "4", "CELERIAC_REDISPATCH_SECONDS": "2"}


@pytest.fixture
def engine(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Cluster]:
    """A cluster without workers."""
    with cluster(tmp_path, database_url, broker_url, **QUICK) as made:
        yield made


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _valkey: str
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("shared")
    url = f"sqlite:///{folder / 'shared.db'}"
    if request.param == "postgresql":
        server: str = request.getfixturevalue("_postgres")
        name = f"shared_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        base, _, query = server.partition("?")
        url = f"{base.rsplit('/', 1)[0]}/{name}{'?' + query if query else ''}"
    with cluster(folder, url, _valkey, **QUICK) as made:
        made.start_worker(slots=2)
        yield made


@pytest.fixture
def calm(_shared: Cluster) -> Cluster:
    """A cluster with a worker of two slots, shared by the tests of a module; none of them may disturb it."""
    _shared.ledger_file.write_text("")
    return _shared
