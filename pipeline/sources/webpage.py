"""Pages of the web as papers: what they say of themselves for search engines, and their main text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import justext
from lxml import html
from lxml.etree import LxmlError

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.values import plain, strings

SHORTEST_TEXT = 200
"""Characters: a shorter main text says less than the page's own description does."""

_TITLE = ("citation_title", "dc.title", "dcterms.title", "og:title", "twitter:title")
_AUTHORS = ("citation_author", "dc.creator", "dcterms.creator", "author")
_DATE = (
    "citation_publication_date",
    "citation_date",
    "citation_cover_date",
    "citation_online_date",
    "dc.date",
    "dcterms.issued",
    "dcterms.date",
    "dc.date.issued",
    "article:published_time",
)
_ABSTRACT = ("citation_abstract", "dcterms.abstract", "dc.description.abstract")
_DESCRIPTION = ("dc.description", "og:description", "description", "twitter:description")
_DOI = ("citation_doi", "prism.doi", "dc.identifier.doi", "dc.identifier", "dcterms.identifier")
_VENUE = ("citation_journal_title", "citation_conference_title", "citation_inbook_title", "prism.publicationname")
_DETAILS: Mapping[str, tuple[str, ...]] = {
    "volume": ("citation_volume", "prism.volume"),
    "issue": ("citation_issue", "prism.number"),
    "publisher": ("citation_publisher", "dc.publisher", "dcterms.publisher"),
    "language": ("citation_language", "dc.language", "dcterms.language", "og:locale"),
    "license": ("dc.rights", "dcterms.license", "dc.rights.uri"),
    "type": ("dc.type", "og:type"),
    "site": ("og:site_name",),
}
_LISTS: Mapping[str, tuple[str, ...]] = {
    "issn": ("citation_issn", "prism.issn"),
    "isbn": ("citation_isbn",),
    "keywords": ("citation_keywords", "citation_keyword", "dc.subject", "dcterms.subject", "keywords"),
}
_A_DOI = re.compile(r"(?:^|doi:\s*|doi\.org/)(10\.\d{4,9}/\S+)", re.IGNORECASE)
_A_DAY = re.compile(r"(\d{4})(?:[-/](\d{1,2}))?(?:[-/](\d{1,2}))?")


def from_html(url: str, body: bytes, charset: str = "") -> Record:
    """The paper that a page shows: by Highwire's `citation_` names, Dublin Core or Open Graph, else by its text.

    Raises:
        RecordError: there is nothing to be read.
    """
    try:
        parser = html.HTMLParser(encoding=charset or None)
        page = html.document_fromstring(body, parser=parser)
    except (LxmlError, ValueError, LookupError) as error:
        raise RecordError(f"the page cannot be read ({error})") from error
    metas = _metas(page)
    abstract = _longest(metas, _ABSTRACT)
    text = abstract or _main_text(body, charset)
    if not abstract and len(text) < SHORTEST_TEXT:
        text = max(text, _longest(metas, _DESCRIPTION), key=len)
    title = _first(metas, _TITLE) or " ".join((page.findtext(".//title") or "").split())
    if not title and not text:
        raise RecordError("the page has neither a title nor a text")
    pages = "-".join(strings((_first(metas, ("citation_firstpage",)), _first(metas, ("citation_lastpage",)))))
    pdf = _first(metas, ("citation_pdf_url",))
    value: dict[str, Any] = {
        "_id": url,
        "title": plain(title),
        "text": plain(abstract) if abstract else text,
        "authors": _authors(metas),
        "doi": next((match[1] for one in _all(metas, _DOI) if (match := _A_DOI.search(one))), ""),
        "url": url,
        "pdf_url": urljoin(url, pdf) if pdf else "",
        "venue": _first(metas, _VENUE),
        "arxiv_id": _first(metas, ("citation_arxiv_id",)),
        "pages": pages,
        "canonical": _canonical(page, url),
        "ids": {"pmid": _first(metas, ("citation_pmid",))},
        "published": _day(_first(metas, _DATE)),
        **{name: _first(metas, names) for name, names in _DETAILS.items()},
        **{name: _listed(_all(metas, names)) for name, names in _LISTS.items()},
    }
    value["year"] = value["published"][:4]
    value["language"] = value["language"] or page.get("lang", "")
    return parse_record(value, original=json.dumps(metas, ensure_ascii=False))


def from_text(url: str, text: str) -> Record:
    """The paper that a plain text or Markdown is: its title is the first heading, else its first line.

    Raises:
        RecordError: it is empty.
    """
    lines = [line.strip() for line in text.split("\n")]
    heading = next((line.lstrip("# ") for line in lines if re.match(r"#{1,2} \S", line)), "")
    title = heading or next((line for line in lines if line), "")
    if not title:
        raise RecordError("the text is empty")
    return parse_record({"_id": url, "title": title[:300], "text": text, "url": url}, original=text)


def _metas(page: Any) -> dict[str, list[str]]:
    """What the page's `meta` elements say, by their names in lower case."""
    found: dict[str, list[str]] = {}
    for meta in page.iter("meta"):
        name = (meta.get("name") or meta.get("property") or "").strip().lower()
        content = " ".join((meta.get("content") or "").split())
        if name and content:
            found.setdefault(name, []).append(content)
    return found


def _main_text(body: bytes, charset: str) -> str:
    """The paragraphs that are the page's own, without its menus and the like; in any language."""
    try:
        paragraphs = justext.justext(
            body, frozenset(), stopwords_low=0.0, stopwords_high=0.0, encoding=charset or None, enc_errors="replace"
        )
    except (LxmlError, ValueError, RecursionError):
        return ""  # of nothing but a comment, say
    return "\n\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


def _all(metas: Mapping[str, list[str]], names: Iterable[str]) -> list[str]:
    return [text for name in names for text in metas.get(name, ())]


def _first(metas: Mapping[str, list[str]], names: Iterable[str]) -> str:
    return next(iter(_all(metas, names)), "")


def _longest(metas: Mapping[str, list[str]], names: Iterable[str]) -> str:
    return max(_all(metas, names), key=len, default="")


def _authors(metas: Mapping[str, list[str]]) -> list[str]:
    """Those of the first kind of names that is there; `Last, First` as `First Last`."""
    listed = next((metas[name] for name in _AUTHORS if name in metas), [])
    names = [name for one in listed for name in re.split(r"\s*;\s*", one) if name and "://" not in name]
    return strings(" ".join(part.strip() for part in reversed(name.split(",", 1))) for name in names)


def _listed(found: list[str]) -> list[str]:
    return strings(part for one in found for part in re.split(r"[;,]", one))


def _day(text: str) -> str:
    found = _A_DAY.match(text)
    return "-".join(part.zfill(2) for part in found.groups() if part) if found else ""


def _canonical(page: Any, url: str) -> str:
    """The page's own address, where it names another one."""
    for link in page.iter("link"):
        if (link.get("rel") or "").lower() == "canonical" and link.get("href"):
            named = urljoin(url, link.get("href"))
            return named if named != url and urlsplit(named).scheme in ("http", "https") else ""
    return ""
