"""Locks that the kernel frees when their holder dies, however it dies (`flock`)."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import IO


def try_lock(file: IO[bytes], *, shared: bool = False, timeout_seconds: float = 0.0) -> bool:
    """Take the lock of an open file; False when someone else still has it after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            Event().wait(0.02)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of that file. A file that does not exist is not locked."""
    try:
        with path.open("rb") as file:
            return not try_lock(file, shared=True)
    except (FileNotFoundError, NotADirectoryError):
        return False


class UserLock:
    """One user of a stack: a file in the folder of users, locked for as long as the user lives."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{os.getpid()}-{os.urandom(6).hex()}"
        self._file = self._take()

    def _take(self) -> IO[bytes]:
        while True:
            file = self.path.open("ab")
            fcntl.flock(file, fcntl.LOCK_EX)
            # The supervisor may have found the file before it was locked, and removed it as that of a dead user.
            with suppress(FileNotFoundError):
                if self.path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    return file
            file.close()

    def release(self) -> None:
        """Stop being a user; may be called again."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)
            self._file.close()


def living_users(folder: Path, *, remove_dead: bool = False) -> int:
    """How many users of a stack are alive; only the supervisor removes what the dead have left."""
    alive = 0
    for path in _files(folder):
        with suppress(FileNotFoundError), path.open("rb") as file:
            if not try_lock(file):
                alive += 1
            elif remove_dead:
                path.unlink(missing_ok=True)
    return alive


def _files(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from list(folder.iterdir())


@contextmanager
def exclusive(path: Path, timeout_seconds: float) -> Iterator[bool]:
    """Hold the lock of a file while inside; gives False when another has it still after the timeout."""
    with path.open("ab") as file:
        yield try_lock(file, timeout_seconds=timeout_seconds)
