"""A cluster on each database; leases and waits are short, so that recovery is seen quickly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, cluster

QUICK = {"CELERIAC_LEASE_SECONDS": "4", "CELERIAC_REDISPATCH_SECONDS": "2"}


@pytest.fixture
def engine(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Cluster]:
    """A cluster without workers."""
    with cluster(tmp_path, database_url, broker_url, **QUICK) as made:
        yield made
