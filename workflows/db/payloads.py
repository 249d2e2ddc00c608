"""Outputs that are too large for the rows of steps and calls lie in a table of their own; the row refers to them.

Rows of steps are read and written again and again while a run goes on, so they stay small.
"""

from __future__ import annotations

import json
from typing import Any

from workflows.db.database import Statement, Transaction

INLINE_BYTES = 1_000_000
"""Outputs up to here lie in the row itself."""

REFERENCE = "@"
"""What the row of a step or call has instead of a large output. It begins no JSON."""

STEP_ITSELF = -1
"""`item_index` of an output that is a step's own."""

_KEEP = Statement("""
    INSERT INTO payloads (run_pk, ordinal, item_index, content) VALUES (:run, :ordinal, :item_index, :content)
    ON CONFLICT (run_pk, ordinal, item_index) DO UPDATE SET content = excluded.content""")
_READ = Statement("""
    SELECT content FROM payloads WHERE run_pk = :run AND ordinal = :ordinal AND item_index = :item_index""")


def is_large(output: str | None) -> bool:
    """Whether an output, JSON text in ASCII, lies in the table of its own."""
    return output is not None and len(output) > INLINE_BYTES


def in_row(output: str | None) -> str | None:
    """What the row of the step or call has."""
    return REFERENCE if is_large(output) else output


def keep(tx: Transaction, run_pk: int, ordinal: int, output: str | None, item_index: int = STEP_ITSELF) -> None:
    """Write what `in_row` refers to; nothing for an output that is not large. After the row, in its transaction."""
    if is_large(output):
        tx.run(_KEEP, {"run": run_pk, "ordinal": ordinal, "item_index": item_index, "content": output})


def value(tx: Transaction, run_pk: int, ordinal: int, text: str | None, item_index: int = STEP_ITSELF) -> Any:
    """The output of which the row has `text`; None for none."""
    if text == REFERENCE:
        row = tx.row(_READ, {"run": run_pk, "ordinal": ordinal, "item_index": item_index})
        text = None if row is None else row[0]
    return None if text is None else json.loads(text)
