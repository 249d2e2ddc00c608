"""The source `local`: a folder with a corpus, bibliographies, PDFs, or all of them; or one such file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PureWindowsPath

from pipeline.sources import bibtex, csl, jsonl, ris
from pipeline.sources.record import Record, file_hash
from pipeline.text.faults import Code
from workflows.model.errors import PermanentError

SHIPPED = "corpus://shipped"
CORPUS_FILE = "corpus.jsonl"
MAX_PDF_BYTES = 200_000_000

_READERS: Mapping[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": jsonl.read,
    ".ndjson": jsonl.read,
    ".bib": bibtex.read,
    ".ris": ris.read,
    ".json": csl.read,
}
"""What reads a file of many papers, by the end of its name; the records of a folder come in this order."""

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
    """All records of a place: those of its files in order, then PDFs that belong to none, by name.

    A PDF belongs to the record that names it in its field `file`, else to the one whose id is its name without `.pdf`
    (`/` and `:` written as `_`).

    Raises:
        PermanentError: nothing there can be read; the message says what was looked for.
    """
    try:
        files, pdfs = _files(place.path)
    except OSError as error:
        raise PermanentError(f"{place.path} cannot be read: {error.strerror}; check its permissions") from error
    if not files and not pdfs:
        raise PermanentError(
            f"{place.path} holds neither {CORPUS_FILE} nor a .pdf file nor a bibliography (.bib, .ris, .json); put "
            f'papers there: a {CORPUS_FILE} with one JSON object a line ({{"_id": "1", "title": "...", "text": "..."}}'
            "), what Zotero or JabRef export, or PDFs"
        )
    records = list(_once(chain.from_iterable(_READERS[file.suffix.lower()](file) for file in files)))
    records = list(_with_pdfs(records, place.path if place.path.is_dir() else place.path.parent, pdfs))
    if all(record.fault is not None for record in records):
        faults = "; ".join(f"{record.external_id}: {record.fault}" for record in records[:3])
        empty = f"{files[0].name} is empty" if files else ""
        raise PermanentError(f"no record of {place.path} can be read: {faults or empty}")
    return records


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """Files of many papers, in order, and PDFs."""
    if path.is_file():
        suffix = path.suffix.lower()
        return ([path] if suffix in _READERS else []), ([path] if suffix == ".pdf" else [])
    found = sorted(file for file in path.iterdir() if file.is_file())
    has_corpus = (path / CORPUS_FILE).is_file()
    lists = {".jsonl", ".ndjson"}
    files = [
        file
        for suffix in _READERS
        for file in found
        if file.suffix.lower() == suffix
        and (suffix not in lists or not has_corpus or file.name == CORPUS_FILE)
        and (suffix != ".json" or csl.is_csl(file))
    ]
    return files, [file for file in found if file.suffix.lower() == ".pdf"]


def _once(records: Iterable[Record]) -> Iterator[Record]:
    """The records; one whose id another had before is set aside."""
    first: dict[str, Record] = {}
    for record in records:
        if record.fault is not None:
            yield record
            continue
        known = first.setdefault(record.external_id, record)
        if known is record:
            yield record
        else:
            same = f"{known.place or 'another record'} has the same _id {record.external_id!r}"
            yield Record(record.place).set_aside(Code.BAD_RECORD, f"{record.place}: {same}")


def _with_pdfs(records: list[Record], folder: Path, pdfs: list[Path]) -> Iterator[Record]:
    by_name = {pdf.name: pdf for pdf in pdfs}
    by_stem = {pdf.stem: pdf for pdf in pdfs}
    taken: set[Path] = set()
    for record in records:
        pdf = None if record.fault is not None else _named(record, folder, by_name)
        if pdf is None and record.fault is None:
            pdf = by_stem.get(_file_name(record.external_id))
        if pdf is not None:
            taken.add(pdf)
        yield record if pdf is None else _with_pdf(record, pdf)
    for pdf in pdfs:
        if pdf not in taken:
            yield _with_pdf(Record(pdf.stem), pdf)


def _named(record: Record, folder: Path, by_name: Mapping[str, Path]) -> Path | None:
    """The PDF that a record names, if it lies in the folder; a path of another machine is found by its last part."""
    listed = record.details.get("files")
    for path in listed if isinstance(listed, list) else []:
        if not str(path).lower().endswith(".pdf"):
            continue
        try:
            found = (folder / str(path)).resolve()
            if found.is_relative_to(folder.resolve()) and found.is_file():
                return found
        except (OSError, ValueError):
            continue
        if (same := by_name.get(PureWindowsPath(str(path)).name)) is not None:
            return same
    return None


def _with_pdf(record: Record, pdf: Path) -> Record:
    try:
        if pdf.stat().st_size > MAX_PDF_BYTES:
            what = f"{pdf.name} is larger than {MAX_PDF_BYTES // 1_000_000} MB"
            return record.set_aside(Code.TOO_LARGE, what)
        return replace(record, pdf=pdf, pdf_hash=file_hash(pdf))
    except OSError as error:
        return record.set_aside(Code.UNREADABLE, f"{pdf.name} cannot be read: {error.strerror}")


def _file_name(external_id: str) -> str:
    return external_id.replace("/", "_").replace(":", "_")
