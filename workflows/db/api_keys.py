"""Keys of the API and sessions of its page. Only hashes are kept: what was handed out cannot be read back.

A key reads `cel_ID_SECRET`: ID is public and names its row, SECRET has 256 random bits. Hashing it once is enough, for
nobody guesses it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from workflows.db.database import Statement, Transaction
from workflows.model.errors import ConflictError, NotFoundError

SCOPES = ("read", "trigger", "operate", "admin")
"""What a key may be for, each including those before it."""

MOST_KEYS = 1_000
"""Keys that can be in use at once: a server of the API holds them all in memory."""

MOST_SESSIONS = 50
"""Sessions of one key; a further one ends the oldest."""

_ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_TOKEN = re.compile(r"cel_([a-z2-9]{10})_[A-Za-z0-9_-]{43}")

_INSERT = Statement("""
    INSERT INTO api_keys (id, name, scope, hash, created_at, expires_at)
    VALUES (:id, :name, :scope, :hash, {now}, {now} + CAST(:seconds AS DOUBLE PRECISION))""")
_COUNT = Statement("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL")
_LIST = Statement("""
    SELECT id, name, scope, created_at, expires_at, revoked_at, last_used_at, {now}
    FROM api_keys ORDER BY created_at, id""")
_IN_USE = Statement("""
    SELECT id, name, scope, hash, expires_at - {now} FROM api_keys
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {now} - 86400) ORDER BY id""")
_ANY = Statement("SELECT 1 FROM api_keys LIMIT 1")
_REVOKE = Statement("UPDATE api_keys SET revoked_at = {now} WHERE id = :id AND revoked_at IS NULL")
_EXISTS = Statement("SELECT 1 FROM api_keys WHERE id = :id")
_END_SESSIONS_OF_KEY = Statement("DELETE FROM api_sessions WHERE key_id = :id")
_USED = Statement("UPDATE api_keys SET last_used_at = {now} WHERE id = :id")

_ADD_SESSION = Statement("""
    INSERT INTO api_sessions (hash, key_id, created_at, expires_at) VALUES (:hash, :key, {now}, {now} + :seconds)""")
_END_OLD_SESSIONS = Statement("DELETE FROM api_sessions WHERE expires_at <= {now}")
_END_EXCESS = Statement("""
    DELETE FROM api_sessions WHERE key_id = :key AND hash NOT IN (
        SELECT hash FROM api_sessions WHERE key_id = :key ORDER BY created_at DESC LIMIT :most)""")
_SESSION = Statement("SELECT key_id, expires_at - {now} FROM api_sessions WHERE hash = :hash AND expires_at > {now}")
_END_SESSION = Statement("DELETE FROM api_sessions WHERE hash = :hash")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; `token` is what its holder sends, and is told this once."""

    id: str
    token: str


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as a list shows it. Instants are seconds since 1970.

    Attributes:
        last_used_at: Exact to a minute.
        status: `active`, `expired` or `revoked`.
    """

    id: str
    name: str
    scope: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    status: str


@dataclass(frozen=True, slots=True)
class KeyInUse:
    """A key that was not revoked; `seconds_left` is negative once it has expired, None when it never does."""

    id: str
    name: str
    scope: str
    hash: str
    seconds_left: float | None


def create_key(tx: Transaction, name: str, scope: str, seconds: float | None) -> NewKey:
    """Make a key that is valid for so many seconds, or until it is revoked.

    Raises:
        ConflictError: there are as many keys as there may be.
    """
    if scope not in SCOPES:
        raise ValueError(f"there is no scope {scope!r}")
    row = tx.row(_COUNT)
    if row is not None and row[0] >= MOST_KEYS:
        raise ConflictError(f"there are {MOST_KEYS} keys in use", "revoke those that nobody needs")
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(10))
    token = f"cel_{key_id}_{secrets.token_urlsafe(32)}"
    tx.run(_INSERT, {"id": key_id, "name": name, "scope": scope, "hash": hashed(token), "seconds": seconds})
    return NewKey(key_id, token)


def list_keys(tx: Transaction) -> list[KeyView]:
    """All keys, the oldest first."""
    return [KeyView(*(*row[:7], _status(row[4], row[5], row[7]))) for row in tx.rows(_LIST)]


def keys_in_use(tx: Transaction) -> list[KeyInUse]:
    """Keys that are not revoked; those that expired within the last day are among them."""
    return [KeyInUse(*row) for row in tx.rows(_IN_USE)]


def has_keys(tx: Transaction) -> bool:
    """Whether a key was ever made: revoking the last one, or its expiry, opens nothing."""
    return tx.row(_ANY) is not None


def revoke_key(tx: Transaction, key_id: str) -> bool:
    """From now on the key and its sessions are not valid; False when it had been revoked already.

    Raises:
        NotFoundError: there is no such key.
    """
    revoked = tx.run(_REVOKE, {"id": key_id})
    if not revoked and tx.row(_EXISTS, {"id": key_id}) is None:
        raise NotFoundError(f"there is no key '{key_id[:40]}'", "`celeriac keys ls` lists them")
    tx.run(_END_SESSIONS_OF_KEY, {"id": key_id})
    return bool(revoked)


def mark_used(tx: Transaction, key_ids: list[str]) -> None:
    """These keys were used just now."""
    tx.many(_USED, [{"id": key_id} for key_id in sorted(key_ids)])


def open_session(tx: Transaction, key_id: str, seconds: float) -> str:
    """A new session of this key; what it returns is what the cookie holds."""
    token = secrets.token_urlsafe(32)
    tx.run(_END_OLD_SESSIONS)
    tx.run(_ADD_SESSION, {"hash": hashed(token), "key": key_id, "seconds": seconds})
    tx.run(_END_EXCESS, {"key": key_id, "most": MOST_SESSIONS})
    return token


def find_session(tx: Transaction, token: str) -> tuple[str, float] | None:
    """Id of the session's key and the seconds it will last; None when there is no such session any more."""
    row = tx.row(_SESSION, {"hash": hashed(token)})
    return None if row is None else (row[0], row[1])


def end_session(tx: Transaction, token: str) -> None:
    """The session ends; nothing happens when it had ended."""
    tx.run(_END_SESSION, {"hash": hashed(token)})


def key_id_of(token: str) -> str | None:
    """The public part of a key; None for what cannot be a key."""
    found = _TOKEN.fullmatch(token)
    return found[1] if found else None


def matches(token: str, stored: str) -> bool:
    """Whether a stored hash is the token's, compared in constant time."""
    return hmac.compare_digest(hashed(token), stored)


def hashed(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _status(expires_at: float | None, revoked_at: float | None, now: float) -> str:
    if revoked_at is not None:
        return "revoked"
    return "expired" if expires_at is not None and expires_at <= now else "active"
