from __future__ import annotations

import json

import api.application  # noqa: F401 - brings in every error that an endpoint can raise
from api.problems import KINDS, RequestError, kind_of, problem_of
from workflows.model.errors import CeleriacError, DefinitionError, Diagnostic, ParamError
from workflows.stack.places import StackError


def _all(base: type[CeleriacError]) -> list[type[CeleriacError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all(child))]


def test_every_error_of_the_project_has_a_status_and_only_client_or_server_errors_do() -> None:
    for error in _all(CeleriacError):
        assert any(base in KINDS for base in error.__mro__)
    assert all(400 <= kind.status < 600 for kind in KINDS.values())


def test_the_nearest_class_decides() -> None:
    assert kind_of(StackError("away")).slug == "broker-unavailable"
    assert kind_of(RequestError("what?")).status == 422


def test_findings_of_a_definition_keep_their_places() -> None:
    answer = problem_of(DefinitionError([Diagnostic("a.yaml", 3, 5, "CEL012", "unknown step", "did you mean 'b'?")]))
    assert json.loads(bytes(answer.body))["errors"] == [
        {
            "detail": "unknown step", "file": "a.yaml", "line": 3, "column": 5, "code": "CEL012",
            "hint": "did you mean 'b'?", "severity": "error",
        }
    ]  # fmt: skip


def test_any_text_that_a_client_sent_can_be_answered() -> None:
    answer = problem_of(ParamError("param '\ud800\x00' is not declared"))
    assert json.loads(bytes(answer.body))["detail"] == "param '\ud800\x00' is not declared"
