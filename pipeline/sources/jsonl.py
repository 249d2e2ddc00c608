"""Papers as JSON, one object a line (`corpus.jsonl`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.sources.record import Record, RecordError, faulty, parse_record
from workflows.model.errors import PermanentError

MAX_LINE_BYTES = 16_000_000


def read(path: Path) -> Iterator[Record]:
    """The lines of a file in their order; one that is broken is a record with a fault, and costs no other.

    Raises:
        PermanentError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                written = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not written.strip():
                    continue
                try:
                    yield replace(_parse_line(written), place=f"{path.name}:{number}")
                except RecordError as error:
                    yield faulty(path, number, str(error))
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}; check its permissions") from error


def _parse_line(line: bytes) -> Record:
    if len(line) > MAX_LINE_BYTES:
        raise RecordError(f"it is longer than {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode("utf-8").strip()
        return parse_record(json.loads(text), original=text)
    except UnicodeDecodeError:
        raise RecordError("it is not UTF-8") from None
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"it is not JSON ({error})") from None
