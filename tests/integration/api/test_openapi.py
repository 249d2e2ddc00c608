"""The API against its own OpenAPI document: whatever fits it is answered as it says, and nothing is a server error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.contract import Subject, check
from tests.support.api import Served, served

# Without a worker the health check is 503, as it should be; a stream of events does not end by itself.
LEFT_OUT = "health-check$|events$"


@pytest.fixture
def api(settings: dict[str, str]) -> Iterator[Served]:
    """Stays open also after the fuzzer has made a key."""
    with served({**settings, "CELERIAC_OPEN_LOOPBACK": "true"}) as answering:
        yield answering


def test_every_answer_is_one_that_the_openapi_document_tells(api: Served, tmp_path: Path) -> None:
    """A small number of calls; `python -m benchmarks contract` makes 20,000."""
    run_id = api.http.post("/api/v1/runs", json={"workflow": "pair"}).json()["run_id"]
    assert check(api.url, Subject("pair", run_id, "a"), tmp_path, examples=10, seed=1, leave_out=LEFT_OUT) == ""
