"""Bodies of requests, read as what they are and not as what their Content-Type says.

The first system's own page sent JSON as `text/plain`, and `curl -d` sends it as a form: both are taken. That no foreign
page can send such a request is the guard's affair.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Request

from api.problems import RequestError

MOST_BYTES = 1_200_000
"""A definition may have 1 MB."""

JSON_OBJECT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": {"type": ["object", "null"], "additionalProperties": True}}},
    }
}
"""For the OpenAPI document: an object, or nothing."""

YAML_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/yaml": {"schema": {}}}}}
"""A definition; whether it is one is what the endpoint tells."""


async def _body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_body)]
"""The body as it came."""


def json_object(body: bytes) -> dict[str, Any]:
    """The object in a body; an empty body is an empty object.

    Raises:
        RequestError: it is no JSON object of Unicode text and finite numbers.
    """
    if not body.strip():
        return {}
    try:
        value = json.loads(body, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # UnicodeError is a ValueError
        raise RequestError(f"the body is no JSON: {error}", 'send an object, such as {"name": "value"}') from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError("the body is not a JSON object", 'send an object, such as {"name": "value"}')
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
