"""`/api/v1/collections`: what can be searched, and its generations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.access import Scope, needs
from api.documents import problems
from api.services import Served
from pipeline import collections
from pipeline.collections import Described

router = APIRouter(prefix="/api/v1/collections", tags=["papers"], dependencies=[needs(Scope.READ)])

Name = Annotated[str, Path(pattern=r"^[^\x00-\x1f/]{1,100}$")]
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Generation(BaseModel):
    """One generation of a collection.

    Attributes:
        is_live: Whether searches see it.
        dimension: Numbers of a vector.
        created_at: In seconds since 1970.
        papers: Papers in it; `entries` are their parts.
    """

    name: str
    generation: int
    is_live: bool
    model: str
    revision: str
    dimension: int
    created_at: float
    papers: int
    entries: int

    @classmethod
    def of(cls, found: Described) -> Generation:
        """A generation as the database has it."""
        held = found.collection
        told = {field: getattr(held, field) for field in cls.model_fields if hasattr(held, field)}
        return cls(**told, papers=found.papers, entries=found.entries)


class Collections(BaseModel):
    """The collections that searches see."""

    collections: list[Generation]


class Generations(BaseModel):
    """All generations of a collection, the eldest first."""

    name: str
    generations: list[Generation]


class Switch(BaseModel):
    """The generation that searches are to see."""

    model_config = ConfigDict(extra="forbid")

    generation: Number
    allow_missing: bool = False


class Switched(BaseModel):
    """What searches see now; `switched` is false when they saw it before."""

    name: str
    generation: int
    switched: bool


class Dropped(BaseModel):
    """Generations that were deleted, and how many entries they held."""

    name: str
    dropped: list[int]
    entries: int


@router.get("")
def list_collections(served: Served) -> Collections:
    """The collections that searches see, with their model and size."""
    with served.runtime.database.connect() as connection:
        found = collections.described(connection)
    return Collections(collections=[Generation.of(one) for one in found if one.collection.is_live])


@router.get("/{name}", responses=problems(404))
def show_collection(name: Name, served: Served) -> Generations:
    """All generations of a collection."""
    with served.runtime.database.connect() as connection:
        found = collections.existing(connection, name)
    return Generations(name=name, generations=[Generation.of(one) for one in found])


@router.post("/{name}/switch", dependencies=[needs(Scope.OPERATE)], responses=problems(404, 409))
def switch_collection(name: Name, wanted: Switch, served: Served) -> Switched:
    """Let searches see another generation; 409 when papers of the live one are not in it."""
    with served.runtime.database.begin() as connection:
        found = collections.generation(connection, name, wanted.generation)
        switched = collections.make_live(connection, found, allow_missing=wanted.allow_missing)
    return Switched(name=name, generation=wanted.generation, switched=switched)


@router.delete("/{name}", dependencies=[needs(Scope.ADMIN)], responses=problems(404, 409))
def drop_collection(
    name: Name, served: Served, generation: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> Dropped:
    """Drop a collection, or one of its generations that searches do not see. Papers and cached vectors stay."""
    database = served.runtime.database
    with database.connect() as connection:
        doomed = collections.to_drop(connection, name, generation)
    for one in doomed:
        collections.drop(database.begin, one.collection)
    return Dropped(
        name=name,
        dropped=[one.collection.generation for one in doomed],
        entries=sum(one.entries for one in doomed),
    )
