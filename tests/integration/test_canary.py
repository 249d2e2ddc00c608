"""A secret that steps tell in every way is found nowhere: not in database, logs, broker, events or answers."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import redis

from tests.support.api import served
from tests.support.cluster import Cluster, cluster
from workflows.db.tables import metadata

SECRET = 'canary/"of\\a key+1'
URL_PASSWORD = "canary-of-an-url"
BROKER_PASSWORD = "canary-of-the-broker"

DEFINITION = """
id: leaky
steps:
  tells: {uses: leaky.tell, with: {way: return, token: "Bearer ${{ secret.CANARY }}"}}
  tells_often:
    uses: leaky.tell
    for_each: {items: "${{ ['return', 'raise'] }}", tolerate: 100%}
    with: {way: "${{ item }}", token: "${{ secret.CANARY }}"}
  fails: {needs: [tells, tells_often], uses: leaky.tell, with: {way: raise, token: "${{ secret.CANARY }}"}}
  refused: {needs: tells, uses: leaky.tell, with: {way: ["${{ secret.CANARY }}"], token: ""}}
outputs: {token: "${{ steps.tells.output }}"}
"""


def _forms() -> list[bytes]:
    texts = [SECRET, quote(SECRET, safe=""), SECRET.replace("\\", "\\\\").replace('"', '\\"'), URL_PASSWORD]
    return [text.encode() for text in (*texts, BROKER_PASSWORD, base64.b64encode(SECRET.encode()).decode())]


def _broker_content(client: redis.Redis) -> bytes:
    return b"".join(bytes(key) + bytes(client.dump(key) or b"") for key in client.scan_iter())


def _database_content(engine: Cluster) -> bytes:
    """All rows of all tables; those of SQLite lie in its files as well."""
    return "\n".join(
        str(row) for table in metadata.sorted_tables for row in engine.rows(f"SELECT * FROM {table}")
    ).encode()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_secret_is_found_nowhere(
    log_format: str, tmp_path: Path, request: pytest.FixtureRequest, broker_url: str, broker_client: redis.Redis
) -> None:
    database_url = request.getfixturevalue({"text": "sqlite_url", "json": "postgres_url"}[log_format])
    url = urlsplit(broker_url)
    with_password = url._replace(netloc=f"default:{BROKER_PASSWORD}@{url.hostname}:{url.port}").geturl()
    settings = {
        "CELERIAC_SECRET_CANARY": SECRET,
        "CELERIAC_STEP_MODULES": "tests.support.leaky_steps",
        "CELERIAC_LOG_FORMAT": log_format,
    }
    with cluster(tmp_path, database_url, with_password, **settings) as engine, served(engine.env) as api:
        engine.start_worker(slots=1)
        accepted = engine.submit(DEFINITION)
        report = engine.wait(accepted)
        root = f"/api/v1/runs/{accepted.run_id}"
        paths = [
            "",
            "/steps",
            "/steps/tells",
            "/steps/fails",
            "/steps/tells_often/items",
            "/attempts",
            "/logs",
            "/events",
        ]
        answers = [api.http.get(f"{root}{path}") for path in paths]
        answers += [api.http.get(f"/api/cronjobs/tasks/{accepted.run_id}/{path}") for path in ("status", "progress")]
        answers += [api.http.get("/api/cronjobs/tasks/health-check"), api.http.get("/metrics")]
        assert {answer.status_code for answer in answers} == {200}
        broker, rows = _broker_content(broker_client), _database_content(engine)
        for worker in engine.workers:
            worker.stop()
    files = {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    places = {
        "the report": str(report).encode(),
        "the broker": broker,
        "the database": rows,
        **{str(answer.url): answer.content for answer in answers},
        **files,
    }
    found = [(place, form) for place, content in places.items() for form in _forms() if form in content]
    assert not found
    assert report.run.status == "FAILURE"
    assert rows.count(b"***") >= 4
    told = rows + b"".join(files.values())
    assert told.count(b"the token is ***") >= 4
    assert b"*** was refused by https://ann:***@example.org/" in told
    assert b"Authorization: Bearer ***" in told
