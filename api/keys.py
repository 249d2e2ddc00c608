"""`/api/v1/keys`: make, list and revoke keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import Scope, needs
from api.documents import problems
from api.keyring import Keyring
from api.services import Served
from workflows.db import api_keys
from workflows.db.api_keys import KeyView

router = APIRouter(prefix="/api/v1/keys", tags=["keys"], dependencies=[needs(Scope.ADMIN)])

LONGEST_SECONDS = 10 * 366 * 86_400.0


class WantedKey(BaseModel):
    """A key to make; without `expires_in_seconds` it is valid until it is revoked."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
    scope: Scope
    expires_in_seconds: Annotated[float, Field(strict=True, gt=0, le=LONGEST_SECONDS)] | None = None


class MadeKey(BaseModel):
    """A new key. `key` is told this once: only its hash is kept."""

    id: str
    name: str
    scope: Scope
    key: str


class Key(BaseModel):
    """A key; `last_used_at` is exact to a minute."""

    id: str
    name: str
    scope: Scope
    status: Literal["active", "expired", "revoked"]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None

    @classmethod
    def of(cls, view: KeyView) -> Key:
        """A row of the database."""
        return cls.model_validate(asdict(view))


class Keys(BaseModel):
    """All keys, the oldest first."""

    keys: list[Key]


class RevokedKey(BaseModel):
    """A key that is not valid any more; `is_new` is false when it was revoked before."""

    id: str
    is_new: bool


@router.get("")
def list_keys(served: Served) -> Keys:
    """All keys, revoked and expired ones included."""
    return Keys(keys=[Key.of(view) for view in served.read(api_keys.list_keys)])


@router.post("", status_code=201, responses=problems(409))
def create_key(wanted: WantedKey, served: Served, request: Request, response: Response) -> MadeKey:
    """Make a key. From the first one on programs of this machine need one too, unless CELERIAC_OPEN_LOOPBACK is set."""
    made = served.write(lambda tx: api_keys.create_key(tx, wanted.name, wanted.scope.value, wanted.expires_in_seconds))
    _keyring(request).forget()
    response.headers["Location"] = f"{router.prefix}/{made.id}"
    return MadeKey(id=made.id, name=wanted.name, scope=wanted.scope, key=made.token)


@router.delete("/{key_id}", responses=problems(404))
def revoke_key(
    key_id: Annotated[str, Path(pattern=r"^[^\x00]{1,100}$")], served: Served, request: Request
) -> RevokedKey:
    """Revoke a key and end its sessions; other servers follow within two seconds."""
    is_new = served.write(lambda tx: api_keys.revoke_key(tx, key_id))
    _keyring(request).forget()
    return RevokedKey(id=key_id, is_new=is_new)


def _keyring(request: Request) -> Keyring:
    keyring: Keyring = request.app.state.keyring
    return keyring
