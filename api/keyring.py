"""Who sends a request: keys and sessions, looked up in memory.

All keys are read at most every two seconds, and only when somebody calls: so long may a key that was revoked elsewhere
go on. When the database is away the keys that were read last stay valid.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from typing import Literal

from starlette.concurrency import run_in_threadpool

from api.access import Identity, Scope
from api.problems import UnauthorizedError
from api.services import Services
from workflows.db import api_keys
from workflows.db.api_keys import KeyInUse
from workflows.db.database import Transaction
from workflows.model.errors import DatabaseUnavailableError

_log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
USED_EVERY_SECONDS = 60.0
"""How exact `last_used_at` is."""

SESSION_SECONDS = 12 * 3600.0
_MOST_SESSIONS_IN_MEMORY = 2_000

Refused = Literal["unknown", "expired"]
_NOBODY = "0" * 64


class Keyring:
    """The keys of an installation, as one server of its API knows them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._keys: dict[str, tuple[KeyInUse, float]] = {}
        self._has_keys: bool | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._used: dict[str, float] = {}
        self._unwritten: set[str] = set()
        self._sessions: OrderedDict[str, tuple[str | None, float, float]] = OrderedDict()

    async def has_keys(self) -> bool:
        """Whether a key was ever made.

        Raises:
            DatabaseUnavailableError: that was never known, and the database is away.
        """
        await self._refresh()
        if self._has_keys is None:
            raise DatabaseUnavailableError("the database does not answer", "try again in a moment")
        return self._has_keys

    async def by_key(self, token: str) -> Identity | Refused:
        """Whose key this is."""
        await self.has_keys()
        known = self._keys.get(api_keys.key_id_of(token) or "")
        if not api_keys.matches(token, known[0].hash if known else _NOBODY) or known is None:
            return "unknown"
        return self._identity(known, "key")

    async def by_session(self, token: str) -> Identity | None:
        """Whose session this is; None when it has ended."""
        await self.has_keys()
        name = api_keys.hashed(token)
        held = self._sessions.get(name)
        now = time.monotonic()
        if held is None or now - held[2] > FRESH_SECONDS:
            found = await run_in_threadpool(self._services.read, lambda tx: api_keys.find_session(tx, token))
            held = (found[0], now + found[1], now) if found else (None, now, now)
            self._sessions[name] = held
            self._sessions.move_to_end(name)
            while len(self._sessions) > _MOST_SESSIONS_IN_MEMORY:
                self._sessions.popitem(last=False)
        key_id, until, _ = held
        known = self._keys.get(key_id or "")
        if known is None or now >= until:
            return None
        found_identity = self._identity(known, "session")
        return found_identity if isinstance(found_identity, Identity) else None

    async def open_session(self, key_id: str) -> tuple[str, float]:
        """A new session of this key, and how many seconds it lasts.

        Raises:
            UnauthorizedError: the key was revoked just now.
        """
        known = self._keys.get(key_id)
        if known is None:
            raise UnauthorizedError("this key is not valid", "it was revoked")
        left = min(SESSION_SECONDS, known[1] - time.monotonic())
        token = await run_in_threadpool(self._services.write, lambda tx: api_keys.open_session(tx, key_id, left))
        return token, left

    async def end_session(self, token: str) -> None:
        """Log out."""
        await run_in_threadpool(self._services.write, lambda tx: api_keys.end_session(tx, token))
        self._sessions.pop(api_keys.hashed(token), None)

    def forget(self) -> None:
        """Read the keys anew at the next request."""
        self._read_at = float("-inf")

    def write_used(self) -> None:
        """Write which keys were used. For a thread."""
        used, self._unwritten = sorted(self._unwritten), set()
        if used:
            self._services.write(lambda tx: api_keys.mark_used(tx, used))

    def _identity(self, known: tuple[KeyInUse, float], via: Literal["key", "session"]) -> Identity | Refused:
        key, until = known
        now = time.monotonic()
        if now >= until:
            return "expired"
        if now - self._used.get(key.id, float("-inf")) > USED_EVERY_SECONDS:
            self._used[key.id] = now
            self._unwritten.add(key.id)
        return Identity(Scope(key.scope), via, key.id, key.name)

    async def _refresh(self) -> None:
        if time.monotonic() - self._read_at < FRESH_SECONDS:
            return
        if self._reading.locked() and self._has_keys is not None:
            return  # somebody reads them already; what is known is good enough meanwhile
        async with self._reading:
            if time.monotonic() - self._read_at < FRESH_SECONDS:
                return
            try:
                await run_in_threadpool(self._read)
            except DatabaseUnavailableError as error:
                # Whoever waits behind this one must not wait for the database once more.
                self._read_at = time.monotonic()
                _log.warning("the keys cannot be read: %s", error)

    def _read(self) -> None:
        if not self._services.prepare():
            raise DatabaseUnavailableError("the database does not answer", "try again in a moment")

        def work(tx: Transaction) -> tuple[bool, list[KeyInUse]]:
            return api_keys.has_keys(tx), api_keys.keys_in_use(tx)

        has_keys, keys = self._services.read(work)
        now = time.monotonic()
        self._keys = {
            key.id: (key, float("inf") if key.seconds_left is None else now + key.seconds_left) for key in keys
        }
        self._used = {key_id: at for key_id, at in self._used.items() if key_id in self._keys}
        self._has_keys, self._read_at = has_keys, now
        self.write_used()


def csrf_token(session: str) -> str:
    """What a page sends in `X-CSRF-Token` with this session; nobody without the cookie can tell it."""
    return hmac.new(session.encode("utf-8", "surrogatepass"), b"celeriac csrf", hashlib.sha256).hexdigest()
