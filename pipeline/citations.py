"""Papers as references to cite: BibTeX, and CSL-JSON as Zotero, pandoc and citeproc read it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, select

from pipeline.tables import papers, slices

Format = Literal["bibtex", "csl-json"]
FORMATS: tuple[Format, ...] = ("bibtex", "csl-json")

_PARTICLES = frozenset(
    re.findall(r"\w+", "af al bin da das de del della den der di do dos du el la le ten ter van von zu zur")
)
_INSTITUTION = re.compile(
    r"\b(association|collaboration|committee|consortium|foundation|group|institut\w*|ministry|network|organi[sz]ation"
    r"|society|team|university|working party)\b",
    re.IGNORECASE,
)
_KINDS = (
    ("proceedings", ("paper-conference", "inproceedings", "booktitle")),
    ("conference", ("paper-conference", "inproceedings", "booktitle")),
    ("chapter", ("chapter", "incollection", "booktitle")),
    ("thesis", ("thesis", "phdthesis", "school")),
    ("dissertation", ("thesis", "phdthesis", "school")),
    ("report", ("report", "techreport", "institution")),
    ("book", ("book", "book", "series")),
)
"""What a source's word for a kind has in it, the kind in CSL and BibTeX, and BibTeX's field for where it appeared."""

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "$&#%_"},
}
_SMALL_WORDS = frozenset(re.findall(r"\w+", "a an and as at by for from in is of on or the to with"))


@dataclass(frozen=True, slots=True)
class Name:
    """An author: a person with two names, or whatever else under one (`family` alone)."""

    family: str
    given: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """A paper as it is cited.

    Attributes:
        key: As in `smith2020planets`; the same for the same paper, and unlike all others of one list.
        published: `2020`, `2020-05` or `2020-05-17`; empty when not even the year is known.
        details: As the papers' own column has them.
    """

    key: str
    title: str
    authors: tuple[Name, ...]
    published: str
    doi: str
    url: str
    arxiv_id: str
    venue: str
    details: Mapping[str, Any]


def citations(connection: Connection, paper_ids: Sequence[str]) -> list[Citation]:
    """The papers of these ids, in their order; those that are gone are left out."""
    found: dict[str, Any] = {}
    for some in slices(paper_ids):
        rows = connection.execute(select(papers).where(papers.c.id.in_(some)))
        found.update({row["id"]: row for row in rows.mappings()})
    made = [_citation(found[paper]) for paper in dict.fromkeys(paper_ids) if paper in found]
    return list(_with_own_keys(made))


def written(cited: Iterable[Citation], form: Format) -> str:
    """All citations as one text, which ends with a line break."""
    if form == "bibtex":
        return "\n".join(map(bibtex, cited))
    return json.dumps([csl(one) for one in cited], ensure_ascii=False, indent=2) + "\n"


def bibtex(cited: Citation) -> str:
    """An entry of a `.bib` file, for BibTeX as for biber: letters stay as they are, signs of TeX are escaped."""
    kind, place = _bibtex_kind(cited)
    year, _, rest = cited.published.partition("-")
    fields = {
        "title": _tex(cited.title),
        "author": " and ".join(map(_bibtex_name, cited.authors)),
        "year": year,
        "month": str(int(rest[:2])) if rest[:2].isdigit() else "",
        place: _tex(cited.venue),
        "volume": _tex(_detail(cited, "volume")),
        "number": _tex(_detail(cited, "issue")),
        "pages": _tex(_detail(cited, "pages")).replace("-", "--"),
        "publisher": _tex(_detail(cited, "publisher")),
        "doi": _plain(cited.doi),
        "eprint": _plain(cited.arxiv_id),
        "archiveprefix": "arXiv" if cited.arxiv_id else "",
        "url": _plain(cited.url),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{cited.key},", *lines, "}", ""])


def csl(cited: Citation) -> dict[str, Any]:
    """An item of CSL-JSON (https://github.com/citation-style-language/schema)."""
    parts = [int(part) for part in cited.published.split("-") if part.isdigit()]
    found = {
        "id": cited.key,
        "type": _csl_kind(cited),
        "title": cited.title,
        "author": [_csl_name(name) for name in cited.authors],
        "issued": {"date-parts": [parts]} if parts else None,
        "container-title": cited.venue,
        "volume": _detail(cited, "volume"),
        "issue": _detail(cited, "issue"),
        "page": _detail(cited, "pages"),
        "publisher": _detail(cited, "publisher"),
        "DOI": cited.doi,
        "URL": cited.url,
        "number": f"arXiv:{cited.arxiv_id}" if cited.arxiv_id else "",
    }
    return {name: value for name, value in found.items() if value}


def name_of(text: str) -> Name:
    """A name in two parts: `Family, Given`, or the last word and what belongs to it behind the given names.

    Institutions, and names of one word, stay whole.
    """
    words = " ".join(text.split())
    if _INSTITUTION.search(words):
        return Name(words)
    family, comma, given = words.partition(",")
    if comma:
        return Name(family.strip(), given.strip(" ,"))
    parts = words.split(" ")
    start = len(parts) - 1
    while start > 1 and parts[start - 1].lower() in _PARTICLES:
        start -= 1
    return Name(" ".join(parts[start:]), " ".join(parts[:start]))


def _citation(row: Mapping[str, Any]) -> Citation:
    details = json.loads(row["details"]) if row["details"] else {}
    authors = tuple(name_of(name) for name in json.loads(row["authors"]) if name.strip())
    published = str(details.get("published") or "")
    year = str(row["year"] or "")
    if not re.fullmatch(rf"{year}(-\d\d){{0,2}}", published) or not year:
        published = year
    return Citation(
        key=_key(authors, year, row["title"]),
        title=row["title"],
        authors=authors,
        published=published,
        doi=row["doi"] or "",
        url=row["url"] or "",
        arxiv_id=row["arxiv_id"] or "",
        venue=row["venue"] or "",
        details=details,
    )


def _key(authors: Sequence[Name], year: str, title: str) -> str:
    words = [word for word in _ascii(title).split() if word not in _SMALL_WORDS]
    family = _ascii(authors[0].family).replace(" ", "") if authors else ""
    return f"{family}{year}{words[0] if words else ''}" or "paper"


def _ascii(text: str) -> str:
    """Small letters and digits of ASCII, words parted by blanks."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return " ".join(re.findall(r"[a-z0-9]+", plain))


def _with_own_keys(cited: Sequence[Citation]) -> Iterator[Citation]:
    taken: set[str] = set()
    for one in cited:
        key, number = one.key, 1
        while key in taken:
            number += 1
            key = f"{one.key}-{number}"
        taken.add(key)
        fields = {name: getattr(one, name) for name in Citation.__slots__}
        yield Citation(**{**fields, "key": key})


def _kind(cited: Citation) -> tuple[str, str, str] | None:
    told = cited.details.get("type") or ""
    text = " ".join(map(str, told)) if isinstance(told, list) else str(told)
    return next((kind for word, kind in _KINDS if word in text.lower()), None)


def _bibtex_kind(cited: Citation) -> tuple[str, str]:
    known = _kind(cited)
    if known is not None:
        return known[1], known[2]
    return ("article", "journal") if cited.venue else ("misc", "howpublished")


def _csl_kind(cited: Citation) -> str:
    known = _kind(cited)
    if known is not None:
        return known[0]
    return "article-journal" if cited.venue else "article"


def _bibtex_name(name: Name) -> str:
    if not name.given:
        return f"{{{_tex(name.family)}}}"
    return f"{_tex(name.family)}, {_tex(name.given)}".replace(" and ", " {and} ")


def _csl_name(name: Name) -> dict[str, str]:
    return {"family": name.family, "given": name.given} if name.given else {"literal": name.family}


def _detail(cited: Citation, name: str) -> str:
    value = cited.details.get(name)
    return str(value) if isinstance(value, str | int) else ""


def _tex(text: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def _plain(text: str) -> str:
    """An address, which no style sets as text: only what would end the field is put otherwise."""
    return text.replace("{", "%7B").replace("}", "%7D").replace("\\", "%5C")
