"""Collections: what `store` and a search name. Each holds the vectors of one model.

A collection has generations. A search sees the live one; embedding anew with another model fills the next one beside
it and then makes that live, in one transaction (`docs/adr/0003-research-store.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from pipeline.embedding import EmbeddingModel
from pipeline.tables import collections, entries, insert, now
from workflows.model.errors import PermanentError


class ModelMismatchError(PermanentError):
    """A collection holds the vectors of another model."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One generation of a collection.

    Attributes:
        generation: From 1.
        is_live: Whether a search sees it.
        dimension: Of its vectors.
        created_at: Seconds since 1970.
    """

    id: int
    name: str
    generation: int
    is_live: bool
    model: str
    revision: str
    dimension: int
    created_at: float

    def check(self, model: EmbeddingModel) -> None:
        """Refuse a model whose vectors cannot be compared with those in here.

        Raises:
            ModelMismatchError: it is another one, or another revision of it.
        """
        mine, given = (self.model, self.revision, self.dimension), (model.name, model.revision, model.dimension)
        if mine != given:
            raise ModelMismatchError(
                f"the collection '{self.name}' holds vectors of {self.model} ({self.revision}, {self.dimension} "
                f"numbers each), not of {model.name} ({model.revision}, {model.dimension}); store into a new "
                "collection with --param collection=NAME"
            )


def live(connection: Connection, name: str) -> Collection | None:
    """The generation that a search sees; None while nothing was stored under that name."""
    row = connection.execute(
        select(*(collections.c[field] for field in Collection.__slots__)).where(
            collections.c.name == name, collections.c.is_live
        )
    ).first()
    return Collection(*row) if row is not None else None


def is_empty(connection: Connection, collection: Collection) -> bool:
    """Whether no paper was stored in it, or none is left."""
    query = select(entries.c.id).where(entries.c.collection_id == collection.id).limit(1)
    return connection.execute(query).first() is None


def opened(connection: Connection, name: str, model: EmbeddingModel) -> Collection:
    """The live generation, made for this model where there is none.

    Raises:
        ModelMismatchError: it holds the vectors of another model.
    """
    made = insert(connection, collections).values(
        name=name,
        generation=1,
        is_live=True,
        model=model.name,
        revision=model.revision,
        dimension=model.dimension,
        created_at=now(connection),
    )
    found = live(connection, name)
    if found is None:
        connection.execute(made.on_conflict_do_nothing())
        found = live(connection, name)
    assert found is not None
    found.check(model)
    return found
