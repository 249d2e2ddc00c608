"""What processes write to their log: text for people, or a JSON object a line (`CELERIAC_LOG_FORMAT=json`).

The code logs with the standard library. What a line belongs to is said around the work with `about(...)`: `run_id`,
`step`, `item`, `attempt` in a worker, `request_id` in the API. In the JSON format every line carries it, those of
libraries included.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery import current_app
from celery.signals import setup_logging
from celery.utils.log import LoggingProxy

from workflows.settings import Config, SettingsError

FORMATS = ("text", "json")

# One variable with all values: setting it costs a microsecond, and a step is run for every message.
_about: ContextVar[dict[str, str | int]] = ContextVar("celeriac-about")


@contextmanager
def about(**values: str | int) -> Iterator[None]:
    """Let every line that is logged inside carry these values."""
    token = _about.set({**_about.get({}), **values})
    try:
        yield
    finally:
        _about.reset(token)


def is_json(config: Config) -> bool:
    """Whether logs are for programs.

    Raises:
        SettingsError: CELERIAC_LOG_FORMAT is no format.
    """
    chosen = config.text("CELERIAC_LOG_FORMAT", "text").lower()
    if chosen not in FORMATS:
        raise SettingsError(f"CELERIAC_LOG_FORMAT={chosen!r} is no format of logs", "use text or json")
    return chosen == "json"


def attend_celery(config: Config) -> None:
    """Let Celery's programs (worker, beat, flower) write JSON if the settings say so; else Celery does as ever."""
    if not is_json(config):
        return

    @setup_logging.connect(weak=False)
    def set_up(loglevel: int = logging.INFO, logfile: str | None = None, **_: Any) -> None:
        install_json(loglevel, logfile)
        # What steps print becomes lines as well, and passes what hides secrets in them.
        current_app.log.redirect_stdouts("WARNING")


def install_json(level: int, file: str | None = None) -> None:
    """Let all loggers of this process write JSON, to `file` or to standard error, instead of what they wrote before."""
    # A forked child of a worker has the parent's stand-in for standard error, which logs what is written to it.
    stream = sys.__stderr__ if isinstance(sys.stderr, LoggingProxy) else sys.stderr
    handler = logging.FileHandler(file) if file else logging.StreamHandler(stream)
    handler.setFormatter(json_formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "celery.task", "celery.redirected"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def json_formatter() -> logging.Formatter:
    """Records as one JSON object a line: `timestamp`, `level`, `logger`, `event`, `pid`, and what they are about."""
    import structlog

    formatter: logging.Formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,  # what the code of a step has bound by itself
            _add_about,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(default=str),
        ],
    )
    return formatter


def _add_about(_logger: Any, _method: str, event: Any) -> Any:
    event.update(_about.get({}))
    event["pid"] = event["_record"].process
    return event
