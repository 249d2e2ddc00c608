"""Outputs of steps with `cache`: found by a hash of what they were given, as long as they are young enough."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from workflows.db.database import Statement, Transaction

_FIND = Statement("""
    SELECT key, output, run_id, {now} - created_at FROM cached_outputs WHERE key IN :keys[] AND expires_at > {now}""")
_KEEP = Statement("""
    INSERT INTO cached_outputs (key, uses, run_id, output, created_at, expires_at)
    VALUES (:key, :uses, :run_id, :output, {now}, {now} + :seconds)
    ON CONFLICT (key) DO UPDATE SET uses = excluded.uses, run_id = excluded.run_id, output = excluded.output,
        created_at = excluded.created_at, expires_at = excluded.expires_at""")
_DELETE_EXPIRED = Statement("""
    DELETE FROM cached_outputs WHERE key IN (
        SELECT key FROM cached_outputs WHERE expires_at <= {now} ORDER BY expires_at LIMIT :limit)""")
_CLEAR = Statement("DELETE FROM cached_outputs WHERE :uses = '' OR uses = :uses")


@dataclass(frozen=True, slots=True)
class Cached:
    """An output that is kept, as JSON text; the run that made it, and how long ago."""

    output: str
    run_id: str
    age_seconds: float


def find(tx: Transaction, keys: Collection[str]) -> dict[str, Cached]:
    """What is kept under these keys, and not too old."""
    if not keys:
        return {}
    return {row[0]: Cached(row[1], row[2], row[3]) for row in tx.rows(_FIND, {"keys": list(keys)})}


def keep(tx: Transaction, uses: str, run_id: str, seconds: float, outputs: Mapping[str, str]) -> None:
    """Keep outputs of a step by their keys for so long. In the order of the keys: two who do it wait for each other."""
    tx.many(
        _KEEP,
        [
            {"key": key, "uses": uses, "run_id": run_id, "output": output, "seconds": seconds}
            for key, output in sorted(outputs.items())
        ],
    )


def delete_expired(tx: Transaction, limit: int) -> int:
    """Delete at most so many that are too old; how many it were."""
    return tx.run(_DELETE_EXPIRED, {"limit": limit})


def clear(tx: Transaction, uses: str = "") -> int:
    """Forget the outputs of a registered step, or all; how many it were."""
    return tx.run(_CLEAR, {"uses": uses})
