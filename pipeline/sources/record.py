"""What every source gives: one record per paper, cleaned at the border."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import ids
from pipeline.text.clean import clean, clean_line, is_showable

MAX_AUTHORS = 5000
_MIN_YEAR, _MAX_YEAR = 1000, 2999


@dataclass(frozen=True, slots=True)
class Record:
    """A paper as a source describes it.

    Attributes:
        external_id: The id that the source gives, unchanged; for a PDF alone, the file's name without `.pdf`.
        text: Abstract, or full text where there is no PDF; may be empty.
        pdf: The paper's PDF.
        fault: Why the source could not read this record; None when it could. Such a record is quarantined.
    """

    external_id: str
    title: str = ""
    text: str = ""
    authors: tuple[str, ...] = ()
    year: int | None = None
    doi: str | None = None
    url: str | None = None
    pdf: Path | None = None
    pdf_hash: str = ""
    fault: str | None = None

    def content_hash(self) -> str:
        """Hash of all that the source gave, of the PDF its content: where it lies does not count."""
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


class RecordError(Exception):
    """A value is no record; the message says why."""


def parse_record(value: object) -> Record:
    """The record that a JSON value describes: `_id`, `title`, `text`, optional `authors`, `year`, `doi`, `url`.

    Raises:
        RecordError: not an object, or without a usable id. Odd values of optional fields are left out instead.
    """
    if not isinstance(value, Mapping):
        raise RecordError("it is no JSON object")
    return Record(
        external_id=_external_id(value),
        title=clean_line(_text(value, "title")),
        text=clean(_text(value, "text") or _text(value, "abstract")),
        authors=_authors(value.get("authors")),
        year=_year(value.get("year")),
        doi=clean_line(_text(value, "doi")) or None,
        url=clean_line(_text(value, "url")) or None,
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
