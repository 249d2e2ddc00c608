"""`celeriac search`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import click

from celeriac.output import console, json_option, print_json
from workflows.model.errors import NotFoundError
from workflows.settings import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.search import Hit
    from workflows.db.database import Database

_INDENT = "    "
_WIDEST = 100


@click.command("search")
@click.argument("query", nargs=-1, required=True)
@click.option("--limit", "-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="Papers to show.")
@click.option("--collection", default="papers", show_default=True, help="Where the papers were stored.")
@click.option("--since", "year_from", type=int, metavar="YEAR", help="Only papers of this year and later.")
@click.option("--until", "year_to", type=int, metavar="YEAR", help="Only papers of this year and earlier.")
@click.option("--source", help="Only papers of one source: local, arxiv, crossref ...")
@click.option("--section", help="Only sections whose heading has this in it: method, results ...")
@click.option(
    "--format", "form", type=click.Choice(["bibtex", "csl-json"]), help="Print the papers as references to cite."
)
@json_option("Print a JSON list of hits.")
def command(
    query: tuple[str, ...],
    limit: int,
    collection: str,
    year_from: int | None,
    year_to: int | None,
    source: str | None,
    section: str | None,
    form: Literal["bibtex", "csl-json"] | None,
    as_json: bool,
) -> None:
    """Find papers by meaning and words, best first.

    Say it in your own words: celeriac search "tests that fail at random"
    """
    from celeriac.backends import reading
    from pipeline.filters import Filters
    from pipeline.search import search

    filters = Filters(year_from, year_to, source, section)
    try:
        with reading(Config.from_env()) as database:
            hits = search(database, " ".join(query), limit=limit, collection=collection, filters=filters)
            cited = _cited(database, hits, form) if form is not None else None
    except NotFoundError as error:
        raise NotFoundError(
            str(error) if "runs" not in str(error) else "nothing is stored in this home yet",
            "make papers searchable with `celeriac demo` or `celeriac run literature-review --param path=FOLDER`",
        ) from error
    if cited is not None:
        click.echo(cited, nl=False)
    elif as_json:
        print_json([asdict(hit) for hit in hits])
    elif hits:
        print_hits(hits)
    else:
        console().print("No paper fits; leave a filter out to search more of them.")


def _cited(database: Database, hits: Sequence[Hit], form: Literal["bibtex", "csl-json"]) -> str:
    from pipeline.citations import citations, written

    with database.connect() as connection:
        return written(citations(connection, [hit.id for hit in hits]), form)


def print_hits(hits: Sequence[Hit]) -> None:
    """Hits for people: title, score, where it stands, and the words that speak for it."""
    import textwrap

    from rich.text import Text

    out = console()
    width = min(out.width, _WIDEST) - len(_INDENT)
    for number, hit in enumerate(hits, start=1):
        if number > 1:
            out.print()
        title = textwrap.fill(hit.title or hit.paper_id, width, subsequent_indent=_INDENT)
        out.print(Text.assemble((f"{number:>2}  ", "dim"), (title, "bold")))
        places = (hit.paper_id, hit.section, f"page {hit.page}" if hit.page else "", f"{hit.score:.4f}", hit.source)
        out.print(Text(_INDENT + "  ".join(filter(None, places)), "dim"))
        # A line break takes the place of one space, so the marks stay where they are.
        shown = Text(textwrap.fill(hit.snippet, width, break_long_words=False, break_on_hyphens=False))
        for start, end in hit.highlights:
            shown.stylize("bold", start, end)
        for line in shown.split():
            out.print(Text.assemble(_INDENT, line))
