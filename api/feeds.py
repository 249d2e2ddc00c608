"""Who watches a run is told when it changes: one query for all watched runs, however many watch them."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from starlette.concurrency import run_in_threadpool

from api.services import Services
from workflows.db import progress, queries
from workflows.db.progress import RunHead

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
AFTER_ERROR_SECONDS = 1.0
PAGE = 1000
_KEPT = 2000

Event = dict[str, Any]


@dataclass
class Watched:
    """A run that somebody watches.

    Attributes:
        head: Where it stood when it was looked at last; None when it is gone.
        tail: The latest events, so that many watchers read them once.
    """

    run_pk: int
    head: RunHead | None
    tail: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT))
    users: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wake everybody who waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Wait until something is new."""
        await self._changed.wait()


class Feeds:
    """All watched runs. Belongs to one event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._watched: dict[int, Watched] = {}
        self._task: asyncio.Task[None] | None = None
        self.is_closing = False

    @property
    def watchers(self) -> int:
        """How many watch."""
        return sum(watched.users for watched in self._watched.values())

    @contextmanager
    def watch(self, head: RunHead) -> Iterator[Watched]:
        """Watch a run while inside."""
        watched = self._watched.setdefault(head.run_pk, Watched(head.run_pk, head))
        watched.users += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll(), name="celeriac-feeds")
        try:
            yield watched
        finally:
            watched.users -= 1
            if not watched.users:
                self._watched.pop(watched.run_pk, None)

    async def events(self, watched: Watched, after: int) -> list[Event]:
        """The next events of a run: from memory when they are there, else from the database."""
        tail = watched.tail
        if tail and after >= tail[0]["seq"] - 1:
            return [event for event in tail if event["seq"] > after]
        return await self._read_events(watched.run_pk, after)

    async def close(self) -> None:
        """Let every watcher go."""
        self.close_soon()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def close_soon(self) -> None:
        """The server is about to stop, and waits for its answers to end, which those that stream never do alone."""
        self.is_closing = True
        for watched in self._watched.values():
            watched.tell()

    @asynccontextmanager
    async def closing_on_signals(self) -> AsyncIterator[None]:
        """While inside, the signals that stop the server let the watchers go first."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

        def stop(signum: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.close_soon)
            handler = before[signal.Signals(signum)]
            if callable(handler):
                handler(signum, frame)

        for signum, handler in before.items():
            if callable(handler):
                signal.signal(signum, stop)
        try:
            yield
        finally:
            for signum, handler in before.items():
                if signal.getsignal(signum) is stop:
                    signal.signal(signum, handler)

    async def _poll(self) -> None:
        while self._watched and not self.is_closing:
            pause = POLL_SECONDS
            try:
                await self._look()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - watchers wait until the database is back
                _log.warning("watched runs cannot be read: %s", error)
                pause = AFTER_ERROR_SECONDS
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        run_pks = list(self._watched)
        found = await run_in_threadpool(self._services.read, lambda tx: progress.heads(tx, run_pks))
        for run_pk in run_pks:
            watched = self._watched.get(run_pk)
            head = found.get(run_pk)
            if watched is None or watched.head == head:
                continue
            if head is not None and watched.head is not None and head.event_seq > watched.head.event_seq:
                last = watched.tail[-1]["seq"] if watched.tail else watched.head.event_seq
                while last < head.event_seq and (events := await self._read_events(run_pk, last)):
                    watched.tail.extend(events)
                    last = events[-1]["seq"]
            watched.head = head
            watched.tell()

    async def _read_events(self, run_pk: int, after: int) -> list[Event]:
        return await run_in_threadpool(
            self._services.read, lambda tx: queries.events(tx, run_pk, after=after, limit=PAGE)
        )
