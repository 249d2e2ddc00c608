"""A child of the supervisor: started, started again when it dies, stopped; it never outlives the supervisor."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from workflows.stack.places import Started
from workflows.stack.processes import dies_with_parent, kill_group

_SETTLED_SECONDS = 30.0
"""A child that lived this long was well: its next death counts as the first."""

_LONGEST_DELAY_SECONDS = 5.0
_LARGEST_LOG_BYTES = 10_000_000


class Child:
    """A program in a process group of its own.

    Attributes:
        starts: How many times it was started.
        failures: Deaths in a row, each soon after its start.
    """

    def __init__(self, command: Sequence[str], log: Path, inherit: int) -> None:
        """Take what to run; `inherit` is the descriptor that the child and its own children keep open."""
        self.starts = 0
        self.failures = 0
        self._command = list(command)
        self._log = log
        self._inherit = inherit
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._due_at = 0.0

    @property
    def started(self) -> Started | None:
        """The running process; None when there is none."""
        if self._process is None:
            return None
        try:
            return Started(self._process.pid, psutil.Process(self._process.pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def keep_up(self) -> bool:
        """Start the child if it is down and due; True when it was started or found dead, so that its state changed."""
        now = time.monotonic()
        if self._process is None:
            if now < self._due_at:
                return False
            self._start(now)
            return True
        if self._process.poll() is None:
            return False
        kill_group(self._process.pid)  # what it leaves behind, its pool processes among them
        self._process = None
        self.failures = 1 if now - self._started_at > _SETTLED_SECONDS else self.failures + 1
        self._due_at = now + min(_LONGEST_DELAY_SECONDS, 0.1 * 2.0 ** (self.failures - 1))
        return True

    def _start(self, now: float) -> None:
        trim_log(self._log)
        bind = dies_with_parent()
        # Without help from the kernel a small process in between watches a pipe that closes when we die.
        command = self._command if bind else [sys.executable, "-m", "workflows.stack.keeper", *self._command]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if bind else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._inherit,),
                preexec_fn=bind,  # noqa: PLW1509 - the supervisor has one thread
            )
        self.starts += 1
        self._started_at = now

    def stop(self, ladder: Sequence[tuple[signal.Signals, float]]) -> None:
        """Send each signal and wait its seconds; at the end kill the whole group."""
        if self._process is None:
            return
        for signum, seconds in ladder:
            self._process.send_signal(signum)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        kill_group(self._process.pid)
        self._process.wait()
        self._process = None


def trim_log(path: Path, largest_bytes: int = _LARGEST_LOG_BYTES) -> None:
    """Move what a log holds to `NAME.1` when it has grown too large; its writer, who appends, goes on undisturbed."""
    try:
        if path.stat().st_size <= largest_bytes:
            return
    except FileNotFoundError:
        return
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    with path.open("ab") as log:
        log.truncate(0)


def end_leftover(process: Started | None) -> None:
    """Kill the group of a child that an earlier supervisor told of, if it is that very process that still runs."""
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(process.pid).create_time() - process.created) < 0.01:
            kill_group(process.pid)
