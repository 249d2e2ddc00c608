"""Why a PDF gives no text: a code that programs can tell apart, and a reason that says how to mend it."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Kinds of reasons for a quarantine (`papers.quarantine_code`)."""

    BAD_RECORD = "bad_record"
    UNAVAILABLE = "unavailable"
    NO_TEXT = "no_text"
    MISSING = "missing"
    PDF_UNAVAILABLE = "pdf_unavailable"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    DAMAGED = "damaged"
    ENCRYPTED = "encrypted"
    SCANNED = "scanned"
    GARBLED = "garbled"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"


MENDING = {
    Code.BAD_RECORD: "mend the record and fetch again",
    Code.UNAVAILABLE: "open the address in a browser, correct it, and fetch again",
    Code.NO_TEXT: "give it a title, a text or a PDF, and fetch again",
    Code.MISSING: "put the file back or fetch again",
    Code.PDF_UNAVAILABLE: "put the file into a folder of your own, or try again with `celeriac quarantine redrive`",
    Code.UNREADABLE: "let the workers read the file",
    Code.EMPTY: "get the file again: the download broke off",
    Code.DAMAGED: "get the file again, or write it anew with `qpdf IN.pdf OUT.pdf`",
    Code.ENCRYPTED: "take the password off with `qpdf --decrypt --password=... IN.pdf OUT.pdf`",
    Code.SCANNED: "give it a text layer with `ocrmypdf IN.pdf OUT.pdf`",
    Code.GARBLED: "its fonts do not tell their letters: read it anew with `ocrmypdf --force-ocr IN.pdf OUT.pdf`",
    Code.TOO_LARGE: "split the file: one paper is a part of it",
    Code.TIMEOUT: "raise CELERIAC_PDF_SECONDS, or write the file anew with `qpdf IN.pdf OUT.pdf`",
    Code.MEMORY: "raise CELERIAC_PDF_MEMORY_MB, or write the file anew with `qpdf IN.pdf OUT.pdf`",
    Code.CRASHED: "write the file anew with `qpdf IN.pdf OUT.pdf` or print it to a PDF",
}
"""What a person does about it."""


class UnreadablePdfError(Exception):
    """A PDF gives no text; `str()` is the reason for its quarantine.

    Args:
        what: What is wrong, as a clause about the file.
    """

    def __init__(self, code: Code, what: str) -> None:
        super().__init__(f"{what}; {MENDING[code]}")
        self.code = code
        self.what = what
