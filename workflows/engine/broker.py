"""What the engine asks of the broker beside publishing: how long a queue is, and whether it has lost its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError, ResponseError

from workflows.engine.broker_safety import Memory, examine_memory
from workflows.model.errors import BrokerUnavailableError

T = TypeVar("T")

MARKER_PREFIX = "celeriac:marker:"
"""A key on Redis, an empty durable queue on RabbitMQ."""


class BrokerMemory(Protocol):
    """What the reconciler asks a broker, to know whether messages are on their way or lost."""

    def queue_length(self, queue: str) -> int:
        """Messages that wait in the queue, without those that workers have taken."""
        ...

    def has_forgotten(self, marker: str) -> bool:
        """Whether what `remember` left is gone."""
        ...

    def remember(self, marker: str) -> None:
        """Leave the marker."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class Broker:
    """The broker of a Celery application. Keeps one connection; use it from one thread."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None
        self._channel: Any = None

    def queue_length(self, queue: str) -> int:
        """Messages that wait in the queue, without those that workers have taken."""
        return int(self._ask(lambda channel: channel.queue_declare(queue, passive=True).message_count, missing=0))

    def has_forgotten(self, marker: str) -> bool:
        """Whether what `remember` left is gone: the broker was flushed, or started empty."""
        name = MARKER_PREFIX + marker

        def is_gone(channel: Any) -> bool:
            if _redis(channel) is not None:
                return not _redis(channel).exists(name)
            channel.queue_declare(name, passive=True)
            return False

        return bool(self._ask(is_gone, missing=True))

    def remember(self, marker: str) -> None:
        """Leave the marker."""
        name = MARKER_PREFIX + marker

        def leave(channel: Any) -> None:
            if _redis(channel) is not None:
                _redis(channel).set(name, "1")
            else:
                channel.queue_declare(name, durable=True, auto_delete=False)

        self._ask(leave)

    def check(self) -> str:
        """What to be careful about with this broker, as a sentence; empty when all is well.

        Raises:
            BrokerUnavailableError: it does not answer.
            BrokerUnsafeError: it may throw messages away.
        """
        memory = self._ask(lambda channel: _redis(channel) and _memory(_redis(channel)))
        return "" if memory is None else examine_memory(memory)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.release()
            self._connection = self._channel = None

    def _ask(self, question: Callable[[Any], T], missing: T | None = None) -> T:
        """Put a question to an open channel; `missing` is the answer for a queue that does not exist."""
        try:
            if self._connection is None:
                self._connection = self._app.connection_for_read()
                self._connection.ensure_connection(max_retries=0, timeout=5)
            if self._channel is None:
                self._channel = self._connection.channel()
            try:
                return question(self._channel)
            except self._connection.channel_errors:
                self._channel = None  # RabbitMQ closes a channel that has asked for what is not there
                if missing is None:
                    raise
                return missing
        except (OperationalError, AMQPError, RedisError, OSError) as error:
            self.close()
            raise BrokerUnavailableError(
                f"the message broker does not answer: {error}",
                "start it, or correct CELERY_BROKER_URL; what is recorded is sent as soon as it is back",
            ) from error


def _redis(channel: Any) -> Any:
    """The Redis client under a channel; None on other transports."""
    return getattr(channel, "client", None)


def _memory(client: Any) -> Memory:
    """From INFO alone: many a managed server forbids CONFIG."""
    try:
        told = client.info("memory")
    except ResponseError:  # a user who may not ask; that the server answers is known all the same
        told = {}
    return Memory(told.get("maxmemory_policy", ""), told.get("maxmemory"))
