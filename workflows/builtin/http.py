"""The step `http`: one request, to where steps may go, and its answer as the step's output."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workflows.builtin.networks import NetworkRules
from workflows.settings import Config
from workflows.steps import StepContext, step

MOST_SECONDS = 600.0
MOST_BYTES = 10_000_000

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Request(BaseModel):
    """What is asked, and which answer is one.

    Attributes:
        method: POST when there is a body, else GET.
        params: Of the query, added to those that `url` has.
        json_body: Sent as JSON; YAML says `json`.
        body: Sent as it is, in UTF-8.
        expect: Statuses that are no errors, beside 200 to 299.
        timeout_seconds: From the first connection to the last byte, redirects included.
        max_bytes: Of the answer.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None
    headers: dict[str, str] = {}
    params: dict[str, str | int | float | bool] = {}
    json_body: Any = Field(default=None, alias="json")
    body: str | None = None
    expect: list[int] = []
    timeout_seconds: float = Field(default=60.0, gt=0, le=MOST_SECONDS)
    max_bytes: int = Field(default=1_000_000, ge=1, le=MOST_BYTES)

    @model_validator(mode="after")
    def _has_one_body(self) -> Request:
        if self.body is not None and self.json_body is not None:
            raise ValueError("give `json` or `body`, not both")
        return self


class Answered(BaseModel):
    """What came back.

    Attributes:
        url: Where the answer came from after redirects, without query, user and password.
        headers: By name in lower case; cookies are left out.
        data: The body, where it is JSON; else null.
        text: The body, where it is another text; else null.
    """

    status: int
    url: str
    headers: dict[str, str]
    data: Any
    text: str | None


@step("http")
def http(inp: Request, ctx: StepContext) -> Answered:
    """Send the request.

    Raises:
        TransientError: 408, 425, 429, 5xx, or no answer in time: the step's `retry` tries again.
        AuthenticationError: 401 or 403.
        PermanentError: another status that is no success, an address that steps may not reach, or too large an answer.
    """
    from workflows.builtin.outbound import Limits, Outbound

    body = inp.body.encode() if inp.body is not None else None
    headers = {name.lower(): value for name, value in inp.headers.items()}
    if inp.json_body is not None:
        body = json.dumps(inp.json_body, ensure_ascii=False).encode()
        headers.setdefault("content-type", "application/json")
    method = inp.method or ("GET" if body is None else "POST")
    if method in _UNSAFE:
        # The same for every try: a server that knows the header does the thing once.
        headers.setdefault("idempotency-key", ctx.idempotency_key)
    params = {name: _in_query(value) for name, value in inp.params.items()}
    limits = Limits(total_bytes=inp.max_bytes, total_seconds=inp.timeout_seconds)
    with Outbound(NetworkRules.of(Config.from_env())) as outbound:
        answer = outbound.request(method, inp.url, headers=headers, params=params or None, body=body, limits=limits)
    if answer.status not in inp.expect:
        answer.check()
    ctx.log.info("%s %s answered %d, %d bytes", method, answer.url, answer.status, len(answer.body))
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = bool(answer.body) and (kind == "application/json" or kind.endswith("+json"))
    is_text = kind.startswith("text/") or kind in ("application/xml", "application/x-www-form-urlencoded")
    return Answered(
        status=answer.status,
        url=answer.url,
        headers={name: value for name, value in answer.headers.items() if name != "set-cookie"},
        data=answer.json() if is_json else None,
        text=answer.text() if is_text or kind.endswith("+xml") else None,
    )


def _in_query(value: str | float | bool) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
