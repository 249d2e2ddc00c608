"""/api/v1 without workers: definitions, answers to wrong requests, the OpenAPI document."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import DEFINITIONS, Served, served, write_definitions


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory, _valkey: str) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("v1")
    env = {
        "DATABASE_URL": f"sqlite:///{folder / 'v1.db'}",
        "CELERY_BROKER_URL": _valkey,
        "CELERIAC_HOME": str(folder / "home"),
        "CELERIAC_STEP_MODULES": "tests.support.ledger_steps",
        "CELERIAC_DEFINITIONS": str(write_definitions(folder / "definitions")),
    }
    with served(env) as answering:
        yield answering


def _get(api: Served, path: str, **query: Any) -> Any:
    answer = api.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_workflows_are_listed_those_with_errors_included(contract: Served) -> None:
    listed = {entry["id"]: entry for entry in _get(contract, "/api/v1/workflows")["workflows"]}
    shipped = {"follow-citations", "literature-review", "nightly-arxiv", "pdf-folder", "process-papers", "re-embed"}
    assert set(listed) == {*DEFINITIONS, *shipped}
    assert (listed["pair"]["steps"], listed["pair"]["errors"]) == (2, 0)
    assert listed["broken"]["errors"] > 0
    assert listed["broken"]["fingerprint"] is None


def test_a_workflow_tells_its_params_as_a_json_schema(contract: Served) -> None:
    pair = _get(contract, "/api/v1/workflows/pair")
    assert pair["params"] == {
        "type": "object",
        "properties": {
            "ms": {"type": "integer", "minimum": 0, "default": 0},
            "force_reprocess": {"type": "boolean", "default": False},
        },
        "required": [],
        "additionalProperties": False,
    }
    assert [step["needs"] for step in pair["steps_detail"]] == [[], ["a"]]
    assert pair["source"] == DEFINITIONS["pair"]


def test_plan_and_graph_of_a_workflow_and_of_a_text_are_the_same(contract: Served) -> None:
    plan = _get(contract, "/api/v1/workflows/pair/plan")
    assert plan["messages"]["largest_bytes"] < 8192
    text = contract.http.post("/api/v1/plan", content=DEFINITIONS["pair"]).json()
    assert (text["canvas"], text["fingerprint"]) == (plan["canvas"], plan["fingerprint"])
    for name in ("mermaid", "dot", "json"):
        mine = contract.http.get("/api/v1/workflows/pair/graph", params={"format": name, "layer": "canvas"})
        other = contract.http.post(f"/api/v1/graph?format={name}&layer=canvas", content=DEFINITIONS["pair"])
        assert mine.status_code == other.status_code == 200
        assert mine.text == other.text


def test_findings_of_a_text_have_places(contract: Served) -> None:
    found = contract.http.post("/api/v1/validate", content=DEFINITIONS["broken"]).json()
    assert found["ok"] is False
    assert {(part["line"] > 0, part["code"][:3]) for part in found["diagnostics"]} == {(True, "CEL")}
    pair = _get(contract, "/api/v1/workflows/pair/validate")
    assert (pair["ok"], [part["severity"] for part in pair["diagnostics"]]) == (True, ["warning"])
    assert contract.http.post("/api/v1/plan", content=DEFINITIONS["broken"]).status_code == 422
    assert contract.http.post("/api/v1/validate").status_code == 422


def test_the_graph_of_a_run_shows_its_states(contract: Served) -> None:
    run_id = contract.http.post("/api/v1/runs", json={"workflow": "pair"}).json()["run_id"]
    nodes = _get(contract, f"/api/v1/runs/{run_id}/graph")["nodes"]
    assert [(node["id"], node["state"]) for node in nodes] == [("a", "PENDING"), ("b", "PENDING")]


def test_what_does_not_exist_is_not_found_everywhere(contract: Served) -> None:
    run_id = contract.http.post("/api/v1/runs", json={"workflow": "pair"}).json()["run_id"]
    for path in (
        *(f"/api/v1/runs/{uuid.uuid4()}{end}" for end in ("", "/steps", "/attempts", "/logs", "/graph", "/events")),
        *(f"/api/v1/runs/{run_id}{end}" for end in ("/steps/z", "/steps/z/items", "/attempts?step=z", "/logs?step=z")),
        "/api/v1/workflows/nope",
        "/api/v1/nope",
    ):
        answer = contract.http.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "status=NOPE",
        "cursor=x",
        "cursor=-1",
        "workflow=%00",
        "workflow=a%20b",
        "since=-1",
        "since=nan",
        "until=x",
    ],
)
def test_wrong_queries_are_refused(contract: Served, query: str) -> None:
    answer = contract.http.get(f"/api/v1/runs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/query/")


def test_runs_are_listed_of_a_time(contract: Served) -> None:
    run_id = contract.http.post("/api/v1/runs", json={"workflow": "pair"}).json()["run_id"]
    accepted = _get(contract, f"/api/v1/runs/{run_id}")["created_at"]

    def listed(**query: float) -> bool:
        return run_id in [run["run_id"] for run in _get(contract, "/api/v1/runs", limit=1000, **query)["runs"]]

    assert listed(since=accepted)
    assert listed(since=accepted - 1, until=accepted + 1)
    assert not listed(since=accepted + 1)
    assert not listed(until=accepted)


def test_a_body_that_is_no_text_is_refused_as_any_wrong_body(contract: Served) -> None:
    answer = contract.http.post("/api/v1/keys", content=b"\xff\xfe{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:celeriac:problem:request")


def test_other_methods_are_refused_with_those_that_there_are(contract: Served) -> None:
    answer = contract.http.put("/api/v1/runs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(contract: Served) -> None:
    large = b"#" * 1_300_000
    assert contract.http.post("/api/v1/validate", content=large).json()["status"] == 413
    assert contract.http.post("/api/v1/validate", content=iter([large])).json()["status"] == 413


def test_foreign_pages_and_names_are_turned_away_and_every_answer_has_its_headers(contract: Served) -> None:
    assert contract.http.get("/api/v1/workflows", headers={"Host": "rebound.example"}).status_code == 403
    assert (
        contract.http.post(
            "/api/cronjobs/pair/trigger", content="{}", headers={"Origin": "http://evil.example"}
        ).status_code
        == 403
    )
    for path in ("/livez", "/api/v1/nope", "/openapi.json"):
        headers = contract.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_the_openapi_document_names_problems_for_every_operation(contract: Served) -> None:
    document = _get(contract, "/openapi.json")
    assert "Problem" in document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for status in ("403", "422", "500", "503"):
                assert status in operation["responses"]


def test_an_empty_search_index_is_not_found_and_the_schema_is_served(contract: Served) -> None:
    answer = contract.http.get("/api/v1/search", params={"q": "anything"})
    assert answer.status_code == 404
    assert "stored" in answer.json()["detail"]
    assert _get(contract, "/api/v1/schema")["type"] == "object"
    assert _get(contract, "/readyz") == {"status": "ready"}


def test_a_run_is_paused_and_resumed_and_its_history_says_so(contract: Served) -> None:
    run_id = contract.http.post("/api/v1/runs", json={"workflow": "pair"}).json()["run_id"]
    path = f"/api/v1/runs/{run_id}"
    would = contract.http.post(f"{path}/pause", params={"dry_run": True}).json()
    assert would == {"run_id": run_id, "status": "PAUSED", "running": 0, "waiting": 2, "dry_run": True}
    for _ in range(2):
        assert contract.http.post(f"{path}/pause").json()["waiting"] == 2
    assert _get(contract, path)["status"] == "PAUSED"
    assert [run["run_id"] for run in _get(contract, "/api/v1/runs", status="PAUSED")["runs"]] == [run_id]
    for _ in range(2):
        resumed = contract.http.post(f"{path}/resume")
        assert (resumed.status_code, resumed.json()["status"]) == (200, "PROGRESS")
    contract.http.post(f"{path}/cancel")
    for verb in ("pause", "resume"):
        assert contract.http.post(f"{path}/{verb}").status_code == 409
    events = contract.http.get(f"{path}/events").text
    told = re.findall(r'^event: run\ndata: .*"status": ?"(\w+)"', events, re.MULTILINE)
    assert told == ["PAUSED", "PROGRESS", "REVOKED"], events


def test_a_run_is_run_again_and_says_what_is_taken_over(contract: Served) -> None:
    run_id = contract.http.post("/api/v1/runs", json={"workflow": "pair", "params": {"ms": 3}}).json()["run_id"]
    path = f"/api/v1/runs/{run_id}"
    assert contract.http.post(f"{path}/rerun").status_code == 409
    contract.http.post(f"{path}/cancel")
    would = contract.http.post(f"{path}/rerun", params={"dry_run": True}, json={"definition": "current"})
    assert would.status_code == 200
    assert would.json()["run_id"] is None
    again = contract.http.post(f"{path}/rerun", json={"from": "b", "params": {"ms": 4}})
    assert again.status_code == 202
    assert [(step["step"], step["is_reused"]) for step in again.json()["steps"]] == [("a", False), ("b", False)]
    new = _get(contract, again.headers["location"])
    assert (new["rerun_of"], new["params"]["ms"], new["status"]) == (run_id, 4, "PROGRESS")
    for body in ({"from": 1}, {"definition": "other"}, {"surprise": 1}, {"params": {"nope": 1}}):
        assert contract.http.post(f"{path}/rerun", json=body).status_code == 422, body
    assert contract.http.post(f"{path}/rerun", json={"from": "z"}).status_code == 404
