"""What every source gives: one record per paper, cleaned at the border."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import ids
from pipeline.text.clean import clean, clean_line, is_showable
from pipeline.text.faults import MENDING, Code

MAX_AUTHORS = 5000
_MIN_YEAR, _MAX_YEAR = 1000, 2999
_DEEPEST = 8

_VERSION = re.compile(r"v\d+$")
_DOI_PREFIX = re.compile(r"^(?:https?://(?:dx\.)?doi\.org/|doi:\s*)", re.IGNORECASE)
_KNOWN = frozenset(
    (
        "_id",
        "id",
        "title",
        "text",
        "abstract",
        "authors",
        "year",
        "doi",
        "url",
        "arxiv_id",
        "venue",
        "journal",
        "pdf_url",
    )
)


@dataclass(frozen=True, slots=True)
class Record:
    """A paper as a source describes it.

    Attributes:
        external_id: The id that the source gives, unchanged; for a PDF alone, the file's name without `.pdf`.
        text: Abstract, or full text where there is no PDF; may be empty.
        arxiv_id: Without its version.
        venue: Journal, proceedings or book.
        pdf_url: Where its PDF may be had.
        details: What else the source says, by the names in `docs/reference/steps.md`; values as JSON has them.
        original: The source's own record, whole: JSON, XML, BibTeX or RIS, as it came.
        place: Where it stands in a folder: file and line, or entry.
        pdf: The paper's PDF.
        fault: Why the source could not read this record; None when it could. Such a record is quarantined.
        fault_code: Kind of that reason.
    """

    external_id: str
    title: str = ""
    text: str = ""
    authors: tuple[str, ...] = ()
    year: int | None = None
    doi: str | None = None
    url: str | None = None
    arxiv_id: str | None = None
    venue: str | None = None
    pdf_url: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    original: str = ""
    place: str = ""
    pdf: Path | None = None
    pdf_hash: str = ""
    fault: str | None = None
    fault_code: Code = Code.BAD_RECORD

    def content_hash(self) -> str:
        """Hash of what a paper is known and read by, of the PDF its content: where it lies does not count.

        `details` do not count: numbers of citations change daily, and no text has to be read again for them.
        """
        return ids.digest(
            self.title,
            self.text,
            json.dumps(self.authors),
            str(self.year),
            self.doi or "",
            self.url or "",
            self.pdf_hash,
            self.fault or "",
        )

    def set_aside(self, code: Code, what: str) -> Record:
        """This record with a fault: what is wrong, and what mends it."""
        return replace(self, fault=f"{what}; {MENDING[code]}", fault_code=code)


def faulty(file: Path, number: int, reason: str, unit: str = "line") -> Record:
    """What stands for a line or an entry of a file that could not be read; they are counted from 1."""
    return Record(f"{file.name}:{number}").set_aside(Code.BAD_RECORD, f"{unit} {number}: {reason}")


class RecordError(Exception):
    """A value is no record; the message says why."""


def parse_record(value: object, *, original: str = "") -> Record:
    """The record that a JSON value describes.

    Names that are known: `_id` or `id`, `title`, `text` or `abstract`, `authors`, `year`, `doi`, `url`, `arxiv_id`,
    `venue` or `journal`, `pdf_url`. What has another name is kept in `details`.

    Raises:
        RecordError: not an object, or without a usable id. Odd values of optional fields are left out instead.
    """
    if not isinstance(value, Mapping):
        raise RecordError("it is no JSON object")
    details = {
        str(name): kept for name, given in value.items() if name not in _KNOWN and not _is_empty(kept := _kept(given))
    }
    if value.get("text") and value.get("abstract") and value["text"] != value["abstract"]:
        details["abstract"] = _kept(value["abstract"])
    return Record(
        external_id=_external_id(value),
        title=clean_line(_text(value, "title")),
        text=clean(_text(value, "text") or _text(value, "abstract")),
        authors=_authors(value.get("authors")),
        year=_year(value.get("year")),
        doi=_doi(_text(value, "doi")),
        url=clean_line(_text(value, "url")) or None,
        arxiv_id=_VERSION.sub("", clean_line(_text(value, "arxiv_id")).removeprefix("arXiv:")) or None,
        venue=clean_line(_text(value, "venue") or _text(value, "journal")) or None,
        pdf_url=clean_line(_text(value, "pdf_url")) or None,
        details=details,
        original=original,
    )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _external_id(value: Mapping[Any, Any]) -> str:
    for name in ("_id", "id"):
        found = value.get(name)
        if isinstance(found, int) and not isinstance(found, bool):
            return str(found)
        if isinstance(found, str) and found.strip():
            if not is_showable(found):
                raise RecordError(f"its {name!r} holds characters that cannot be shown")
            return found
    raise RecordError("it has no '_id' that is a text or a whole number")


def _text(value: Mapping[Any, Any], name: str) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise RecordError(f"its {name!r} is no text")
    return found


def _authors(value: object) -> tuple[str, ...]:
    names: Iterable[object] = value.split(";") if isinstance(value, str) else value if isinstance(value, list) else ()
    cleaned = (clean_line(name) for name in names if isinstance(name, str))
    return tuple(name for name in cleaned if name)[:MAX_AUTHORS]


def _year(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    return value if isinstance(value, int) and _MIN_YEAR <= value <= _MAX_YEAR else None


def _doi(text: str) -> str | None:
    return _DOI_PREFIX.sub("", clean_line(text)) or None


def _kept(value: object, depth: int = 0) -> Any:
    """A value of `details` without what is empty in it; text cleaned, what JSON has no word for left out."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= _DEEPEST:
        return None
    if isinstance(value, Mapping):
        pairs = ((clean_line(str(name)), _kept(given, depth + 1)) for name, given in value.items())
        return {name: kept for name, kept in pairs if not _is_empty(kept)}
    if isinstance(value, list | tuple):
        return [kept for kept in (_kept(given, depth + 1) for given in value) if not _is_empty(kept)]
    return None


def _is_empty(value: object) -> bool:
    return value is None or value in ("", {}, [])
