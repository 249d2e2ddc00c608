"""Papers as references: what a real reader of BibTeX makes of them, and what CSL asks for."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pybtex.database import BibliographyData, parse_string
from pybtex.richtext import Text

from pipeline.citations import Citation, Name, bibtex, csl, name_of, written


def cited(**more: object) -> Citation:
    told: dict[str, object] = {
        "key": "smith2020planets",
        "title": "Giant planets",
        "authors": (Name("Smith", "Ann"),),
        "published": "2020-05-17",
        "doi": "10.1/x",
        "url": "https://example.org/a%20b",
        "arxiv_id": "",
        "venue": "Astronomy & Astrophysics",
        "details": {"volume": "3", "issue": "7", "pages": "12-34"},
        **more,
    }
    return Citation(**told)  # type: ignore[arg-type]


def read(text: str) -> BibliographyData:
    return parse_string(text, "bibtex")


def shown(latex: str) -> str:
    return str(Text.from_latex(latex).render_as("text"))


def test_an_article_is_read_back_as_it_was() -> None:
    entry = read(bibtex(cited())).entries["smith2020planets"]
    assert entry.type == "article"
    fields = {name: shown(value) for name, value in entry.fields.items() if name != "url"}
    assert fields == {
        "title": "Giant planets",
        "year": "2020",
        "month": "5",
        "journal": "Astronomy & Astrophysics",
        "volume": "3",
        "number": "7",
        "pages": "12\u201334",
        "doi": "10.1/x",
    }
    assert entry.fields["url"] == "https://example.org/a%20b"
    (author,) = entry.persons["author"]
    assert (author.last_names, author.first_names) == (["Smith"], ["Ann"])


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=30))
def test_no_title_breaks_the_file(title: str) -> None:
    """Whatever a title has in it, what follows it is read, and TeX shows the title."""
    text = bibtex(cited(title=title)) + bibtex(cited(key="next"))
    found = read(text)
    assert list(found.entries) == ["smith2020planets", "next"]
    assert found.entries["next"].fields["title"] == "Giant planets"
    depth = 0
    for letter in found.entries["smith2020planets"].fields["title"]:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("title", ["50% of $x_1$ & #2", "A { brace", "back\\slash", "~tilde^caret", "Ünïcode — dash"])
def test_signs_of_tex_are_shown_as_they_are(title: str) -> None:
    entry = read(bibtex(cited(title=title))).entries["smith2020planets"]
    plain = entry.fields["title"]
    for sign, escaped in {
        r"\textbackslash{}": "\\",
        r"\textbraceleft{}": "{",
        r"\textasciitilde{}": "~",
        r"\textasciicircum{}": "^",
        r"\%": "%",
        r"\$": "$",
        r"\&": "&",
        r"\#": "#",
        r"\_": "_",
    }.items():
        plain = plain.replace(sign, escaped)
    assert plain == title


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ann Smith", Name("Smith", "Ann")),
        ("Smith, Ann B.", Name("Smith", "Ann B.")),
        ("Ludwig van der Berg", Name("van der Berg", "Ludwig")),
        ("van Gogh", Name("Gogh", "van")),
        ("Plato", Name("Plato")),
        ("ATLAS Collaboration", Name("ATLAS Collaboration")),
        ("World Health Organization", Name("World Health Organization")),
        ("  José   García ", Name("García", "José")),
    ],
)
def test_names_have_two_parts_where_they_have(text: str, name: Name) -> None:
    assert name_of(text) == name


def test_an_institution_stays_whole_in_both_forms() -> None:
    one = cited(authors=(Name("ATLAS Collaboration"), Name("Smith", "Ann")))
    authors = read(bibtex(one)).entries["smith2020planets"].persons["author"]
    assert [str(author) for author in authors] == ["{ATLAS Collaboration}", "Smith, Ann"]
    assert csl(one)["author"] == [{"literal": "ATLAS Collaboration"}, {"family": "Smith", "given": "Ann"}]


@pytest.mark.parametrize(
    ("told", "venue", "kinds"),
    [
        ("journal-article", "J", ("article", "article-journal")),
        ("proceedings-article", "P", ("inproceedings", "paper-conference")),
        ("book-chapter", "B", ("incollection", "chapter")),
        (["Journal Article", "Review"], "J", ("article", "article-journal")),
        ("dissertation", "", ("phdthesis", "thesis")),
        ("", "", ("misc", "article")),
    ],
)
def test_kinds_are_those_of_each_form(told: object, venue: str, kinds: tuple[str, str]) -> None:
    one = cited(venue=venue, details={"type": told} if told else {})
    assert (read(bibtex(one)).entries["smith2020planets"].type, csl(one)["type"]) == kinds


def test_csl_has_numbers_where_it_wants_them_and_nothing_empty() -> None:
    found = csl(cited(published="2020-05", doi="", arxiv_id="2005.1"))
    assert found["issued"] == {"date-parts": [[2020, 5]]}
    assert (found["page"], found["number"]) == ("12-34", "arXiv:2005.1")
    assert "DOI" not in found
    assert "issued" not in csl(cited(published=""))


def test_a_list_is_one_text() -> None:
    assert written([], "bibtex") == ""
    assert written([], "csl-json") == "[]\n"
    many = written([cited(), cited(key="other")], "bibtex")
    assert len(parse_string(io.StringIO(many).read(), "bibtex").entries) == 2
