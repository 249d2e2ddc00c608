"""Cleaning of text that others wrote: what is left can be stored, compared and shown."""

from __future__ import annotations

import re
import unicodedata

_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff\ufffe\uffff]"
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")
_SOFT_HYPHEN_AT_LINE_END = re.compile(r"[\x02\u00ad][ \t]*\r?\n[ \t]*")
_ACCENTS = {
    "\u00b4": "\u0301",
    "\u00a8": "\u0308",
    "\u02c6": "\u0302",
    "\u02dc": "\u0303",
    "\u02c7": "\u030c",
    "\u02d8": "\u0306",
    "\u02da": "\u030a",
}
_LOOSE_ACCENT = re.compile(rf"([{''.join(_ACCENTS)}])\s?([A-Za-z\u0131\u0237])")
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


def composed(text: str) -> str:
    """The text with accents that stand beside their letter, as TeX's old fonts have them, put onto it."""
    return _LOOSE_ACCENT.sub(lambda match: unicodedata.normalize("NFC", _on_letter(match[1], match[2])), text)


def _on_letter(accent: str, letter: str) -> str:
    return {"\u0131": "i", "\u0237": "j"}.get(letter, letter) + _ACCENTS[accent]


def is_showable(text: str) -> bool:
    """Whether a text is one line without invisible characters, so that it can be kept and shown exactly as it is."""
    return "\n" not in text and not _INVISIBLE.search(text) and not _SURROGATE.search(text)
