"""The API against its own OpenAPI document, thousands of calls: whatever fits it is answered as it says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import api_of
from tests.support.api import write_definitions
from tests.support.cluster import cluster

CONFIG = """
[parameters]
"path.workflow_id" = "{workflow}"
"path.run_id" = "{run_id}"
"path.task_id" = "{run_id}"
"path.step_id" = "{step}"
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

# Years that end before they begin are refused, which no schema can say.
[[operations]]
include-path = "/api/v1/search"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 404, 422]
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked for: a workflow, a run of it, and one of its steps."""

    workflow: str
    run_id: str
    step: str


def check(url: str, subject: Subject, folder: Path, *, examples: int, seed: int, leave_out: str = "") -> str:
    """Let schemathesis try every operation; what it found wrong, empty when nothing.

    Args:
        examples: Inputs that it makes up for an operation, beside those that it derives.
        leave_out: Regular expression of paths.
    """
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(workflow=subject.workflow, run_id=subject.run_id, step=subject.step))
    line = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{url}/openapi.json"]
    line += ["--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "10", "--no-color"]
    line += ["--exclude-path-regex", leave_out] if leave_out else []
    found = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    return "" if found.returncode == 0 else found.stdout[-6000:] + found.stderr[-2000:]


def campaign(
    folder: Path, database_url: str, broker_url: str, calls: int, examples: int, seed: int, tell: Callable[[str], None]
) -> tuple[Counter[str], list[str]]:
    """Try an API with a worker behind it, seed after seed, until it has had so many calls.

    Returns:
        How many answers there were of 2xx, 4xx, 5xx, as its own log counts them; and what schemathesis found wrong.
    """
    definitions = write_definitions(folder / "definitions")
    settings = {
        "CELERIAC_DEFINITIONS": str(definitions),
        "CELERIAC_LOG_FORMAT": "json",
        "CELERIAC_OPEN_LOOPBACK": "true",  # stays open also after a key has been made up
    }
    faults: list[str] = []
    with cluster(folder, database_url, broker_url, **settings) as engine, api_of(engine, "INFO") as api:
        engine.start_worker(1, fresh=True)
        # A run that has ended: its stream of events ends too.
        run_id = api.http.post("/api/cronjobs/pair/trigger?wait=30").json()["task_id"]
        while sum((statuses := by_status(api.requests())).values()) < calls and not faults:
            tell(f"{sum(statuses.values()):,} calls, seed {seed}")
            found = check(api.url, Subject("pair", run_id, "a"), folder, examples=examples, seed=seed)
            faults += [f"seed {seed}:\n{found}"] if found else []
            seed += 1
        return by_status(api.requests()), faults


def by_status(requests: list[dict[str, object]]) -> Counter[str]:
    """How many requests were answered with 2xx, 4xx, 5xx."""
    return Counter(f"{str(request['status'])[:1]}xx" for request in requests)
