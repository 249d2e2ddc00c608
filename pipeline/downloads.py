"""PDFs that a record names by their address, brought into a folder: resumed after a break, whole or not at all.

A download grows in `NAME.part`, with what tells its version in `NAME.part.json`; the next try asks for the rest only,
if the file is still the same (`Range`, `If-Range`). When it is whole it gets its name, and its version stays beside it.
Names are hashes of addresses: one address is downloaded once, and again only if it is asked whether it has changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from pipeline import ids
from pipeline.sources.record import file_hash
from pipeline.sources.web import nap, user_agent
from workflows.builtin.networks import NetworkRules
from workflows.builtin.outbound import Answer, Limits, Outbound, Stream, retry_after_seconds
from workflows.model.errors import PermanentError, TransientError
from workflows.settings import Config
from workflows.steps import StepContext

FOLDER_VARIABLE = "CELERIAC_PAPERS"
MAX_PDF_BYTES = 200_000_000
TRIES = 3
FIRST_DELAY_SECONDS = 1.0
LONGEST_NAP_SECONDS = 60.0
"""A longer wait is left to the step's `retry`."""

LIMITS = Limits(total_bytes=MAX_PDF_BYTES, total_seconds=150.0, step_seconds=30.0)

RATE = "1/s"
RATES: Mapping[str, str] = {"arxiv.org": "1/3s", "export.arxiv.org": "1/3s"}
"""Requests that a host allows; a limit of the host's name in the definition says another rate."""

_SIGN = b"%PDF-"
_SIGN_WITHIN = 1024
"""Readers of PDFs look for the sign so far into a file."""

_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is there, whole."""

    path: Path
    hash: str


class _ChangedError(TransientError):
    """What came is not the rest of what is there: it is begun anew."""


def fetch_pdf(url: str, ctx: StepContext, config: Config, *, refresh: bool = False) -> Download:
    """The PDF at an address; when it has been downloaded before, without any request.

    With `refresh` the server is asked whether a file that is there has changed since (`If-None-Match`).

    Raises:
        PermanentError: there is none, it is too large, or it may not be reached.
        TransientError: the server does not answer well at the moment; what has come so far is kept for the next try.
    """
    path = place_of(url, config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".part")) as part:
            if refresh or not path.is_file():
                _download(url, path, part, ctx, config)
            return Download(path, file_hash(path))
    except OSError as error:
        raise TransientError(f"{path.parent} cannot be used: {error.strerror}; make room there, or mend it") from error


def place_of(url: str, config: Config) -> Path:
    """Where the PDF of an address lies once it has been downloaded."""
    name = ids.digest(url)[:32]
    folder = config.text(FOLDER_VARIABLE, "")
    papers = Path(folder).expanduser().absolute() if folder else config.home / "papers"
    return papers / name[:2] / f"{name}.pdf"


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """The unfinished file, open for adding, held by this process alone."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransientError("another worker is downloading this file; try again later") from None
        try:
            yield file
        finally:
            if file.tell() == 0:
                part.unlink(missing_ok=True)


def _download(url: str, path: Path, part: BinaryIO, ctx: StepContext, config: Config) -> None:
    host = urlsplit(url).hostname or "no host"
    note = path.with_suffix(".part.json")
    agent = user_agent(config.text("CELERIAC_MAILTO", ""))
    with Outbound(NetworkRules.of(config), user_agent=agent) as outbound:
        for attempt in range(1, TRIES + 1):
            ctx.rate_limit(host, default=RATES.get(host, RATE))
            wait = FIRST_DELAY_SECONDS * 2 ** (attempt - 1)
            try:
                headers = _headers(part, note, path)
                with outbound.stream("GET", url, headers=headers, limits=LIMITS) as answer:
                    told = retry_after_seconds(answer.headers, time.time())
                    wait = wait if told is None else told
                    if answer.status == 304 and path.is_file():
                        return
                    _receive(answer, part, note, ctx)
                break
            except _ChangedError:
                _empty(part, note)
                if attempt == TRIES:
                    raise
            except TransientError as error:
                if attempt == TRIES or wait > LONGEST_NAP_SECONDS:
                    raise
                ctx.log.info("%s; asking again in %.0f s", error, wait)
                nap(ctx, wait)
            except PermanentError:
                _empty(part, note)
                raise
    part.flush()
    os.fsync(part.fileno())
    Path(part.name).replace(path)
    note.replace(_kept_note(path))


def _kept_note(path: Path) -> Path:
    return path.with_suffix(".json")


def _headers(part: BinaryIO, note: Path, path: Path) -> dict[str, str]:
    """Those of a request for what is missing, or for what is newer than the file that is there.

    Without a sign of the version all is asked for again.
    """
    headers = {"Accept": "application/pdf, */*;q=0.5", "Accept-Encoding": "identity"}
    version = _version(note)
    if part.tell() and version:
        return {**headers, "Range": f"bytes={part.tell()}-", "If-Range": version}
    _empty(part, note)
    if path.is_file() and (known := _version(_kept_note(path))):
        return {**headers, "If-None-Match" if known.startswith('"') else "If-Modified-Since": known}
    return headers


def _version(note: Path) -> str:
    try:
        kept = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return ""
    return kept if isinstance(kept, str) else ""


def _receive(answer: Stream, part: BinaryIO, note: Path, ctx: StepContext) -> None:
    """Add the body of an answer to what is there, or begin anew if it is the whole file.

    Raises:
        PermanentError: it is no PDF, too large, or an error that lasts.
        TransientError: it breaks off, or is an error that passes.
    """
    if answer.status == 416:
        raise _ChangedError(f"{answer.url} does not know the part that is missing")
    if answer.status == 206:
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        has_changed = _sign_of_version(answer.headers) not in ("", _version(note))
        if found is None or int(found[1]) != part.tell() or has_changed or _is_packed(answer):
            raise _ChangedError(f"{answer.url} answered another part than was asked for")
        total = None if found[2] == "*" else int(found[2])
    else:
        if answer.status != 200:
            Answer(answer.status, answer.url, answer.headers, next(answer.chunks, b"")).check()
            raise PermanentError(f"{answer.url} answered {answer.status}, which is no file")
        _empty(part, note)
        length = answer.headers.get("content-length", "")
        total = int(length) if length.isdecimal() and not _is_packed(answer) else None
        version = "" if _is_packed(answer) else _sign_of_version(answer.headers)
        note.write_text(json.dumps(version), encoding="utf-8")
    if total is not None and total > MAX_PDF_BYTES:
        raise _too_large(answer)
    is_checked = False
    for chunk in answer.chunks:
        ctx.check_cancelled()
        if part.tell() + len(chunk) > MAX_PDF_BYTES:
            raise _too_large(answer)
        part.write(chunk)
        part.flush()
        if not is_checked and part.tell() >= _SIGN_WITHIN:
            _check_sign(part, answer)
            is_checked = True
    if total is not None and part.tell() < total:
        raise TransientError(f"{answer.url} broke off after {part.tell()} of {total} bytes")
    _check_sign(part, answer)


def _check_sign(part: BinaryIO, answer: Stream) -> None:
    with Path(part.name).open("rb") as file:
        if _SIGN not in file.read(_SIGN_WITHIN):
            kind = answer.headers.get("content-type", "something")[:100]
            raise PermanentError(f"{answer.url} answers no PDF but {kind}")


def _is_packed(answer: Stream) -> bool:
    return answer.headers.get("content-encoding", "identity") != "identity"


def _empty(part: BinaryIO, note: Path) -> None:
    part.seek(0)
    part.truncate()
    note.unlink(missing_ok=True)


def _sign_of_version(headers: Mapping[str, str]) -> str:
    """A strong ETag, else the day of the last change, else nothing: then a part is worth nothing."""
    tag = headers.get("etag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("last-modified", "")


def _too_large(answer: Stream) -> PermanentError:
    return PermanentError(f"{answer.url} is larger than {MAX_PDF_BYTES // 1_000_000} MB")
