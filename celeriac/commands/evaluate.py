"""`celeriac eval`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from celeriac.output import console, json_option, plain_table, print_json
from workflows.settings import Config


@click.command("eval")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--collection", default="papers", show_default=True, help="Where the papers were stored.")
@json_option("Print a JSON list.")
def command(folder: Path, collection: str, as_json: bool) -> None:
    """Measure a search by judgements: nDCG@10, recall@100 and reciprocal rank.

    FOLDER has queries.jsonl and qrels/test.tsv as BEIR has them. The papers have been stored before, by
    `celeriac run literature-review --param path=FOLDER`.
    """
    from celeriac.backends import reading
    from pipeline.evaluation import evaluate, read_judged

    judged = read_judged(folder)
    with reading(Config.from_env()) as database:
        found = evaluate(database, judged, collection)
    if as_json:
        print_json([asdict(quality) for quality in found])
        return
    table = plain_table("search", right=["queries", "nDCG@10", "recall@100", "MRR@10"])
    for quality in found:
        figures = (quality.ndcg, quality.recall, quality.reciprocal_rank)
        table.add_row(quality.mode, f"{quality.queries:,}", *(f"{figure:.3f}" for figure in figures))
    console().print(table)
