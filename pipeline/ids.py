"""Ids that are hashes: equal input has an equal id on every machine and in every run."""

from __future__ import annotations

import hashlib

_ID_LENGTH = 24


def digest(*parts: str) -> str:
    """SHA-256 of the parts, 64 hex digits; each part's length counts, so no two lists of parts run together."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()


def paper_id(source: str, origin: str, external_id: str) -> str:
    """Id of a paper: two corpora may both have a record "1" without one overwriting the other."""
    return digest("paper", source, origin, external_id)[:_ID_LENGTH]


def chunk_id(paper: str, embedded_text: str, chunker: str, cut: str, occurrence: int) -> str:
    """Id of a chunk: `occurrence` tells equal texts within one paper apart, from 0."""
    return digest("chunk", paper, embedded_text, chunker, cut, str(occurrence))[:_ID_LENGTH]
