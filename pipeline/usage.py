"""What the embeddings of a run have cost so far, and the limits that it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from pipeline.embedding import EmbeddingModel
from pipeline.tables import embedding_usage, insert, now
from workflows.model.errors import PermanentError


class BudgetExceededError(PermanentError):
    """A call of a model would cost more than its run may."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What all embeddings of a run may take together; None is without a limit.

    Attributes:
        cost: In the currency in which the file of models has its prices.
    """

    tokens: int | None = None
    cost: float | None = None

    def __bool__(self) -> bool:
        return self.tokens is not None or self.cost is not None


def reserve(connection: Connection, run_id: str, model: EmbeddingModel, tokens: int, budget: Budget) -> None:
    """Count a call before it is made, so that calls at the same time cannot pass a limit together.

    Raises:
        BudgetExceededError: it would pass one. Nothing is counted then.
    """
    row = {"run_id": run_id, "model": model.name, "tokens": 0, "cost": 0.0}
    started = insert(connection, embedding_usage).values(**row, used_at=now(connection))
    connection.execute(started.on_conflict_do_nothing())
    # Every model of the run counts. The rows are locked in one order, so that two calls cannot wait for each other.
    of_run = embedding_usage.c.run_id == run_id
    locked = select(embedding_usage.c.model).where(of_run).order_by(embedding_usage.c.model).with_for_update()
    connection.execute(locked).all()
    used, paid = used_by(connection, run_id)
    cost = model.cost(tokens)
    if budget.tokens is not None and used + tokens > budget.tokens:
        raise BudgetExceededError(
            f"the budget of {budget.tokens:,} tokens is used up: {used:,} are counted and {tokens:,} more are needed; "
            "run again with a larger one (--param budget_tokens=...): what is embedded stays"
        )
    # A share of a cent beyond it is rounding.
    if budget.cost is not None and paid + cost > budget.cost * (1 + 1e-9):
        raise BudgetExceededError(
            f"the budget of {budget.cost:g} is used up: {paid:.4g} are spent and {cost:.4g} more are needed for the "
            f"model '{model.name}'; run again with a larger one (--param budget=...): what is embedded stays"
        )
    _add(connection, run_id, model, tokens)


def correct(connection: Connection, run_id: str, model: EmbeddingModel, tokens: int) -> None:
    """Add what a server has counted more than was reserved; less, where it is negative."""
    if tokens:
        _add(connection, run_id, model, tokens)


def used_by(connection: Connection, run_id: str) -> tuple[int, float]:
    """Tokens of a run's embeddings, and what they cost; of all models together."""
    query = select(func.sum(embedding_usage.c.tokens), func.sum(embedding_usage.c.cost))
    tokens, cost = connection.execute(query.where(embedding_usage.c.run_id == run_id)).one()
    return int(tokens or 0), float(cost or 0.0)


def _add(connection: Connection, run_id: str, model: EmbeddingModel, tokens: int) -> None:
    connection.execute(
        update(embedding_usage)
        .where(embedding_usage.c.run_id == run_id, embedding_usage.c.model == model.name)
        .values(
            tokens=embedding_usage.c.tokens + tokens,
            cost=embedding_usage.c.cost + model.cost(tokens),
            used_at=now(connection),
        )
    )
