"""Collections: what `store` and a search name. Each holds the vectors of one model.

A collection has generations. A search sees the live one; embedding anew with another model fills the next one beside
it and then makes that live, in one transaction (`docs/adr/0029-embedding-models.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select, update

from pipeline.embedding import EmbeddingModel, model_of
from pipeline.indexes import choice
from pipeline.tables import chunks, collections, entries, insert, now, papers
from workflows.model.errors import ConflictError, NotFoundError, PermanentError, TransientError


class ModelMismatchError(PermanentError, ConflictError):
    """A collection holds the vectors of another model."""


class GenerationBusyError(PermanentError, ConflictError):
    """The next generation of a collection is that of another model already."""


class GenerationEndedError(TransientError):
    """A generation stopped to be live while something was stored in it."""


class IncompleteGenerationError(PermanentError, ConflictError):
    """A generation lacks what the live one has."""


class LiveGenerationError(ConflictError):
    """The generation that searches see cannot be dropped while there are others."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One generation of a collection.

    Attributes:
        generation: From 1.
        is_live: Whether a search sees it.
        dimension: Of its vectors.
        created_at: Seconds since 1970.
        copied_to: Entries up to this id are in its index; None when it has none.
        indexed_by: Which index that is: `pgvector` or `qdrant`.
    """

    id: int
    name: str
    generation: int
    is_live: bool
    model: str
    revision: str
    dimension: int
    created_at: float
    copied_to: int | None = None
    indexed_by: str | None = None

    def check(self, model: EmbeddingModel) -> None:
        """Refuse a model whose vectors cannot be compared with those in here.

        Raises:
            ModelMismatchError: it is another one, or another revision of it.
        """
        mine, given = (self.model, self.revision, self.dimension), (model.name, model.revision, model.dimension)
        if mine != given:
            raise ModelMismatchError(
                f"the collection '{self.name}' holds vectors of {self.model} ({self.revision}, {self.dimension} "
                f"numbers each), not of {model.name} ({model.revision}, {model.dimension}); embed it anew by "
                f"`celeriac run re-embed --param collection={self.name} --param model={model.name}`, or take another "
                "collection"
            )


@dataclass(frozen=True, slots=True)
class Described:
    """A generation and what lies in it."""

    collection: Collection
    papers: int
    entries: int


def live(connection: Connection, name: str) -> Collection | None:
    """The generation that a search sees; None while nothing was stored under that name."""
    return _one(connection, collections.c.name == name, collections.c.is_live)


def generation(connection: Connection, name: str, number: int) -> Collection:
    """A generation of a collection.

    Raises:
        NotFoundError: there is none of that number.
    """
    found = _one(connection, collections.c.name == name, collections.c.generation == number)
    if found is None:
        raise NotFoundError(
            f"the collection '{name}' has no generation {number}", f"`celeriac collections show {name}` lists them"
        )
    return found


def model_for(connection: Connection, name: str | None, given: str | None) -> EmbeddingModel:
    """The model to take: the one that is given, else that of the collection, else the default.

    Raises:
        ModelMismatchError: the one that is given is not that of the collection, or that one has changed.
        UnknownModelError: there is none of that name.
    """
    found = live(connection, name) if name is not None else None
    if found is None:
        return model_of(given)
    model = model_of(given or found.model)
    found.check(model)
    return model


def is_empty(connection: Connection, collection: Collection) -> bool:
    """Whether no paper was stored in it, or none is left."""
    query = select(entries.c.id).where(entries.c.collection_id == collection.id).limit(1)
    return connection.execute(query).first() is None


def opened(connection: Connection, name: str, model: EmbeddingModel) -> Collection:
    """The live generation, made for this model where there is none.

    Raises:
        ModelMismatchError: it holds the vectors of another model.
    """
    found = live(connection, name)
    if found is None:
        _make(connection, name, 1, model, is_live=True)
        found = live(connection, name)
    assert found is not None
    found.check(model)
    return found


def opened_next(connection: Connection, name: str, model: EmbeddingModel) -> Collection:
    """The generation to fill with this model's vectors: the live one if they are its own, else the one after it.

    Raises:
        NotFoundError: nothing is stored under that name.
        GenerationBusyError: another model's generation is being filled.
    """
    now_live = live(connection, name)
    if now_live is None:
        raise NotFoundError(
            f"nothing is stored in the collection '{name}'", "`celeriac collections ls` lists what there is"
        )
    mine = (model.name, model.revision, model.dimension)
    if (now_live.model, now_live.revision, now_live.dimension) == mine:
        return now_live
    later = (collections.c.name == name) & (collections.c.generation > now_live.generation)
    _make(connection, name, _newest(connection, name) + 1, model, is_live=False, unless=later)
    found = _one(connection, later)
    assert found is not None
    if (found.model, found.revision, found.dimension) != mine:
        raise GenerationBusyError(
            f"generation {found.generation} of the collection '{name}' is being filled for {found.model} "
            f"({found.revision}); wait for that run, or drop it by "
            f"`celeriac collections drop {name} --generation {found.generation}`"
        )
    return found


def hold(connection: Connection, collection: Collection) -> None:
    """Keep a generation live, if it is, until the end of this transaction.

    Raises:
        GenerationEndedError: it was live and is not any more.
    """
    query = select(collections.c.is_live).where(collections.c.id == collection.id).with_for_update(read=True)
    is_live = connection.execute(query).scalar_one_or_none()
    if is_live is None or (collection.is_live and not is_live):
        raise GenerationEndedError(
            f"generation {collection.generation} of the collection '{collection.name}' was replaced meanwhile"
        )


def make_live(connection: Connection, collection: Collection, *, allow_missing: bool = False) -> bool:
    """Let searches see this generation and no other; whether that changed anything.

    Raises:
        IncompleteGenerationError: papers of the live one are not in it, or not whole. Nothing is changed then.
    """
    of_name = collections.c.name == collection.name
    rows = connection.execute(select(collections.c.id, collections.c.is_live).where(of_name).with_for_update()).all()
    states = {row.id: row.is_live for row in rows}
    if collection.id not in states:
        raise NotFoundError(
            f"generation {collection.generation} of the collection '{collection.name}' is gone", "make it once more"
        )
    if states[collection.id]:
        return False
    now_live = live(connection, collection.name)
    if now_live is not None and not allow_missing:
        _check_whole(connection, collection, now_live)
    connection.execute(update(collections).where(of_name, collections.c.is_live).values(is_live=False))
    connection.execute(update(collections).where(collections.c.id == collection.id).values(is_live=True))
    return True


def paper_ids(connection: Connection, collection: Collection) -> list[str]:
    """Ids of the papers in it."""
    query = select(entries.c.paper_id).distinct().where(entries.c.collection_id == collection.id)
    return sorted(connection.execute(query).scalars())


def described(connection: Connection, name: str | None = None) -> list[Described]:
    """All generations, of one collection or of all, by name and number."""
    counts = (
        select(entries.c.collection_id, func.count(entries.c.paper_id.distinct()), func.count())
        .group_by(entries.c.collection_id)
    )  # fmt: skip
    found = {row[0]: (row[1], row[2]) for row in connection.execute(counts)}
    query = select(*_COLUMNS).order_by(collections.c.name, collections.c.generation)
    if name is not None:
        query = query.where(collections.c.name == name)
    return [
        Described(one, *found.get(one.id, (0, 0))) for one in (Collection(*row) for row in connection.execute(query))
    ]


def existing(connection: Connection, name: str) -> list[Described]:
    """All generations of a collection.

    Raises:
        NotFoundError: there is no such collection.
    """
    found = described(connection, name)
    if not found:
        raise NotFoundError(f"there is no collection '{name}'", "`celeriac collections ls` lists what there is")
    return found


def to_drop(connection: Connection, name: str, number: int | None = None) -> list[Described]:
    """The generations to drop: one, or all of a collection.

    Raises:
        NotFoundError: there is none such.
        LiveGenerationError: searches would see nothing although other generations are there.
    """
    found = existing(connection, name)
    if number is None:
        return found
    chosen = generation(connection, name, number)
    if chosen.is_live and len(found) > 1:
        raise LiveGenerationError(
            f"searches see generation {number} of the collection '{name}'",
            f"let them see another first by `celeriac collections switch {name} N`, or drop the whole collection",
        )
    return [one for one in found if one.collection.id == chosen.id]


def drop(
    begin: Callable[[], AbstractContextManager[Connection]],
    collection: Collection,
    on_batch: Callable[[], None] = lambda: None,
) -> None:
    """Delete a generation with all that is stored in it, in several transactions.

    Args:
        begin: Opens a transaction.
        on_batch: Called before each.
    """
    choice.drop_from_server(collection)
    is_left = True
    while is_left:
        on_batch()
        with begin() as connection:
            is_left = _drop_some(connection, collection)


def _drop_some(connection: Connection, collection: Collection, most: int = 2000) -> bool:
    """Delete a part of a generation, its row with the last; whether something is left.

    In parts, because each part keeps other writers waiting. A search sees a part until the last is gone.
    """
    some = select(entries.c.id).where(entries.c.collection_id == collection.id).limit(most)
    ids = list(connection.execute(some).scalars())
    for start in range(0, len(ids), 500):
        connection.execute(delete(entries).where(entries.c.id.in_(ids[start : start + 500])))
    if len(ids) == most:
        return True
    choice.drop(connection, collection)
    connection.execute(delete(collections).where(collections.c.id == collection.id))
    return False


_COLUMNS = tuple(collections.c[field] for field in Collection.__slots__)


def _one(connection: Connection, *conditions: ColumnElement[bool]) -> Collection | None:
    row = connection.execute(select(*_COLUMNS).where(*conditions).order_by(collections.c.generation)).first()
    return Collection(*row) if row is not None else None


def _newest(connection: Connection, name: str) -> int:
    query = select(func.max(collections.c.generation)).where(collections.c.name == name)
    return int(connection.execute(query).scalar_one() or 0)


def _make(
    connection: Connection,
    name: str,
    number: int,
    model: EmbeddingModel,
    *,
    is_live: bool,
    unless: ColumnElement[bool] | None = None,
) -> None:
    """Make a generation where there is none; of two who do at the same time one does."""
    if unless is not None and _one(connection, unless) is not None:
        return
    made = insert(connection, collections).values(
        name=name,
        generation=number,
        is_live=is_live,
        model=model.name,
        revision=model.revision,
        dimension=model.dimension,
        created_at=now(connection),
    )
    connection.execute(made.on_conflict_do_nothing())


def _check_whole(connection: Connection, collection: Collection, now_live: Collection) -> None:
    """Every paper that can be found now must be found afterwards, with all that the new model has embedded."""
    model = model_of(collection.model)
    there = select(entries.c.id).where(
        entries.c.collection_id == collection.id, entries.c.paper_id == papers.c.id
    )  # fmt: skip
    pending = (
        select(chunks.c.id)
        .outerjoin(
            entries, (entries.c.chunk_id == chunks.c.id) & (entries.c.collection_id == collection.id)
        )
        .where(chunks.c.paper_id == papers.c.id, chunks.c.cut == model.cut, entries.c.id.is_(None))
    )  # fmt: skip
    lives = select(entries.c.paper_id).where(entries.c.collection_id == now_live.id)
    query = select(papers.c.title, papers.c.external_id).where(
        papers.c.id.in_(lives), ~exists(there) | exists(pending)
    )  # fmt: skip
    missing: Sequence[str] = [title or external for title, external in connection.execute(query)]
    if missing:
        named = "; ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise IncompleteGenerationError(
            f"generation {collection.generation} of the collection '{collection.name}' lacks {len(missing)} "
            f"of the papers that the live one has: {named}. Run re-embed again, which goes on from what is there, or "
            "leave them out by --param allow_missing=true"
        )
