"""Cleaning of text that others wrote: what is left can be stored, compared and shown."""

from __future__ import annotations

import re

_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff\ufffe\uffff]"
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")
_SOFT_HYPHEN_AT_LINE_END = re.compile(r"[\x02\u00ad][ \t]*\r?\n[ \t]*")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    r"""The text with `\n` line ends, without what no reader sees: NUL, control characters, stray surrogates.

    Ligatures become letters. A word that was broken at a line's end (`\x02` is how PDFium marks it) is made whole.
    """
    text = _SOFT_HYPHEN_AT_LINE_END.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    text = _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", text))
    lines = (_SPACES.sub(" ", line).strip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def clean_line(text: str) -> str:
    """The cleaned text on one line."""
    return " ".join(clean(text).split())


def is_showable(text: str) -> bool:
    """Whether a text is one line without invisible characters, so that it can be kept and shown exactly as it is."""
    return "\n" not in text and not _INVISIBLE.search(text) and not _SURROGATE.search(text)
