"""What all processes of an installation share."""

from __future__ import annotations

import secrets

from workflows.db.database import Statement, Transaction

_FIND = Statement("SELECT value FROM installation WHERE name = :name")
_KEEP = Statement("INSERT INTO installation (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")

MESSAGE_KEY = "message_key"


def message_key(tx: Transaction) -> bytes:
    """The key that signs messages on the broker; made by whoever asks first."""
    found = tx.row(_FIND, {"name": MESSAGE_KEY})
    if found is None:
        tx.run(_KEEP, {"name": MESSAGE_KEY, "value": secrets.token_hex(32)})
        found = tx.row(_FIND, {"name": MESSAGE_KEY})
        assert found is not None
    return bytes.fromhex(found[0])
