"""The Celery application: queues, transport and the settings of the first system."""

from __future__ import annotations

from typing import Any

from kombu.connection import Connection
from kombu.entity import Queue
from kombu.transport import TRANSPORT_ALIASES

from workflows.engine.canvas import COUNTS_CHORDS, EXECUTE_TASK, RUN_QUEUE
from workflows.engine.signing import SigningAmqp, SigningApp
from workflows.settings import Config, SettingsError

QUEUES = (RUN_QUEUE, "processing")
"""Queues of the first system: heavy steps, and the many small ones. Steps may name others."""

SOCKET_TIMEOUT_SECONDS = 5.0

HEARTBEAT_SECONDS = 10
"""A worker that has not heard of its RabbitMQ for two of these connects anew."""

RECONNECT_SECONDS = 1.0
"""A broker that was away is found again so soon after its return. kombu would wait up to half a minute between tries,
the longer the longer the broker has been away."""


class _SteadyConnection(Connection):
    """A connection that is tried again at steady intervals."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Connection:
        """See `kombu.Connection.ensure_connection`."""
        steady = {"interval_start": RECONNECT_SECONDS, "interval_step": 0.0, "interval_max": RECONNECT_SECONDS}
        # Celery and our own callers give `errback` and `max_retries` by place, and intervals by name if at all.
        found: Connection = super().ensure_connection(*args, **{**steady, **kwargs})  # type: ignore[no-untyped-call]
        return found


class _Amqp(SigningAmqp):
    Connection = _SteadyConnection


def make_app(config: Config, *, name: str = "celeriac", extra_queues: tuple[str, ...] = ()) -> SigningApp:
    """A configured Celery application, without the engine's tasks (`workflows.engine.tasks.install` adds them).

    It can publish tasks once its `signer` is set.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = "workflows.engine.transport:Transport"
    app = SigningApp(name, set_as_current=False, amqp=_Amqp)
    app.conf.update(celery_settings(config, extra_queues))
    return app


def celery_settings(config: Config, extra_queues: tuple[str, ...] = ()) -> dict[str, Any]:
    """Celery's settings, derived from ours."""
    names = dict.fromkeys((*QUEUES, *config.queues, *extra_queues))
    return {
        "broker_url": config.broker_url,
        "result_backend": config.result_backend,
        COUNTS_CHORDS: config.has_chords,
        "task_serializer": _json_only(config, "CELERY_TASK_SERIALIZER"),
        "result_serializer": _json_only(config, "CELERY_RESULT_SERIALIZER"),
        "accept_content": [_json_only(config, "CELERY_ACCEPT_CONTENT")],
        "timezone": config.text("CELERY_TIMEZONE", "UTC"),
        "enable_utc": config.boolean("CELERY_ENABLE_UTC", True),
        "worker_prefetch_multiplier": config.integer("CELERY_WORKER_PREFETCH_MULTIPLIER", 1),
        "task_acks_late": config.boolean("CELERY_TASK_ACKS_LATE", True),
        "task_reject_on_worker_lost": True,
        "result_expires": config.integer("CELERY_RESULT_EXPIRES", 3600),
        # A chord may wait for a slow member much longer than anyone wants to keep results.
        "result_chord_expires": config.number("CELERIAC_RESULT_CHORD_EXPIRES", 7 * 86_400.0),
        # Of tasks that other people add to this application. A step's retries are its definition's affair.
        "task_annotations": {
            "*": {"max_retries": config.task_max_retries, "default_retry_delay": config.task_retry_delay_seconds}
        },
        "worker_max_tasks_per_child": config.integer("CELERY_WORKER_MAX_TASKS_PER_CHILD", 1000),
        "task_queues": [Queue(queue, routing_key=queue) for queue in names],
        "task_default_queue": "processing",
        "task_default_exchange": "",
        "task_default_routing_key": "processing",
        "task_routes": {EXECUTE_TASK: {"queue": RUN_QUEUE}},
        "task_create_missing_queues": True,
        "task_ignore_result": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a worker waits for its broker as long as it takes
        "broker_pool_acquire_timeout": 30.0,
        "broker_connection_timeout": 5,
        # The reconciler sends again what could not be sent: a worker must not wait long for a broker that is away.
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.4},
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        **_transport_settings(config),
    }


def _transport_settings(config: Config) -> dict[str, Any]:
    """What depends on the kind of broker. One that hangs is as good as away: nobody may wait for it without end."""
    if config.broker_url.startswith("redis"):
        options = {
            "visibility_timeout": config.visibility_timeout_seconds,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
        }
        return {
            "broker_transport_options": options,
            "redis_socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "redis_socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
        }
    if config.is_amqp:
        # No publisher confirms: they cost 4 ms a message, and what the broker did not live to take is sent again.
        options = {"read_timeout": SOCKET_TIMEOUT_SECONDS, "write_timeout": SOCKET_TIMEOUT_SECONDS}
        return {
            "broker_transport_options": options,
            "broker_heartbeat": HEARTBEAT_SECONDS,
            # RabbitMQ cuts a worker off that does not acknowledge for long; it shall come back, and not end.
            "broker_channel_error_retry": True,
            # An exclusive queue belongs to a connection until RabbitMQ notices that it is dead: a worker that comes
            # back before that would be refused, and end.
            "control_queue_exclusive": False,
            "control_queue_durable": True,
        }
    return {}


def _json_only(config: Config, name: str) -> str:
    """`json`, which these settings of the first system have as their value; others could carry code."""
    given = {word.strip() for word in config.text(name, "json").split(",")}
    if given - {"json", "application/json"}:
        raise SettingsError(f"messages are JSON only, and {name} says otherwise", f"unset it, or use {name}=json")
    return "json"
