"""The step `http` in a run, against a server on loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import PROJECT
from tests.support.hands import Hands
from tests.support.site import Site, site_on_loopback
from workflows.compile import compile_workflow
from workflows.model.errors import DefinitionError
from workflows.model.parser import parse_workflow
from workflows.steps.registry import load_steps, schemas

NOTIFY = """
id: notify
params: {url: {type: string}}
steps:
  ask:
    uses: http
    with: {url: "${{ params.url }}/ask", params: {page: 2, all: true}, headers: {X-Token: "${{ secret.TOKEN }}"}}
  tell:
    uses: http
    with: {url: "${{ params.url }}/tell", json: {text: "found ${{ steps.ask.output.data.found }}"}}
    retry: {max_attempts: 2, delay: 1ms, jitter: none}
outputs: {status: "${{ steps.tell.output.status }}", text: "${{ steps.tell.output.text }}"}
"""
ONE = 'id: one\nparams: {url: {type: string}}\nsteps:\n  a: {uses: http, with: {url: "${{ params.url }}", WITH}}'


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
    with site_on_loopback() as made:
        yield made


def _run(hands: Hands, text: str, **params: Any) -> Any:
    accepted = hands.start(text, **params)
    hands.drain()
    return hands.engine.report(accepted)


def test_answers_become_outputs_and_an_overloaded_server_is_asked_again(
    hands_on_postgres: Hands, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = hands_on_postgres
    monkeypatch.setitem(hands.engine.env, "CELERIAC_SECRET_TOKEN", "token-of-mine")
    hands = Hands(hands.engine)
    site.answers = [
        (200, "application/json; charset=utf-8", json.dumps({"found": 3}).encode()),
        (503, "text/html", b"<h1>later</h1>"),
        (201, "text/plain", "schön".encode()),
    ]
    report = _run(hands, NOTIFY, url=site.url)
    assert report.run.status == "SUCCESS", report
    assert report.run.outputs == {"status": 201, "text": "schön"}
    ask, tell, again = site.seen
    assert (ask["method"], ask["path"], ask["headers"]["X-Token"]) == ("GET", "/ask?page=2&all=true", "token-of-mine")
    assert ask["headers"]["Idempotency-Key"] is None
    assert (tell["method"], json.loads(tell["body"])) == ("POST", {"text": "found 3"})
    assert tell["headers"]["Content-Type"] == "application/json"
    assert tell["headers"]["Idempotency-Key"] == again["headers"]["Idempotency-Key"] == f"{report.run.run_id}/tell"
    kept = hands.rows("SELECT output FROM step_runs WHERE step_id = 'ask'")
    assert "set-cookie" not in kept[0][0]


@pytest.mark.parametrize(
    ("answer", "more", "error", "says"),
    [
        ((404, "text/plain", b"gone"), "method: PUT", "PermanentError", "answered 404: gone"),
        ((403, "text/plain", b"no"), "method: GET", "AuthenticationError", "answered 403"),
        ((200, "text/plain", b"x" * 100), "max_bytes: 99", "TooLargeAnswerError", "more than 99 bytes"),
        ((200, "application/json", b"{"), "method: GET", "PermanentError", "did not answer JSON"),
        ((200, "text/plain", b""), "json: 1, body: x", "ValidationError", "not both"),
    ],
)
def test_what_is_no_success_fails_the_step_and_says_why(
    hands_on_postgres: Hands, site: Site, answer: tuple[int, str, bytes], more: str, error: str, says: str
) -> None:
    site.answers = [answer]
    report = _run(hands_on_postgres, ONE.replace("WITH", more), url=f"{site.url}/a?key=hidden")
    assert report.run.status == "FAILURE"
    (step,) = report.steps
    assert step.error is not None
    assert step.error["type"] == error
    assert says in step.error["message"]
    assert "hidden" not in step.error["message"]


def test_a_status_that_is_expected_is_no_error(hands_on_postgres: Hands, site: Site) -> None:
    site.answers = [(404, "image/png", b"\x89PNG")]
    report = _run(hands_on_postgres, ONE.replace("WITH", "expect: [404]"), url=site.url)
    assert report.run.status == "SUCCESS"
    output = json.loads(hands_on_postgres.rows("SELECT output FROM step_runs")[0][0])
    assert (output["status"], output["data"], output["text"]) == (404, None, None)


def test_private_addresses_are_out_of_reach_unless_they_are_allowed(hands_on_postgres: Hands) -> None:
    report = _run(hands_on_postgres, ONE.replace("WITH", "method: GET"), url="http://127.0.0.1:9/")
    (step,) = report.steps
    assert step.error is not None
    assert step.error["type"] == "BlockedAddressError"
    assert "CELERIAC_ALLOW_PRIVATE_NETWORKS" in step.error["message"]


def test_a_wrong_input_is_refused_before_anything_runs() -> None:
    text = "id: bad\nsteps:\n  a: {uses: http, with: {url: 5, jsn: {}, method: FETCH}}\n"
    with pytest.raises(DefinitionError) as refused:
        compile_workflow(parse_workflow(text, "bad.yaml", steps=schemas(load_steps())))
    assert [found.code for found in refused.value.diagnostics] == ["CEL053", "CEL051", "CEL053"]


def test_the_definitions_of_the_reference_are_right() -> None:
    text = (PROJECT / "docs/reference/steps.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        compile_workflow(parse_workflow(block, "steps.md", steps=schemas(load_steps())))
