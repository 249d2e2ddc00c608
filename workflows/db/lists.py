"""Conditions of the indexes that list what is open, said once for an index and for the statements that read it.

SQLite takes a partial index only for a statement that states its condition word by word.
"""

from __future__ import annotations

from workflows.db.units import quoted
from workflows.model.states import CLAIMABLE

LISTED = "generation >= 0"
"""True of every run and step, and said by no statement but those that read a list.

A statement that finds a row by its key and asks for its state as well would fit a list by chance, and to PostgreSQL a
list that was empty when it planned looks cheaper than the key: it keeps the plan, and reads the whole list at each
claim once thousands of steps are ready.
"""

READY = f"pending = 0 AND status IN ({quoted(CLAIMABLE)})"
"""A unit that waits for nothing. Statements that find it by its key say this."""

DUE = f"{READY} AND {LISTED}"
LEASED = f"status = 'PROGRESS' AND lease_until IS NOT NULL AND {LISTED}"
OPEN_MAPS = f"status = 'PROGRESS' AND lease_until IS NULL AND {LISTED}"
"""Of units."""

UNSTARTED = f"status = 'PENDING' AND {LISTED}"
AT_WORK = f"status IN ('PROGRESS', 'PAUSED') AND {LISTED}"
"""Of runs."""
