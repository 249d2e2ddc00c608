"""PDFs read by a GROBID server, which knows more of headings, figures and references than geometry tells.

Its TEI becomes the same document that `pipeline.text.reader` makes. See https://grobid.readthedocs.io for the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import httpx

from pipeline.sources.web import Client, Host, xml_of
from pipeline.text.clean import clean_line
from pipeline.text.document import ABSTRACT, Kind, Line, from_pdf_lines
from pipeline.text.faults import Code, UnreadablePdfError
from pipeline.text.reader import Reading
from workflows.builtin.outbound import Answer, Limits
from workflows.model.errors import TransientError
from workflows.settings import Config, SettingsError
from workflows.steps import StepContext

URL_VARIABLE = "CELERIAC_GROBID_URL"
HOST = Host("grobid", "", URL_VARIABLE, "10/s", 1)
LIMITS = Limits(total_bytes=50_000_000, total_seconds=300.0, step_seconds=240.0)

_TEI: Final = "{http://www.tei-c.org/ns/1.0}"
_ASIDES = {f"{_TEI}figure", f"{_TEI}note"}
_NO_PROSE = {f"{_TEI}listBibl", f"{_TEI}biblStruct"}
_WHOLE = {f"{_TEI}p", f"{_TEI}head", f"{_TEI}formula", f"{_TEI}item", f"{_TEI}ab", *_ASIDES}
_COORDINATES = ("p", "head", "s", "figure", "note", "formula")
_FAULTS = {
    "[BAD_INPUT_DATA]": (Code.DAMAGED, "GROBID cannot open it as a PDF"),
    "[NO_BLOCKS]": (Code.SCANNED, "GROBID finds no text layer in it"),
    "[TIMEOUT]": (Code.TIMEOUT, "GROBID took too long over it"),
    "[TOO_MANY_BLOCKS]": (Code.TOO_LARGE, "GROBID finds too much in it"),
    "[TOO_MANY_TOKENS]": (Code.TOO_LARGE, "GROBID finds too much in it"),
    "[TOO_MANY_PAGES]": (Code.TOO_LARGE, "GROBID finds too many pages in it"),
}
"""What GROBID writes into an answer 500, and what that says of the file."""


class _NoTeiError(TransientError):
    """The answer is no TEI."""


def read(path: Path, ctx: StepContext, config: Config) -> Reading:
    """The text of a PDF, as the GROBID server of the settings reads it.

    Raises:
        UnreadablePdfError: it finds no text in the file.
        TransientError: it does not answer, however often it was asked.
        PermanentError: it may not be reached, or refuses all requests.
        SettingsError: the settings name no server.
    """
    if not config.text(URL_VARIABLE, ""):
        raise SettingsError(
            "the text backend 'grobid' needs a server, and the settings name none",
            f"set {URL_VARIABLE}, such as http://grobid:8070, or use the text backend 'pdfium'",
        )
    body, kind = _form(path)
    with Client(HOST, ctx, config) as client:
        try:
            return client.read(
                "/api/processFulltextDocument",
                {},
                lambda answer: _reading(path, answer),
                headers={"Content-Type": kind, "Accept": "application/xml"},
                body=body,
                limits=LIMITS,
            )
        except _NoTeiError as error:
            raise UnreadablePdfError(Code.CRASHED, f"reading {path.name} failed: {error}") from error


def from_tei(root: ET.Element) -> Reading:
    """What a TEI document says: title, abstract, body, and what stands behind it; references left out."""
    title = root.find(f"{_TEI}teiHeader/{_TEI}fileDesc/{_TEI}titleStmt/{_TEI}title")
    return Reading(_text(title) if title is not None else "", from_pdf_lines(list(_lines(root))))


def _form(path: Path) -> tuple[bytes, str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UnreadablePdfError(Code.MISSING, f"the file {path.name} is gone") from None
    except OSError as error:
        raise UnreadablePdfError(Code.UNREADABLE, f"the file {path.name} cannot be opened: {error.strerror}") from None
    if not content:
        raise UnreadablePdfError(Code.EMPTY, f"the file {path.name} is empty")
    fields = {"consolidateHeader": "0", "consolidateCitations": "0", "teiCoordinates": list(_COORDINATES)}
    files = {"input": ("paper.pdf", content, "application/pdf")}
    form = httpx.Request("POST", "http://grobid/", data=fields, files=files)
    return form.read(), form.headers["Content-Type"]


def _reading(path: Path, answer: Answer) -> Reading:
    if answer.status == 204:
        raise UnreadablePdfError(Code.SCANNED, f"GROBID finds no text in {path.name}")
    if answer.status in {400, 500}:
        told = answer.text()[:2000]
        for sign, (code, what) in _FAULTS.items():
            if sign in told:
                raise UnreadablePdfError(code, f"{path.name}: {what}")
    answer.check()
    try:
        root = xml_of(answer, f"{_TEI}TEI")
    except TransientError as error:
        raise _NoTeiError(str(error)) from error
    found = from_tei(root)
    if not found.document.sections:
        raise UnreadablePdfError(Code.SCANNED, f"GROBID finds no text in {path.name}")
    return found


def _lines(root: ET.Element) -> Iterator[Line]:
    page: int | None = None
    abstract = root.find(f"{_TEI}teiHeader/{_TEI}profileDesc/{_TEI}abstract")
    parts = [(ABSTRACT, abstract), ("", root.find(f"{_TEI}text/{_TEI}body")), ("", root.find(f"{_TEI}text/{_TEI}back"))]
    for name, part in parts:
        if part is None:
            continue
        elements = list(_prose(part))
        if name and elements:
            yield Line(name, _page(elements[0]) or page, opens_paragraph=True, kind=Kind.HEADING)
        for element in elements:
            page = _page(element) or page
            text = _text(element)
            kind = Kind.ASIDE if element.tag in _ASIDES else Kind.TEXT
            if element.tag == f"{_TEI}head":
                kind = Kind.HEADING
                text = f"{element.get('n', '')} {text}".strip()
            if text:
                yield Line(text, page, opens_paragraph=True, kind=kind)


def _prose(part: ET.Element) -> Iterator[ET.Element]:
    """The elements within a part that are read as a whole, in their order; lists of references left out."""
    waiting = [part]
    while waiting:
        element = waiting.pop()
        if element.tag in _NO_PROSE or element.get("type") == "references":
            continue
        if element.tag in _WHOLE:
            yield element
        else:
            waiting.extend(reversed(element))


def _text(element: ET.Element) -> str:
    """Its letters; parts of a figure, such as its head and its description, with a space between them."""
    if element.tag in _ASIDES:
        return clean_line(" ".join("".join(part.itertext()) for part in element) or "".join(element.itertext()))
    return clean_line("".join(element.itertext()))


def _page(element: ET.Element) -> int | None:
    """The page on which an element begins; GROBID writes `page,x,y,width,height;...`."""
    for part in element.iter():
        number = part.get("coords", "").partition(",")[0]
        if number.isdecimal() and 0 < len(number) < 6:
            return int(number)
    return None
