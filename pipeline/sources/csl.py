"""Bibliographies in CSL-JSON (`.json`), as Zotero, Mendeley and pandoc write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.sources.bibtex import files_of
from pipeline.sources.decoding import read_text
from pipeline.sources.record import Record, RecordError, faulty, parse_record
from pipeline.sources.values import first, items, mapping, objects, pdf_address, plain, string, strings
from workflows.model.errors import PermanentError

_PERSONS = {"author": "authors", "editor": "editors", "translator": "translators"}
_NAMES = {
    "DOI": "doi",
    "URL": "url",
    "PMID": "pmid",
    "PMCID": "pmcid",
    "container-title": "venue",
    "page": "pages",
    "publisher-place": "place",
    "container-title-short": "short_venue",
    "title-short": "short_title",
    "citation-key": "citation_key",
}
_LISTS = {"ISSN": "issn", "ISBN": "isbn"}
_OWN = frozenset({"id", "title", "abstract", "issued", "keyword", "file", "accessed", *_PERSONS, *_NAMES, *_LISTS})


def is_csl(path: Path) -> bool:
    """Whether a JSON file is a list of CSL objects: it begins as one does."""
    try:
        with path.open("rb") as file:
            begun = file.read(200_000)
    except OSError:
        return True  # reading it tells why it cannot be read
    text = begun.decode("utf-8-sig", "ignore") if b"\0" not in begun else begun.decode("utf-16", "ignore")
    has_names = re.search(r'"type"\s*:\s*"', text) and re.search(r'"(?:id|title|citation-key)"\s*:', text)
    return re.match(r"\s*\[\s*\{", text) is not None and has_names is not None


def read(path: Path) -> Iterator[Record]:
    """The objects of a file in their order; one that is broken is a record with a fault, and costs no other.

    Faults count objects, not lines.

    Raises:
        PermanentError: the file cannot be read.
    """
    try:
        listed = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        yield faulty(path, getattr(error, "lineno", 1), f"the file is not JSON ({error})")
        return
    if not isinstance(listed, list):
        raise PermanentError(f"{path} is no list of CSL objects; export it as CSL-JSON")
    for number, value in enumerate(listed, start=1):
        try:
            yield replace(_record(value), place=f"{path.name}:{number}")
        except RecordError as error:
            yield faulty(path, number, str(error), "entry")


def _record(value: object) -> Record:
    if not isinstance(value, Mapping):
        raise RecordError("it is no JSON object")
    external_id = string(value.get("id")) or string(value.get("citation-key")) or string(value.get("DOI"))
    if not external_id:
        raise RecordError("it has no 'id'")
    given: dict[str, Any] = {
        "_id": external_id,
        "title": plain(first(value.get("title"))),
        "text": plain(string(value.get("abstract"))),
        "keywords": strings(re.split(r"[;,]", string(value.get("keyword")))),
        "accessed": _day(value.get("accessed")),
        "published": _day(value.get("issued")),
        "files": files_of(string(value.get("file"))),
    }
    given["pdf_url"] = pdf_address((value.get("URL"),))
    given["year"] = given["published"][:4]
    given |= {ours: [_person(one) for one in objects(value.get(theirs))] for theirs, ours in _PERSONS.items()}
    given |= {ours: first(value.get(theirs)) for theirs, ours in _NAMES.items()}
    given |= {ours: strings(_several(value.get(theirs))) for theirs, ours in _LISTS.items()}
    for name, kept in value.items():
        if name not in _OWN:
            given.setdefault(name, kept)
    return parse_record(given, original=json.dumps(value, ensure_ascii=False))


def _several(value: Any) -> list[Any]:
    return re.split(r"[\s,;]+", value) if isinstance(value, str) else items(value)


def _person(person: Mapping[str, Any]) -> str:
    names = ("given", "dropping-particle", "non-dropping-particle", "family", "suffix")
    return string(person.get("literal")) or " ".join(strings(person.get(name) for name in names))


def _day(value: Any) -> str:
    """A CSL date, as precise as it is known."""
    date = mapping(value)
    parts = items(next(iter(items(date.get("date-parts"))), None))
    numbers = [string(part) for part in parts[:3]]
    if numbers and all(number.isdecimal() for number in numbers):
        return "-".join(number.zfill(2) for number in numbers)
    return string(date.get("raw")) or string(date.get("literal"))
