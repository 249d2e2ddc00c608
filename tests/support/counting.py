"""What the engine asks of its database, in numbers that no noise changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from workflows.db.database import Database, Transaction


@dataclass(slots=True)
class Asked:
    """Counted from the beginning of the block on.

    Attributes:
        statements: Sent to the database, each once however many rows it writes.
        transactions: Begun and committed; a statement outside of one is a transaction of its own.
        round_trips: Waits for an answer of PostgreSQL: statements, and BEGIN and COMMIT.
    """

    statements: int = 0
    transactions: int = 0
    round_trips: int = 0


@contextmanager
def counted() -> Iterator[Asked]:
    """Count what all databases of this process are asked."""
    asked = Asked()
    kept: dict[str, Callable[..., Any]] = {name: getattr(Transaction, name) for name in ("rows", "run", "many")}
    kept_begin, kept_single = Database.transaction, Database.autocommit
    is_within = False

    def wrapped(name: str) -> Callable[..., Any]:
        def call(tx: Transaction, *arguments: Any) -> Any:
            asked.statements += 1
            asked.round_trips += 1
            asked.transactions += not is_within
            return kept[name](tx, *arguments)

        return call

    @contextmanager
    def transaction(database: Database) -> Iterator[Transaction]:
        nonlocal is_within
        asked.transactions += 1
        asked.round_trips += 2
        with kept_begin(database) as tx:
            is_within = True
            try:
                yield tx
            finally:
                is_within = False

    try:
        for name in kept:
            setattr(Transaction, name, wrapped(name))
        Database.transaction = transaction  # type: ignore[method-assign, assignment]
        yield asked
    finally:
        for name, function in kept.items():
            setattr(Transaction, name, function)
        Database.transaction = kept_begin  # type: ignore[method-assign]
        assert Database.autocommit is kept_single
