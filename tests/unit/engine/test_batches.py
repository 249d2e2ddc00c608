"""Batches by items and by bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workflows.engine.mapping import batches

_ITEMS = st.lists(st.one_of(st.text(max_size=20), st.integers(), st.lists(st.integers(), max_size=4)), max_size=40)


def _bytes(items: list[Any]) -> int:
    return sum(len(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode("utf-8")) for item in items)


@given(items=_ITEMS, size=st.integers(1, 10), most=st.integers(1, 60))
def test_no_item_is_lost_or_moved_and_no_batch_is_over_its_limits(items: list[Any], size: int, most: int) -> None:
    found = batches(items, size, most)
    assert [item for batch in found for item in batch] == items
    for batch in found:
        assert 1 <= len(batch) <= size
        assert _bytes(batch) <= most or len(batch) == 1
    for batch, after in pairwise(found):
        # It was full: what comes next did not fit in.
        assert len(batch) == size or _bytes([*batch, after[0]]) > most


def test_without_bytes_items_are_counted_alone() -> None:
    assert batches(list("abcde"), 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert batches([], 2) == []
    assert batches(["aaaa", "b", "c", "é"], 10, 6) == [["aaaa"], ["b", "c"], ["é"]]
