"""A process that stores papers, one after the other, until it is killed or done.

Arguments: database URL, collection, then paper ids. It prints `stored N` behind every paper.
"""

from __future__ import annotations

import sys

from pipeline.steps.store import StoreInput, store
from tests.support.pipeline import DirectContext
from workflows.db.database import Database


def main(url: str, collection: str, papers: list[str]) -> None:
    database = Database(url)
    for number, paper in enumerate(papers, start=1):
        store(StoreInput(papers=[paper], collection=collection), DirectContext(database, run_id="run"))
        print(f"stored {number}", flush=True)  # noqa: T201 - what the test waits for


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
