"""Bibliographies in BibTeX (`.bib`), as JabRef, Zotero and LaTeX's users keep them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pybtex.bibtex.utils import split_name_list
from pybtex.database import Person
from pybtex.database.input.bibtex import LowLevelParser, month_names
from pybtex.exceptions import PybtexError

from pipeline.sources.decoding import read_text
from pipeline.sources.latex import plain
from pipeline.sources.record import Record, RecordError, faulty, parse_record
from pipeline.sources.values import pdf_address, string

MAX_ENTRY_CHARACTERS = 250_000

_START = re.compile(r"^[ \t]*@[ \t]*[A-Za-z]+[ \t]*[{(]", re.MULTILINE)
_NO_PAPERS = frozenset({"string", "preamble", "comment"})
_PERSONS = frozenset({"author", "editor", "translator"})
_SPLIT_FILES = re.compile(r"(?<!\\);")
_SPLIT_PARTS = re.compile(r"(?<!\\):")
_ESCAPE = re.compile(r"\\([\\:;_])")
_VERBATIM = frozenset({"url", "doi", "eprint", "pdf", "pdf_url"})

_NAMES = {
    "journaltitle": "venue",
    "journal": "venue",
    "booktitle": "venue",
    "number": "issue",
    "langid": "language",
    "urldate": "accessed",
    "institution": "publisher",
    "school": "publisher",
    "location": "place",
    "address": "place",
    "annote": "note",
}
"""Fields by the names of `docs/reference/steps.md`; the others keep their own. The first of several stays."""


class _Strings(dict[str, str]):
    """What `@string` defines. A name that is not defined stands for itself."""

    def __init__(self) -> None:
        super().__init__(month_names)

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name.lower(), value)

    def __getitem__(self, name: str) -> str:
        return self.get(name.lower(), name)


def read(path: Path) -> Iterator[Record]:
    """The entries of a file in their order; one that is broken is a record with a fault, and costs no other.

    Raises:
        PermanentError: the file cannot be read.
    """
    text = read_text(path)
    strings = _Strings()
    starts = [match.start() for match in _START.finditer(text)]
    line, counted = 1, 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        line += text.count("\n", counted, start)
        counted = start
        yield from _entries(path, line, text[start:end], strings)


def _entries(path: Path, line: int, text: str, strings: _Strings) -> Iterator[Record]:
    if len(text) > MAX_ENTRY_CHARACTERS:
        yield faulty(path, line, f"the entry has more than {MAX_ENTRY_CHARACTERS} characters")
        return
    errors: list[PybtexError] = []
    parser = LowLevelParser(text, macros=strings, handle_error=errors.append)
    begun = 0
    for kind, content in parser:
        if not errors and kind.lower() not in _NO_PAPERS:
            key, fields = content
            written = text[begun : parser.pos].strip()
            at = line + parser.text.count("\n", 0, parser.command_start)
            try:
                yield replace(
                    _record(kind.lower(), key, [(name, "".join(parts)) for name, parts in fields], written),
                    place=f"{path.name}:{at}",
                )
            except RecordError as error:
                yield faulty(path, at, str(error))
        begun = parser.pos
        if errors:
            break
    if errors:
        yield faulty(path, line + errors[0].lineno - 1, f"it is no BibTeX ({errors[0].args[0]})")


def _record(kind: str, key: str, fields: list[tuple[str, str]], written: str) -> Record:
    given: dict[str, str] = {}
    for name, text in fields:
        given.setdefault(name.lower(), " ".join(text.split()))
    if not given:
        raise RecordError(f"the entry {key!r} has no fields")
    value: dict[str, object] = {"_id": key, "type": kind}
    for name, text in given.items():
        if name in _PERSONS:
            value[f"{name}s"] = _persons(text)
        elif name in ("keywords", "keyword"):
            value["keywords"] = [word for word in map(str.strip, re.split(r"[;,]", plain(text))) if word]
        elif name in ("issn", "isbn"):
            value[name] = re.split(r"[\s,;]+", text)
        elif name in ("date", "year", "month"):
            continue
        elif name == "file":
            value["files"] = files_of(text)
        elif name in _VERBATIM:
            value[name] = text.replace("\\_", "_").replace("\\%", "%").replace("\\&", "&")
        else:
            value.setdefault(_NAMES.get(name, name), plain(text))
    value |= _dates(given) | _eprint(given)
    files = value.get("files")
    addresses = [value.get("pdf"), value.get("url"), *(files if isinstance(files, list) else [])]
    value.setdefault("pdf_url", pdf_address(addresses, string(value.get("arxiv_id"))))
    if "pages" in value:
        value["pages"] = str(value["pages"]).replace("\u2013", "-")
    return parse_record(value, original=written)


def files_of(text: str) -> list[str]:
    r"""Paths of a `file` field: `a.pdf`, `:a.pdf:PDF` or `Title:sub/a.pdf:application/pdf`, several with `;`.

    JabRef writes `\:`, `\;` and `\_` for the signs themselves.
    """
    paths: list[str] = []
    for one in _SPLIT_FILES.split(text):
        if re.match(r"\s*https?://", one):
            paths.append(one.strip())
            continue
        parts = [_ESCAPE.sub(r"\1", part).strip() for part in _SPLIT_PARTS.split(one)]
        path = parts[0] if len(parts) == 1 else ":".join(parts[1:-1]) if len(parts) > 2 else parts[1]
        if path:
            paths.append(path)
    return paths


def _persons(text: str) -> list[str]:
    return [name for name in (_name(one) for one in split_name_list(text)) if name and name != "others"]


def _name(text: str) -> str:
    """`Last, First` and `First von Last` as `First von Last`; a name in braces as it is."""
    if "," not in text or text.startswith("{"):
        return plain(text)
    try:
        person = Person(text)
    except PybtexError:
        return plain(text)
    parts = (person.first_names, person.middle_names, person.prelast_names, person.last_names, person.lineage_names)
    return plain(" ".join(word for part in parts for word in part))


def _dates(given: dict[str, str]) -> dict[str, object]:
    """The year, and the day as precise as it is known."""
    if date := given.get("date", "").split("/")[0]:
        return {"year": date[:4], "published": date}
    year = given.get("year", "")
    month = given.get("month", "").strip().lower()[:3]
    number = list(month_names).index(month) + 1 if month in month_names else int(month) if month.isdecimal() else 0
    digits = re.search(r"\d{4}", year)
    if digits is None:
        return {"published": year}
    return {"year": digits[0], "published": f"{digits[0]}-{number:02}" if 1 <= number <= 12 else digits[0]}


def _eprint(given: dict[str, str]) -> dict[str, object]:
    archive = given.get("archiveprefix", given.get("eprinttype", "")).lower()
    return {"arxiv_id": given["eprint"]} if archive == "arxiv" and given.get("eprint") else {}
