"""The ledger: a process of its own that writes down what steps do, and counts effects as a remote service would.

It knows nothing of the engine. Steps tell it over a Unix socket and wait for its answer; every line is in its file
before the answer leaves. A keyed effect is applied once a key, a raw one as often as it is asked for.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.waiting import wait_until

VARIABLE = "CHAOS_LEDGER"
"""Names the socket to the steps."""


class Who(NamedTuple):
    """A step of a run, or a call of its map (`item` is its key)."""

    run_id: str
    step: str
    item: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in self if part is not None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: `event` is `start`, `failure` or `effect`; `at` is when the step said so, in seconds since 1970.

    Attributes:
        is_new: Of an effect: whether its key had not been seen before.
    """

    event: str
    who: Who
    attempt: int
    pid: int
    at: float
    is_new: bool


class Ledger(socketserver.ThreadingUnixStreamServer):
    """The process's server."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Talk)
        self._file = os.open(path.with_suffix(".jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._failures: Counter[str] = Counter()

    def write(self, said: dict[str, Any]) -> int:
        """Keep a line; the number of failures that this step has now told of."""
        with self._lock:
            who = "/".join(part for part in said["who"] if part is not None)
            if said["event"] == "effect":
                said["is_new"] = said["key"] not in self._keys
                self._keys.add(said["key"])
            self._failures[who] += said["event"] == "failure"
            os.write(self._file, (json.dumps(said) + "\n").encode())
            return self._failures[who]


class _Talk(socketserver.StreamRequestHandler):
    server: Ledger

    def handle(self) -> None:
        with suppress(ConnectionError):  # the step's process was killed
            for line in self.rfile:
                self.wfile.write(f"{self.server.write(json.loads(line))}\n".encode())


class Client:
    """What a step's process holds. A forked child makes a connection of its own."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._pid = 0

    def tell(self, event: str, who: Who, attempt: int, key: str = "") -> int:
        """Write a line; how many failures of this step or call there are by now."""
        said = {"event": event, "who": who, "attempt": attempt, "key": key, "pid": os.getpid(), "at": time.time()}
        if self._pid != os.getpid():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(os.environ[VARIABLE])  # noqa: TID251 - no setting of the engine
            self._stream, self._pid = connection.makefile("rwb"), os.getpid()
        self._stream.write(json.dumps(said).encode() + b"\n")
        self._stream.flush()
        return int(self._stream.readline())


@contextmanager
def ledger(folder: Path) -> Iterator[Path]:
    """A ledger that runs while inside; its socket's path. It ends when its standard input does."""
    path = folder / "effects"
    command = [sys.executable, "-m", "benchmarks.havoc.ledger", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            wait_until(lambda: path.exists() or process.poll() is not None, 30, "the ledger")
            yield path
        finally:
            assert process.stdin is not None
            process.stdin.close()


class Reader:
    """Reads a ledger that is being written."""

    def __init__(self, path: Path) -> None:
        self._file = path.with_suffix(".jsonl")
        self._offset = 0
        self._entries: list[Entry] = []

    def entries(self) -> list[Entry]:
        """Every line so far, in the order in which the ledger took them."""
        if self._file.exists():
            with self._file.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    self._entries.append(_entry(json.loads(line)))
        return self._entries


def read(path: Path) -> list[Entry]:
    """The same, once."""
    return Reader(path).entries()


def _entry(said: dict[str, Any]) -> Entry:
    return Entry(said["event"], Who(*said["who"]), said["attempt"], said["pid"], said["at"], said.get("is_new", False))


if __name__ == "__main__":
    with Ledger(Path(sys.argv[1])) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
