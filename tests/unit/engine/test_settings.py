"""The first system's settings: its 12 variables, their defaults, and what follows from the Redis variables."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.engine.app import celery_settings, make_app
from workflows.settings import Config, SettingsError

DEFAULTS = {
    "broker_url": "redis://localhost:6379/0",
    "result_backend": "redis://localhost:6379/0",
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "timezone": "UTC",
    "enable_utc": True,
    "worker_prefetch_multiplier": 1,
    "task_acks_late": True,
    "result_expires": 3600,
    "task_annotations": {"*": {"max_retries": 3, "default_retry_delay": 60.0}},
    "worker_max_tasks_per_child": 1000,
}


def _settings(**env: str) -> dict[str, Any]:
    return celery_settings(Config.from_env(env))


def test_without_variables_the_documents_defaults_hold() -> None:
    settings = _settings()
    assert {name: settings[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("CELERY_BROKER_URL", "redis://:password@localhost:6379/0", "broker_url", "redis://:password@localhost:6379/0"),
        ("CELERY_RESULT_BACKEND", "redis://:p@localhost:6379/3", "result_backend", "redis://:p@localhost:6379/3"),
        ("CELERY_TASK_SERIALIZER", "json", "task_serializer", "json"),
        ("CELERY_RESULT_SERIALIZER", "json", "result_serializer", "json"),
        ("CELERY_ACCEPT_CONTENT", "json", "accept_content", ["json"]),
        ("CELERY_TIMEZONE", "Europe/Berlin", "timezone", "Europe/Berlin"),
        ("CELERY_ENABLE_UTC", "false", "enable_utc", False),
        ("CELERY_WORKER_PREFETCH_MULTIPLIER", "4", "worker_prefetch_multiplier", 4),
        ("CELERY_TASK_ACKS_LATE", "0", "task_acks_late", False),
        ("CELERY_RESULT_EXPIRES", "60", "result_expires", 60),
        ("CELERY_WORKER_MAX_TASKS_PER_CHILD", "10", "worker_max_tasks_per_child", 10),
    ],
)
def test_every_variable_has_its_effect(variable: str, value: str, name: str, expected: Any) -> None:
    assert _settings(**{variable: value})[name] == expected


def test_tasks_of_others_are_tried_again_as_the_variables_say() -> None:
    env = {"CELERY_TASK_MAX_RETRIES": "5", "CELERY_TASK_DEFAULT_RETRY_DELAY": "2"}
    app = make_app(Config.from_env(env))

    @app.task(name="own")
    def own() -> None:
        return

    app.finalize()
    assert (app.tasks["own"].max_retries, app.tasks["own"].default_retry_delay) == (5, 2.0)


def test_urls_follow_from_the_redis_variables() -> None:
    settings = _settings(REDIS_HOST="cache", REDIS_PORT="6380", REDIS_DB="2", REDIS_PASSWORD="p w/#1")
    assert settings["broker_url"] == settings["result_backend"] == "redis://:p%20w%2F%231@cache:6380/2"
    assert _settings(REDIS_HOST="cache", CELERY_BROKER_URL="redis://b/1")["result_backend"] == "redis://b/1"


def test_slow_chords_outlive_results() -> None:
    settings = _settings(CELERY_RESULT_EXPIRES="1")
    assert settings["result_chord_expires"] > 86_400


@pytest.mark.parametrize(
    ("variable", "value"), [("CELERY_RESULT_EXPIRES", "soon"), ("CELERY_ENABLE_UTC", "maybe"), ("REDIS_PORT", "x")]
)
def test_a_value_that_cannot_be_read_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        _settings(**{variable: value})
