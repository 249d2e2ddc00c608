"""Which result backend an installation has, and so whether its plans have chords."""

from __future__ import annotations

import pytest

from workflows.engine.app import make_app
from workflows.settings import NO_RESULTS, Config

RABBIT = {"CELERY_BROKER_URL": "amqp://localhost//"}


@pytest.mark.parametrize(
    ("env", "backend", "chords"),
    [
        ({}, "redis://localhost:6379/0", True),
        ({"CELERY_BROKER_URL": "rediss://b:1/2"}, "rediss://b:1/2", True),
        ({"CELERY_BROKER_URL": "redis+socket:///a/b"}, "redis+socket:///a/b", True),
        (RABBIT, NO_RESULTS, False),
        ({**RABBIT, "REDIS_HOST": "cache"}, "redis://cache:6379/0", True),
        ({**RABBIT, "CELERY_RESULT_BACKEND": "redis://r/1"}, "redis://r/1", True),
        ({**RABBIT, "CELERY_RESULT_BACKEND": "rpc://"}, "rpc://", False),
        ({"CELERY_BROKER_URL": "redis://b/1", "CELERY_RESULT_BACKEND": "db+sqlite:///x"}, "db+sqlite:///x", False),
    ],
)
def test_chords_are_for_those_who_have_a_redis_for_results(env: dict[str, str], backend: str, chords: bool) -> None:
    config = Config(env)
    assert (config.result_backend, config.has_chords) == (backend, chords)


def test_a_rabbitmq_gets_the_settings_of_its_transport_and_none_of_another() -> None:
    conf = make_app(Config(RABBIT)).conf
    assert conf.broker_transport_options == {"read_timeout": 5.0, "write_timeout": 5.0}
    assert (conf.broker_heartbeat, conf.control_queue_exclusive, conf.control_queue_durable) == (10.0, False, True)
    assert "visibility_timeout" in make_app(Config({})).conf.broker_transport_options
