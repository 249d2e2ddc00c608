"""The embedded stack as its users see it: brought up by the first, shared by all, gone with the last."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Self

from workflows.settings import Config
from workflows.stack import broker
from workflows.stack.children import trim_log
from workflows.stack.locks import UserLock, is_locked, living_users
from workflows.stack.places import Phase, Places, StackError, StackState, broker_url
from workflows.stack.supervisor import Orders

_STARTUP_SECONDS = 30.0
_SHUTDOWN_SECONDS = 15.0
_POLL = 0.03


@dataclass(frozen=True, slots=True)
class StackStatus:
    """How the stack of a home is.

    Attributes:
        broker_url: As Celery reads it.
        slots: Processes of the worker; what the user who brought it up asked for.
        users: Processes that hold the stack up.
        broker_pid: None while it is down and about to be started again.
        worker_pid: None while it is down and about to be started again.
        broker_starts: 1 in an undisturbed life.
    """

    home: Path
    phase: Phase
    broker_url: str
    broker_answers: bool
    slots: int
    users: int
    supervisor_pid: int
    broker_pid: int | None
    worker_pid: int | None
    broker_starts: int
    worker_starts: int
    worker_log: Path


def find(config: Config) -> StackStatus | None:
    """The stack of the home if one is up or on its way; None otherwise. Starts nothing, holds nothing up."""
    places = Places(config.home)
    if not is_locked(places.lock):
        return None
    state = StackState.read(places.state)
    if state is None:
        return None
    return StackStatus(
        home=config.home,
        phase=state.phase,
        broker_url=broker_url(Path(state.socket)),
        broker_answers=broker.answers(Path(state.socket)),
        slots=state.slots,
        users=living_users(places.users),
        supervisor_pid=state.supervisor_pid,
        broker_pid=state.broker.pid if state.broker else None,
        worker_pid=state.worker.pid if state.worker else None,
        broker_starts=state.broker_starts,
        worker_starts=state.worker_starts,
        worker_log=places.log("worker"),
    )


class EmbeddedStack:
    """A use of the broker and the worker of a home, for as long as the `with` lasts or this process lives.

        with EmbeddedStack(config, slots=2) as stack:
            app.conf.broker_url = stack.broker_url

    Whoever comes first brings the stack up, whoever leaves last takes it down and waits for that. It is ready when the
    broker answers: tasks queue until the worker is up too, a few seconds later.
    """

    def __init__(
        self, config: Config, slots: int | None = None, *, worker_command: Sequence[str] | None = None
    ) -> None:
        """Start nothing yet.

        Args:
            slots: Processes of the worker if this is the one to start it (default: the cores); see `status().slots`.
            worker_command: Runs instead of the Celery worker.
        """
        self._config = config
        self._places = Places(config.home)
        self._slots = slots or _cores()
        self._worker_command = tuple(worker_command) if worker_command else _celery_worker(self._slots)
        self._grace_seconds = config.number("CELERIAC_STOP_GRACE_SECONDS", 10.0)
        self._lock: UserLock | None = None
        self._socket = self._places.socket()
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def broker_url(self) -> str:
        """URL of the broker, which is its result backend too."""
        return broker_url(self._socket)

    def env(self) -> dict[str, str]:
        """Environment for a process that shall use this stack, and find what this one finds whatever its folder."""
        paths = [str(Path.cwd()), *filter(None, self._config.env.get("PYTHONPATH", "").split(os.pathsep))]
        return {
            **self._config.env,
            "CELERIAC_HOME": str(self._config.home),
            "CELERY_BROKER_URL": self.broker_url,
            "CELERY_RESULT_BACKEND": self.broker_url,
            "DATABASE_URL": _absolute_database_url(self._config.database_url),
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        }

    def start(self) -> None:
        """Become a user, and return when the broker answers.

        Raises:
            StackError: it cannot be brought up; tells the end of the log.
        """
        try:
            self._places.make()
        except OSError as error:
            raise StackError(f"the home {self._config.home} cannot be used: {error}", "set CELERIAC_HOME") from error
        if self._lock is None:
            self._lock = UserLock(self._places.users)
        try:
            self._bring_up()
            self._check_fit()
        except BaseException:
            self.close(wait=False)
            raise

    def ensure(self) -> bool:
        """Bring the supervisor up again if it has died; True when that was so. Users who wait call it every second."""
        if self._lock is None:
            raise StackError("this use of the stack has ended", "call start() first")
        if is_locked(self._places.lock):
            return False
        self._bring_up()
        return True

    def status(self) -> StackStatus | None:
        """How the stack is; None when its supervisor has died and `ensure` has not been called since."""
        return find(self._config)

    def close(self, *, wait: bool = True) -> None:
        """Stop using the stack. Whoever was the last waits until nothing of it runs any more."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        deadline = time.monotonic() + self._grace_seconds + _SHUTDOWN_SECONDS
        while wait and time.monotonic() < deadline:
            if not is_locked(self._places.lock) or living_users(self._places.users):
                break
            Event().wait(_POLL)
        if self._supervisor is not None and not is_locked(self._places.lock):
            with suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(1.0)

    def _bring_up(self) -> None:
        deadline = time.monotonic() + _STARTUP_SECONDS
        started = False
        while True:
            state = StackState.read(self._places.state)
            if is_locked(self._places.lock):
                if state is not None and state.phase == "running" and broker.answers(Path(state.socket)):
                    self._socket = Path(state.socket)
                    return
            elif not started or self._has_failed():
                # Also when one that was stopping has gone now. Two who come here at once start two; one of them stays.
                self._check_failed(started)
                self._start_supervisor()
                started = True
            if time.monotonic() > deadline:
                late = f"the broker of {self._places.home} did not answer within {_STARTUP_SECONDS:.0f} s"
                raise StackError(late + self._log_tail(), f"see {self._places.log('broker')}")
            Event().wait(_POLL)

    def _check_fit(self) -> None:
        """Refuse to join a worker that would never take this user's steps, or that writes to another database."""
        state = StackState.read(self._places.state)
        if state is None:
            return
        unknown = [name for name in self._config.step_modules if name not in state.step_modules]
        if unknown:
            raise StackError(
                f"the running stack of {self._places.home} has not loaded the step modules {', '.join(unknown)}",
                "wait until its last user leaves, or name another home in CELERIAC_HOME",
            )
        if state.database != self._database():
            raise StackError(
                f"the running stack of {self._places.home} works on another database",
                "use the same DATABASE_URL, wait until its last user leaves, or name another home in CELERIAC_HOME",
            )

    def _database(self) -> str:
        return hashlib.sha256(_absolute_database_url(self._config.database_url).encode()).hexdigest()[:16]

    def _has_failed(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is not None

    def _check_failed(self, started: bool) -> None:
        if started and self._supervisor is not None and self._supervisor.poll():
            raise StackError(f"the stack of {self._places.home} cannot be brought up{self._log_tail()}")

    def _start_supervisor(self) -> None:
        orders = Orders(
            home=str(self._places.home),
            server=str(broker.find_server()),
            socket=str(self._socket),
            slots=self._slots,
            worker_command=self._worker_command,
            database=self._database(),
            step_modules=self._config.step_modules,
            grace_seconds=self._grace_seconds,
        )
        path = self._places.log("supervisor")
        trim_log(path)
        with path.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the user's program to answer.
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "workflows.stack.supervisor", orders.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.env(),
            )

    def _log_tail(self) -> str:
        lines: list[str] = []
        for name in ("supervisor", "broker"):
            with suppress(FileNotFoundError):
                lines += self._places.log(name).read_text(errors="replace").splitlines()[-3:]
        return "".join(f"\n  {line}" for line in lines)


def _celery_worker(slots: int) -> tuple[str, ...]:
    # Mingle and gossip look for other workers, for a second, and there are none.
    return (
        sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--pool", "prefork", "--concurrency", str(slots),
        "--without-mingle", "--without-gossip", "--loglevel", "WARNING", "--hostname", "embedded@%h",
    )  # fmt: skip


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _absolute_database_url(url: str) -> str:
    """A SQLite path that starts from the working folder, made to start from the root; anything else as it is."""
    prefix, separator, path = url.partition(":///")
    if not prefix.startswith("sqlite") or not separator or not path or path.startswith(("/", ":memory:", "file:")):
        return url
    return f"{prefix}:///{Path(path).absolute()}"
