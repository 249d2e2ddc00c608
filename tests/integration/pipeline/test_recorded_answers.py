"""What catalogues really answered, played by a server on loopback: every field is found, and the record itself kept.

The answers come from the tests of packages that are free to share: OpenAlex and Semantic Scholar from paper-qa 5.9.2
(Apache-2.0), Crossref from habanero 2.9.2 (MIT), PubMed from biopython 1.88 (BSD-3-Clause), Europe PMC from
pyeuropepmc (MIT; two of 25 records, the abstract under CC BY: Al-Abbadey et al. 2025, doi 10.1111/bjhp.12807).
OAI-PMH has the shape that its specification gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import select

from pipeline.sources import web
from pipeline.steps.fetch import FetchInput, FetchOutput, fetch
from pipeline.tables import entries, paper_records, papers
from tests.support.pipeline import DirectContext, run_pipeline
from tests.support.site import Site, site_on_loopback
from workflows.db.database import Database
from workflows.model.errors import PermanentError

ANSWERS = Path(__file__).parent / "answers"
JSON, XML = "application/json", "text/xml"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
    monkeypatch.setattr(web, "FIRST_DELAY_SECONDS", 0.01)
    with site_on_loopback() as made:
        for name in ("CROSSREF", "EUROPE_PMC", "OPENALEX", "SEMANTIC_SCHOLAR", "PUBMED", "OAI_PMH"):
            monkeypatch.setenv(f"CELERIAC_{name}_URL", made.url)
        yield made


def _fetch(database: Database, run: str = "run", **given: Any) -> FetchOutput:
    return fetch(FetchInput.model_validate(given), DirectContext(database, run_id=run, started_at=time.time()))


def _papers(database: Database) -> dict[str, dict[str, Any]]:
    with database.connect() as connection:
        rows = connection.execute(select(papers)).mappings()
        return {row["external_id"]: {**row, "details": json.loads(row["details"] or "{}")} for row in rows}


def _originals(database: Database) -> dict[str, str]:
    with database.connect() as connection:
        query = select(paper_records.c.external_id, paper_records.c.original)
        return {row.external_id: row.original for row in connection.execute(query)}


def _asked(site: Site, index: int) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(site.seen[index]["path"]).query).items()}


def test_openalex(database: Database, site: Site) -> None:
    body = (ANSWERS / "openalex-works.json").read_bytes()
    site.answers = [(200, JSON, body)]
    assert _fetch(database, source="openalex", query="copper oxide").new == 1
    paper = _papers(database)["W2277923667"]
    assert paper["title"].startswith("Effect of native oxide layers on copper")
    assert paper["abstract"].startswith("Metal-oxide layers are likely to be present")
    assert (paper["doi"], paper["year"], paper["venue"]) == ("10.1063/1.4938384", 2015, "Journal of Applied Physics")
    details = paper["details"]
    wanted = ("published", "type", "language", "publisher", "volume", "issue", "citations", "references")
    told = ["2015-12-21", "article", "en", "American Institute of Physics", "118", "23", 8, 58]
    assert [details[name] for name in wanted] == told
    assert details["issn"] == ["0021-8979", "1089-7550", "1520-8850"]
    assert details["funders"] == ["Office of Naval Research"]
    assert details["ids"]["mag"] == "2277923667"
    assert details["is_open_access"] is False
    assert details["contributors"][0] == {"name": "Michael Skarlinski", "affiliations": ["University of Rochester"]}
    assert json.loads(_originals(database)["W2277923667"]) == json.loads(body)["results"][0]
    assert json.loads(paper["provenance"])["details.volume"] == "openalex"


def test_semantic_scholar(database: Database, site: Site) -> None:
    body = (ANSWERS / "semantic-scholar-papers.json").read_bytes()
    site.answers = [(200, JSON, body)]
    assert _fetch(database, source="semantic_scholar", query="attention").new == 1
    (paper,) = _papers(database).values()
    assert (paper["title"], paper["year"]) == ("Attention is All you Need", 2017)
    assert (paper["arxiv_id"], paper["venue"]) == ("1706.03762", "Neural Information Processing Systems")
    assert json.loads(paper["authors"])[:2] == ["Ashish Vaswani", "Noam M. Shazeer"]
    details = paper["details"]
    assert (details["published"], details["pages"]) == ("2017-06-12", "5998-6008")
    assert (details["citations"], details["influential_citations"]) == (111_096, 15_817)
    assert details["type"] == ["JournalArticle", "Conference"]
    assert details["ids"]["dblp"] == "conf/nips/VaswaniSPUJGKP17"
    assert details["contributors"][0] == {"name": "Ashish Vaswani", "semantic_scholar": "40348417"}
    assert json.loads(_originals(database)[paper["external_id"]]) == json.loads(body)["data"][0]


def test_crossref(database: Database, site: Site) -> None:
    bodies = [(ANSWERS / f"crossref-{name}.json").read_bytes() for name in ("cursor", "works")]
    site.answers = [(200, JSON, body) for body in bodies]
    found = _fetch(database, source="crossref", query="ecology", limit=6)
    assert (found.new, _asked(site, 1)["cursor"][:8]) == (6, "DnF1ZXJ5")  # an issue of a journal has nothing to search
    kept = _papers(database)
    paper = kept["10.4061/2010/505436"]
    assert paper["abstract"].startswith("Well differentiated liposarcoma")
    assert paper["venue"] == "Pathology Research International"
    assert paper["pdf_url"] == "http://downloads.hindawi.com/archive/2010/505436.pdf"
    details = paper["details"]
    wanted = ("published", "type", "language", "publisher", "volume", "pages", "citations", "references")
    told = ["2010-12-05", "journal-article", "en", "Hindawi Limited", "2010", "1-4", 2, 6]
    assert [details[name] for name in wanted] == told
    assert details["license"] == ["http://creativecommons.org/licenses/by/3.0/"]
    assert len(details["contributors"][0]["affiliations"]) == 2
    assert kept["10.1155/2016/1353212"]["details"]["published"] == "2016"
    assert kept["10.1093/obo/9780199830060-0238"]["details"]["isbn"] == ["9780199830060"]
    works = {work["DOI"]: work for body in bodies for work in json.loads(body)["message"]["items"]}
    for doi, original in _originals(database).items():
        assert json.loads(original) == works[doi]


def test_europe_pmc(database: Database, site: Site) -> None:
    body = (ANSWERS / "europe-pmc-core.json").read_bytes()
    site.answers = [(200, JSON, body)]
    assert _fetch(database, source="europe_pmc", query="cancer", limit=2).new == 2
    kept = _papers(database)
    paper = kept["MED:40468710"]
    assert paper["title"].startswith("The role of psychological flexibility in relation to health outcomes")
    assert paper["abstract"].startswith("Objective This study investigated whether psychological flexibility")
    assert "(n = 331) took place" in paper["abstract"]
    assert "(at p < .001) predicted anxiety" in paper["abstract"]
    assert (paper["doi"], paper["year"]) == ("10.1111/bjhp.12807", 2025)
    assert paper["venue"] == "British journal of health psychology"
    assert paper["url"] == "https://europepmc.org/article/MED/40468710"
    assert json.loads(paper["authors"])[0] == "Miznah Al-Abbadey"
    details = paper["details"]
    wanted = ("published", "updated", "type", "language", "volume", "issue", "pages", "citations", "is_open_access")
    told = ["2025-09-01", "2025-06-09", ["Journal Article"], "eng", "30", "3", "e12807", 0, False]
    assert [details[name] for name in wanted] == told
    assert (details["issn"], details["license"]) == (["1359-107X", "2044-8287"], ["cc by"])
    assert details["funders"] == ["University of Portsmouth Themes Research & Innovation Funding"]
    assert (details["keywords"][0], len(details["keywords"])) == ("Cancer", 6)
    assert (details["subjects"][1], len(details["subjects"])) == ("Neoplasms", 18)
    first = details["contributors"][0]
    assert (first["name"], first["orcid"], len(first["affiliations"])) == (
        "Miznah Al-Abbadey",
        "0000-0002-6307-9196",
        2,
    )
    assert (len(details["contributors"]), details["ids"]) == (7, {"pmid": "40468710"})
    erratum = kept["MED:39709208"]
    assert (erratum["title"], erratum["abstract"], erratum["authors"]) == ("Department of Error", "", "[]")
    assert erratum["pdf_url"] == "https://europepmc.org/articles/PMC12124214?pdf=render"
    assert erratum["details"]["ids"] == {"pmid": "39709208", "pmcid": "PMC12124214"}
    assert len(erratum["details"]["links"]) == 4
    sent = {f"MED:{one['id']}": one for one in json.loads(body)["resultList"]["result"]}
    assert {number: json.loads(original) for number, original in _originals(database).items()} == sent


def _numbers(*found: str, total: int) -> bytes:
    return json.dumps({"esearchresult": {"count": str(total), "idlist": list(found)}}).encode()


def test_pubmed(database: Database, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_PUBMED_KEY", "key")
    monkeypatch.setenv("CELERIAC_MAILTO", "ada@example.org")
    pages = [(ANSWERS / f"pubmed-{number}.xml").read_bytes() for number in (1, 2)]
    site.answers = [
        (200, JSON, _numbers("12091962", "9997", total=4)),
        (200, XML, pages[0]),
        (200, JSON, _numbers("11748933", "11700088", total=4)),
        (200, XML, pages[1][:3000]),  # broken off: asked for again
        (200, XML, pages[1]),
    ]
    assert _fetch(database, source="pubmed", query="heme", since="2020-02-03").new == 4
    asked = _asked(site, 2)
    assert (asked["retstart"], asked["mindate"], asked["api_key"]) == ("2", "2020/02/03", "key")
    assert asked["email"] == "ada@example.org"
    assert _asked(site, 1)["id"] == "12091962,9997"
    kept = _papers(database)
    assert kept["12091962"]["abstract"] == ""
    paper = kept["9997"]
    assert paper["title"].endswith("A mechanism for heme-flavin interaction")
    assert paper["abstract"].startswith("Electron paramagnetic resonance")
    assert (paper["doi"], paper["year"]) == ("10.1016/0005-2795(76)90109-4", 1976)
    assert (paper["venue"], paper["url"]) == ("Biochimica et biophysica acta", "https://pubmed.ncbi.nlm.nih.gov/9997/")
    details = paper["details"]
    wanted = ("published", "updated", "language", "volume", "issue", "pages", "country")
    assert [details[name] for name in wanted] == [
        "1976-09-28",
        "2019-06-09",
        "eng",
        "446",
        "1",
        "179-91",
        "Netherlands",
    ]
    assert details["subjects"][:2] == ["Binding Sites", "Chromatium"]
    assert details["substances"][-1] == "Iron"
    assert details["ids"] == {"pmid": "9997", "pii": "0005-2795(76)90109-4"}
    assert kept["11748933"]["details"]["contributors"][0]["affiliations"][0].startswith("Dipartimento di Scienze")
    original = ET.fromstring(_originals(database)["9997"])
    sent = next(one for one in ET.fromstring(pages[0]) if one.findtext("MedlineCitation/PMID") == "9997")
    assert list(original.itertext()) == list(sent.itertext())


def test_a_query_that_pubmed_refuses_fails_at_once(database: Database, site: Site) -> None:
    site.answers = [(200, JSON, b'{"esearchresult": {"ERROR": "Search Backend failed"}}')]
    with pytest.raises(PermanentError, match="Search Backend failed"):
        _fetch(database, source="pubmed", query="((")


# OAI-PMH

ARXIV_RECORD = """<record><header><identifier>oai:arXiv.org:0704.0001</identifier><datestamp>2008-11-26</datestamp>
<setSpec>physics:hep-ph</setSpec></header><metadata>
<arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>0704.0001</id><created>2007-04-02</created><updated>2007-07-24</updated>
<authors><author><keyname>Bal&#225;zs</keyname><forenames>C.</forenames><affiliation>Monash</affiliation></author>
<author><keyname>Berger</keyname><forenames>E. L.</forenames></author></authors>
<title>Diphoton production</title><categories>hep-ph hep-ex</categories><comments>37 pages</comments>
<journal-ref>Phys.Rev.D76:013009,2007</journal-ref><doi>10.1103/PhysRevD.76.013009</doi>
<license>http://arxiv.org/licenses/nonexclusive-distrib/1.0/</license><abstract>  A fully differential
calculation.</abstract></arXiv></metadata></record>"""

DUBLIN_CORE = """<record><header><identifier>oai:repo.example:7</identifier><datestamp>2024-01-02</datestamp></header>
<metadata><oai_dc:dc xmlns:oai_dc="http://www.openarchives.org/OAI/2.0/oai_dc/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>On beets</dc:title><dc:creator>Lovelace, Ada</dc:creator>
<dc:description>Short.</dc:description><dc:description>A long text about beets.</dc:description>
<dc:date>2021-05-06</dc:date><dc:identifier>https://repo.example/7</dc:identifier>
<dc:identifier>https://doi.org/10.1234/BEET.7</dc:identifier><dc:subject>roots</dc:subject>
<dc:language>en</dc:language><dc:publisher>Root Press</dc:publisher><dc:type>article</dc:type></oai_dc:dc>
</metadata></record>"""

GONE = """<record><header status="deleted"><identifier>{}</identifier>
<datestamp>2024-02-02</datestamp></header></record>"""


def _oai(*records: str, token: str = "", total: int | None = None) -> bytes:
    size = f' completeListSize="{total}"' if total is not None else ""
    listed = f"<ListRecords>{''.join(records)}<resumptionToken{size}>{token}</resumptionToken></ListRecords>"
    return f'<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/">{listed}</OAI-PMH>'.encode()


def _oai_error(code: str) -> bytes:
    return f'<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><error code="{code}">so</error></OAI-PMH>'.encode()


def test_arxiv_is_harvested_in_its_own_format(database: Database, site: Site) -> None:
    site.answers = [(200, XML, _oai(ARXIV_RECORD, token="T|1", total=2)), (200, XML, _oai(GONE.format("x")))]
    found = _fetch(database, source="oai_pmh", query="physics:hep-ph", since="2008-01-01")
    assert (found.new, found.removed) == (1, 0)
    assert _asked(site, 0) == {
        "verb": "ListRecords",
        "metadataPrefix": "arXiv",
        "set": "physics:hep-ph",
        "from": "2008-01-01",
    }
    assert _asked(site, 1) == {"verb": "ListRecords", "resumptionToken": "T|1"}
    paper = _papers(database)["0704.0001"]
    assert (paper["arxiv_id"], paper["doi"]) == ("0704.0001", "10.1103/PhysRevD.76.013009")
    assert (paper["year"], paper["venue"]) == (2007, "Phys.Rev.D76:013009,2007")
    assert json.loads(paper["authors"]) == ["C. Balázs", "E. L. Berger"]
    assert paper["pdf_url"] == "https://arxiv.org/pdf/0704.0001"
    details = paper["details"]
    assert (details["subjects"], details["comment"]) == (["hep-ph", "hep-ex"], "37 pages")
    assert details["contributors"][0]["affiliations"] == ["Monash"]


def test_another_repository_is_harvested_in_dublin_core(
    database: Database, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERIAC_OAI_PMH_URL")
    site.answers = [(200, XML, _oai(DUBLIN_CORE))]
    assert _fetch(database, source="oai_pmh", url=f"{site.url}/oai").new == 1
    assert (urlsplit(site.seen[0]["path"]).path, _asked(site, 0)["metadataPrefix"]) == ("/oai", "oai_dc")
    paper = _papers(database)["oai:repo.example:7"]
    assert (paper["title"], paper["abstract"]) == ("On beets", "A long text about beets.")
    assert (paper["doi"], paper["url"], paper["year"]) == ("10.1234/beet.7", "https://repo.example/7", 2021)
    assert json.loads(paper["authors"]) == ["Ada Lovelace"]
    assert paper["details"]["publisher"] == "Root Press"
    assert paper["details"]["descriptions"] == ["Short.", "A long text about beets."]


def test_a_record_that_is_taken_back_is_not_searched_any_more(database: Database, site: Site) -> None:
    site.answers = [(200, XML, _oai(ARXIV_RECORD))]
    stored = run_pipeline(database, source="oai_pmh")
    assert stored.store.collection_papers == 1
    site.answers = [(200, XML, _oai(GONE.format("oai:arXiv.org:0704.0001")))]
    assert _fetch(database, run="later", source="oai_pmh").removed == 1
    with database.connect() as connection:
        assert [connection.execute(select(table)).all() for table in (papers, paper_records, entries)] == [[], [], []]


def test_a_cursor_that_the_repository_has_forgotten_begins_anew(database: Database, site: Site) -> None:
    other = ARXIV_RECORD.replace("0704.0001", "0704.0002")
    site.answers = [
        (200, XML, _oai(ARXIV_RECORD, token="T", total=2)),
        (200, XML, _oai_error("badResumptionToken")),
        (200, XML, _oai(ARXIV_RECORD, token="U", total=2)),
        (200, XML, _oai(other, total=2)),
    ]
    found = _fetch(database, source="oai_pmh", query="cs")
    assert (found.fetched, "resumptionToken" in _asked(site, 2)) == (2, False)


def test_nothing_new_is_nothing_and_a_refusal_is_told(database: Database, site: Site) -> None:
    site.answers = [(200, XML, _oai_error("noRecordsMatch")), (200, XML, _oai_error("badArgument"))]
    assert _fetch(database, source="oai_pmh", query="cs").fetched == 0
    with pytest.raises(PermanentError, match="badArgument so"):
        _fetch(database, run="other", source="oai_pmh", query="cs")


def test_an_address_is_for_repositories_alone() -> None:
    with pytest.raises(ValueError, match="oai_pmh"):
        FetchInput.model_validate({"source": "crossref", "query": "x", "url": "https://repo.example"})
