"""Lines of a PDF in the order in which a person reads them, each with what it is."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.text.clean import clean_line
from pipeline.text.document import Line
from pipeline.text.faults import Code, UnreadablePdfError
from pipeline.text.furniture import without_furniture
from pipeline.text.glyphs import Page, read_pages
from pipeline.text.layout import reading_order, shared_gutters
from pipeline.text.structure import lines_of

if TYPE_CHECKING:
    import pypdfium2

MAX_PAGES = 1000
_TITLE_WITHIN_LINES = 20
_MAX_TITLE_LINES = 4
_LARGER_THAN_TEXT = 1.2
_LIKE_TITLE = 0.95
_WORD = re.compile(r"\w\w")
_NO_LETTER = re.compile("[\ufffd\ue000-\uf8ff]")
_MOST_GARBLED = 0.3


def read_pdf(path: Path) -> list[Line]:
    """All lines of a PDF in reading order, running heads, page numbers and numbers of lines left out.

    Raises:
        UnreadablePdfError: not a PDF, damaged, encrypted, too long, or without a text layer.
    """
    import pypdfium2

    document = _opened(path)
    try:
        if len(document) > MAX_PAGES:
            raise UnreadablePdfError(
                Code.TOO_LARGE, f"the file {path.name} has {len(document)} pages, over {MAX_PAGES}"
            )
        if len(document) == 0:
            raise UnreadablePdfError(Code.EMPTY, f"the file {path.name} has no pages")
        pages = list(read_pages(document))
    except (pypdfium2.PdfiumError, ValueError, RuntimeError) as error:
        # The binding raises the latter two for values that only a damaged file holds.
        raise UnreadablePdfError(Code.DAMAGED, f"a page of {path.name} cannot be read: {error}") from error
    finally:
        document.close()
    _check_letters(path, pages)
    pages = without_furniture(pages)
    gutters = shared_gutters(pages)
    return lines_of([(page.number, reading_order(page, gutters)) for page in pages])


def _opened(path: Path) -> pypdfium2.PdfDocument:
    import pypdfium2
    from pypdfium2 import raw

    try:
        if path.stat().st_size == 0:
            raise UnreadablePdfError(Code.EMPTY, f"the file {path.name} is empty")
        with path.open("rb"):
            pass
        return pypdfium2.PdfDocument(path)
    except FileNotFoundError:
        raise UnreadablePdfError(Code.MISSING, f"the file {path.name} is gone") from None
    except PermissionError as error:
        raise UnreadablePdfError(Code.UNREADABLE, f"the file {path.name} cannot be opened: {error.strerror}") from None
    except (pypdfium2.PdfiumError, OSError) as error:
        protected = getattr(error, "err_code", None) in {raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY}
        if protected:
            raise UnreadablePdfError(Code.ENCRYPTED, f"the file {path.name} is protected by a password") from error
        what = f"the file {path.name} cannot be opened as a PDF: {error}"
        raise UnreadablePdfError(Code.DAMAGED, what) from error


def _check_letters(path: Path, pages: Sequence[Page]) -> None:
    texts = [word.text for page in pages for word in page.words]
    letters = sum(map(len, texts))
    strange = sum(len(_NO_LETTER.findall(text)) for text in texts)
    if strange > _MOST_GARBLED * letters:
        raise UnreadablePdfError(Code.GARBLED, f"the letters of {path.name} have no meaning")
    if not any(_WORD.search(text) for text in texts):
        raise UnreadablePdfError(Code.SCANNED, f"the file {path.name} has no text layer (a scan?)")


def pdf_title(path: Path, lines: Sequence[Line]) -> str:
    """The title of a PDF: what its metadata say, else the largest print near the top of its first page."""
    return _metadata_title(path) or printed_title(lines)


def printed_title(lines: Sequence[Line]) -> str:
    """The largest print among the first lines, as far as such lines follow one another; else the first line."""
    top = [line for line in lines[:_TITLE_WITHIN_LINES] if line.page == lines[0].page]
    worded = [line for line in top if len(_WORD.findall(line.text)) > 1]
    if not worded:
        return clean_line(top[0].text) if top else ""
    title = max(worded, key=lambda line: line.height)
    if title.height <= _LARGER_THAN_TEXT * statistics.median(line.height for line in lines):
        return clean_line(worded[0].text)

    def belongs(index: int) -> bool:
        return 0 <= index < len(top) and _LIKE_TITLE * title.height <= top[index].height <= title.height

    first = last = top.index(title)
    while belongs(first - 1):
        first -= 1
    while belongs(last + 1):
        last += 1
    return clean_line(" ".join(line.text for line in top[first : last + 1][:_MAX_TITLE_LINES]))


def _metadata_title(path: Path) -> str:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except (pypdfium2.PdfiumError, OSError):
        return ""
    try:
        title = clean_line(document.get_metadata_value("Title"))
    finally:
        document.close()
    return "" if re.search(r"\.(docx?|pdf|tex|dvi|indd)$|^untitled$", title, re.IGNORECASE) else title
