"""What the engine asks of the machine under it: its own process, the processes it has born, and an alarm."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from workflows.model.errors import StepTimeoutError


class Machine:
    """The real one. The simulation has another."""

    def pid(self) -> int:
        """Of the process that asks: a forked child answers for itself."""
        return os.getpid()

    def family(self) -> dict[int, bool]:
        """Children of this process, and itself (a pool without processes), with whether they run or are stopped."""
        found = {os.getpid(): True}
        for child in psutil.Process().children(recursive=False):
            try:
                status = child.status()
            except psutil.NoSuchProcess:
                continue
            if status not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                found[child.pid] = status not in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        return found

    def kill(self, pid: int) -> None:
        """End a child at once; nothing happens when it has ended, and its number may be another process's by now."""
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if psutil.Process(pid).ppid() == os.getpid():
                os.kill(pid, signal.SIGKILL)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    @contextmanager
    def time_limit(self, seconds: float | None) -> Iterator[None]:
        """Raise `StepTimeoutError` within the block when it takes longer; None means no limit.

        A timer of this process interrupts Python code exactly; code that never returns to Python is ended by the
        worker's parent a few seconds later. Only a main thread can take signals; other pools have the parent alone.
        """
        if seconds is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def ring(_signal: int, _frame: FrameType | None) -> None:
            raise StepTimeoutError(f"the step ran longer than its timeout of {seconds:g} s")

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
