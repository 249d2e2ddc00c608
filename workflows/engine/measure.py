"""The exact size of the messages that a canvas causes, without a broker.

A copy of the application publishes the canvas into a list instead of a broker, and what a worker would publish after
each message (the rest of a chain, the body of a chord) is published the same way. So it is Celery's own code that
makes every message, and the list holds what the Redis transport would push.
"""

from __future__ import annotations

import base64
import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.backends.base import BaseBackend
from celery.canvas import Signature, chord, group, maybe_signature
from celery.canvas import _chain as chain_type
from kombu.connection import Connection
from kombu.transport import virtual
from kombu.utils.json import dumps, loads

from workflows.compile.budget import MessageSize
from workflows.engine.canvas import STEP_TASK, send
from workflows.engine.signing import Signer, SigningApp

_TASK_OPTIONS = ("ignore_result", "serializer", "compression", "expires", "time_limit", "soft_time_limit")
"""What a task's class adds to its messages."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The task that publishes: its ids stand in the headers of what it sends."""

    id: str
    root_id: str


class Scale:
    """Weighs canvases as they would be sent by one application."""

    def __init__(self, app: Celery) -> None:
        self._sent: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._app = _twin(app)
        options = {"deliver": lambda queue, message: self._sent.append((queue, message))}
        self._connection = Connection(transport=_ListTransport, transport_options=options)
        self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)

    def weigh(self, canvas: Signature, origin: Origin | None = None) -> list[MessageSize]:
        """All messages from the first of the canvas to its last, in the order of an undisturbed run.

        Args:
            canvas: A signature, chain, group or chord; it is left as it is.
            origin: The task that would publish it; None for a process that is no worker.
        """
        self._app.origin = origin
        send(self._app, maybe_signature(loads(dumps(canvas)), app=self._app), self._producer)
        sizes, kind, arrived = [], _kind(canvas), Counter[str]()
        while self._sent:
            queue, message = self._sent.popleft()
            args, _, then = json.loads(base64.b64decode(message["body"]))
            is_body = isinstance(canvas, chord) and not then["chord"] and not then["chain"]
            ordinal = args[1] if len(args) > 1 else None
            sizes.append(MessageSize("chord body" if is_body else kind, ordinal, queue, len(dumps(message))))
            self._go_on(message["headers"], then, arrived)
        return sizes

    def _go_on(self, headers: Mapping[str, Any], then: Mapping[str, Any], arrived: Counter[str]) -> None:
        """Publish what a worker publishes when the task of this message has succeeded."""
        self._app.origin = origin = Origin(headers["id"], headers["root_id"])
        if then["chain"]:
            maybe_signature(then["chain"][-1], app=self._app).apply_async(
                chain=then["chain"][:-1], parent_id=origin.id, root_id=origin.root_id, producer=self._producer
            )
        if then["chord"]:
            arrived[headers["group"]] += 1
            if arrived[headers["group"]] == self._app.chord_sizes[headers["group"]]:
                maybe_signature(then["chord"], app=self._app).apply_async(producer=self._producer)


def measure(app: Celery, canvas: Signature, origin: Origin | None = None) -> list[MessageSize]:
    """All messages that one canvas causes; for many canvases keep a `Scale`."""
    return Scale(app).weigh(canvas, origin)


def _kind(canvas: Signature) -> str:
    if isinstance(canvas, chord):
        return "chord header"
    if isinstance(canvas, group):
        return "group"
    if isinstance(canvas, chain_type):
        return "chain"
    return "step" if canvas.task == STEP_TASK else "job"


class _Twin(SigningApp):
    """An application that answers like the one it copies, but has neither broker nor result backend."""

    origin: Origin | None = None
    chord_sizes: dict[str, int]

    @property
    def current_worker_task(self) -> Any:
        """What Celery asks for the ids of the task that publishes."""
        return _PublishingTask(self.origin) if self.origin else None


@dataclass(frozen=True, slots=True)
class _PublishingTask:
    request: Origin

    def add_trail(self, _result: object) -> None:
        """Nobody reads this task's children."""


class _NoResults(BaseBackend):
    """Lets chords pass, and stores nothing but the size of their headers."""

    def apply_chord(self, header_result_args: object, body: Signature, **options: object) -> None:
        """Nothing to prepare."""

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Told before the members are sent."""
        self.app.chord_sizes[group_id] = chord_size


class _ListChannel(virtual.Channel):
    def _put(self, queue: str, message: Mapping[str, Any], **_options: object) -> None:
        self.connection.client.transport_options["deliver"](queue, message)

    def _size(self, _queue: str) -> int:
        return 0


class _ListTransport(virtual.Transport):
    """A broker whose queues are one list; bodies are encoded as for Redis, in base64."""

    Channel = _ListChannel
    driver_type = driver_name = "list"


def _twin(app: Celery) -> _Twin:
    twin = _Twin(app.main, set_as_current=False, fixups=(), amqp=app.amqp_cls)
    twin.signer = Signer(lambda: bytes(32))  # any key: all signatures have the same length
    twin.backend_cls = _NoResults
    twin.chord_sizes = {}
    twin.conf.update({key: value for key, value in app.conf.items() if key.startswith("task_")})
    twin.conf.update(task_always_eager=False, task_send_sent_event=False, task_annotations=None)
    for name in (STEP_TASK, *(name for name in app.tasks if not name.startswith("celery."))):
        real = app.tasks.get(name)
        options = {option: getattr(real, option, None) for option in _TASK_OPTIONS} if real else {"ignore_result": True}
        twin.task(_never_run, name=name, typing=False, shared=False, **options)
    return twin


def _never_run(*_args: object) -> None:
    raise RuntimeError("a measured message is never delivered")
