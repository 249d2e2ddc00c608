"""Settings of a process, read from the environment once, at the border.

The `CELERY_*` and `REDIS_*` variables are those of the first system, with its defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from workflows.model.errors import CeleriacError

HOME_VARIABLE = "CELERIAC_HOME"

NO_RESULTS = "disabled://"
"""The result backend of an installation that has none, as Celery writes it."""


class SettingsError(CeleriacError):
    """An environment variable has a value that cannot be used."""


@dataclass(frozen=True)
class Config:
    """All settings; `Config.from_env()` reads them. `env` holds the variables as they were."""

    env: Mapping[str, str]

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Config:
        """Read the settings; `env` replaces the process's own environment."""
        return cls(dict(os.environ if env is None else env))

    # Places

    @cached_property
    def home(self) -> Path:
        """Where the state of this installation lies (database, socket, logs, papers)."""
        return Path(self.env.get(HOME_VARIABLE) or ".celeriac").expanduser().absolute()

    @cached_property
    def database_url(self) -> str:
        """SQLAlchemy URL; SQLite in the home by default."""
        url = self.env.get("DATABASE_URL") or f"sqlite:///{self.home / 'celeriac.db'}"
        for prefix in ("postgres://", "postgresql://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        return url

    @property
    def step_modules(self) -> tuple[str, ...]:
        """Modules that register steps, comma separated in `CELERIAC_STEP_MODULES`."""
        names = self.env.get("CELERIAC_STEP_MODULES", "").split(",")
        return tuple(name.strip() for name in names if name.strip())

    @property
    def definition_folders(self) -> tuple[Path, ...]:
        """Folders of definitions besides the shipped ones: `./definitions`, or those that `CELERIAC_DEFINITIONS` lists.

        Separated as PATH is; of two definitions with one id the first is taken.
        """
        listed = self.env.get("CELERIAC_DEFINITIONS") or "definitions"
        return tuple(Path(folder).expanduser().absolute() for folder in listed.split(os.pathsep) if folder)

    # Broker

    @property
    def has_explicit_broker(self) -> bool:
        """Whether the user named a broker; otherwise the embedded one of the home serves."""
        return any(self.env.get(name) for name in ("CELERY_BROKER_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD"))

    @property
    def redis_url(self) -> str:
        """`redis://` URL derived from REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD."""
        password = self.env.get("REDIS_PASSWORD", "")
        secret = f":{quote(password, safe='')}@" if password else ""
        host = self.env.get("REDIS_HOST") or "localhost"
        return f"redis://{secret}{host}:{self.integer('REDIS_PORT', 6379)}/{self.integer('REDIS_DB', 0)}"

    @property
    def broker_url(self) -> str:
        """CELERY_BROKER_URL, else derived from the Redis variables."""
        return self.env.get("CELERY_BROKER_URL") or self.redis_url

    @property
    def result_backend(self) -> str:
        """CELERY_RESULT_BACKEND, else the broker if it is a Redis, else what the Redis variables name, else none."""
        explicit = self.env.get("CELERY_RESULT_BACKEND")
        if explicit:
            return explicit
        if self.broker_url.startswith("redis"):
            return self.broker_url
        names_redis = any(self.env.get(name) for name in ("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD"))
        return self.redis_url if names_redis else NO_RESULTS

    @property
    def has_chords(self) -> bool:
        """Whether the result backend counts the members of chords soundly: Redis does, and no other.

        With another one joins are counted in SQL alone.
        """
        return self.result_backend.startswith(("redis", "sentinel"))

    @property
    def is_amqp(self) -> bool:
        """Whether the broker is a RabbitMQ."""
        return self.broker_url.startswith(("amqp", "pyamqp"))

    @property
    def consumer_timeout_seconds(self) -> int:
        """What `consumer_timeout` in the settings of a RabbitMQ says; it cannot be asked for it, nor told by us.

        It cuts off a worker that has not acknowledged a message after this time; half an hour by default.
        """
        return self.integer("CELERIAC_CONSUMER_TIMEOUT", 1800)

    @property
    def visibility_timeout_seconds(self) -> int:
        """Redis hands an unacknowledged message out again after this time.

        Leases recover a lost step within seconds, so this is only a last resort, and a short one would start long
        steps twice.
        """
        return self.integer("CELERIAC_VISIBILITY_TIMEOUT", 86_400)

    @property
    def queues(self) -> tuple[str, ...]:
        """Queues beside `research` and `processing`, comma separated in `CELERIAC_QUEUES`."""
        names = self.env.get("CELERIAC_QUEUES", "").split(",")
        return tuple(name.strip() for name in names if name.strip())

    @property
    def task_max_retries(self) -> int:
        """CELERY_TASK_MAX_RETRIES: tries after the first one, of Celery tasks that are no steps and call `retry`."""
        return self.integer("CELERY_TASK_MAX_RETRIES", 3)

    @property
    def task_retry_delay_seconds(self) -> float:
        """CELERY_TASK_DEFAULT_RETRY_DELAY: before the first of these tries."""
        return self.number("CELERY_TASK_DEFAULT_RETRY_DELAY", 60.0)

    # Engine

    @property
    def lease_seconds(self) -> float:
        """How long a claim lives without being renewed."""
        return self.number("CELERIAC_LEASE_SECONDS", 15.0)

    @property
    def cancel_grace_seconds(self) -> float:
        """How long a running step of a cancelled run has to stop by itself, before its process is killed."""
        return self.number("CELERIAC_CANCEL_GRACE_SECONDS", 30.0)

    @property
    def redispatch_seconds(self) -> float:
        """How long a ready step may go unclaimed before the reconciler looks at it."""
        return self.number("CELERIAC_REDISPATCH_SECONDS", 10.0)

    @property
    def max_crashes(self) -> int:
        """How many times a step may take its worker process down before it is a failure (`worker lost`)."""
        return self.integer("CELERIAC_MAX_CRASHES", 5)

    @property
    def max_output_bytes(self) -> int:
        """How large the output of a step or call may be, as JSON text; from 1 MB on it lies in a table of its own."""
        return self.integer("CELERIAC_MAX_OUTPUT_BYTES", 16_000_000)

    # Upkeep

    @property
    def retention_days(self) -> float:
        """How long a run is kept after its end; 0 keeps all."""
        return self.number("CELERIAC_RETENTION_DAYS", 30.0)

    # Watching

    @cached_property
    def traces_endpoint(self) -> str | None:
        """Where traces are sent (OTLP over HTTP), by OpenTelemetry's own variables; None: there are none."""
        own = self.env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        base = self.env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        return own or (f"{base.rstrip('/')}/v1/traces" if base else None)

    # Reading

    def text(self, name: str, default: str) -> str:
        """A variable as it is; empty counts as unset."""
        return self.env.get(name) or default

    def integer(self, name: str, default: int) -> int:
        """A variable as a whole number."""
        value = self.env.get(name)
        if not value:
            return default
        try:
            return int(value)
        except ValueError:
            raise SettingsError(
                f"{name}={value!r} is no whole number", f"unset it or use e.g. {name}={default}"
            ) from None

    def number(self, name: str, default: float) -> float:
        """A variable as a number."""
        value = self.env.get(name)
        if not value:
            return default
        try:
            return float(value)
        except ValueError:
            raise SettingsError(f"{name}={value!r} is no number", f"unset it or use e.g. {name}={default}") from None

    def boolean(self, name: str, default: bool) -> bool:
        """A variable as true or false (also 1/0, yes/no, on/off)."""
        value = (self.env.get(name) or "").strip().lower()
        if not value:
            return default
        if value in {"1", "true", "yes", "on"}:
            return True
        if value in {"0", "false", "no", "off"}:
            return False
        raise SettingsError(f"{name}={value!r} is neither true nor false", f"use {name}=true or {name}=false")
