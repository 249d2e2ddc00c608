"""Bibliographies in RIS (`.ris`), as publishers, EndNote, Mendeley and Zotero write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rispy import RisParser

from pipeline.sources.decoding import read_text
from pipeline.sources.record import Record, RecordError, faulty, parse_record
from pipeline.sources.values import pdf_address, string, strings

MAX_RECORD_CHARACTERS = 1_000_000
_MAX_ID_CHARACTERS = 300

_TAG = re.compile(r"^([A-Z][A-Z0-9]) {1,2}-(?: |$)")
_AUTHORS = ("authors", "first_authors")
_EDITORS = ("secondary_authors", "tertiary_authors", "subsidiary_authors")
_TITLES = ("title", "primary_title")
_VENUES = ("alternate_title3", "journal_name", "secondary_title", "alternate_title2")
_ABSTRACTS = ("abstract", "notes_abstract")
_FILES = ("file_attachments1", "file_attachments2", "figure")
_NAMES = {"type_of_reference": "type", "number": "issue", "place_published": "place", "access_date": "accessed"}
_USED = frozenset((*_AUTHORS, *_EDITORS, *_FILES, "id", "doi", "urls", "issn", "start_page", "end_page", "unknown_tag"))


def read(path: Path) -> Iterator[Record]:
    """The records of a file in their order; one that is broken is a record with a fault, and costs no other.

    Raises:
        PermanentError: the file cannot be read.
    """
    for line, lines in _split(read_text(path)):
        try:
            yield replace(_parsed(lines), place=f"{path.name}:{line}")
        except RecordError as error:
            yield faulty(path, line, str(error))


def _split(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of each record, with the number of its first. Tags are brought to the form `XX  - `."""
    begun, lines = 0, list[str]()
    for number, given in enumerate(text.split("\n"), start=1):
        line = _TAG.sub(r"\1  - ", given)
        if line.startswith("TY  -") and lines:
            yield begun, lines
            lines = []
        if not lines:
            if not line.strip():
                continue
            begun = number
        lines.append(line)
        if line.startswith("ER  -"):
            yield begun, lines
            lines = []
    if any(line.strip() for line in lines):
        yield begun, lines


def _parsed(lines: list[str]) -> Record:
    if not lines[0].startswith("TY  -"):
        raise RecordError("it does not begin with the tag TY")
    if sum(map(len, lines)) > MAX_RECORD_CHARACTERS:
        raise RecordError(f"it has more than {MAX_RECORD_CHARACTERS} characters")
    original = "\n".join(lines).strip()
    if not lines[-1].startswith("ER  -"):
        lines = [*lines, "ER  - "]
    found = RisParser(enforce_list_tags=False).parse("\n".join(_joined(lines)))
    if len(found) != 1:
        raise RecordError("it is no RIS")
    return _record(found[0], original)


def _joined(lines: list[str]) -> Iterator[str]:
    """Values that go over several lines on one."""
    whole = lines[0]
    for line in lines[1:]:
        if _TAG.match(line):
            yield whole
            whole = line
        else:
            whole = f"{whole.rstrip()} {line.strip()}".rstrip()
    yield whole


def _record(given: dict[str, Any], original: str) -> Record:
    title = _first(given, _TITLES)
    doi = _first(given, ("doi",))
    external_id = _first(given, ("id",)) or doi or title[:_MAX_ID_CHARACTERS]
    if not external_id:
        raise RecordError("it has neither an ID nor a DO nor a title")
    links = [str(link) for link in _all(given, ("urls",))]
    abstracts = _all(given, _ABSTRACTS)
    date = _first(given, ("year", "publication_year", "date"))
    venue = _first(given, _VENUES)
    value: dict[str, Any] = {
        "_id": external_id,
        "title": title,
        "text": max(abstracts, key=len, default=""),
        "authors": [_person(name) for name in _all(given, _AUTHORS)],
        "editors": [_person(name) for name in _all(given, _EDITORS)],
        "year": date[:4],
        "published": _day(_first(given, ("date",)) or date),
        "doi": doi,
        "url": next((link for link in links if link.startswith("http")), ""),
        "urls": links[1:],
        "venue": venue,
        "issn": strings(part for one in _all(given, ("issn",)) for part in re.split(r"[\s,;]+", one)),
        "pages": "-".join(strings((_first(given, ("start_page",)), _first(given, ("end_page",))))),
        "files": _all(given, _FILES),
        "pdf_url": pdf_address([*_all(given, _FILES), *links]),
    }
    said = {title, venue, value["text"]}
    for name, kept in given.items():
        if name not in _USED and not (isinstance(kept, str) and kept in said):
            value.setdefault(_NAMES.get(name, name), kept)
    value |= {f"ris_{tag.lower()}": list(kept) for tag, kept in given.get("unknown_tag", {}).items()}
    return parse_record(value, original=original)


def _all(given: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """The texts under several names, each once."""
    found = (given.get(name) for name in names)
    return strings(text for one in found for text in (one if isinstance(one, list) else [one]))


def _first(given: dict[str, Any], names: tuple[str, ...]) -> str:
    return string(next(iter(_all(given, names)), ""))


def _person(name: str) -> str:
    """`Last, First, Jr.` as `First Last Jr.`."""
    last, *others = [part.strip() for part in name.split(",")]
    return " ".join(part for part in (*others[:1], last, *others[1:]) if part)


def _day(date: str) -> str:
    """`2020/03/21/spring` as `2020-03-21`."""
    parts = re.match(r"(\d{4})(?:[/-](\d{1,2}))?(?:[/-](\d{1,2}))?", date)
    return "-".join(part.zfill(2) for part in parts.groups() if part) if parts else ""
