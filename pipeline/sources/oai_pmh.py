"""The source `oai_pmh`: repositories that are harvested (https://www.openarchives.org/OAI/openarchivesprotocol.html).

Of arXiv its own format is read, of other repositories Dublin Core, which all of them have.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.values import joined, person, strings
from pipeline.sources.web import Client, Host, Page, Query, StaleCursorError, check_whole, words, xml_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import PermanentError

ARXIV = Host("oai_pmh", "https://oaipmh.arxiv.org/oai", "CELERIAC_OAI_PMH_URL", "1/3s", 1000)

OAI = "{http://www.openarchives.org/OAI/2.0/}"
DC = "{http://purl.org/dc/elements/1.1/}"
ARXIV_FORMAT = "{http://arxiv.org/OAI/arXiv/}"

_DOI = re.compile(r"^(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/\S+)$", re.IGNORECASE)
_ARXIV_URL = re.compile(r"arxiv\.org/abs/([\w.-]+(?:/\d{7})?)", re.IGNORECASE)
_VERSION = re.compile(r"v\d+$")
_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")


class Repository:
    """One repository as a source; queries name a set of it, or nothing for all.

    Args:
        url: Its base URL; arXiv's without one.
    """

    def __init__(self, url: str | None = None) -> None:
        self.HOST = (
            ARXIV if url is None else replace(ARXIV, name=f"oai_pmh:{urlsplit(url).netloc}", url=url, variable="")
        )
        self._format = "arXiv" if url is None else "oai_dc"

    def page(self, client: Client, query: Query, cursor: str | None, size: int) -> Page:  # noqa: ARG002 - its own size
        """Records in the repository's order; the cursor is its token and the number of records before it."""
        token, _, taken = (cursor or "\n0").rpartition("\n")
        params = {"verb": "ListRecords"}
        if token:
            params["resumptionToken"] = token
        else:
            params["metadataPrefix"] = self._format
            if query.text:
                params["set"] = query.text
            if query.since is not None:
                params["from"] = query.since.isoformat()
        return client.read("", params, lambda answer: _page(answer, int(taken)))


def _page(answer: Answer, taken: int) -> Page:
    told = xml_of(answer, f"{OAI}OAI-PMH")
    for error in told.findall(f"{OAI}error"):
        code = error.get("code", "")
        if code == "noRecordsMatch":
            return Page((), None, 0)
        kind = StaleCursorError if code == "badResumptionToken" else PermanentError
        raise kind(f"{answer.url} refuses the query: {code} {words(error)[:300]}")
    found = told.findall(f"{OAI}ListRecords/{OAI}record")
    token = told.find(f"{OAI}ListRecords/{OAI}resumptionToken")
    size = token.get("completeListSize", "") if token is not None else ""
    end = taken + len(found)
    total = int(size) if size.isdecimal() else None if words(token) else end
    gone = [one for one in found if _header(one).get("status") == "deleted"]
    records = tuple(record for record in map(_record, found) if record is not None)
    read = Page(
        records, f"{words(token)}\n{end}" if words(token) and found else None, total, tuple(map(_external_id, gone))
    )
    return read if found else check_whole(read, taken)


def _header(record: ET.Element) -> ET.Element:
    found = record.find(f"{OAI}header")
    return found if found is not None else ET.Element("header")


def _external_id(record: ET.Element) -> str:
    """The repository's identifier; of arXiv the paper's own."""
    return words(_header(record), f"{OAI}identifier").removeprefix("oai:arXiv.org:")


def _record(record: ET.Element) -> Record | None:
    metadata = record.find(f"{OAI}metadata")
    if metadata is None or not len(metadata):
        return None
    described = metadata[0]
    said = _of_arxiv(described) if described.tag == f"{ARXIV_FORMAT}arXiv" else _of_dublin_core(described)
    header = _header(record)
    try:
        return parse_record(
            {
                "_id": _external_id(record),
                **said,
                "updated": said.get("updated") or words(header, f"{OAI}datestamp")[:10],
                "sets": strings(map(words, header.findall(f"{OAI}setSpec"))),
            },
            original=ET.tostring(record, encoding="unicode"),
        )
    except RecordError:
        return None


def _of_arxiv(said: ET.Element) -> dict[str, object]:
    def text(name: str) -> str:
        return words(said, f"{ARXIV_FORMAT}{name}")

    contributors = []
    for author in said.findall(f"{ARXIV_FORMAT}authors/{ARXIV_FORMAT}author"):
        parts = (words(author, f"{ARXIV_FORMAT}{name}") for name in ("forenames", "keyname", "suffix"))
        places = map(words, author.findall(f"{ARXIV_FORMAT}affiliation"))
        contributors.append(person(joined(*parts), None, places))
    number = text("id")
    return {
        "title": text("title"),
        "text": (said.findtext(f"{ARXIV_FORMAT}abstract") or "").strip(),
        "authors": [one["name"] for one in contributors],
        "year": text("created")[:4],
        "doi": text("doi").split(" ")[0],
        "url": f"https://arxiv.org/abs/{number}",
        "arxiv_id": number,
        "venue": text("journal-ref"),
        "pdf_url": f"https://arxiv.org/pdf/{number}",
        "published": text("created"),
        "updated": text("updated"),
        "subjects": text("categories").split(),
        "comment": text("comments"),
        "report_number": text("report-no"),
        "license": strings((text("license"),)),
        "contributors": contributors,
    }


def _of_dublin_core(said: ET.Element) -> dict[str, object]:
    def texts(name: str) -> list[str]:
        return strings(map(words, said.findall(f"{DC}{name}")))

    identifiers, relations = texts("identifier"), texts("relation")
    dois = [found[1] for found in map(_DOI.match, [*identifiers, *relations]) if found]
    links = [one for one in [*identifiers, *relations] if one.startswith(("http://", "https://"))]
    arxiv = next((_VERSION.sub("", found[1]) for found in map(_ARXIV_URL.search, links) if found), "")
    days = texts("date")
    years = [found[1] for found in map(_YEAR.search, days) if found]
    # Repositories put more than one text here, the abstract mostly first; comments are shorter.
    descriptions = texts("description")
    names = [_in_order(name) for name in texts("creator")]
    return {
        "title": next(iter(texts("title")), ""),
        "text": max(descriptions, key=len, default=""),
        "authors": names,
        "year": min(years, default=""),
        "doi": dois[0].lower() if dois else "",
        "url": next((one for one in links if "doi.org/" not in one), links[0] if links else ""),
        "arxiv_id": arxiv,
        "venue": next(iter(texts("source")), ""),
        "pdf_url": next((one for one in links if one.lower().endswith(".pdf")), ""),
        "published": min(days, default=""),
        "type": texts("type"),
        "language": joined(*texts("language"), by=", "),
        "publisher": joined(*texts("publisher"), by=", "),
        "subjects": texts("subject"),
        "license": texts("rights"),
        "other_titles": texts("title")[1:],
        "descriptions": descriptions if len(descriptions) > 1 else [],
        "identifiers": identifiers,
        "relations": relations,
        "coverage": texts("coverage"),
        "format": texts("format"),
        "contributors": [person(_in_order(name)) for name in texts("contributor")],
    }


def _in_order(name: str) -> str:
    """`Family, Given` as it is spoken."""
    family, comma, given = name.partition(", ")
    return f"{given} {family}" if comma and "," not in given else name
