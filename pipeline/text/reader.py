"""PDFs read in another process, with limits of time and memory: a file that breaks its reader breaks nothing else.

A pool's children may not have children of `multiprocessing`; this one is a program of its own. It is kept for the next
PDF, and started again when one has killed it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.text.document import Document, Section
from pipeline.text.faults import Code, UnreadablePdfError
from workflows.settings import Config, SettingsError

SECONDS_VARIABLE = "CELERIAC_PDF_SECONDS"
MEMORY_VARIABLE = "CELERIAC_PDF_MEMORY_MB"
LEAST_MEMORY_MB = 256
MOST_ANSWER_BYTES = 100_000_000
PDFS_PER_CHILD = 200
"""PDFium gives back little of what it took: a new process does."""

_PAUSE_SECONDS = 0.5
_WANT_OF_MEMORY = {signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGKILL}
"""How a library ends its process when it gets no memory, and how the kernel does."""


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """What one PDF may take."""

    seconds: float = 60.0
    memory_mb: int = 1024

    @classmethod
    def of(cls, config: Config) -> ReadingLimits:
        """As the settings say.

        Raises:
            SettingsError: a number with which nothing can be read.
        """
        seconds = config.number(SECONDS_VARIABLE, 60.0)
        memory = config.integer(MEMORY_VARIABLE, 1024)
        if not 0 < seconds <= 3600:
            raise SettingsError(f"{SECONDS_VARIABLE}={seconds} is no time to read a PDF in", "use 1 to 3600")
        if memory < LEAST_MEMORY_MB:
            raise SettingsError(f"{MEMORY_VARIABLE}={memory} is too little", f"use {LEAST_MEMORY_MB} or more")
        return cls(seconds, memory)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a PDF says; `title` is empty where it says none."""

    title: str
    document: Document


class _ChildDiedError(Exception):
    """The process that reads has died.

    Args:
        may_be_chance: It need not be this file's doing: it had read others before, rested for long, or was killed.
    """

    def __init__(self, status: int, *, may_be_chance: bool) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.may_be_chance = may_be_chance


class PdfReader:
    """Reads PDFs one after the other, for one thread."""

    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._read_before = 0

    @property
    def pid(self) -> int | None:
        """Of the process that reads; None while there is none."""
        return self._child.pid if self._child is not None else None

    def read(self, path: Path, on_wait: Callable[[], None] | None = None) -> Reading:
        """The text of a PDF.

        Args:
            on_wait: Called twice a second while the PDF is read; what it raises ends the reading.

        Raises:
            UnreadablePdfError: the PDF gives no text, takes too much, or kills its reader.
        """
        try:
            return _reading(self._ask(path, on_wait))
        except _ChildDiedError as death:
            if not death.may_be_chance:
                raise _fault(path, death.status, self._limits) from None
        try:
            return _reading(self._ask(path, on_wait))
        except _ChildDiedError as death:
            raise _fault(path, death.status, self._limits) from None

    def close(self) -> None:
        """End the process that reads, at once."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _ask(self, path: Path, on_wait: Callable[[], None] | None) -> dict[str, Any]:
        child = self._running()
        request = json.dumps({"path": str(path.absolute())}).encode() + b"\n"
        try:
            assert child.stdin is not None
            child.stdin.write(request)
            child.stdin.flush()
            answer = json.loads(self._line(child, path, on_wait))
        except (BrokenPipeError, EOFError):
            status = child.wait()
            is_chance = self._read_before > 0 or status in {0, -signal.SIGKILL}
            self.close()
            raise _ChildDiedError(status, may_be_chance=is_chance) from None
        except BaseException:
            self.close()  # an answer that nobody waits for must not be taken for the next one
            raise
        self._read_before += 1
        if self._read_before == PDFS_PER_CHILD:
            self.close()
        return dict(answer)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            self._read_before = 0
            self._child = subprocess.Popen(
                [sys.executable, "-m", "pipeline.text.child", str(self._limits.memory_mb), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Neither passwords nor keys: a reader that a file has taken over finds none.
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"},
                cwd="/",
            )
        return self._child

    def _line(self, child: subprocess.Popen[bytes], path: Path, on_wait: Callable[[], None] | None) -> bytes:
        """The next line of the child's output.

        Raises:
            EOFError: it has died.
            UnreadablePdfError: it takes too long, or answers too much.
        """
        assert child.stdout is not None
        end = time.monotonic() + self._limits.seconds
        parts: list[bytes] = []
        size = 0
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not (parts and parts[-1].endswith(b"\n")):
                left = end - time.monotonic()
                if left <= 0:
                    took = f"reading {path.name} takes more than {self._limits.seconds:g} s"
                    raise UnreadablePdfError(Code.TIMEOUT, took)
                if not selector.select(min(left, _PAUSE_SECONDS)):
                    if on_wait is not None:
                        on_wait()
                    continue
                part = os.read(child.stdout.fileno(), 1 << 20)
                if not part:
                    raise EOFError
                parts.append(part)
                size += len(part)
                if size > MOST_ANSWER_BYTES:
                    raise UnreadablePdfError(
                        Code.TOO_LARGE, f"the text of {path.name} is over {MOST_ANSWER_BYTES} bytes"
                    )
        return b"".join(parts)


def reader() -> PdfReader:
    """The reader of this thread of this process, with the limits of the settings."""
    found = getattr(_local, "reader", None)
    if found is None or found[0] != os.getpid():
        found = _local.reader = (os.getpid(), PdfReader(ReadingLimits.of(Config.from_env())))
    return found[1]


_local = threading.local()


def _reading(answer: dict[str, Any]) -> Reading:
    if "fault" in answer:
        code, what = answer["fault"]
        raise UnreadablePdfError(Code(code), what)
    found = answer["document"]
    sections = tuple(Section(*section) for section in found["sections"])
    return Reading(answer["title"], Document(found["text"], sections, tuple((a, b) for a, b in found["pages"])))


def _fault(path: Path, status: int, limits: ReadingLimits) -> UnreadablePdfError:
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    if status < 0 and -status in _WANT_OF_MEMORY:
        what = f"reading {path.name} ended by {how}: it takes more than {limits.memory_mb} MB, or the file is hostile"
        return UnreadablePdfError(Code.MEMORY, what)
    return UnreadablePdfError(Code.CRASHED, f"reading {path.name} ended by {how}")
