"""Lines of JSON carry what they are about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from workflows.engine import logs
from workflows.settings import Config, SettingsError


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(logs.json_formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def kept() -> Iterator[_Kept]:
    handler, logger = _Kept(), logging.getLogger("some.library")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)


def test_a_line_says_what_it_is_about_and_only_inside(kept: _Kept) -> None:
    log = logging.getLogger("some.library")
    with logs.about(run_id="r1", step="fetch"):
        with logs.about(item="p/1", attempt=2):
            log.info("read %s", "p/1")
        log.warning("done", extra={"papers": 3})
    log.info("after")
    inner, outer, after = kept.lines
    assert (inner["event"], inner["level"], inner["logger"]) == ("read p/1", "info", "some.library")
    assert (inner["run_id"], inner["step"], inner["item"], inner["attempt"]) == ("r1", "fetch", "p/1", 2)
    assert inner["timestamp"].endswith("Z")
    assert (outer["run_id"], outer["papers"]) == ("r1", 3)
    assert "item" not in outer
    assert "run_id" not in after


def test_an_error_keeps_its_traceback_on_one_line_and_what_steps_bind_is_there(kept: _Kept) -> None:
    with structlog.contextvars.bound_contextvars(paper="p1"):
        try:
            int("two\nlines")
        except ValueError:
            logging.getLogger("some.library").exception("failed")
    assert kept.lines[0]["paper"] == "p1"
    assert "ValueError: invalid literal" in kept.lines[0]["exception"]


def test_a_format_that_does_not_exist_is_refused() -> None:
    assert not logs.is_json(Config.from_env({}))
    assert logs.is_json(Config.from_env({"CELERIAC_LOG_FORMAT": "JSON"}))
    with pytest.raises(SettingsError, match="no format of logs"):
        logs.is_json(Config.from_env({"CELERIAC_LOG_FORMAT": "xml"}))
