"""Signed messages: what a worker runs was sent by a process of this installation.

Whoever can write to the broker could otherwise call every task that a worker knows, with arguments of his own. The key
lies in the database, which a broker's visitor does not see; every process reads it once. What is signed is the task's
name, its id and the whole body: arguments, and what is to follow. A recorded message that is sent again is genuine,
and does nothing: SQL decides what a message is worth (`docs/adr/0007-engine.md`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.amqp import AMQP, task_message
from celery.worker import strategy
from kombu.message import Message
from kombu.serialization import dumps

from workflows.model.errors import BrokerUnavailableError, DatabaseUnavailableError

if TYPE_CHECKING:
    from workflows.db.database import Database

_log = logging.getLogger(__name__)

HEADER = "sig"
SIGNATURE_BYTES = 16
"""Of the 32 of HMAC-SHA256: no forger has 2^128 tries, and each byte is paid in every message."""

STRATEGY = "workflows.engine.signing:verified"


class Signer:
    """Signs and checks messages by a key that is read when it is first needed.

    Args:
        read_key: May raise DatabaseUnavailableError.
    """

    def __init__(self, read_key: Callable[[], bytes]) -> None:
        self._read_key = read_key
        self._key: bytes | None = None

    def load(self) -> bytes:
        """The key."""
        if self._key is None:
            self._key = self._read_key()
        return self._key

    def sign(self, task: str, task_id: str, body: bytes) -> str:
        """The signature of a message, 22 characters."""
        # Neither name nor id can hold a NUL, so no two messages give the same text.
        text = b"\0".join((task.encode("utf-8", "replace"), task_id.encode("utf-8", "replace"), body))
        digest = hmac.new(self.load(), text, hashlib.sha256).digest()[:SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def is_genuine(self, message: Message) -> bool:
        """Whether a process of this installation made this message."""
        headers = message.headers or {}
        task, task_id, given = (str(headers.get(name, "")) for name in ("task", "id", HEADER))
        if "\0" in task or "\0" in task_id:
            return False
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.sign(task, task_id, body).encode())


def signer_of_database(database: Database) -> Signer:
    """Signs by the key of the installation that has this database."""
    from workflows.db import installation  # a dry-run does without a database

    return Signer(lambda: database.guarded(installation.message_key))


class SigningAmqp(AMQP):
    """Makes messages that are signed, once `SigningApp.signer` is set."""

    def as_task_v2(self, task_id: str, name: str, *args: Any, **options: Any) -> task_message:
        """See `celery.app.amqp.AMQP.as_task_v2`. The body is written here, for what is signed must be what is sent."""
        made = super().as_task_v2(task_id, name, *args, **options)
        content_type, content_encoding, body = dumps(made.body, serializer="json")
        try:
            made.headers[HEADER] = self.app.signer.sign(name, task_id, body.encode())
        except DatabaseUnavailableError as error:
            raise BrokerUnavailableError(f"the message cannot be signed: {error}", error.hint) from error
        properties = {**made.properties, "content_type": content_type, "content_encoding": content_encoding}
        return task_message(made.headers, properties, body, made.sent_event)


def _no_key() -> bytes:
    raise RuntimeError("this application cannot publish: it has no signer")


class SigningApp(Celery):
    """An application whose messages are signed."""

    signer = Signer(_no_key)


def verified(task: Any, app: SigningApp, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's own way to take a message (`Task.Strategy`), for messages that are genuine."""
    take = strategy.default(task, app, consumer, **options)

    def take_genuine(message: Message, *args: Any, **more: Any) -> Any:
        try:
            refusal = None if app.signer.is_genuine(message) else "it was not sent by this installation"
        except DatabaseUnavailableError as error:
            refusal = f"its signature cannot be checked: {error}"
        if refusal is None:
            return take(message, *args, **more)
        _log.error("a message for task %s is thrown away: %s", task.name, refusal)
        message.reject_log_error(_log, consumer.connection_errors)
        return None

    return take_genuine


def verify_all(app: SigningApp) -> None:
    """Let all tasks that the application has take genuine messages only, also those with a base class of their own."""
    for task in app.tasks.values():
        task.Strategy = STRATEGY
