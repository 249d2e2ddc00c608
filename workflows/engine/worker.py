"""Putting a process of the engine together."""

from __future__ import annotations

from celery import Celery

from workflows.db.database import Database
from workflows.engine.app import make_app
from workflows.engine.runtime import Runtime
from workflows.engine.tasks import install
from workflows.engine.upkeep_tasks import install_upkeep
from workflows.settings import Config
from workflows.steps.registry import load_steps


def make_runtime(config: Config, app: Celery | None = None) -> Runtime:
    """A runtime with all steps loaded and the engine's tasks installed on its application."""
    celery = app or make_app(config)
    runtime = Runtime(config, Database(config.database_url), celery, load_steps(config.step_modules))
    install(celery, runtime)
    install_upkeep(celery, runtime)
    return runtime
