"""Several programs that run beside each other in the foreground: all start, all are kept up, all end together."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from os import pipe, set_blocking
from types import FrameType

from workflows.model.errors import CeleriacError
from workflows.stack.processes import dies_with_parent, kill_group

SETTLED_SECONDS = 10.0
"""A program that lived this long was well: its next death counts as the first."""

MOST_DEATHS = 3
_LONGEST_DELAY_SECONDS = 10.0
_TICK_SECONDS = 0.5


class ServiceError(CeleriacError):
    """A program ends again and again as soon as it is started."""

    exit_code = 1


@dataclass
class Service:
    """One program.

    Attributes:
        configuration: Written to its standard input, which keeps secrets out of lists of processes.
        grace_seconds: How long it may take to end after SIGTERM.
    """

    name: str
    command: Sequence[str]
    configuration: str | None = None
    grace_seconds: float = 10.0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _started_at: float = field(default=0.0, repr=False)
    _due_at: float = field(default=0.0, repr=False)
    _deaths: int = field(default=0, repr=False)

    @property
    def pid(self) -> int | None:
        """Its process id; None while it is down."""
        return None if self._process is None else self._process.pid

    def keep_up(self, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Start it when it is down and due.

        Raises:
            ServiceError: it has died too often.
        """
        now = time.monotonic()
        if self._process is None:
            if now >= self._due_at:
                self._start(env, now)
            return
        code = self._process.poll()
        if code is None:
            return
        kill_group(self._process.pid)  # what it leaves behind
        self._process = None
        self._deaths = 1 if now - self._started_at > SETTLED_SECONDS else self._deaths + 1
        if self._deaths >= MOST_DEATHS:
            raise ServiceError(
                f"{self.name} ended {self._deaths} times in a row (exit code {code})", "its own messages say why"
            )
        delay = min(_LONGEST_DELAY_SECONDS, 2.0**self._deaths)
        self._due_at = now + delay
        say(f"{self.name} ended with exit code {code}; it is started again in {delay:.0f} s")

    def _start(self, env: Mapping[str, str], now: float) -> None:
        # A session of its own: Ctrl-C in the terminal reaches this process only, which then ends all in order.
        self._process = subprocess.Popen(
            list(self.command),
            env=dict(env),
            stdin=subprocess.DEVNULL if self.configuration is None else subprocess.PIPE,
            start_new_session=True,
            preexec_fn=dies_with_parent(),  # noqa: PLW1509 - called from a process with one thread
        )
        if self.configuration is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(self.configuration.encode())
                self._process.stdin.close()
        self._started_at = now

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def await_end(self, is_hasty: Callable[[], bool]) -> None:
        """Wait until it has ended; kill it when its grace is over, or when somebody is in a hurry."""
        if self._process is None:
            return
        deadline = time.monotonic() + self.grace_seconds
        while self._process.poll() is None and time.monotonic() < deadline and not is_hasty():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        kill_group(self._process.pid)
        self._process.wait()
        self._process = None


class Services:
    """Programs in the order of their start; they end in the reverse one.

    Args:
        env: Environment of them all.
        say: Tells people what happens.
    """

    def __init__(self, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._env = env
        self._say = say
        self._services: list[Service] = []
        self._signals = 0
        reader, writer = pipe()
        set_blocking(writer, False)
        self._wake = reader
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._note)

    @property
    def is_told_to_stop(self) -> bool:
        """Whether Ctrl-C was pressed, or SIGTERM sent."""
        return self._signals > 0

    def start(self, service: Service) -> None:
        """Start a program and keep it up from now on."""
        self._services.append(service)
        service.keep_up(self._env, self._say)

    def wait_for(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Keep all up until the condition holds; False when it did not in time, or when told to stop."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if self.is_told_to_stop or time.monotonic() > deadline:
                return False
            self.tick(0.1)
        return True

    def run(self) -> None:
        """Keep all up until told to stop.

        Raises:
            ServiceError: a program cannot be kept up.
        """
        while not self.is_told_to_stop:
            self.tick(_TICK_SECONDS)

    def tick(self, seconds: float) -> None:
        """One look at all, then a pause that a signal ends."""
        for service in self._services:
            service.keep_up(self._env, self._say)
        select.select([self._wake], [], [], seconds)

    def stop(self) -> None:
        """End all, the last one started first; once more Ctrl-C kills what is left."""
        if self._services:
            self._say("stopping; Ctrl-C once more does not wait")
        heard = self._signals
        for service in reversed(self._services):
            service.ask_to_end()
            service.await_end(lambda: self._signals > heard)

    def _note(self, _signum: int, _frame: FrameType | None) -> None:
        self._signals += 1


def python(*arguments: str) -> list[str]:
    """Command line of this interpreter with a module: `python("celery", "-A", ...)`."""
    return [sys.executable, "-m", *arguments]
