"""The source `pubmed`: NCBI's E-utilities (https://www.ncbi.nlm.nih.gov/books/NBK25499/)."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.values import items, joined, mapping, person, string, strings
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of, words, xml_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import PermanentError, TransientError
from workflows.settings import Config

HOST = Host("pubmed", "https://eutils.ncbi.nlm.nih.gov/entrez/eutils", "CELERIAC_PUBMED_URL", "3/1s", 200)
KEY_VARIABLE = "CELERIAC_PUBMED_KEY"

REACHABLE = 9_999
"""PubMed shows no search beyond this record."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
    """Records by relevance; the cursor is the number of the first."""
    start = int(cursor or 0)
    common = {"db": "pubmed", "tool": "celeriac"}
    if client.mailto:
        common["email"] = client.mailto
    if key := Config.from_env().text(KEY_VARIABLE, ""):
        common["api_key"] = key
    params = {
        "term": query.text,
        "retstart": str(start),
        "retmax": str(min(size, REACHABLE - start)),
        "retmode": "json",
        "sort": "relevance",
    }
    if query.since is not None:
        params |= {"datetype": "mdat", "mindate": query.since.strftime("%Y/%m/%d"), "maxdate": "3000"}
    numbers, total = client.read("/esearch.fcgi", {**common, **params}, _numbers)
    end = start + len(numbers)
    records: tuple[Record, ...] = ()
    if numbers:
        wanted = {"id": ",".join(numbers), "retmode": "xml"}
        records = client.read("/efetch.fcgi", {**common, **wanted}, _records)
    more = str(end) if numbers and end < min(total, REACHABLE) else None
    return check_whole(Page(records, more, total), start) if start < REACHABLE else Page(records, None, total)


def _numbers(answer: Answer) -> tuple[list[str], int]:
    told = mapping(json_of(answer))
    found = mapping(told.get("esearchresult"))
    if refusal := string(found.get("ERROR")) or string(told.get("error")):
        raise PermanentError(f"PubMed refuses the query: {refusal[:300]}")
    count = string(found.get("count"))
    if not isinstance(found.get("idlist"), list) or not count.isdecimal():
        raise TransientError(f"{answer.url} answered something else than ids")
    return strings(items(found["idlist"])), int(count)


def _records(answer: Answer) -> tuple[Record, ...]:
    found = [
        _article(one) if one.tag == "PubmedArticle" else _chapter(one) for one in xml_of(answer, "PubmedArticleSet")
    ]
    return tuple(record for record in found if record is not None)


def _article(element: ET.Element) -> Record | None:
    """What `PubmedArticle` says: an article of a journal."""
    citation, article = element.find("MedlineCitation"), element.find("MedlineCitation/Article")
    if citation is None or article is None:
        return None
    issue = article.find("Journal/JournalIssue")
    ids = {one.get("IdType", ""): words(one) for one in element.findall("PubmedData/ArticleIdList/ArticleId")}
    doi = ids.get("doi") or next(
        (words(one) for one in article.findall("ELocationID") if one.get("EIdType") == "doi"), ""
    )
    # The day it came online, else that of its issue.
    days = (_day(article.find("ArticleDate")), _day(issue.find("PubDate") if issue is not None else None))
    mesh = [words(one, "DescriptorName") for one in citation.findall("MeshHeadingList/MeshHeading")]
    return _record(
        words(citation, "PMID"),
        element,
        {
            "title": words(article, "ArticleTitle") or words(article, "VernacularTitle"),
            "text": _abstract(article.findall("Abstract/AbstractText")),
            "doi": doi,
            "year": next((day[:4] for day in reversed(days) if day), ""),
            "venue": words(article, "Journal/Title"),
            "journal_abbreviation": words(article, "Journal/ISOAbbreviation"),
            "published": next((day for day in days if day), ""),
            "updated": _day(citation.find("DateRevised")),
            "type": strings(map(words, article.findall("PublicationTypeList/PublicationType"))),
            "language": joined(*map(words, article.findall("Language")), by=", "),
            "volume": words(issue, "Volume"),
            "issue": words(issue, "Issue"),
            "pages": words(article, "Pagination/MedlinePgn"),
            "issn": strings((words(article, "Journal/ISSN"), words(citation, "MedlineJournalInfo/ISSNLinking"))),
            "keywords": strings(map(words, citation.findall("KeywordList/Keyword"))),
            "subjects": strings(mesh),
            "substances": strings(map(words, citation.findall("ChemicalList/Chemical/NameOfSubstance"))),
            "funders": strings(map(words, article.findall("GrantList/Grant/Agency"))),
            "grants": strings(map(words, article.findall("GrantList/Grant/GrantID"))),
            "references": len(element.findall("PubmedData/ReferenceList//Reference")) or None,
            "ids": {"pmid": words(citation, "PMID"), "pmcid": ids.get("pmc", ""), "pii": ids.get("pii", "")},
            "country": words(citation, "MedlineJournalInfo/Country"),
        },
        article.findall("AuthorList/Author"),
    )


def _chapter(element: ET.Element) -> Record | None:
    """What `PubmedBookArticle` says: a chapter of a book, or the whole of it."""
    document = element.find("BookDocument")
    if document is None:
        return None
    book = document.find("Book")
    published = _day(book.find("PubDate") if book is not None else None)
    ids = {one.get("IdType", ""): words(one) for one in document.findall("ArticleIdList/ArticleId")}
    lists = [one for one in document.findall("AuthorList") if one.get("Type") != "editors"]
    lists = lists or (book.findall("AuthorList") if book is not None else [])
    return _record(
        words(document, "PMID"),
        element,
        {
            "title": words(document, "ArticleTitle") or words(book, "BookTitle"),
            "text": _abstract(document.findall("Abstract/AbstractText")),
            "doi": ids.get("doi", ""),
            "year": published[:4],
            "venue": words(book, "BookTitle"),
            "published": published,
            "updated": _day(document.find("DateRevised")) or _day(document.find("ContributionDate")),
            "type": strings(map(words, document.findall("PublicationType"))),
            "language": joined(*map(words, document.findall("Language")), by=", "),
            "publisher": words(book, "Publisher/PublisherName"),
            "isbn": strings(map(words, book.findall("Isbn") if book is not None else ())),
            "keywords": strings(map(words, document.findall("KeywordList/Keyword"))),
            "ids": {"pmid": words(document, "PMID"), "bookaccession": ids.get("bookaccession", "")},
        },
        [author for one in lists for author in one.findall("Author")],
    )


def _record(number: str, element: ET.Element, said: dict[str, object], authors: Iterable[ET.Element]) -> Record | None:
    contributors = [_person(author) for author in authors]
    title = str(said["title"]).strip()
    # A title that was translated stands in brackets.
    said["title"] = title[1:-1] if title.startswith("[") and title.endswith("]") else title.removesuffix(".")
    said["title"] = str(said["title"]).removesuffix(".")
    try:
        return parse_record(
            {
                "_id": number,
                **said,
                "authors": [one["name"] for one in contributors],
                "url": f"https://pubmed.ncbi.nlm.nih.gov/{number}/",
                "contributors": contributors,
            },
            original=ET.tostring(element, encoding="unicode"),
        )
    except RecordError:
        return None


def _abstract(parts: Iterable[ET.Element]) -> str:
    """The parts as paragraphs, each with the label it may have."""
    told = ((one.get("Label", ""), words(one)) for one in parts)
    return "\n\n".join(f"{label}: {text}" if label else text for label, text in told if text)


def _person(author: ET.Element) -> dict[str, object]:
    name = joined(words(author, "ForeName") or words(author, "Initials"), words(author, "LastName"))
    name = joined(name, words(author, "Suffix")) or words(author, "CollectiveName")
    orcid = next((words(one) for one in author.findall("Identifier") if one.get("Source") == "ORCID"), "")
    return person(name, orcid, map(words, author.findall("AffiliationInfo/Affiliation")))


def _day(element: ET.Element | None) -> str:
    """A date as precise as it is known: `2012`, `2012-03` or `2012-03-21`."""
    if element is None:
        return ""
    year = words(element, "Year") or words(element, "MedlineDate")[:4]
    if not year.isdecimal():
        return ""
    month = words(element, "Month").lower()
    number = int(month) if month.isdecimal() else _MONTHS.index(month[:3]) + 1 if month[:3] in _MONTHS else 0
    day = words(element, "Day")
    if not number:
        return year
    return f"{year}-{number:02d}-{int(day):02d}" if day.isdecimal() else f"{year}-{number:02d}"
