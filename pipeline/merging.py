"""One paper that several catalogues have is one row: what each of them says is kept, and the best of it is shown.

A record finds its paper by what it was fetched under before, else by DOI, else by arXiv id, else by PubMed's number,
else by title, year and first author. Two records of one catalogue are never one paper. Folders are left alone: their
ids come back unchanged.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, delete, select, update

from pipeline import ids
from pipeline.sources.record import Record
from pipeline.sources.values import mapping
from pipeline.tables import insert, now, paper_keys, paper_records, papers, slices

SOURCES = ("arxiv", "oai_pmh", "pubmed", "europe_pmc", "crossref", "openalex", "semantic_scholar")
"""Catalogues whose records are merged. What an earlier one says of a paper goes before what a later one says."""

_FIELDS = ("title", "text", "authors", "year", "doi", "url", "arxiv_id", "venue", "pdf_url")
_SHORTEST_TITLE = 20
"""Letters and digits: shorter titles (`Introduction`) are those of many papers."""

_ARXIV_DOI = "10.48550/arxiv."
_ARXIV_URL = re.compile(r"arxiv\.org/abs/([\w.-]+(?:/\d{7})?)", re.IGNORECASE)
_VERSION = re.compile(r"v\d+$")


@dataclass(frozen=True, slots=True)
class Merged:
    """A paper as all its records together describe it.

    Attributes:
        provenance: Which source each field was taken from.
    """

    record: Record
    provenance: Mapping[str, str]


def keys_of(record: Record) -> Iterator[str]:
    """By what a paper is known again, the surest first."""
    doi = (record.doi or "").lower().removeprefix("https://doi.org/")
    if doi and not doi.startswith(_ARXIV_DOI):
        yield f"doi:{doi}"
    if arxiv := _arxiv_id(record, doi):
        yield f"arxiv:{arxiv}"
    if pmid := mapping(record.details.get("ids")).get("pmid"):
        yield f"pmid:{pmid}"
    title = _letters(record.title)
    if len(title) >= _SHORTEST_TITLE and record.year is not None and record.authors:
        yield f"title:{title}:{record.year}:{_letters(record.authors[0].split()[-1])}"


def adopt(connection: Connection, source: str, origin: str, records: Sequence[Record]) -> dict[str, Merged]:
    """Keep the records, each with its paper; the papers as they stand now, by id, in the order of the records."""
    by_id = {record.external_id: record for record in records}
    owned = _known(connection, source, origin, list(by_id))
    fresh = [record for record in by_id.values() if record.external_id not in owned]
    owned.update(_matched(connection, source, origin, fresh))
    keep_records(connection, source, origin, by_id, owned)
    _keep_keys(connection, by_id, owned)
    return _merged(connection, list(dict.fromkeys(owned[external] for external in by_id)))


def merge(found: Sequence[tuple[str, Record]]) -> Merged:
    """The best of what several sources say: of each field the first that is not empty."""
    order = sorted(found, key=lambda one: SOURCES.index(one[0]) if one[0] in SOURCES else len(SOURCES))
    _, best = order[0]
    provenance: dict[str, str] = {}
    for name in _FIELDS:
        source, record = next(((s, r) for s, r in order if getattr(r, name)), order[0])
        if getattr(record, name):
            best = replace(best, **{name: getattr(record, name)})
            provenance[name] = source
    details: dict[str, Any] = {}
    for source, record in order:
        for name, value in record.details.items():
            if name == "ids":
                details["ids"] = {**mapping(value), **details.get("ids", {})}
                provenance.update(
                    {f"details.ids.{one}": source for one in value if f"details.ids.{one}" not in provenance}
                )
            elif name not in details:
                details[name] = value
                provenance[f"details.{name}"] = source
    return Merged(replace(best, details=details), provenance)


def _known(connection: Connection, source: str, origin: str, external: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in slices(external):
        query = select(paper_records.c.external_id, paper_records.c.paper_id).where(
            paper_records.c.source == source, paper_records.c.origin == origin, paper_records.c.external_id.in_(some)
        )
        found.update({row.external_id: row.paper_id for row in connection.execute(query)})
    return found


def _matched(connection: Connection, source: str, origin: str, records: Sequence[Record]) -> dict[str, str]:
    """The paper of each record that is new: one that another source has brought, or its own."""
    keys = {record.external_id: list(keys_of(record)) for record in records}
    owners: dict[str, str] = {}
    for some in slices(sorted({key for listed in keys.values() for key in listed})):
        query = select(paper_keys.c.key, paper_keys.c.paper_id).where(paper_keys.c.key.in_(some))
        owners.update({row.key: row.paper_id for row in connection.execute(query)})
    sources: dict[str, set[str]] = {}
    for some in slices(sorted(set(owners.values()))):
        query = select(paper_records.c.paper_id, paper_records.c.source).where(paper_records.c.paper_id.in_(some))
        for row in connection.execute(query):
            sources.setdefault(row.paper_id, set()).add(row.source)
    found: dict[str, str] = {}
    for record in records:
        paper = ids.paper_id(source, origin, record.external_id)
        candidates = dict.fromkeys(owners[key] for key in keys[record.external_id] if key in owners)
        chosen = {source}
        for candidate in candidates:
            if chosen & sources[candidate]:
                continue  # it has a record of this source, or of one that the others have, too
            if chosen == {source}:
                paper = candidate
            else:
                _absorb(connection, paper, candidate, owners)
            chosen |= sources[candidate]
        sources[paper] = chosen
        found[record.external_id] = paper
    return found


def _absorb(connection: Connection, kept: str, other: str, owners: dict[str, str]) -> None:
    """Two papers turn out to be one: what the sources said of the other goes to the kept one, its chunks go."""
    for part in (paper_records, paper_keys):
        connection.execute(update(part).where(part.c.paper_id == other).values(paper_id=kept))
    connection.execute(delete(papers).where(papers.c.id == other))
    owners.update({key: kept for key, owner in owners.items() if owner == other})


def keep_records(
    connection: Connection, source: str, origin: str, by_id: Mapping[str, Record], owned: Mapping[str, str]
) -> None:
    """Keep what a source says, by its ids, each record with the paper that owns it."""
    if not by_id:
        return
    rows = [
        {
            "source": source,
            "origin": origin,
            "external_id": external,
            "paper_id": owned[external],
            "content": json.dumps({name: getattr(record, name) for name in (*_FIELDS, "details")}, ensure_ascii=False),
            "original": record.original,
        }
        for external, record in by_id.items()
    ]
    statement = insert(connection, paper_records).values(seen_at=now(connection))
    statement = statement.on_conflict_do_update(
        index_elements=["source", "origin", "external_id"],
        set_={name: statement.excluded[name] for name in ("content", "original", "seen_at")},
    )
    connection.execute(statement, rows)


def _keep_keys(connection: Connection, by_id: Mapping[str, Record], owned: Mapping[str, str]) -> None:
    keys = {key: owned[external] for external, record in by_id.items() for key in keys_of(record)}
    if keys:
        listed = [{"key": key, "paper_id": paper} for key, paper in sorted(keys.items())]
        connection.execute(insert(connection, paper_keys).on_conflict_do_nothing(index_elements=["key"]), listed)


def _merged(connection: Connection, wanted: list[str]) -> dict[str, Merged]:
    found: dict[str, list[tuple[str, Record]]] = {paper: [] for paper in wanted}
    said = (paper_records.c.paper_id, paper_records.c.source, paper_records.c.external_id, paper_records.c.content)
    for some in slices(wanted):
        query = select(*said).where(paper_records.c.paper_id.in_(some)).order_by(paper_records.c.external_id)
        for row in connection.execute(query):
            found[row.paper_id].append((row.source, _record(row.external_id, json.loads(row.content))))
    return {paper: merge(listed) for paper, listed in found.items()}


def _record(external_id: str, content: dict[str, object]) -> Record:
    known = {field.name for field in fields(Record)}
    values = {name: value for name, value in content.items() if name in known}
    authors = values.get("authors")
    values["authors"] = tuple(map(str, authors)) if isinstance(authors, list) else ()
    return Record(external_id, **values)  # type: ignore[arg-type]


def _arxiv_id(record: Record, doi: str) -> str:
    if record.arxiv_id:
        return record.arxiv_id.lower()
    if doi.startswith(_ARXIV_DOI):
        return _VERSION.sub("", doi.removeprefix(_ARXIV_DOI))
    found = _ARXIV_URL.search(record.url or "")
    return _VERSION.sub("", found[1].lower()) if found else ""


def forget(connection: Connection, source: str, origin: str, external_ids: Sequence[str]) -> int:
    """A catalogue has taken records back: papers that no other describes go, with all that was stored of them.

    Returns:
        How many papers went.
    """
    known = _known(connection, source, origin, list(external_ids))
    for some in slices(list(known)):
        connection.execute(
            delete(paper_records).where(
                paper_records.c.source == source,
                paper_records.c.origin == origin,
                paper_records.c.external_id.in_(some),
            )
        )
    gone = 0
    for some in slices(sorted(set(known.values()))):
        kept = set(
            connection.execute(select(paper_records.c.paper_id).where(paper_records.c.paper_id.in_(some))).scalars()
        )
        alone = [paper for paper in some if paper not in kept]
        connection.execute(delete(paper_keys).where(paper_keys.c.paper_id.in_(alone)))
        gone += connection.execute(delete(papers).where(papers.c.id.in_(alone))).rowcount
    return gone


def _letters(text: str) -> str:
    """Lower-case letters and digits alone, without accents."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalnum())
