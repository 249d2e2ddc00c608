"""A cluster on each database; leases and waits are short, so that recovery is seen quickly."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support.cluster import Cluster, cluster
from tests.support.hands import Hands

QUICK = {"CELERIAC_LEASE_SECONDS": "4", "CELERIAC_REDISPATCH_SECONDS": "2"}


def _new_database(server: str) -> str:
    name = f"shared_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    base, _, query = server.partition("?")
    return f"{base.rsplit('/', 1)[0]}/{name}{'?' + query if query else ''}"


@pytest.fixture
def engine(tmp_path: Path, migrated_url: str, broker_url: str) -> Iterator[Cluster]:
    """A cluster without workers."""
    with cluster(tmp_path, migrated_url, broker_url, **QUICK) as made:
        yield made


@pytest.fixture(scope="session")
def _sqlite_by_hand(tmp_path_factory: pytest.TempPathFactory, _valkey: str) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("by-hand")
    with cluster(folder, f"sqlite:///{folder / 'test.db'}", _valkey, **QUICK) as made:
        yield made


@pytest.fixture(scope="session")
def _postgresql_by_hand(tmp_path_factory: pytest.TempPathFactory, _postgres: str, _valkey: str) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("by-hand"), _new_database(_postgres), _valkey, **QUICK) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def hands(request: pytest.FixtureRequest, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Hands:
    """An empty cluster without workers, whose functions the test calls itself."""
    engine: Cluster = request.getfixturevalue(f"_{request.param}_by_hand")
    monkeypatch.setenv("LEDGER", str(engine.ledger_file))
    return Hands(engine)


@pytest.fixture
def hands_on_postgres(_postgresql_by_hand: Cluster, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Hands:
    """The same for what only a database with locks of rows can show."""
    monkeypatch.setenv("LEDGER", str(_postgresql_by_hand.ledger_file))
    return Hands(_postgresql_by_hand)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _valkey: str
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("shared")
    url = f"sqlite:///{folder / 'shared.db'}"
    if request.param == "postgresql":
        url = _new_database(request.getfixturevalue("_postgres"))
    with cluster(folder, url, _valkey, **QUICK) as made:
        made.start_worker(slots=2)
        yield made


@pytest.fixture
def calm(_shared: Cluster) -> Cluster:
    """A cluster with a worker of two slots, shared by the tests of a module; none of them may disturb it."""
    _shared.ledger_file.write_text("")
    return _shared
