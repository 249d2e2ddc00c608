"""Schemas of a few steps, as a registry would hand them in."""

from __future__ import annotations

from typing import Any

from workflows.model.checks import StepSchemas


def _model(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "title": "Model", "properties": properties, "required": list(required)}


def _list_of(kind: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": kind}}


STEPS: StepSchemas = {
    "fetch": (
        _model(
            {
                "source": {"enum": ["local", "arxiv"], "type": "string"},
                "query": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "limit": {"type": "integer", "minimum": 1, "default": 100},
            },
            "source",
        ),
        _model({"paper_ids": _list_of("string"), "note": {"type": "string"}}, "paper_ids"),
    ),
    "process_papers": (_model({"paper": {"type": "string"}}, "paper"), _model({"chunk_ids": _list_of("integer")})),
    "embed": (_model({"chunks": _list_of("integer")}, "chunks"), _model({"vectors": {"type": "integer"}})),
    "store": (_model({"collection": {"type": "string", "default": "papers"}}), _model({"count": {"type": "integer"}})),
    "nap": (
        _model({"node": {"type": "string"}, "ms": {"type": "integer"}}, "ms"),
        _model({"node": {"type": "string"}}),
    ),
}

LITERATURE_REVIEW = """\
id: literature-review
description: Fetch papers, extract and chunk their text, embed, store, make searchable.
params:
  query:      {type: string, minLength: 3, default: "retrieval augmented generation"}
  max_papers: {type: integer, default: 200, minimum: 1, maximum: 5000}
  done_hook:  {type: string, default: null}
defaults:
  queue: processing
  timeout: 10m
  retry: {max_attempts: 4, delay: 60s, factor: 2, max_delay: 15m, jitter: full,
          never_for: [ValidationError, AuthenticationError]}
steps:
  fetch:
    uses: fetch
    queue: research
    with: {source: arxiv, query: "${{ params.query }}", limit: "${{ params.max_papers }}"}
    retry: {max_attempts: 6, delay: 3s, max_delay: 5m, only_for: [TransientError]}
  process_papers:
    needs: fetch
    uses: process_papers
    for_each: {items: "${{ steps.fetch.output.paper_ids }}", key: "${{ item }}", max_parallel: 32, tolerate: 5%}
    with: {paper: "${{ item }}"}
  embed:
    uses: embed
    for_each: {items: "${{ flatten(steps.process_papers.outputs.chunk_ids) }}", batch: 64, max_parallel: 1}
    with: {chunks: "${{ batch }}"}
  store:
    needs: embed
    uses: store
    queue: research
    run_if: none_failed
    with: {collection: papers}
outputs: {stored: "${{ steps.store.output.count }}", hook: "${{ params.done_hook }}"}
"""
