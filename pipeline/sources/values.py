"""Reading values out of what catalogues answer: every one of them may be missing, empty or of another kind."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

_PDF_ADDRESS = re.compile(r"https?://[^\s?#]+\.pdf(?:[?#]\S*)?$", re.IGNORECASE)
_ATTRIBUTES = r"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>"""
_INLINE_TAG = re.compile(
    r"</?(?:jats:)?(?:i|b|em|strong|sub|sup|sc|u|tt|italic|bold|underline|monospace)" + _ATTRIBUTES, re.IGNORECASE
)
_TAG = re.compile(r"<!--.{0,2000}?-->|<[/?!]?[A-Za-z][\w:.-]*" + _ATTRIBUTES, re.DOTALL)
"""Of `p < .001` and `a<b and c>d` nothing is one."""


def mapping(value: Any) -> Mapping[str, Any]:
    """The object that a value is; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """The list that a value is; else an empty one."""
    return value if isinstance(value, list) else []


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects in the list that a value is."""
    return [one for one in items(value) if isinstance(one, Mapping)]


def string(value: Any) -> str:
    """The text that a value is, a whole number as its digits; else an empty one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def strings(values: Iterable[Any]) -> list[str]:
    """The texts among values, each once, without the empty ones."""
    return list(dict.fromkeys(text for text in map(string, values) if text))


def first(value: Any) -> str:
    """The first text of a list, or the text that a value is."""
    return next(iter(strings(value)), "") if isinstance(value, list) else string(value)


def plain(text: str) -> str:
    """Text without the JATS or HTML in it."""
    return " ".join(html.unescape(_TAG.sub(" ", _INLINE_TAG.sub("", text))).split())


def joined(*parts: Any, by: str = " ") -> str:
    """Those of the parts that are texts with something in them."""
    return by.join(strings(parts))


def pdf_address(addresses: Iterable[Any], arxiv_id: str = "") -> str:
    """The first address that is a PDF's by its name; else arXiv's, where the paper is there."""
    found = (one for one in strings(addresses) if _PDF_ADDRESS.match(one))
    return next(found, f"https://arxiv.org/pdf/{arxiv_id}" if arxiv_id else "")


def person(name: str, orcid: Any = None, affiliations: Iterable[Any] = ()) -> dict[str, Any]:
    """A contributor, as `details.contributors` lists them; the ORCID as its 16 digits with hyphens."""
    number = string(orcid).rstrip("/").rpartition("/")[2]
    return {"name": plain(name), "orcid": number, "affiliations": strings(affiliations)}
