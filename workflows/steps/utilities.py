"""Helpers for the code of steps, under the names of the first system: `TaskRetryPolicy` and `TaskProgressManager`.

Both are faces of what the engine itself uses. A step rarely needs the first: its `retry` in the definition gives the
worker free while it waits. Within a step it is for one call of many, such as a page of a long list.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from workflows.model.estimates import remaining_seconds
from workflows.model.policies import RetryPolicy
from workflows.steps.context import StepContext

T = TypeVar("T")

_LONGEST_NAP_SECONDS = 1.0
"""A step that waits asks so often whether its run was cancelled."""


class TaskRetryPolicy:
    """When and how often a call is tried again: exponential backoff, and no retry of what cannot help.

    The arithmetic is that of `retry` in a definition (`workflows.model.policies.RetryPolicy`). Here retries are
    counted, there attempts, which include the first: `max_retries=3` is `max_attempts: 4`.
    """

    def __init__(
        self,
        max_retries: int = 3,
        base_delay: float = 60.0,
        factor: float = 2.0,
        max_delay: float = 900.0,
        *,
        jitter: bool = True,
        only_for: Iterable[str] = (),
        never_for: Iterable[str] = ("ValidationError", "AuthenticationError"),
    ) -> None:
        """Choose the policy.

        Args:
            max_retries: Tries after the first.
            base_delay: Seconds before the first retry; each later wait is `factor` times longer.
            max_delay: Seconds that no wait exceeds.
            jitter: Draw each wait uniformly from 0 to its computed value.
            only_for: Names of exception classes, bases included; when given, only these are tried again.
            never_for: Names of exception classes that are final at once.
        """
        self.max_retries = max_retries
        self._policy = RetryPolicy(
            max_attempts=max_retries + 1,
            delay_seconds=base_delay,
            factor=factor,
            max_delay_seconds=max_delay,
            jitter="full" if jitter else "none",
            only_for=tuple(only_for),
            never_for=tuple(never_for),
        )

    def should_retry(self, error: BaseException, retry_count: int) -> bool:
        """Whether another try may help after `retry_count` retries (0 after the first try) ended with `error`."""
        names = [cls.__name__ for cls in type(error).__mro__]
        return retry_count < self.max_retries and self._policy.is_retryable(names)

    def delay(self, retry_count: int, u: float = 1.0) -> float:
        """Seconds to wait before the next try, after `retry_count` retries: base delay x factor ^ `retry_count`.

        Args:
            u: From [0, 1): where in the range of the jitter. By default the longest wait.
        """
        return self._policy.delay_before_next(retry_count + 1, u)

    def run(
        self,
        call: Callable[[], T],
        ctx: StepContext | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> T:
        """Call until it succeeds; the last error is raised when another try is not allowed.

        Args:
            ctx: The step's context: retries are logged, and a cancelled run ends the waiting (`StepCancelledError`).
        """
        retry_count = 0
        while True:
            try:
                return call()
            except Exception as error:
                if not self.should_retry(error, retry_count):
                    raise
                wait = self.delay(retry_count, draw())
                if ctx is not None:
                    ctx.log.info("tried again in %.1f s after %s: %s", wait, type(error).__name__, error)
            retry_count += 1
            while wait > 0:
                if ctx is not None:
                    ctx.check_cancelled()
                sleep(min(wait, _LONGEST_NAP_SECONDS))
                wait -= _LONGEST_NAP_SECONDS


class TaskProgressManager:
    """Counts what a step has done, tells the run, and estimates the time that is left.

    Use it within a step: `for page in TaskProgressManager(ctx, len(pages)).each(pages): ...`.
    """

    def __init__(self, ctx: StepContext, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count.

        Args:
            total: How many there are to do, in units of the step's own.
            clock: Seconds since some moment.
        """
        self._ctx, self._clock = ctx, clock
        self._began = clock()
        self.total, self.current, self.description = total, 0, ""

    def advance(self, by: int = 1, description: str = "") -> None:
        """So many more are done; the run's progress follows, at most once a second."""
        self.update(self.current + by, description)

    def update(self, current: int, description: str = "") -> None:
        """So many of `total` are done; a new description goes to the log of the step."""
        self.current = current
        if description and description != self.description:
            self.description = description
            self._ctx.log.info("%s", description)
        self._ctx.progress(current, self.total)

    def each(self, things: Iterable[T]) -> Iterable[T]:
        """The things one by one; each counts as done when the next one is asked for."""
        for thing in things:
            yield thing
            self.advance()

    @property
    def progress(self) -> int:
        """Percent done, 0 to 100."""
        return 100 if self.total <= 0 else max(0, min(100, self.current * 100 // self.total))

    @property
    def elapsed_time(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def estimated_remaining(self) -> float | None:
        """Seconds that are left at the pace so far; None before the first is done."""
        share = 1.0 if self.total <= 0 else self.current / self.total
        return remaining_seconds(self.elapsed_time, share)

    def to_json(self) -> dict[str, Any]:
        """`{progress, description, current, total, elapsed_time, estimated_remaining}`, times in seconds."""
        left = self.estimated_remaining
        return {
            "progress": self.progress,
            "description": self.description,
            "current": self.current,
            "total": self.total,
            "elapsed_time": round(self.elapsed_time, 1),
            "estimated_remaining": None if left is None else round(left, 1),
        }
