"""The page of promises names tests that exist."""

from __future__ import annotations

import re

from tests.support.servers import PROJECT


def test_every_test_that_the_page_of_promises_names_exists() -> None:
    page = (PROJECT / "docs" / "reference" / "engine-promises.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 60
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (PROJECT / file).read_text()]
    assert missing == []
