"""The source `local`: a folder with `corpus.jsonl`, PDFs, or both; or one such file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.sources.record import Record, RecordError, file_hash, parse_record
from pipeline.text.faults import MENDING, Code
from workflows.model.errors import PermanentError

SHIPPED = "corpus://shipped"
CORPUS_FILE = "corpus.jsonl"
MAX_LINE_BYTES = 16_000_000
MAX_PDF_BYTES = 200_000_000

_SHIPPED_FOLDER = Path(__file__).resolve().parent.parent / "corpus"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or file to read, and the name under which its papers are kept (`papers.origin`)."""

    path: Path
    origin: str


def locate(path: str) -> Place:
    """The place that a `path` names: `corpus://shipped`, or a path relative to the working folder.

    Raises:
        PermanentError: nothing is there.
    """
    if path in ("", SHIPPED):
        return Place(_SHIPPED_FOLDER, SHIPPED)
    try:
        found = Path(path).expanduser().resolve()
        exists = found.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise PermanentError(f"the path {path!r} cannot be used: {error}") from error
    if not exists:
        raise PermanentError(
            f"there is no folder {path!r} (looked at {found}); give an existing one with --param path=FOLDER, "
            "or leave 'path' out for the shipped corpus"
        )
    return Place(found, str(found))


def read(place: Place) -> list[Record]:
    """All records of a place: the lines of its corpus file in order, then PDFs without a line, by name.

    A PDF belongs to the line whose `_id` is its name without `.pdf` (`/` and `:` written as `_`).

    Raises:
        PermanentError: nothing there can be read; the message says what was looked for.
    """
    try:
        corpus, pdfs = _files(place.path)
    except OSError as error:
        raise PermanentError(f"{place.path} cannot be read: {error.strerror}; check its permissions") from error
    if corpus is None and not pdfs:
        raise PermanentError(
            f"{place.path} holds neither {CORPUS_FILE} nor a .pdf file; put papers there: a {CORPUS_FILE} with one "
            'JSON object a line ({"_id": "1", "title": "...", "text": "..."}), or PDFs'
        )
    records = list(_read_lines(corpus)) if corpus is not None else []
    by_name = {_file_name(record.external_id): index for index, record in enumerate(records) if record.fault is None}
    for pdf in pdfs:
        index = by_name.get(pdf.stem)
        if index is None:
            records.append(_with_pdf(Record(pdf.stem), pdf))
        else:
            records[index] = _with_pdf(records[index], pdf)
    if all(record.fault is not None for record in records):
        faults = "; ".join(f"{record.external_id}: {record.fault}" for record in records[:3])
        raise PermanentError(f"no record of {place.path} can be read: {faults or f'{CORPUS_FILE} is empty'}")
    return records


def _files(path: Path) -> tuple[Path | None, list[Path]]:
    if path.is_file():
        if path.suffix.lower() == ".pdf":
            return None, [path]
        return (path, []) if path.suffix.lower() in {".jsonl", ".ndjson"} else (None, [])
    corpus = path / CORPUS_FILE
    pdfs = sorted(file for file in path.iterdir() if file.suffix.lower() == ".pdf" and file.is_file())
    return (corpus if corpus.is_file() else None), pdfs


def _read_lines(corpus: Path) -> Iterator[Record]:
    first_line: dict[str, int] = {}
    try:
        with corpus.open("rb") as file:
            for number, line in enumerate(_lines(file), start=1):
                if not line.strip():
                    continue
                try:
                    record = _parse_line(line)
                except RecordError as error:
                    yield _faulty(corpus, number, str(error))
                    continue
                known = first_line.setdefault(record.external_id, number)
                same = f"line {known} has the same _id {record.external_id!r}"
                yield record if known == number else _faulty(corpus, number, same)
    except OSError as error:
        raise PermanentError(f"{corpus} cannot be read: {error.strerror}; check its permissions") from error


def _faulty(corpus: Path, number: int, reason: str) -> Record:
    return _set_aside(Record(f"{corpus.name}:{number}"), Code.BAD_RECORD, f"line {number}: {reason}")


def _lines(file: Iterator[bytes]) -> Iterator[bytes]:
    for index, line in enumerate(file):
        yield line.removeprefix(b"\xef\xbb\xbf") if index == 0 else line


def _parse_line(line: bytes) -> Record:
    if len(line) > MAX_LINE_BYTES:
        raise RecordError(f"it is longer than {MAX_LINE_BYTES} bytes")
    try:
        return parse_record(json.loads(line))
    except UnicodeDecodeError:
        raise RecordError("it is not UTF-8") from None
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"it is not JSON ({error})") from None


def _with_pdf(record: Record, pdf: Path) -> Record:
    try:
        if pdf.stat().st_size > MAX_PDF_BYTES:
            return _set_aside(record, Code.TOO_LARGE, f"{pdf.name} is larger than {MAX_PDF_BYTES // 1_000_000} MB")
        return replace(record, pdf=pdf, pdf_hash=file_hash(pdf))
    except OSError as error:
        return _set_aside(record, Code.UNREADABLE, f"{pdf.name} cannot be read: {error.strerror}")


def _set_aside(record: Record, code: Code, what: str) -> Record:
    return replace(record, fault=f"{what}; {MENDING[code]}", fault_code=code)


def _file_name(external_id: str) -> str:
    return external_id.replace("/", "_").replace(":", "_")
