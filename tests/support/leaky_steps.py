"""Steps that tell a secret in every way that a step has."""

from __future__ import annotations

import base64
import logging
from typing import Any

from pydantic import BaseModel

from workflows.steps import PermanentError, StepContext, step

PASSWORD_URL = "https://ann:canary-of-an-url@example.org/"


class Way(BaseModel):
    way: str
    token: str


@step("leaky.tell")
def tell(inp: Way, ctx: StepContext) -> dict[str, Any]:
    secret = inp.token.removeprefix("Bearer ")
    ctx.log.warning("the token is %s, and the place %s", secret, PASSWORD_URL)
    logging.getLogger("third.party").warning("Authorization: Bearer %s to %s", secret, PASSWORD_URL)
    print("token", secret)  # noqa: T201 - what a careless step does
    try:
        int(secret)
    except ValueError:
        logging.getLogger("third.party").exception("no number")
    if inp.way == "raise":
        raise PermanentError(f"{secret} was refused by {PASSWORD_URL}")
    packed = base64.b64encode(secret.encode()).decode()
    return {"token": secret, "in_text": f"<{secret}>", "packed": packed, secret: 1}
