"""The API against its own OpenAPI document: whatever fits it is answered as it says, and nothing is a server error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Served, served

# Without a worker the health check is 503, as it should be; a stream of events does not end by itself.
LEFT_OUT = "health-check$|events$"

CONFIG = """
[parameters]
"path.workflow_id" = "pair"
"path.run_id" = "{run_id}"
"path.task_id" = "{run_id}"
"path.step_id" = "a"
"query.wait" = 0

[warnings]
enabled = false

# That a login needs a key although anybody may ask for one is more than a schema of the API can say.
[[operations]]
include-name = "POST /api/v1/session"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401]

# Whether a text is a definition, and an object the params of this workflow, is so too.
[[operations]]
include-path-regex = "^/api/v1/(plan|graph|runs)$|/trigger$"
include-method = "POST"
checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422]
"""


@pytest.fixture
def api(settings: dict[str, str]) -> Iterator[Served]:
    """Stays open also after the fuzzer has made a key."""
    with served({**settings, "CELERIAC_OPEN_LOOPBACK": "true"}) as answering:
        yield answering


def test_every_answer_is_one_that_the_openapi_document_tells(api: Served, tmp_path: Path) -> None:
    run_id = api.http.post("/api/v1/runs", json={"workflow": "pair"}).json()["run_id"]
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(run_id=run_id))
    line = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{api.url}/openapi.json"]
    line += ["--max-examples", "10", "--exclude-path-regex", LEFT_OUT, "--generation-deterministic", "--no-color"]
    line += ["--request-timeout", "10"]
    found = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=160, check=False)
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr
