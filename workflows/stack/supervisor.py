"""The process that keeps a home's broker and worker up while somebody uses them, and leaves nothing behind.

`python -m workflows.stack.supervisor '{"home": ...}'` (`Orders` as JSON). It is detached from whoever started it, and
alone in its home by a lock. It has one thread: the kernel binds the life of a child to the thread that forked it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from workflows.stack import broker
from workflows.stack.children import Child, end_leftover, trim_log
from workflows.stack.locks import exclusive, living_users, try_lock
from workflows.stack.places import Phase, Places, StackError, StackState, private_folder

log = logging.getLogger("celeriac.stack")

_TICK_SECONDS = 0.1
_STARTING_TICK_SECONDS = 0.02
_TRIM_EVERY_SECONDS = 10.0
_BROKEN_AFTER_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Orders:
    """What a supervisor is started with.

    Attributes:
        server: Program of the broker.
        database: Which one the worker works on, as a hash; told to those who want to join.
        step_modules: The same.
        linger_seconds: How long the stack stays up without a user.
        grace_seconds: How long a step in progress may go on when the stack stops.
    """

    home: str
    server: str
    socket: str
    slots: int
    worker_command: tuple[str, ...]
    database: str = ""
    step_modules: tuple[str, ...] = ()
    linger_seconds: float = 0.5
    grace_seconds: float = 10.0

    def to_json(self) -> str:
        """For the command line; `from_json` is its inverse."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Orders:
        """Read the command line's argument."""
        value = json.loads(text)
        lists = {name: tuple(value[name]) for name in ("worker_command", "step_modules")}
        return cls(**{**value, **lists})


class Supervisor:
    """The loop; `run` is its whole life, once the lock of the home is held."""

    def __init__(self, orders: Orders, children_lock: int) -> None:
        self._orders = orders
        self._places = Places(Path(orders.home))
        self._socket = Path(orders.socket)
        command = broker.server_command(Path(orders.server), self._socket, self._places.data)
        self._broker = Child(command, self._places.log("broker"), children_lock)
        self._worker = Child(orders.worker_command, self._places.log("worker"), children_lock)
        self._phase: Phase = "starting"
        self._told_to_stop = False
        self._last_used = time.monotonic()
        self._last_trim = time.monotonic()

    def run(self) -> None:
        """Keep broker and worker up until nobody uses them, or a signal says so; then stop both."""
        wake = self._listen_to_signals()
        self._tell("starting")
        try:
            while not self._may_stop():
                self._keep_up()
                self._trim_logs()
                # The worker waits for the broker, and somebody for the worker.
                tick = _STARTING_TICK_SECONDS if self._phase == "starting" else _TICK_SECONDS
                if select.select([wake], [], [], tick)[0]:
                    os.read(wake, 512)
        finally:
            self._stop()

    def _listen_to_signals(self) -> int:
        def stop(_signum: int, _frame: FrameType | None) -> None:
            self._told_to_stop = True

        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, stop)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return reader

    def _may_stop(self) -> bool:
        """Nobody has used the stack for a while. Said aloud before the last look, so that no newcomer is overlooked."""
        if self._told_to_stop:
            return True
        now = time.monotonic()
        if living_users(self._places.users, remove_dead=True):
            self._last_used = now
        if now - self._last_used < self._orders.linger_seconds:
            return False
        before = self._phase
        self._tell("stopping")
        if living_users(self._places.users) == 0:
            return True
        self._tell(before)
        self._last_used = now
        return False

    def _keep_up(self) -> None:
        changed = self._broker.keep_up()
        if self._phase == "starting" and broker.answers(self._socket):
            self._phase, changed = "running", True
            self._broker.failures = 0
        if self._phase == "running":
            changed = self._worker.keep_up() or changed
        if changed:
            self._tell(self._phase)
        if self._broker.failures >= _BROKEN_AFTER_FAILURES:
            self._set_data_aside()

    def _set_data_aside(self) -> None:
        """The broker cannot start with what it kept. What it held are messages only: the database makes them again."""
        if broker.answers(self._socket):
            return
        aside = self._places.data.with_name("data.unreadable")
        log.error("the broker failed to start %s times; its data goes to %s", self._broker.failures, aside)
        shutil.rmtree(aside, ignore_errors=True)
        self._places.data.replace(aside)
        self._places.data.mkdir()
        self._broker.failures = 0

    def _tell(self, phase: Phase) -> None:
        self._phase = phase
        state = StackState(
            phase=phase,
            supervisor_pid=os.getpid(),
            socket=self._orders.socket,
            slots=self._orders.slots,
            database=self._orders.database,
            step_modules=self._orders.step_modules,
            broker=self._broker.started,
            worker=self._worker.started,
            broker_starts=self._broker.starts,
            worker_starts=self._worker.starts,
        )
        with suppress(FileNotFoundError):  # the home was removed: nobody is there to be told
            state.write(self._places.state)

    def _trim_logs(self) -> None:
        now = time.monotonic()
        if now - self._last_trim > _TRIM_EVERY_SECONDS:
            self._last_trim = now
            for name in ("broker", "worker"):
                trim_log(self._places.log(name))

    def _stop(self) -> None:
        """The worker may finish what it does; then the broker writes out what it holds."""
        self._tell("stopping")
        self._worker.stop([(signal.SIGTERM, self._orders.grace_seconds), (signal.SIGQUIT, 2.0)])
        self._broker.stop([(signal.SIGTERM, 5.0)])
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._places.root:
            with suppress(OSError):
                self._socket.parent.rmdir()
        self._places.state.unlink(missing_ok=True)


def supervise(orders: Orders) -> None:
    """Become the supervisor of the home; return at once when it has one."""
    places = Places(Path(orders.home))
    places.make()
    # A user who looks whether the lock is held holds it for a moment: hence the patience.
    with exclusive(places.lock, timeout_seconds=1.0) as alone:
        if not alone:
            log.info("the stack of %s has a supervisor already", places.home)
            return
        if not living_users(places.users):
            log.info("nobody uses %s any more", places.home)  # the one before us has served them already
            return
        if Path(orders.socket).parent != places.root:
            private_folder(Path(orders.socket).parent)
        with places.children_lock.open("ab") as children:
            if not try_lock(children, timeout_seconds=1.0):
                _end_leftovers(places)
                if not try_lock(children, timeout_seconds=10.0):
                    raise StackError(
                        f"processes of an earlier stack of {places.home} still run", "end them and try again"
                    )
            try_lock(children, shared=True)
            Supervisor(orders, children.fileno()).run()


def _end_leftovers(places: Places) -> None:
    """The kernel has ended the children of a supervisor that was killed; this is for those it has missed."""
    state = StackState.read(places.state)
    if state is not None:
        end_leftover(state.worker)
        end_leftover(state.broker)


def main(argument: str) -> int:
    """Run as a process of its own; what goes wrong is written to the supervisor's log by way of standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        supervise(Orders.from_json(argument))
    except StackError as error:
        log.error("%s; %s", error, error.hint)  # noqa: TRY400 - the message says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
